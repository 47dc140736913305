"""One run's bookkeeping: which items are to be sent, which are claimed, what became of them. For one thread."""

import bisect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import attrs

from ..bulk import Outcome
from ..bulk.journal import Undertaking
from .chunks import CHUNK, STATES, Chunk, OutcomeRow
from .inventory import Inventory, Part, begin, check, secret_of
from .store import AT_ONCE, RunRow, Store

_STALE_AFTER: Final = 15 * 60
"""Seconds after which what was claimed and isn't repeatable might overwrite what the app wrote since."""
_GRACE: Final = 5
"""Seconds by which a clock is set back now and then; a claim further in the future tells nothing of its age."""
_REFUSED: Final = STATES[Outcome.FAILED]
"""Up to this state it is known that nothing came of an item."""


@attrs.frozen
class Due:
    """What is to be done of a chunk: the indexes of items, and those of them that an earlier run may have sent."""

    indexes: Sequence[int]
    maybe_sent: AbstractSet[int] = frozenset()


@attrs.frozen
class Terms:
    """On which terms an earlier job is gone on with.

    `appended`: rows may have been added at the end of the input. `retry`: what has one of these outcomes is sent again.
    `new_key`: another API key of the same app may be used. `notes`: what the record shall say of this run. `order`:
    what is asked for from this run on.
    """

    appended: bool = False
    retry: frozenset[Outcome] = frozenset()
    new_key: bool = False
    notes: Mapping[str, str] = attrs.field(factory=dict)
    order: Mapping[str, Any] | None = None


@attrs.define
class _Open:
    """A chunk with items on their way: `due` of them."""

    chunk: Chunk
    due: int


