"""Helpers for the tests of the ledger."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapty_async.bulk import BulkJob, BulkReport, Outcome, StopRules
from adapty_async.ledger import LedgerReader, Row
from adapty_async.testing import prefilled_customer_user_id
from tests.waiting import until

NO_RULES = StopRules(max_failure_ratio=None, max_absent_ratio=None)


def ids(count: int, *, start: int = 1) -> Iterator[str]:
    """Return the IDs that a simulator starts with."""
    return map(prefilled_customer_user_id, range(start, start + count))


def totals(path: Path) -> Mapping[Outcome, int]:
    """Count the rows of a ledger by outcome, in two ways."""
    with LedgerReader(path) as reader:
        counted = Counter(row.standing for row in reader.rows())
        assert +Counter(reader.status().totals) == counted
    return counted


def rows(path: Path) -> list[Row]:
    """Read all rows of a ledger."""
    with LedgerReader(path) as reader:
        return list(reader.rows())


async def stopped_when(condition: Callable[[], bool], job: BulkJob[Any, Any]) -> BulkReport:
    """Run a job and stop it as soon as a condition is true."""
    running = asyncio.ensure_future(job)
    await until(lambda: condition() or running.done())
    job.stop()
    return await running
