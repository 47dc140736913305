"""The bookkeeping of a run alone: claims, items that are due again, and the state after a failed commit."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapty_async.bulk import Outcome
from adapty_async.bulk.job_store import JobSpec
from adapty_async.http.clocks import Moment
from adapty_async.ledger import LedgerReader, LedgerWriteError
from adapty_async.ledger.chunks import STATES
from adapty_async.ledger.input_check import InputChunk
from adapty_async.ledger.named_and_temporary import NamedLedger
from adapty_async.ledger.session_state import RemainingItems, ResumeConditions, SessionState

from ..full_disk import full_disk
from .helpers import ids

NOON = Moment(1_700_000_000, 5000.0)
UPDATE = JobSpec("update", "customer_user_id", "https://api.test", "fingerprint", is_repeatable=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def opened(path: Path, now: Moment = NOON) -> SessionState:
    return SessionState.open(NamedLedger(path), UPDATE, ResumeConditions(), lambda: now)


def part(count: int) -> InputChunk:
    names = list(ids(count))
    return InputChunk(0, names, names, is_last=True)


def take(book: SessionState, part: InputChunk, now: Moment = NOON) -> RemainingItems:
    (chunk,) = book.load_and_check([part])
    return book.open_chunk(part, chunk, now)


def commit(book: SessionState) -> None:
    writing = book.prepare_commit()
    assert writing is not None
    try:
        book.write(writing)
    except LedgerWriteError:
        book.on_commit_failed()
        raise
    book.on_committed()


def claimed(path: Path) -> int:
    with LedgerReader(path) as reader:
        return reader.status().claimed


def after(wall: float, boot: float) -> Moment:
    """Return the moment that is this many seconds after noon by the wall clock and by the boot clock."""
    return Moment(NOON.wall + wall, NOON.boot + boot)


def left_by_a_kill(path: Path, at: Moment, *, begun: Moment | None = None) -> None:
    """Claim an update at a moment, in a run that began then or earlier, and leave it without an outcome."""
    book = opened(path, begun or at)
    take(book, part(1), at)
    book.claim([0], at)
    commit(book)
    book.close()


def due_at(path: Path, now: Moment) -> RemainingItems:
    book = opened(path, now)
    due = take(book, part(1), now)
    book.close()
    return due


@pytest.mark.parametrize(
    ("wall", "boot", "age"),
    [
        (0, 0, 0),
        (900, 900, 900),
        (901, 901, None),
        (901, 60, None),  # the wall clock was set ahead, or the boot clock stopped while the machine was suspended
        (60, 901, None),  # the wall clock was set back
        (-3600, 901, None),
        (-3600, 60, 60),
        (-3, 0, 0),
        (-5, -5, -5),
        (-5.5, -5.5, None),  # the age of a claim in the future is unknown: both clocks were set back, as by a snapshot
        (60, 60, 60),
    ],
)
def test_an_update_without_an_outcome_is_sent_again_within_15_minutes_by_both_clocks(
    path: Path, wall: float, boot: float, age: float | None
) -> None:
    left_by_a_kill(path, NOON)
    now = after(wall, boot)
    due = due_at(path, now)
    assert due == (RemainingItems([], {}) if age is None else RemainingItems([0], {0: now.subtract(age)}))


def test_what_was_claimed_after_the_clock_was_set_back_in_a_run_looks_no_younger(path: Path) -> None:
    book = opened(path)
    take(book, part(2))
    book.claim([0], NOON)
    book.claim([1], after(-7200 + 5, 5))
    commit(book)
    book.close()
    now = after(-7200 + 60, 60)
    book = opened(path, now)
    assert take(book, part(2), now) == RemainingItems([0], {0: now.subtract(60)})
    book.close()


def test_a_clock_that_was_set_ahead_during_the_run_is_allowed_for(path: Path) -> None:
    left_by_a_kill(path, after(3600, 10), begun=NOON)  # set ahead by an hour, 10 seconds later
    assert due_at(path, after(3600 + 60, 70)).indexes
    assert not due_at(path, after(100, 10 + 901)).indexes  # set back to the correct time


@pytest.mark.parametrize("seconds", [0, 60, 3600])
def test_after_a_restart_of_the_machine_no_clock_is_certain(
    path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    left_by_a_kill(path, NOON)
    monkeypatch.setattr("adapty_async.ledger.session_state.read_boot_id", lambda: "another")
    assert due_at(path, Moment(NOON.wall + seconds, 7.0)) == RemainingItems([], {})


def test_what_was_claimed_since_the_restart_is_sent_again_beside_what_was_claimed_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = opened(path)
    take(book, part(2))
    book.claim([0], NOON)
    commit(book)
    book.close()
    monkeypatch.setattr("adapty_async.ledger.session_state.read_boot_id", lambda: "another")
    now = Moment(NOON.wall + 60, 7.0)
    book = opened(path, now)
    assert take(book, part(2), now).indexes == [1]
    book.claim([1], now)
    commit(book)
    book.close()
    later = Moment(NOON.wall + 90, 37.0)
    book = opened(path, later)
    assert take(book, part(2), later) == RemainingItems([1], {1: later.subtract(30)})
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
    writing = book.prepare_commit()
    assert writing is not None
    book.claim(range(5, 8), NOON)
    book.on_commit_failed()
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
    book.record_outcomes([(0, STATES[Outcome.UPDATED], 200, 1)], int(NOON.wall))
    writing = book.prepare_commit()
    assert writing is not None
    book.record_outcomes([(1, STATES[Outcome.UPDATED], 200, 1)], int(NOON.wall))
    if fails:
        book.on_commit_failed()
    else:
        book.write(writing)
        book.on_committed()
    assert book.uncommitted_counts == {Outcome.UPDATED: 1 + fails}
    commit(book)
    assert not book.uncommitted_counts
    book.close()
    with LedgerReader(path) as reader:
        assert reader.status().counts == {Outcome.UPDATED: 2}


def test_the_next_commit_writes_what_one_failed_to_write(path: Path) -> None:
    book = opened(path)
    take(book, part(1))
    book.claim([0], NOON)
    commit(book)
    book.record_outcomes([(0, STATES[Outcome.UPDATED], 200, 1)], int(NOON.wall))
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
    book.end_run(int(NOON.wall))
    commit(book)
    book.close()
    assert claimed(path) == 5
    with LedgerReader(path) as reader:
        assert [run.number for run in reader.runs] == [1, 2]


def test_a_chunk_stays_open_until_its_last_item_has_come_to_its_end(path: Path) -> None:
    book = opened(path)
    take(book, part(3))
    book.claim(range(3), NOON)
    book.release([0])
    commit(book)
    for position in (1, 2):
        book.record_outcomes([(position, STATES[Outcome.UPDATED], 200, 1)], int(NOON.wall))
        commit(book)
    book.close()
    with LedgerReader(path) as reader:
        assert reader.status().counts == {Outcome.UPDATED: 2}
        assert reader.status().waiting == 1


def test_a_run_that_finds_nothing_to_do_is_not_written_down(path: Path) -> None:
    book = opened(path)
    take(book, part(1))
    book.claim([0], NOON)
    book.record_outcomes([(0, STATES[Outcome.UPDATED], 200, 1)], int(NOON.wall))
    commit(book)
    book.close()
    book = opened(path)
    assert take(book, part(1)) == RemainingItems([])
    assert book.prepare_commit() is None
    book.end_run(int(NOON.wall))
    assert book.prepare_commit() is None
    book.close()
    with LedgerReader(path) as reader:
        assert len(reader.runs) == 1


def test_what_is_seen_of_a_run_is_told_from_the_first_look_to_its_end(path: Path) -> None:
    def sight() -> Mapping[str, Any] | None:
        with LedgerReader(path) as reader:
            return reader.live_status

    book = opened(path)
    take(book, part(1))
    commit(book)
    assert sight() is None
    book.set_live_status('{"paused": true}')
    commit(book)
    assert sight() == {"paused": True}
    book.end_run(int(NOON.wall))
    commit(book)
    book.close()
    assert sight() is None


@pytest.mark.parametrize(
    ("outcome", "touched"),
    [(Outcome.UPDATED, True), (Outcome.IN_DOUBT, True), (Outcome.NOT_FOUND, True), (Outcome.FAILED, False)],
)
def test_a_run_that_came_to_its_end_tells_if_something_may_have_come_of_it(
    path: Path, outcome: Outcome, *, touched: bool
) -> None:
    book = opened(path)
    take(book, part(1))
    book.claim([0], NOON)
    commit(book)
    book.record_outcomes([(0, STATES[outcome], 0, 1)], int(NOON.wall))
    book.end_run(int(NOON.wall))
    commit(book)
    book.close()
    with LedgerReader(path) as reader:
        assert [run.touched for run in reader.runs] == [touched]
        assert reader.status().first == reader.status().last == datetime.fromtimestamp(NOON.wall, UTC)
