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
Goodput is the number of accepted requests divided by the number of allowed ones. It is counted from 20 s on, for
limits of 1,000/s and more from 60 s on, and for 0.2/s from 300 s on. With production traffic, the allowed requests are
those that production leaves: a goodput above 100 % takes requests from production. The column "429s" shows the share of
rate-limited requests from the start, with that of production in brackets. All three are means of {seeds} seeds. For
other figures, the worst seed counts. In virtual time, a round trip takes 0.1 s (log-normal, 0.2), and 64 requests are
in flight, or 512 for limits above 500/s."""

CALLERS: Final = """\
50 callers that make one call after the other for 60 s, with the client's retry policy and a round trip of 50 ms: the
calls served per second, and the share of failed calls. With "each call alone", a call obeys only its own Retry-After,
as in most clients.
"""

SOCKETS: Final = """\
A bulk job with `AdaptivePacer()` runs over loopback for 40 s, against a simulator in another process, which shares no
code with the pacer. Goodput is counted from 20 s on. The columns "in virtual time" show the same 40 s in virtual time.
"""

OTHERS: Final = """\
- Back-off: 20 workers. Each waits with full jitter, 0.5 s doubling to 8 s, like the retry policy of the client, or for
  the Retry-After. The workers can't send more than 200/s. With half of the jitter ("equal"), 28 % of the requests are
  rate-limited at 50/s, burst 10.
- Cubic: the rate limiter of botocore's retry mode "adaptive" (1.44.8). This port sends exactly the same requests. Like
  the original, it starts without a limit and ignores Retry-After.
- AIMD: starts at 5/s, adds 1/s per second, and reduces the rate to 90 % after a 429, once per round trip. If it reduces
  the rate to 70 %, the goodput is 90 % and 0.13 % of the requests are rate-limited at 50/s, burst 10; with 50 %, the
  figures are 80 % and 0.09 %.
- The best fixed rate: a FixedPacer at the highest rate, to 1 %, that meets the target for 429s. If it misses another
  target, no pacer with a steady rate can meet that target."""

PICTURED: Final = "Single runs with seed 0. Dots show the number of 429s per second.\n"


def write(folder: Path, results: dict[str, list[Result]], seeds: int) -> None:
    """Write table.md and the pictures, and update the page about rate limits. The jobs over real sockets run here."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder)
    lines = document(results, seeds, asyncio.run(loopback_table(seeds)))
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    replace_table(RATE_LIMITS, "pacing", "\n".join(short_table(results)))


def document(results: dict[str, list[Result]], seeds: int, loopback: list[str]) -> Iterator[str]:
    """Yield the lines of table.md."""
    yield "# How close the pacers come to a hidden limit\n"
    yield f"Made by `make bench-pacing` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.\n"
    yield COUNTED.format(seeds=seeds)
    yield "\n## Summary: goodput, 429s\n"
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
    yield "\n## The contenders\n"
    yield OTHERS
    yield "\n## Pictures\n"
    yield PICTURED
    yield from (f"![{title}]({name})" for name, (title, _) in PICTURES.items())


def machine() -> str:
    """Return a description of the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("adapty-async", "aiohttp", "matplotlib"))
    cores = os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}"
