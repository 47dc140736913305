"""The process that is killed: one mass job with a ledger, over the ids that a simulator starts with."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from adapty_async import AdaptyClient, FixedPacer, ProfileAttributes, RetryPolicy, bulk
from adapty_async.bulk import BulkJob, StopRules
from adapty_async.bulk.journal import Journal
from adapty_async.ledger import Ledger

from .helpers import ids

RULES = StopRules(failure_share=None, absent_share=None, outage=None)
PATIENT = RetryPolicy(attempts=50, backoff=0.05, backoff_max=0.2)  # so many that no item can fail
NAMED = ProfileAttributes(first_name="Jane")


def job_of(operation: str, client: AdaptyClient, count: int, pacer: FixedPacer, journal: Journal) -> BulkJob[Any, Any]:
    """Make the job: of deletions, or of updates."""
    if operation == "delete":
        return bulk.delete_profiles(
            client, ids(count), by="customer_user_id", concurrency=50, pacer=pacer, journal=journal, stop=RULES
        )
    changes = ((who, NAMED) for who in ids(count))
    return bulk.update_profiles(
        client, changes, by="customer_user_id", concurrency=50, pacer=pacer, journal=journal, stop=RULES
    )


async def run(arguments: argparse.Namespace) -> None:
    """Run the job to its end."""
    async with AdaptyClient.from_env(retry=PATIENT) as client:
        pacer, journal = FixedPacer(arguments.rate), Ledger(arguments.ledger)
        await job_of(arguments.operation, client, arguments.items, pacer, journal)


def main() -> None:
    """Read the arguments and run; the server and its key come from the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operation", choices=["delete", "update"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
