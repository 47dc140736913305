"""The files of the results: table.md, the pictures, and the short table in the documentation."""

import asyncio
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.pacing_bench.callers import callers_table
from benchmarks.pacing_bench.loopback import loopback_table
from benchmarks.pacing_bench.pictures import PICTURES, draw
from benchmarks.pacing_bench.results import Result
from benchmarks.pacing_bench.table import long_table, short_table
from benchmarks.page_tables import RATE_LIMITS, replace_table

COUNTED: Final = """\
Goodput is accepted / allowed after 20 s, from 1,000/s up after 60 s, at 0.2/s after 300 s. Beside production, allowed
is what it leaves: above 100 % is taken from it. Refused is the share of all requests, the start included, and in
brackets of production's. All three are means of {seeds} seeds; of all else the worst seed counts. In virtual time a
round trip takes 0.1 s (log-normal, 0.2), and 64 requests are under way, above 500/s 512."""

CALLERS: Final = """\
50 callers that make one call after the other for 60 s, with the client's retry policy and a round trip of 50 ms: calls
served a second, and the share that failed. "Each call alone" obeys its own Retry-After and knows nothing of the others,
as with most clients.
"""

SOCKETS: Final = """\
A mass job with `AdaptivePacer()` on loopback, 40 s, against the simulator in a process of its own, which shares no code
with the pacer; goodput after 20 s. Beside it the same 40 s in virtual time.
"""

OTHERS: Final = """\
- Back-off: 20 workers, each with full jitter, 0.5 s doubling to 8 s, as is the retry policy of the client; or the
  Retry-After. They can do no more than 200/s. With half of the jitter ("equal") 28 % are refused at 50/s, burst 10.
- Cubic: the rate limiter of botocore's retry mode "adaptive" (1.44.8), with which this port agrees request for
  request. As there, it starts without any, and a Retry-After holds nothing back.
- AIMD: from 5/s, 1/s more each second, a tenth less after a refusal, once a round trip. Cut to 0.7 instead of 0.9 it
  has a goodput of 90 % and 0.13 % refused at 50/s, burst 10; halved 80 % and 0.09 %.
- A rate that knows: a FixedPacer at the highest rate, to 1 %, that is refused no more than is asked. Where it misses a
  bar too, nothing that sends steadily can meet it."""

PICTURED: Final = "Single runs, seed 0. A dot: so many refusals a second.\n"


def write(folder: Path, results: dict[str, list[Result]], seeds: int) -> None:
    """Write table.md and the pictures, and update the page about rate limits. The jobs over real sockets run here."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder)
    lines = document(results, seeds, asyncio.run(loopback_table(seeds)))
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    replace_table(RATE_LIMITS, "pacing", "\n".join(short_table(results)))


def document(results: dict[str, list[Result]], seeds: int, loopback: list[str]) -> Iterator[str]:
    """Yield the lines of table.md."""
    yield "# How near the pacers come to a hidden limit, and what it costs\n"
    yield f"Made by `make bench-pacing` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.\n"
    yield COUNTED.format(seeds=seeds)
    yield "\n## In short: goodput, refused\n"
    yield from short_table(results)
    for contender, summed_up in results.items():
        yield f"\n## {contender}\n"
        yield from long_table(summed_up)
    yield "\n## A web app\n"
    yield CALLERS
    yield from callers_table(seeds)
    yield "\n## Over real sockets\n"
    yield SOCKETS
    yield from loopback
    yield "\n## Who they are\n"
    yield OTHERS
    yield "\n## Pictures\n"
    yield PICTURED
    yield from (f"![{title}]({name})" for name, (title, _) in PICTURES.items())


def machine() -> str:
    """Return a description of the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("adapty-async", "aiohttp", "matplotlib"))
    cores = os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}"
