"""A thousand rows in one: what became of each item of a chunk, in packed arrays.

A row of its own for each item takes 2.0 microseconds and 40 bytes, a chunk's share of one 1.0 and 17; a chunk that is
written again whenever some of its items have come to their end included, as at a commit every 1,000 outcomes.
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

# The states of an item in the file; the better the evidence, the larger the number. Other numbers: another VERSION.
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
"""What is known of an item without a request."""
_CLAIMED: Final = 0x80
"""Beside a state: it is about to be sent, or was, and nothing better than the state is known of it."""

_OUTCOME: Final = 0x7F
"""What of a state says the outcome."""


def _reopened(state: int) -> int:
    """Give what is left of a state where the profile may exist all the same."""
    outcome = OUTCOMES.get(state & _OUTCOME)
    if outcome is Outcome.DELETED_UNCONFIRMED:
        return _CLAIMED
    return state & _CLAIMED if outcome in (Outcome.ALREADY_ABSENT, Outcome.NOT_FOUND) else state


OutcomeRow: TypeAlias = tuple[int, int, int, int]
"""An outcome on its way to the ledger: position, state, status (0: no answer), attempts.

In place of a status, which it can't have, what is excluded has the number of its exclude list (0: none was named).
No class, for one is made for each item, and that is much of what a ledger costs.
"""

_REOPENED: Final = bytes(map(_reopened, range(256)))
_IS_CLAIMED: Final = bytes(state & _CLAIMED > 0 for state in range(256))
_MOST_COUNTED: Final = 0xFFFF
LAST_SECOND: Final = 0xFFFFFFFF
"""The latest time that can be noted, in the year 2106; the first is in 1970."""


def check_clock(wall: float) -> None:
    """Refuse to begin by a clock whose time can't be noted. Raises LedgerError."""
    if not 0 <= wall <= LAST_SECOND:
        when = "before 1970" if wall < 0 else "after February 2106"
        raise LedgerError(f"the clock of this machine says that it is {when}, which no ledger can note: set the clock")


def noted(wall: float) -> int:
    """Give the time to be noted; where a clock is set beyond that during a run, no outcome is lost for it."""
    return int(min(max(wall, 0.0), LAST_SECOND))


@attrs.frozen
class Row:
    """What is known of one item. `hash`: of its id. `at`: seconds since 1970, of the outcome, else of the claim.

    `outcome`: None where there is none. `claimed`: it may have been sent, and no outcome is known of that.
    `exclude_list`: the name of the list that excludes it.
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
        """What the item's outcome is if nothing more is done: what is claimed is in doubt."""
        if self.claimed:
            return Outcome.IN_DOUBT
        return Outcome.NOT_ATTEMPTED if self.outcome is None else self.outcome


class Chunk:
    """The states of a chunk's items, with status, attempts and time of each."""

    def __init__(self, size: int) -> None:
        self.states = bytearray(size)
        self._statuses = _array("H", size)
        self._attempts = _array("H", size)
        self._times = _array("I", size)

    def __len__(self) -> int:
        return len(self.states)

    def extend(self, size: int) -> None:
        """Make room for so many items."""
        more = Chunk(size - len(self))
        self.states += more.states
        self._statuses += more._statuses
        self._attempts += more._attempts
        self._times += more._times

    def claim(self, indexes: Sequence[int], now: int) -> Sequence[int]:
        """Note that items are about to be sent, in order; give those that weren't claimed before.

        The time of an earlier claim or outcome stays.
        """
        states, times = self.states, self._times
        count = len(indexes)
        if count and indexes[-1] - indexes[0] == count - 1:  # one after the other, and mostly nothing is known of any
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
        """Take a claim back: the item wasn't sent."""
        self.states[index] &= _OUTCOME

    def settle(self, index: int, state: int, status: int, attempts: int, now: int) -> None:
        """Note an outcome, unless there is better evidence: `deleted` replaces `failed`, never the reverse."""
        self.settle_rows([(index, state, status, attempts)], 0, now)

    def settle_rows(self, rows: Iterable[OutcomeRow], first: int, now: int) -> int:
        """Note outcomes; `first` is the position of the chunk's first item. Give how many they were."""
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
        """Turn a claim into the outcome `in_doubt`, of the time of the claim."""
        self.settle(index, STATES[Outcome.IN_DOUBT], 0, 0, self._times[index])

    def reopen(self) -> bool:
        """Take back that there was no such profile: that was said of another app. Tell whether it was said of any."""
        before, self.states = self.states, self.states.translate(_REOPENED)
        return self.states != before

    def claimed_at(self, index: int) -> int | None:
        """When an item without any outcome was claimed; None where it wasn't, or has had an outcome."""
        return self._times[index] if self.states[index] == _CLAIMED else None

    def is_claimed(self, index: int) -> bool:
        """Tell whether an item may have been sent, and nothing is known of that."""
        return bool(self.states[index] & _CLAIMED)

    def open_indexes(self, retried: frozenset[Outcome]) -> list[int]:
        """Give the items that have no outcome, or one of `retried`, in order."""
        again = {NOTHING, *(STATES[outcome] for outcome in retried if outcome in STATES)}
        marks = self.states.translate(bytes(state & _CLAIMED > 0 or state in again for state in range(256)))
        return [index for index, mark in enumerate(marks) if mark] if 1 in marks else []

    @property
    def counts(self) -> Counter[Outcome]:
        """How many items have which outcome, and aren't claimed again."""
        return Counter({outcome: count for state, outcome in OUTCOMES.items() if (count := self.states.count(state))})

    @property
    def claimed(self) -> int:
        """How many items are claimed."""
        return sum(self.states.translate(_IS_CLAIMED))

    @property
    def first(self) -> int:
        """The time of the first outcome, where there is one."""
        return min(at for at, state in zip(self._times, self.states, strict=True) if state in OUTCOMES)

    @property
    def last(self) -> int:
        """The time of the last outcome, where there is one."""
        return max(at for at, state in zip(self._times, self.states, strict=True) if state in OUTCOMES)

    def answered_since(self, moment: int) -> int:
        """How many of the outcomes that a request led to are of that time or later."""
        return sum(
            at >= moment and OUTCOMES.get(state) not in UNSENT
            for at, state in zip(self._times, self.states, strict=True)
            if state in OUTCOMES
        )

    def rows(self, number: int, hashes: bytes, exclude_lists: Mapping[int, str]) -> Iterator[Row]:
        """Give what is known of each item of the chunk with that number. `exclude_lists`: their names, by number."""
        for index, state in enumerate(self.states):
            position, hash_ = number * CHUNK + index, hashes[HASH * index : HASH * (index + 1)]
            if state == NOTHING:  # what else stands there is of a claim that was taken back
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
        """Give all of it in bytes."""
        return b"".join([self.states, *map(_little_endian, (self._statuses, self._attempts, self._times))])

    @classmethod
    def unpack(cls, size: int, plain: bytes) -> "Chunk":
        """Read what `pack` gave. Raises ValueError where that isn't it."""
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
