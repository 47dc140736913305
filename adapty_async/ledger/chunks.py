"""The state of 1,000 items in packed arrays, which the ledger stores as one row.

One SQLite row per item takes 2.0 microseconds and 40 bytes per item. A chunk takes 1.0 microsecond and 17 bytes per
item. This includes rewriting each chunk whenever some of its items get an outcome, with a commit every 1,000 outcomes.
"""

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from ..bulk import Outcome
from .errors import LedgerError

CHUNK: Final = 1000
HASH: Final = 16

# The states of an item in the file. Better evidence has a larger number. To change a number, change VERSION too.
NOTHING: Final = 0
STATES: Final = {
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
OUTCOMES: Final = {state: outcome for outcome, state in STATES.items()}
UNSENT: Final = frozenset({Outcome.INVALID, Outcome.DUPLICATE, Outcome.EXCLUDED})
"""Outcomes that are known without a request."""
_CLAIMED: Final = 0x80
"""Added to a state: the item is about to be sent or was sent, and nothing better than the state is known."""

_OUTCOME: Final = 0x7F
"""The bits of a state that hold the outcome."""


def _reopened(state: int) -> int:
    """Return the rest of a state if the profile may exist after all."""
    outcome = OUTCOMES.get(state & _OUTCOME)
    if outcome is Outcome.DELETED_UNCONFIRMED:
        return _CLAIMED
    return state & _CLAIMED if outcome in (Outcome.ALREADY_ABSENT, Outcome.NOT_FOUND) else state


OutcomeRow: TypeAlias = tuple[int, int, int, int]
"""An outcome to be recorded: position, state, status (0 if there was no response), attempts.

An excluded item has no status. The field then holds the number of its exclude list (0 if it has no name). This is a
tuple and not a class because one is created for each item, which is a large part of the cost of a ledger.
"""

_REOPENED: Final = bytes(map(_reopened, range(256)))
_IS_CLAIMED: Final = bytes(state & _CLAIMED > 0 for state in range(256))
_MOST_COUNTED: Final = 0xFFFF
LAST_SECOND: Final = 0xFFFFFFFF
"""The latest time that can be stored, in the year 2106. The earliest is in 1970."""


def check_clock(wall: float) -> None:
    """Raise LedgerError if the time of the clock can't be stored."""
    if not 0 <= wall <= LAST_SECOND:
        when = "before 1970" if wall < 0 else "after February 2106"
        raise LedgerError(f"this machine's clock shows a date {when}, which a ledger can't store: set the clock")


def noted(wall: float) -> int:
    """Return the time to store. If the clock is set out of range during a run, no outcome is lost."""
    return int(min(max(wall, 0.0), LAST_SECOND))


@attrs.frozen
class Row:
    """The known state of one item.

    Attributes:
        position: The position of the item in the input, from 0.
        hash: The hash of its ID.
        outcome: Its outcome. None if it has none.
        claimed: Whether it may have been sent, and the result of that request is unknown.
        status: The status of the last response. None if there was none.
        attempts: The number of attempts that led to the outcome.
        at: When it got its outcome, or else when it was claimed, in seconds since 1970.
        exclude_list: The name of the list that excludes it.
    """

    position: int
    hash: bytes
    outcome: Outcome | None
    claimed: bool
    status: int | None
    attempts: int
    at: int | None
    exclude_list: str | None = None

    @property
    def standing(self) -> Outcome:
        """The outcome of the item if nothing more is done. A claimed item is in doubt."""
        if self.claimed:
            return Outcome.IN_DOUBT
        return Outcome.NOT_ATTEMPTED if self.outcome is None else self.outcome


class Chunk:
    """The states of a chunk's items, with the status, the attempts and the time of each."""

    def __init__(self, size: int) -> None:
        self.states = bytearray(size)
        self._statuses = _array("H", size)
        self._attempts = _array("H", size)
        self._times = _array("I", size)

    def __len__(self) -> int:
        return len(self.states)

    def extend(self, size: int) -> None:
        """Make room for `size` items."""
        more = Chunk(size - len(self))
        self.states += more.states
        self._statuses += more._statuses
        self._attempts += more._attempts
        self._times += more._times

    def claim(self, indexes: Sequence[int], now: int) -> Sequence[int]:
        """Record that items are about to be sent, in order. Return those that weren't claimed before.

        The time of an earlier claim or outcome is kept.
        """
        states, times = self.states, self._times
        count = len(indexes)
        if count and indexes[-1] - indexes[0] == count - 1:  # consecutive items, and usually all are new
            begin, end = indexes[0], indexes[-1] + 1
            if states.count(NOTHING, begin, end) == count:
                states[begin:end] = bytes([_CLAIMED]) * count
                times[begin:end] = array(times.typecode, [now]) * count
                return indexes
        fresh = []
        for index in indexes:
            state = states[index]
            if state < _CLAIMED:
                fresh.append(index)
                states[index] = state | _CLAIMED
                if state == NOTHING:
                    times[index] = now
        return fresh

    def release(self, index: int) -> None:
        """Remove a claim, because the item wasn't sent."""
        self.states[index] &= _OUTCOME

    def settle(self, index: int, state: int, status: int, attempts: int, now: int) -> None:
        """Record an outcome, unless there is better evidence: `deleted` replaces `failed`, never the reverse."""
        self.settle_rows([(index, state, status, attempts)], 0, now)

    def settle_rows(self, rows: Iterable[OutcomeRow], first: int, now: int) -> int:
        """Record outcomes and return their number. `first` is the position of the chunk's first item."""
        states, statuses, all_attempts, times = self.states, self._statuses, self._attempts, self._times
        count = 0
        for position, state, status, attempts in rows:
            index = position - first
            count += 1
            known = states[index] & _OUTCOME
            if state < known:
                states[index] = known
                continue
            states[index] = state
            statuses[index] = status
            all_attempts[index] = attempts if attempts < _MOST_COUNTED else _MOST_COUNTED  # noqa: FURB136 - faster
            times[index] = now
        return count

    def doubt(self, index: int) -> None:
        """Turn a claim into the outcome `in_doubt`, at the time of the claim."""
        self.settle(index, STATES[Outcome.IN_DOUBT], 0, 0, self._times[index])

    def reopen(self) -> bool:
        """Discard all results that a profile doesn't exist, because they came from another app.

        Return True if there were any.
        """
        before, self.states = self.states, self.states.translate(_REOPENED)
        return self.states != before

    def claimed_at(self, index: int) -> int | None:
        """Return when an item was claimed, or None if it isn't claimed or has had an outcome."""
        return self._times[index] if self.states[index] == _CLAIMED else None

    def is_claimed(self, index: int) -> bool:
        """Return True if an item may have been sent and its result is unknown."""
        return bool(self.states[index] & _CLAIMED)

    def open_indexes(self, retried: frozenset[Outcome]) -> list[int]:
        """Return the indexes of items that are claimed or have no outcome or one of `retried`, in order."""
        again = {NOTHING, *(STATES[outcome] for outcome in retried if outcome in STATES)}
        marks = self.states.translate(bytes(state & _CLAIMED > 0 or state in again for state in range(256)))
        return [index for index, mark in enumerate(marks) if mark] if 1 in marks else []

    @property
    def counts(self) -> Counter[Outcome]:
        """The number of items by outcome, without items that are claimed again."""
        return Counter({outcome: count for state, outcome in OUTCOMES.items() if (count := self.states.count(state))})

    @property
    def claimed(self) -> int:
        """The number of claimed items."""
        return sum(self.states.translate(_IS_CLAIMED))

    @property
    def first(self) -> int:
        """The time of the first outcome. There must be one."""
        return min(at for at, state in zip(self._times, self.states, strict=True) if state in OUTCOMES)

    @property
    def last(self) -> int:
        """The time of the last outcome. There must be one."""
        return max(at for at, state in zip(self._times, self.states, strict=True) if state in OUTCOMES)

    def answered_since(self, moment: int) -> int:
        """Return how many outcomes of requests were recorded at `moment` or later."""
        return sum(
            at >= moment and OUTCOMES.get(state) not in UNSENT
            for at, state in zip(self._times, self.states, strict=True)
            if state in OUTCOMES
        )

    def rows(self, number: int, hashes: bytes, exclude_lists: Mapping[int, str]) -> Iterator[Row]:
        """Yield the state of each item. `number` is the number of the chunk, `exclude_lists` maps numbers to names."""
        for index, state in enumerate(self.states):
            position, hash_ = number * CHUNK + index, hashes[HASH * index : HASH * (index + 1)]
            if state == NOTHING:  # the other arrays may hold the rest of a released claim
                yield Row(position, hash_, None, claimed=False, status=None, attempts=0, at=None)
                continue
            outcome, status = OUTCOMES.get(state & _OUTCOME), self._statuses[index]
            is_excluded = outcome is Outcome.EXCLUDED
            yield Row(
                position=position,
                hash=hash_,
                outcome=outcome,
                claimed=bool(state & _CLAIMED),
                status=None if is_excluded else status or None,
                attempts=self._attempts[index],
                at=self._times[index] or None,
                exclude_list=exclude_lists.get(status) if is_excluded else None,
            )

    def pack(self) -> bytes:
        """Return the chunk as bytes."""
        return b"".join([self.states, *map(_little_endian, (self._statuses, self._attempts, self._times))])

    @classmethod
    def unpack(cls, size: int, plain: bytes) -> "Chunk":
        """Return the chunk that `pack` packed. Raise ValueError if the length is wrong."""
        if len(plain) != 9 * size:
            raise ValueError("damaged")
        chunk = cls(0)
        chunk.states += plain[:size]
        for values, part in (
            (chunk._statuses, plain[size : 3 * size]),
            (chunk._attempts, plain[3 * size : 5 * size]),
            (chunk._times, plain[5 * size :]),
        ):
            values.frombytes(part)
            if sys.byteorder == "big":
                values.byteswap()
        return chunk


def _array(kind: str, size: int) -> "array[int]":
    return array(kind, bytes(size * array(kind).itemsize))


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
