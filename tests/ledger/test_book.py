"""The bookkeeping of a run by itself: what is claimed, what is due again, and what a commit that fails leaves."""

from pathlib import Path

import pytest

from adapty_async.bulk.journal import Undertaking
from adapty_async.ledger import LedgerReader, LedgerWriteError
from adapty_async.ledger.book import Book, Due, Terms
from adapty_async.ledger.inventory import Part

from .helpers import ids
from .test_disk import no_file_larger_than

NOON = 1_700_000_000
UPDATE = Undertaking("update", "customer_user_id", "https://api.test", "fingerprint", repeatable=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def opened(path: Path) -> Book:
    return Book.open(path, UPDATE, Terms(), lambda: NOON)


def part(count: int) -> Part:
    names = list(ids(count))
    return Part(0, names, names, frozenset(), is_last=True)


def claimed(path: Path) -> int:
    with LedgerReader(path) as reader:
        return reader.status().claimed


@pytest.mark.parametrize(
    ("later", "is_due"), [(0, True), (15 * 60, True), (15 * 60 + 1, False), (-3, True), (-3600, False)]
)
def test_an_update_is_sent_again_where_the_clock_says_that_it_was_claimed_a_short_time_ago(
    path: Path, later: int, *, is_due: bool
) -> None:
    book = opened(path)
    assert list(book.take(part(1), claims=1, now=NOON).indexes) == [0]
    book.commit()
    book.close()
    book = opened(path)
    due = book.take(part(1), claims=0, now=NOON + later)
    assert due == (Due([0], {0}) if is_due else Due([], set()))
    book.close()


def test_what_was_claimed_by_a_commit_that_failed_is_not_claimed_by_the_next(path: Path) -> None:
    book = opened(path)
    book.take(part(1000), claims=5, now=NOON)
    book.commit()
    book.claim(range(5, 500), NOON)
    with no_file_larger_than(4096), pytest.raises(LedgerWriteError):
        book.commit()
    book.claim(range(500, 510), NOON)
    book.commit()
    book.close()
    assert claimed(path) == 15


def test_what_an_earlier_run_claimed_stays_claimed_where_a_commit_fails(path: Path) -> None:
    book = opened(path)
    book.take(part(1000), claims=5, now=NOON)
    book.commit()
    book.close()
    book = opened(path)
    book.take(part(1000), claims=900, now=NOON)
    with no_file_larger_than(4096), pytest.raises(LedgerWriteError):
        book.commit()
    book.end_run(NOON)
    book.commit()
    book.close()
    assert claimed(path) == 5
