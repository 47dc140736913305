"""The process to be killed: one bulk job with a ledger, on the IDs that a simulator starts with."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from adapty_async import AdaptyClient, FixedPacer, ProfileAttributes, RetryPolicy, bulk
from adapty_async.bulk import BulkJob, StopRules
from adapty_async.bulk.job_store import JobStore
from adapty_async.ledger import Ledger

from .helpers import ids

RULES = StopRules(max_failure_ratio=None, max_absent_ratio=None, max_outage=None)
PATIENT = RetryPolicy(max_attempts=50, initial_backoff=0.05, max_backoff=0.2)  # enough that no item fails
NAMED = ProfileAttributes(first_name="Jane")


def job_of(operation: str, client: AdaptyClient, count: int, pacer: FixedPacer, journal: JobStore) -> BulkJob[Any, Any]:
    """Create the job, which deletes or updates."""
    if operation == "delete":
        return bulk.delete_profiles(
            client, ids(count), by="customer_user_id", concurrency=50, pacer=pacer, ledger=journal, stop=RULES
        )
    changes = ((who, NAMED) for who in ids(count))
    return bulk.update_profiles(
        client, changes, by="customer_user_id", concurrency=50, pacer=pacer, ledger=journal, stop=RULES
    )


async def run(arguments: argparse.Namespace) -> None:
    """Run the job until it ends."""
    async with AdaptyClient.from_env(retry=PATIENT) as client:
        pacer, journal = FixedPacer(arguments.rate), Ledger(arguments.ledger)
        await job_of(arguments.operation, client, arguments.items, pacer, journal)


def main() -> None:
    """Read the arguments and run. The environment has the address of the server and the key."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operation", choices=["delete", "update"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
