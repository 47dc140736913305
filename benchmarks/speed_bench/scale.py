"""Bulk deletions of increasing size, with pacer and ledger: CPU per item, and peak memory.

Requests are answered within the process, so that a run only takes minutes and only the cost of the job is measured. Run
as `python -m benchmarks.speed_bench.scale ITEMS`, it prints both figures as JSON. The CPU time doesn't include imports
and a first, small job. Small jobs are repeated, so that every process measures the same number of items.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from adapty_async import FixedPacer, bulk
from adapty_async.ledger import Ledger
from adapty_async.testing import prefilled_customer_user_id
from benchmarks.quiet import quiet_client
from benchmarks.speed_bench.loops import run
from benchmarks.speed_bench.part import Part, table
from benchmarks.speed_bench.rounds import Figures, Rounds, run_apart, take_turns

SIZES: Final = (10_000, 100_000, 1_000_000)
LARGEST: Final = 10_000_000
_WARM_UP: Final = 2_000
AT_LEAST: Final = 100_000
"""The number of items that each process measures. Small jobs are repeated."""
_KIB: Final = 1024


async def delete(items: int, ledger: Path) -> None:
    """Run one job."""
    client, _ = quiet_client()
    ids = map(prefilled_customer_user_id, range(items))
    pacer = FixedPacer(1e6)
    report = await bulk.delete_profiles(client, ids, by="customer_user_id", pacer=pacer, ledger=Ledger(ledger))
    assert report.counts[bulk.Outcome.DELETED] == items


async def measure(items: int) -> Figures:
    """Run jobs of one size. Return the microseconds of CPU per item and the MiB of memory."""
    jobs = max(1, AT_LEAST // items)
    with tempfile.TemporaryDirectory() as folder:
        await delete(min(items, _WARM_UP), Path(folder, "first.db"))
        began = time.process_time()
        for number in range(jobs):
            await delete(items, Path(folder, f"{number}.db"))
        cpu = time.process_time() - began
    return {"cpu": cpu / (jobs * items) * 1e6, "memory": most_memory() / 2**20}


def most_memory() -> int:
    """Return the peak memory of this process in bytes."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux, getrusage never reports less than the parent used when it started the process.
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * _KIB


def part(rounds: int, *, largest: bool = False, sizes: Sequence[int] = SIZES) -> Part:
    """Run the sizes in turn, each job in a process of its own. The largest is run once."""
    found = dict(take_turns(map(str, sizes), rounds, _apart).found)
    if largest:
        found |= take_turns([str(LARGEST)], 1, _apart).found
    results, first = Rounds(found), str(sizes[0])
    more = {size: results.median("memory", size) - results.median("memory", first) for size in found}
    cpu = {size: results.ratio("cpu", size, first) for size in found}
    million = str(SIZES[-1])
    return Part(
        title="Jobs of increasing size",
        says=f"Bulk deletions with pacer and ledger. Each job runs in a process of its own, in {rounds} rounds. "
        "Requests are answered within the process, so the figures are the cost of the job without its requests.",
        table=table(
            ["items", "CPU, µs per item", f"/ {sizes[0]:,}", "memory, MiB", f"more than {sizes[0]:,}, MiB"],
            [
                [
                    f"{int(size):,}",
                    f"{results.median('cpu', size):.1f}",
                    f"{cpu[size]:.2f}",
                    f"{results.median('memory', size):.0f}",
                    f"{more[size]:.1f}",
                ]
                for size in found
            ],
        ),
        figures={"scale, CPU": cpu[million], "scale, memory": more[million]} if million in found else {},
    )


def _apart(items: str) -> Figures:
    figures: Figures = run_apart("scale", items)
    return figures


if __name__ == "__main__":
    print(json.dumps(run(measure(int(sys.argv[1])))))
