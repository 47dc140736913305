"""A benchmark of the ledger: CPU time, bytes on disk, memory, and the time until a resumed job sends.

Requests are answered at once within the process, so the difference between jobs with and without a ledger is the cost
of the ledger. Each job runs in a process of its own, because memory is measured. Three kinds of jobs alternate: without
a ledger, with one, and prepared and watched as the command line does it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapty_async import FixedPacer, bulk
from adapty_async.bulk.api import job_spec
from adapty_async.cli.output.progress import LiveStatus, OutcomeCounts, RateMeter
from adapty_async.ledger import Ledger, prepare
from adapty_async.testing import prefilled_customer_user_id
from benchmarks.quiet import quiet_client

Kind: TypeAlias = Literal["bare", "lazy", "prepared"]

SIZES: Final = [100_000, 1_000_000]
LARGEST: Final = 10_000_000
UNIT: Final = 1 if sys.platform == "darwin" else 1024
MOST_CPU: Final = 5.0
"""Microseconds per item."""
MOST_DISK: Final = 40.0
"""Bytes per item."""
MOST_SECONDS: Final = 20.0
"""Seconds until the first request of a resumed job."""
MOST_GROWTH: Final = 8.0
"""MiB of memory in addition to the smallest job's."""


class Peak:
    """The peak size in bytes of a ledger and its SQLite files, sampled every 50 ms."""

    def __init__(self, ledger: Path) -> None:
        self.size = 0
        self._ledger = ledger
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            size = 0
            for suffix in ("", ".new", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    size += self._ledger.with_name(f"{self._ledger.name}{suffix}").stat().st_size
            self.size = max(self.size, size)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@attrs.frozen
class Cost:
    """The cost of a job: microseconds per item, seconds, bytes per item, MiB."""

    cpu: float
    first_request: float
    disk: float
    memory: float


def ids(count: int) -> Iterator[str]:
    """Generate `count` IDs."""
    return map(prefilled_customer_user_id, range(count))


async def run(kind: Kind, items: int, ledger: Path, *, appended: bool) -> Cost:
    """Delete `items` profiles and return the cost."""
    client, transport = quiet_client()
    meter = RateMeter()

    def look() -> dict[str, Any]:
        report = job.report
        sight = LiveStatus(outcome_counts=OutcomeCounts(items, report.counts)).with_requests(report)
        return meter.measure(sight, time.perf_counter()).to_dict()

    looked_at = look if kind == "prepared" else None
    store = None if kind == "bare" else Ledger(ledger, appended=appended, live_status=looked_at)
    cpu, began = time.process_time(), time.perf_counter()
    with Peak(ledger) as peak:
        if kind == "prepared":
            prepare(ledger, job_spec(client, "delete", "customer_user_id"), ids(items), job_options={}, file=None)
        job = bulk.delete_profiles(client, ids(items), by="customer_user_id", pacer=FixedPacer(1e6), ledger=store)
        await job
    assert transport.first is not None
    return Cost(
        cpu=(time.process_time() - cpu) / items * 1e6,
        first_request=transport.first - began,
        disk=peak.size / items,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**20,
    )


def run_apart(kind: Kind, items: int, ledger: Path, *, appended: bool = False) -> Cost:
    """Run a job in a process of its own."""
    words = ["--alone", kind, str(items), str(ledger), *(["--appended"] if appended else [])]
    stated_rows = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter
    return Cost(**json.loads(stated_rows.stdout))


@attrs.frozen
class Line:
    """The costs of jobs of one size: CPU without a ledger, and the additional costs of a ledger."""

    items: int
    cpu_bare: float
    cpu: float
    cpu_prepared: float
    disk: float
    peak: float
    memory: float
    memory_bare: float
    resumed: float

    def row(self) -> str:
        """Return a row of the table."""
        figures = (self.cpu_bare, self.cpu, self.cpu_prepared, self.disk, self.peak)
        shown = " | ".join(f"{figure:.1f}" for figure in figures)
        return f"| {self.items:,} | {shown} | {self.memory:.0f} | {self.memory_bare:.0f} | {self.resumed:.2f} |"

    def misses(self, smallest: "Line") -> Iterator[str]:
        """Yield the targets that are missed."""
        for name, figure, most in (
            ("microseconds of CPU per item", self.cpu, MOST_CPU),
            ("microseconds of CPU per item, prepared", self.cpu_prepared, MOST_CPU),
            ("bytes per item at the end", self.disk, MOST_DISK),
            ("bytes per item at the peak", self.peak, MOST_DISK),
            ("seconds to the first request of a resumed job", self.resumed, MOST_SECONDS),
            ("MiB more than the smallest job", self.memory - smallest.memory, MOST_GROWTH),
        ):
            if figure > most:
                yield f"{self.items:,} items: {figure:.1f} {name}, more than {most:.0f}"


HEADER: Final = (
    "| items | CPU without a ledger, µs per item | added by a ledger | added if prepared | bytes per item | peak "
    "| memory, MiB | without a ledger | s to resume |\n"
    "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def measure(items: int, rounds: int) -> Line:
    """Run jobs of one size in turn, resume the last one with one more item, and return the medians."""
    bare: list[Cost] = []
    lazy: list[Cost] = []
    prepared: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        ledgers = [Path(folder) / f"{number}.db" for number in range(rounds)]
        for ledger in ledgers:
            bare.append(run_apart("bare", items, ledger))
            lazy.append(run_apart("lazy", items, ledger))
            prepared.append(run_apart("prepared", items, ledger.with_suffix(".prepared")))
        size = ledgers[-1].stat().st_size / items
        resumed = run_apart("lazy", items + 1, ledgers[-1], appended=True)
    return Line(
        items=items,
        cpu_bare=statistics.median(cost.cpu for cost in bare),
        cpu=_more(lazy, bare),
        cpu_prepared=_more(prepared, bare),
        disk=size,
        peak=max(cost.disk for cost in lazy + prepared),
        memory=statistics.median(cost.memory for cost in lazy),
        memory_bare=statistics.median(cost.memory for cost in bare),
        resumed=resumed.first_request,
    )


def _more(costs: Sequence[Cost], bare: Sequence[Cost]) -> float:
    return statistics.median(cost.cpu - other.cpu for cost, other in zip(costs, bare, strict=True))


def main() -> int:
    """Parse the arguments, measure, and print. Return 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each size and kind (default: 3)")
    parser.add_argument("--largest", action="store_true", help=f"one round of {LARGEST:,} items as well: half an hour")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--appended", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        kind, items, ledger = arguments.alone
        cost = asyncio.run(run(kind, int(items), Path(ledger), appended=arguments.appended))
        print(json.dumps(attrs.asdict(cost)))
        return 0
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    written = [f"{machine}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n", HEADER]
    print("\n".join(written), flush=True)
    lines = []
    for items, rounds in [
        *((size, arguments.rounds) for size in SIZES),
        *([(LARGEST, 1)] if arguments.largest else []),
    ]:
        lines.append(measure(items, rounds))
        written.append(lines[-1].row())
        print(written[-1], flush=True)
    if arguments.table:
        arguments.table.parent.mkdir(parents=True, exist_ok=True)
        arguments.table.write_text("\n".join(written) + "\n", "utf-8")
    missed = [expire for line in lines for expire in line.misses(lines[0])]
    for expire in missed:
        print(expire, file=sys.stderr)
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
