"""A chunk of rows: its contents, and that its evidence only gets better."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.bulk import Outcome
from adapty_async.ledger.chunks import HASH_BYTES, NO_OUTCOME, OUTCOMES, STATES, Chunk

INDEXES = st.integers(0, 19)
OUTCOME_STEPS = st.tuples(
    st.just("record_outcome"), INDEXES, st.sampled_from(sorted(OUTCOMES)), st.integers(0, 599), st.integers(0, 70_000)
)
CLAIM_STEPS = st.tuples(st.just("claim"), st.lists(INDEXES)) | st.tuples(st.just("release"), INDEXES)


def hashes(size: int) -> bytes:
    return b"".join(index.to_bytes(HASH_BYTES, "big") for index in range(size))


@given(st.lists(OUTCOME_STEPS | CLAIM_STEPS))
def test_what_is_packed_is_unpacked(steps: list[tuple[object, ...]]) -> None:
    chunk = Chunk(20)
    for now, (name, *arguments) in enumerate(steps, start=1_800_000_000):
        getattr(chunk, str(name))(*arguments, *([] if name == "release" else [now]))
    again = Chunk.unpack(20, chunk.pack())
    assert list(again.iter_rows(3, hashes(20), {})) == list(chunk.iter_rows(3, hashes(20), {}))
    assert again.counts.total() + again.claimed_count + again.states.count(NO_OUTCOME) == 20


@pytest.mark.parametrize(("first", "second"), list(permutations(STATES, 2)))
def test_the_better_evidence_stands_whichever_comes_first(first: Outcome, second: Outcome) -> None:
    chunk = Chunk(1)
    for at, outcome in enumerate((first, second), start=1):
        chunk.claim([0], at)
        chunk.record_outcome(0, STATES[outcome], 200 + at, at, at)
    (row,) = chunk.iter_rows(0, hashes(1), {})
    better = max(first, second, key=list(STATES).index)
    assert row.outcome is better
    assert row.attempts == row.at == (1 if better is first else 2)
    assert not row.claimed


def test_what_another_app_may_have_said_is_taken_back_and_nothing_else() -> None:
    chunk = Chunk(len(STATES) + 2)
    for index, state in enumerate(STATES.values()):
        chunk.record_outcome(index, state, 404, 1, 7)
    chunk.record_outcome(len(STATES), STATES[Outcome.ALREADY_ABSENT], 404, 1, 7)
    chunk.claim([len(STATES), len(STATES) + 1], 8)
    before = list(chunk.iter_rows(0, hashes(len(chunk)), {}))
    assert chunk.reopen()
    after = list(chunk.iter_rows(0, hashes(len(chunk)), {}))
    reopened = [old.outcome for old, new in zip(before, after, strict=True) if old != new]
    assert reopened == [
        Outcome.NOT_FOUND, Outcome.ALREADY_ABSENT, Outcome.DELETED_UNCONFIRMED, Outcome.ALREADY_ABSENT
    ]  # fmt: skip
    standings = {old.outcome: new.standing for old, new in zip(before, after, strict=True)}
    assert standings[Outcome.NOT_FOUND] is Outcome.NOT_ATTEMPTED
    assert standings[Outcome.DELETED_UNCONFIRMED] is Outcome.IN_DOUBT
    assert (after[4].at, after[4].status, after[4].attempts) == (None, None, 0)
    assert not chunk.reopen()


def test_a_claim_that_was_taken_back_leaves_no_time() -> None:
    chunk = Chunk(1)
    chunk.claim([0], 1_800_000_000)
    chunk.release(0)
    (row,) = chunk.iter_rows(0, hashes(1), {})
    assert (row.standing, row.at) == (Outcome.NOT_ATTEMPTED, None)


def test_no_failure_is_better_evidence_than_a_success() -> None:
    ranked = [outcome for outcome in STATES if outcome not in (Outcome.DUPLICATE, Outcome.EXCLUDED)]
    assert [outcome.is_failure for outcome in ranked] == sorted((o.is_failure for o in ranked), reverse=True)


def test_every_outcome_of_a_journaled_job_has_a_state() -> None:
    elsewhere = {Outcome.FETCHED, Outcome.SUCCEEDED, Outcome.NOT_ATTEMPTED}
    assert STATES.keys() == set(Outcome) - elsewhere


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Chunk.unpack(20, data)


def test_a_chunk_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        Chunk.unpack(21, Chunk(20).pack())


def test_more_attempts_than_fit_are_kept_as_the_most() -> None:
    chunk = Chunk(1)
    chunk.record_outcome(0, STATES[Outcome.DELETED], 204, 100_000, 1)
    assert next(chunk.iter_rows(0, hashes(1), {})).attempts == 65_535


def test_the_bytes_of_a_chunk_are_those_that_earlier_ledgers_hold() -> None:
    numbers = {
        Outcome.INVALID: 1,
        Outcome.DUPLICATE: 2,
        Outcome.EXCLUDED: 3,
        Outcome.FAILED: 4,
        Outcome.NOT_FOUND: 5,
        Outcome.IN_DOUBT: 6,
        Outcome.ALREADY_ABSENT: 7,
        Outcome.DELETED_UNCONFIRMED: 8,
        Outcome.DELETED: 9,
        Outcome.UPDATED: 10,
        Outcome.CREATED: 11,
    }
    chunk = Chunk(12)
    for index, outcome in enumerate(numbers):
        chunk.record_outcome(index, STATES[outcome], 404, 2, 0x01020304)
    chunk.claim([11], 0x05060708)
    states = bytes([*numbers.values(), 0x80])
    statuses = b"\x94\x01" * 11 + b"\0\0"
    attempts = b"\x02\0" * 11 + b"\0\0"
    times = b"\x04\x03\x02\x01" * 11 + b"\x08\x07\x06\x05"
    assert chunk.pack() == states + statuses + attempts + times


@pytest.mark.parametrize("outcome", STATES)
def test_the_same_outcome_again_is_that_of_the_later_run(outcome: Outcome) -> None:
    chunk = Chunk(1)
    chunk.record_outcome(0, STATES[outcome], 400, 1, 7)
    chunk.record_outcome(0, STATES[outcome], 401, 2, 8)
    (row,) = chunk.iter_rows(0, hashes(1), {})
    assert (row.outcome, row.attempts, row.at) == (outcome, 2, 8)
