"""The bookkeeping of a run by itself: what is claimed, what is due again, and what a commit that fails leaves."""

from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.bulk.journal import Undertaking
from adapty_async.ledger import LedgerReader, LedgerWriteError
from adapty_async.ledger.book import Book, Due, Terms
from adapty_async.ledger.chunks import STATES
from adapty_async.ledger.inventory import Part

from ..full_disk import full_disk
from .helpers import ids

NOON = 1_700_000_000
UPDATE = Undertaking("update", "customer_user_id", "https://api.test", "fingerprint", repeatable=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def opened(path: Path) -> Book:
    return Book.open(path, UPDATE, Terms(), lambda: NOON)


def part(count: int) -> Part:
    names = list(ids(count))
    return Part(0, names, names, is_last=True)


def take(book: Book, part: Part, now: int = NOON) -> Due:
    (chunk,) = book.recall([part])
    return book.take(part, chunk, now)


def commit(book: Book) -> None:
    writing = book.draw_up()
    assert writing is not None
    try:
        book.write(writing)
    except LedgerWriteError:
        book.not_written()
        raise
    book.written()


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
    assert list(take(book, part(1)).indexes) == [0]
    book.claim([0], NOON)
    commit(book)
    book.close()
    book = opened(path)
    due = take(book, part(1), NOON + later)
    assert due == (Due([0], {0}) if is_due else Due([], set()))
    book.close()


def test_what_was_claimed_by_a_commit_that_failed_is_not_claimed_by_the_next(path: Path) -> None:
    book = opened(path)
    take(book, part(1000))
    book.claim(range(5), NOON)
    commit(book)
    book.claim(range(5, 500), NOON)
    with full_disk(4096), pytest.raises(LedgerWriteError):
        commit(book)
    book.claim(range(500, 510), NOON)
    commit(book)
    book.close()
    assert claimed(path) == 15


def test_what_is_claimed_while_a_commit_is_made_belongs_to_the_next(path: Path) -> None:
    book = opened(path)
    take(book, part(999))
    book.claim(range(5), NOON)
    writing = book.draw_up()
    assert writing is not None
    book.claim(range(5, 8), NOON)
    book.not_written()
    commit(book)
    book.close()
    assert claimed(path) == 3
    with LedgerReader(path) as reader:
        assert reader.job.items == 999
        assert [run.touched for run in reader.runs] == [True]


@pytest.mark.parametrize("fails", [True, False])
def test_an_outcome_that_comes_while_a_commit_is_made_is_written_by_the_next(path: Path, *, fails: bool) -> None:
    book = opened(path)
    take(book, part(2))
    book.claim(range(2), NOON)
    commit(book)
    book.settle([(0, STATES[Outcome.UPDATED], 200, 1)], NOON)
    writing = book.draw_up()
    assert writing is not None
    book.settle([(1, STATES[Outcome.UPDATED], 200, 1)], NOON)
    if fails:
        book.not_written()
    else:
        book.write(writing)
        book.written()
    assert book.uncommitted == {Outcome.UPDATED: 1 + fails}
    commit(book)
    assert not book.uncommitted
    book.close()
    with LedgerReader(path) as reader:
        assert reader.status().counts == {Outcome.UPDATED: 2}


def test_the_next_commit_writes_what_one_failed_to_write(path: Path) -> None:
    book = opened(path)
    take(book, part(1))
    book.claim([0], NOON)
    commit(book)
    book.settle([(0, STATES[Outcome.UPDATED], 200, 1)], NOON)
    with full_disk(4096), pytest.raises(LedgerWriteError):
        commit(book)
    commit(book)
    book.close()
    with LedgerReader(path) as reader:
        assert reader.status().counts == {Outcome.UPDATED: 1}


def test_what_an_earlier_run_claimed_stays_claimed_where_a_commit_fails(path: Path) -> None:
    book = opened(path)
    take(book, part(1000))
    book.claim(range(5), NOON)
    commit(book)
    book.close()
    book = opened(path)
    take(book, part(1000))
    book.claim(range(900), NOON)
    with full_disk(4096), pytest.raises(LedgerWriteError):
        commit(book)
    book.end_run(NOON)
    commit(book)
    book.close()
    assert claimed(path) == 5
