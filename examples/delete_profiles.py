"""Delete the profiles of the customer user ids in a CSV file, and write down what became of each.

ADAPTY_API_KEY=... python examples/delete_profiles.py people.csv outcomes.csv --max-rate 10
"""

import argparse
import asyncio
import csv
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

from adapty_async import AdaptivePacer, AdaptyClient, bulk


def customer_user_ids(path: Path) -> Generator[str, None, None]:
    """Read one id after the other: a file of any length takes no memory."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield row["customer_user_id"]


def open_private(path: str, flags: int) -> int:
    """Open a file that its owner alone may read: it names people."""
    return os.open(path, flags, 0o600)


async def delete(ids: Iterator[str], max_rate: float | None, target: TextIO) -> bulk.BulkReport:
    """Delete at 7 tenths of the rate limit, which nobody tells, and never more than `max_rate` profiles a second.

    Ctrl-C ends the job when what is under way has its outcome.
    """
    outcomes = csv.writer(target)
    outcomes.writerow(["customer_user_id", "outcome", "error"])
    async with AdaptyClient.from_env() as client:
        job = bulk.delete_profiles(
            client, ids, by="customer_user_id", pacer=AdaptivePacer.background(max_rate=max_rate)
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, job.stop)
        async for result in job:
            outcomes.writerow([result.item, result.outcome, result.error or ""])
        return job.report


def main() -> int:
    """Run the job, sum it up, and fail where somebody has to look at the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="CSV with a column customer_user_id")
    parser.add_argument("target", type=Path, help="CSV to write: the outcome of each id")
    parser.add_argument("--max-rate", type=float, help="requests a second, at most")
    arguments = parser.parse_args()
    with (
        closing(customer_user_ids(arguments.source)) as ids,  # a job that is stopped doesn't read to the end
        open(arguments.target, "x", encoding="utf-8", newline="", opener=open_private) as target,
    ):
        report = asyncio.run(delete(ids, arguments.max_rate, target))
    for outcome, count in report.counts.items():
        print(f"{outcome:20} {count:>9,}")
    if report.stopped:
        print(f"stopped early: {report.stopped}")
    return 1 if report.failed or report.stopped else 0


if __name__ == "__main__":
    sys.exit(main())