class Book:
    """The bookkeeping of a run. What it is told is in memory until `commit`, and stays there where that fails.

    The run itself is written down with the first chunk of the input that is accepted: what is refused leaves no trace.
    """

    def __init__(self, store: Store, inventory: Inventory, run: RunRow, terms: Terms, *, repeatable: bool) -> None:
        self._store = store
        self._inventory = inventory
        self._run = run
        self._terms = terms
        self._repeatable = repeatable
        self._open: dict[int, _Open] = {}
        self._changed: set[int] = set()
        self._new_claims: list[int] = []  # positions; nobody is told of them before they are committed
        self._has_begun = False
        self._run_is_written = True
        self._has_touched = False

    @classmethod
    def open(cls, path: Path, undertaking: Undertaking, terms: Terms, now: Callable[[], float]) -> "Book":
        """Open the ledger, locked, for a run. Raises LedgerError."""
        store = Store.open(path, lambda new: begin(new, path, undertaking, int(now())))
        try:
            job, runs = store.job(), store.runs()
            secret = secret_of(path, job)
            check(path, job, runs, undertaking, new_key=terms.new_key)
            inventory = Inventory(store, secret, job, appended=terms.appended)
        except BaseException:  # an interrupt, too: the lock would stay held
            store.close()
            raise
        run = RunRow(
            number=len(runs) + 1,
            started=int(now()),
            ended=None,
            key_fingerprint=undertaking.key_fingerprint,
            library_version=version("adapty-async"),
            notes=json.dumps(dict(terms.notes)),
            touched=False,
        )
        return cls(store, inventory, run, terms, repeatable=undertaking.repeatable)

    def take(self, part: Part, *, claims: int, now: int) -> Due:
        """Compare a chunk of the input with what is known of it, and give what is to be done of it.

        The first `claims` of that are claimed. Raises InputChangedError.
        """
        number = part.number
        met = self._inventory.meet(part)
        if not self._has_begun:
            self._has_begun = True
            self._run_is_written = False
            if self._terms.order is not None:
                self._inventory.note_order(self._terms.order)
        if met.is_new:
            self._changed.add(number)
        due = self._due(number, met.chunk, now)
        if due.indexes or number in self._changed:
            self._open[number] = _Open(met.chunk, len(due.indexes))
        claimed = due.indexes[:claims]
        if part.decided:
            claimed = [index for index in claimed if index not in part.decided]
        if claimed:
            self._claim(number, claimed, now)
        return due

    def claim(self, positions: Sequence[int], now: int) -> None:
        """Note that items are about to be sent, in order."""
        begin = 0
        while begin < len(positions):
            number = positions[begin] // CHUNK
            first = number * CHUNK
            end = bisect.bisect_left(positions, first + CHUNK, begin)
            self._claim(number, [position - first for position in positions[begin:end]], now)
            begin = end

    def release(self, positions: Sequence[int]) -> None:
        """Note that items which were claimed weren't sent."""
        for position in positions:
            number, index = divmod(position, CHUNK)
            opened = self._open[number]
            opened.chunk.release(index)
            opened.due -= 1
            self._changed.add(number)

    def settle(self, rows: Sequence[OutcomeRow], now: int) -> None:
        """Note outcomes."""
        for number, mine in itertools.groupby(rows, _chunk_of):
            opened = self._open[number]
            opened.due -= opened.chunk.settle_rows(mine, number * CHUNK, now)
            self._changed.add(number)
        self._has_touched = self._has_touched or any(state > _REFUSED and attempts for _, state, _, attempts in rows)

    def show(self, sight: str) -> None:
        """Note what is seen of the run, for whoever reads the ledger meanwhile."""
        self._run = attrs.evolve(self._run, sight=sight)
        self._run_is_written = not self._has_begun

    def end_run(self, now: int) -> None:
        """Note that the run came to its end by itself, where it began."""
        touched = self._has_touched or any(opened.chunk.claimed for opened in self._open.values())
        self._run = attrs.evolve(self._run, ended=now, touched=touched, sight=None)
        self._run_is_written = not self._has_begun

    def commit(self) -> None:
        """Write down all that is new; it is on the disk then.

        Raises LedgerWriteError, with nothing written. Then what was claimed by it isn't any more: it won't be sent.
        """
        if not self._changed and self._run_is_written and self._inventory.is_written:
            return
        try:
            self._write()
        except BaseException:  # an interrupt, too: what was claimed by it is on no disk
            self._take_claims_back()
            raise
        self._new_claims.clear()
        for number in self._changed:
            if not self._open[number].due:
                del self._open[number]
        self._changed.clear()
        self._inventory.written()
        self._run_is_written = True

    def close(self) -> None:
        """Let go of the ledger."""
        self._store.close()

    def _write(self) -> None:
        outcomes = [(number, self._open[number].chunk.pack()) for number in sorted(self._changed)]
        if self._run_is_written and self._inventory.is_written and len(outcomes) <= AT_ONCE:
            self._store.commit_outcomes(outcomes)
            return
        with self._store.transaction():
            if not self._run_is_written:
                self._store.write_run(self._run)
            self._inventory.write()
            self._store.write_outcomes(outcomes)

    def _claim(self, number: int, indexes: Sequence[int], now: int) -> None:
        fresh = self._open[number].chunk.claim(indexes, now)
        self._new_claims += map((number * CHUNK).__add__, fresh)
        self._changed.add(number)
        if not self._run.touched:
            self._run = attrs.evolve(self._run, touched=True)
            self._run_is_written = False

    def _take_claims_back(self) -> None:
        for position in self._new_claims:
            number, index = divmod(position, CHUNK)
            self._open[number].chunk.release(index)
        self._new_claims.clear()

    def _due(self, number: int, chunk: Chunk, now: int) -> Due:
        if not any(chunk.states):
            return Due(range(len(chunk)))
        indexes, maybe_sent = [], set()
        for index in chunk.open_indexes(self._terms.retry):
            claimed = chunk.is_claimed(index)
            if claimed and not self._may_repeat(chunk, index, now):
                chunk.doubt(index)
                self._changed.add(number)
                continue
            indexes.append(index)
            if claimed or chunk.states[index] == STATES[Outcome.IN_DOUBT]:
                maybe_sent.add(index)
        return Due(indexes, maybe_sent)

    def _may_repeat(self, chunk: Chunk, index: int, now: int) -> bool:
        if self._repeatable or Outcome.IN_DOUBT in self._terms.retry:
            return True
        claimed_at = chunk.claimed_at(index)
        return claimed_at is not None and -_GRACE <= now - claimed_at <= _STALE_AFTER


def _chunk_of(row: OutcomeRow) -> int:
    return row[0] // CHUNK
