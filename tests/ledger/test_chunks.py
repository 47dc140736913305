"""A chunk of rows: what it keeps, and that evidence only gets better."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.bulk import Outcome
from adapty_async.ledger.chunks import HASH, NOTHING, OUTCOMES, STATES, Chunk

INDEXES = st.integers(0, 19)
OUTCOME_STEPS = st.tuples(
    st.just("settle"), INDEXES, st.sampled_from(sorted(OUTCOMES)), st.integers(0, 599), st.integers(0, 70_000)
)
CLAIM_STEPS = st.tuples(st.just("claim"), st.lists(INDEXES)) | st.tuples(st.just("release"), INDEXES)


def hashes(size: int) -> bytes:
    return b"".join(index.to_bytes(HASH, "big") for index in range(size))


@given(st.lists(OUTCOME_STEPS | CLAIM_STEPS))
def test_what_is_packed_is_unpacked(steps: list[tuple[object, ...]]) -> None:
    chunk = Chunk(20)
    for now, (name, *arguments) in enumerate(steps, start=1_800_000_000):
        getattr(chunk, str(name))(*arguments, *([] if name == "release" else [now]))
    again = Chunk.unpack(20, chunk.pack())
    assert list(again.rows(3, hashes(20))) == list(chunk.rows(3, hashes(20)))
    assert again.counts.total() + again.claimed + again.states.count(NOTHING) == 20


@pytest.mark.parametrize(("first", "second"), list(permutations(STATES, 2)))
def test_the_better_evidence_stands_whichever_comes_first(first: Outcome, second: Outcome) -> None:
    chunk = Chunk(1)
    for at, outcome in enumerate((first, second), start=1):
        chunk.claim([0], at)
        chunk.settle(0, STATES[outcome], 200 + at, at, at)
    (row,) = chunk.rows(0, hashes(1))
    better = max(first, second, key=list(STATES).index)
    assert row.outcome is better
    assert row.attempts == row.at == (1 if better is first else 2)
    assert not row.claimed


def test_no_failure_is_better_evidence_than_a_success() -> None:
    ranked = [outcome for outcome in STATES if outcome is not Outcome.DUPLICATE]
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
    chunk.settle(0, STATES[Outcome.DELETED], 204, 100_000, 1)
    assert next(chunk.rows(0, hashes(1))).attempts == 65_535
