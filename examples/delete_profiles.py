"""Delete the profiles listed in a CSV file by customer user ID, and write the outcome of each.

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
    """Yield the IDs one by one, so that memory doesn't depend on the size of the file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield row["customer_user_id"]


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner can read, because it contains IDs."""
    return os.open(path, flags, 0o600)


async def delete(ids: Iterator[str], max_rate: float | None, target: TextIO) -> bulk.BulkReport:
    """Delete at 70% of the rate limit, and at no more than `max_rate` profiles per second.

    Ctrl-C ends the job once the requests in flight have their outcomes.
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
    """Run the job and print a summary. Return 1 if the outcomes need attention."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="CSV with a column customer_user_id")
    parser.add_argument("target", type=Path, help="CSV to write the outcomes to")
    parser.add_argument("--max-rate", type=float, help="maximum number of requests per second")
    arguments = parser.parse_args()
    with (
        closing(customer_user_ids(arguments.source)) as ids,  # a stopped job doesn't read the whole file
        open(arguments.target, "x", encoding="utf-8", newline="", opener=open_private) as target,
    ):
        report = asyncio.run(delete(ids, arguments.max_rate, target))
    for outcome, count in report.counts.items():
        print(f"{outcome:20} {count:>9,}")
    if report.stop_reason:
        print(f"stopped early: {report.stop_reason}")
    return 1 if report.failed or report.stop_reason else 0


if __name__ == "__main__":
    sys.exit(main())
