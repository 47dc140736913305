"""What the tests of the ledger share."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from adapty_async.bulk import Outcome, StopRules
from adapty_async.ledger import LedgerReader, Row
from adapty_async.testing import prefilled_customer_user_id

NO_RULES = StopRules(failure_share=None, absent_share=None)


def ids(count: int, *, start: int = 1) -> Iterator[str]:
    """Give the ids that a simulator starts with."""
    return map(prefilled_customer_user_id, range(start, start + count))


def totals(path: Path) -> Mapping[Outcome, int]:
    """Count the rows of a ledger by outcome, twice."""
    with LedgerReader(path) as reader:
        counted = Counter(row.standing for row in reader.rows())
        assert +Counter(reader.status().totals) == counted
    return counted


def rows(path: Path) -> list[Row]:
    """Read all rows of a ledger."""
    with LedgerReader(path) as reader:
        return list(reader.rows())
