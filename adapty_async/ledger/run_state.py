"""The ledger session of one run: the items left to send, the claims and the outcomes."""

import bisect
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from operator import itemgetter
from typing import Any, Final

import attrs

from ..bulk import Outcome
from ..bulk.job_store import Undertaking
from ..http.clock import ANY_TIME, Moment, boot_id
from ..http.retry import is_stale
from .chunks import CHUNK, OUTCOMES, STATES, Chunk, OutcomeRow, check_clock, noted
from .input_check import Inventory, Part, begin, check, secret_of
from .last_key import ABSENT_SHARE, APP_ID
from .location import LedgerLocation
from .lock import Held
from .store import RunRow, Store, Writing

_GRACE: Final = 5.0
"""Seconds by which clocks may differ. The age of a claim that is further in the future is unknown."""
_DRIFT: Final = 0.5
"""Seconds by which the wall clock may be set ahead before this is recorded."""
_STATE: Final = itemgetter(1)
_REFUSED: Final = STATES[Outcome.FAILED]
"""An item in this state or a lower one has certainly had no effect."""


@attrs.frozen
class Due:
    """The items of a chunk that are left to send.

    Attributes:
        indexes: The indexes of the items.
        maybe_sent: When an earlier run may have sent an item, by index.
    """

    indexes: Sequence[int]
    maybe_sent: Mapping[int, Moment] = attrs.field(factory=dict[int, Moment])


@attrs.frozen
class Terms:
    """The conditions for resuming an earlier job.

    Attributes:
        appended: Whether rows may have been added at the end of the input.
        retry: Items with one of these outcomes are sent again.
        new_key: Whether another API key of the same app may be used.
        notes: Notes of this run for the record.
        order: The job options from this run on.
        held: The lock of the ledger if the caller already holds it.
    """

    appended: bool = False
    retry: frozenset[Outcome] = frozenset()
    new_key: bool = False
    notes: Mapping[str, str] = attrs.field(factory=dict)
    order: Mapping[str, Any] | None = None
    held: Held | None = None


@attrs.define
class _Open:
    """A chunk with unfinished items. `due` is their number."""

    chunk: Chunk
    due: int


@attrs.define
class _News:
    """Changes that aren't on the disk: chunk numbers, claimed positions, outcomes, and whether the run has changed."""

    chunks: set[int] = attrs.field(factory=set)
    claims: list[int] = attrs.field(factory=list)
    outcomes: Counter[Outcome] = attrs.field(factory=Counter)
    run: bool = False


class Book:
    """The ledger session of one run, in memory.

    Only `open`, `recall`, `write`, `check_files` and `close` wait for the disk. They may run in another thread.
    `draw_up` returns the changes, `write` writes them, and the caller reports the result with `written` or
    `not_written`. After a failure the changes are still dirty.

    The run itself is committed with the first chunk that has items left to send. It is also committed if it records the
    app of a key or an accepted guard. A refused input leaves no trace, and a job that is already done gets no further
    run.
    """

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        runs: Sequence[RunRow],
        run: RunRow,
        terms: Terms,
        *,
        repeatable: bool,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._earlier = _Earlier.of(runs, run.boot)
        self._last_notes: dict[str, str] = json.loads(runs[-1].notes) if runs else {}
        self._run = run
        self._terms = terms
        self._repeatable = repeatable
        self._open: dict[int, _Open] = {}
        self._growing: int | None = None  # the chunk that the input has filled in part
        self._news = _News()
        self._under_way = _News()
        self._is_accepted = False
        self._has_begun = False
        self._has_touched = False

    @classmethod
    def open(
        cls, location: LedgerLocation, undertaking: Undertaking, terms: Terms, clock: Callable[[], Moment]
    ) -> "Book":
        """Open and lock the ledger for a run. Raise LedgerError."""
        now = clock()
        check_clock(now.wall)
        store = Store.open(location, lambda new: begin(new, location, undertaking, noted(now.wall)), held=terms.held)
        try:
            job, runs = store.job(), store.runs()
            secret = secret_of(location, job)
            check(location.path, job, runs, undertaking, new_key=terms.new_key)
            inventory = Inventory(store, secret, job, appended=terms.appended)
            store.check_rows()  # first: a damaged ledger gets no record, so nothing may be sent
        except BaseException:  # an interrupt too, which would leave the ledger locked
            store.close()
            raise
        run = RunRow(
            number=len(runs) + 1,
            started=noted(now.wall),
            ended=None,
            boot=boot_id(),
            booted=now.wall - now.boot,
            key_fingerprint=undertaking.key_fingerprint,
            library_version=version("adapty-async"),
            notes=json.dumps(dict(terms.notes)),
            touched=False,
        )
        return cls(store, inventory, runs, run, terms, repeatable=undertaking.repeatable)

    def known_of(self, number: int) -> int:
        """Return how many items of a chunk are in the ledger."""
        return min(max(0, self._inventory.known - number * CHUNK), CHUNK)

    def knows(self, part: Part) -> bool:
        """Return True if `recall` can read anything about a chunk of the input."""
        return part.number != self._growing and self._inventory.knows(part)

    def recall(self, parts: Sequence[Part]) -> list[Chunk | None]:
        """Read the states of consecutive chunks of the input, and check the input against them.

        Return None for each chunk that isn't in the ledger. Raise InputChangedError.
        """
        return self._inventory.recall(parts)

    def take(self, part: Part, chunk: Chunk | None, now: Moment) -> Due:
        """Return the items of a chunk that are left to send. Raise InputChangedError.

        `chunk` is the result of `recall`. If a part of the chunk was taken before in this run, only the added items are
        returned.
        """
        number = part.number
        grown = self._open[number] if number == self._growing else None
        if grown is not None:
            chunk = grown.chunk
        before = 0 if grown is None else len(grown.chunk)
        met = self._inventory.meet(part, chunk)
        self._growing = None if part.is_whole or part.is_last else number
        if not self._is_accepted:
            self._is_accepted = True
            if self._terms.order is not None:
                self._inventory.note_order(self._terms.order)
        if met.is_new:
            self._news.chunks.add(number)
        due = self._due(number, met.chunk, before, now)
        if not self._has_begun and (due.indexes or number in self._news.chunks or self._is_worth_a_run):
            self._has_begun = self._news.run = True
        if grown is not None:
            grown.due += len(due.indexes)
        elif due.indexes or number in self._news.chunks or number == self._growing:
            self._open[number] = _Open(met.chunk, len(due.indexes))
        return due

    @property
    def _is_worth_a_run(self) -> bool:
        """Whether the notes belong in the record even if the job is done: its app, or an accepted guard."""
        accepted = self._terms.notes.get(ABSENT_SHARE)
        return APP_ID in self._terms.notes or accepted not in (None, self._last_notes.get(ABSENT_SHARE))

    def claim(self, positions: Sequence[int], now: Moment) -> None:
        """Record that items are about to be sent, in order. Don't hand them out before this is committed."""
        begin, at = 0, noted(now.wall)
        while begin < len(positions):
            number = positions[begin] // CHUNK
            first = number * CHUNK
            end = bisect.bisect_left(positions, first + CHUNK, begin)
            fresh = self._open[number].chunk.claim([position - first for position in positions[begin:end]], at)
            self._news.claims += map(first.__add__, fresh)
            self._news.chunks.add(number)
            begin = end
        booted = now.wall - now.boot
        if positions and (not self._run.touched or booted > self._run.booted + _DRIFT):
            self._note(touched=True, booted=max(booted, self._run.booted))

    def release(self, positions: Sequence[int]) -> None:
        """Record that claimed items weren't sent."""
        for position in positions:
            number, index = divmod(position, CHUNK)
            opened = self._open[number]
            opened.chunk.release(index)
            opened.due -= 1
            self._news.chunks.add(number)

    def settle(self, rows: Sequence[OutcomeRow], now: int) -> None:
        """Record outcomes."""
        for number, mine in itertools.groupby(rows, _chunk_of):
            opened = self._open[number]
            opened.due -= opened.chunk.settle_rows(mine, number * CHUNK, now)
            self._news.chunks.add(number)
        self._news.outcomes += counted(rows)
        self._has_touched = self._has_touched or any(state > _REFUSED and attempts for _, state, _, attempts in rows)

    def number_of(self, exclude_list: str | None) -> int:
        """Return the number of an exclude list, or 0 if there is none."""
        return self._inventory.number_of(exclude_list)

    def show(self, sight: str) -> None:
        """Record the live status for readers of the ledger."""
        self._note(sight=sight)

    def end_run(self, now: int) -> None:
        """Record that the run ended normally, if it was recorded at all."""
        touched = self._has_touched or any(opened.chunk.claimed for opened in self._open.values())
        self._note(ended=now, touched=touched, sight=None)

    @property
    def uncommitted(self) -> Counter[Outcome]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        return self._news.outcomes + self._under_way.outcomes

    def draw_up(self) -> Writing | None:
        """Return the changes since the last call, or None if there are none. Write them in this order."""
        contents = self._inventory.draw_up()
        news, self._news = self._news, _News()
        self._under_way = news
        outcomes = [(number, self._open[number].chunk.pack()) for number in sorted(news.chunks)]
        writing = attrs.evolve(contents, run=self._run if news.run else None, outcomes=outcomes)
        return None if writing.is_empty else writing

    def write(self, writing: Writing) -> None:
        """Write all of the changes or none, and sync them. Raise LedgerWriteError."""
        self._store.commit(writing)

    def check_files(self) -> None:
        """Raise LedgerLostError if a file was removed, renamed or replaced since the ledger was opened."""
        self._store.check_files()

    def written(self) -> None:
        """Record that the changes from `draw_up` are on the disk."""
        news, self._under_way = self._under_way, _News()
        for number in news.chunks - self._news.chunks:
            if not self._open[number].due and number != self._growing:
                del self._open[number]
        self._inventory.written()

    def not_written(self) -> None:
        """Record that the changes from `draw_up` couldn't be written. Their claims are no longer valid."""
        failed, self._under_way = self._under_way, _News()
        for position in failed.claims:
            number, index = divmod(position, CHUNK)
            self._open[number].chunk.release(index)
        self._news.chunks |= failed.chunks
        self._news.outcomes += failed.outcomes
        self._news.run |= failed.run
        self._inventory.not_written()

    def close(self) -> None:
        """Close the ledger."""
        self._store.close()

    def _note(self, **values: Any) -> None:
        self._run = attrs.evolve(self._run, **values)
        self._news.run = self._has_begun

    def _due(self, number: int, chunk: Chunk, begin: int, now: Moment) -> Due:
        """Return the items of a chunk that are left to send, from the index `begin` on."""
        if not any(chunk.states[begin:]):
            return Due(range(begin, len(chunk)))
        indexes: list[int] = []
        maybe_sent: dict[int, Moment] = {}
        for index in chunk.open_indexes(self._terms.retry):
            if index < begin:
                continue
            if chunk.is_claimed(index):
                sent = self._sent(chunk, index, now)
                if sent is None or is_stale(sent, now):
                    chunk.doubt(index)
                    self._news.chunks.add(number)
                    continue
                maybe_sent[index] = sent
            elif chunk.states[index] == STATES[Outcome.IN_DOUBT]:
                maybe_sent[index] = ANY_TIME
            indexes.append(index)
        return Due(indexes, maybe_sent)

    def _sent(self, chunk: Chunk, index: int, now: Moment) -> Moment | None:
        """Return when a claimed item may have been sent, or None if its age is unknown."""
        if self._repeatable or Outcome.IN_DOUBT in self._terms.retry:
            return ANY_TIME
        claimed_at = chunk.claimed_at(index)
        age = None if claimed_at is None else self._earlier.age(claimed_at, now)
        return None if age is None else now.earlier(age)


@attrs.frozen
class _Earlier:
    """The runs since the machine was started.

    `since` is the start of the first one. `booted` is the latest value of RunRow.booted. The age of a claim before that
    is unknown: the boot clock doesn't reach back that far, and the wall clock may stop or be set back while the machine
    is off.
    """

    since: float
    booted: float

    @classmethod
    def of(cls, runs: Sequence[RunRow], boot: str) -> "_Earlier":
        """Return the data of the runs that claimed items."""
        touched = [run for run in reversed(runs) if run.touched]
        own = list(itertools.takewhile(lambda run: run.boot == boot, touched))
        return cls(own[-1].started if own else math.inf, max((run.booted for run in own), default=-math.inf))

    def age(self, claimed_at: int, now: Moment) -> float | None:
        """Return the seconds since a claim, by the clock that shows most. Return None if no clock is reliable."""
        age = max(now.wall, self.booted + now.boot) - claimed_at
        return age if claimed_at >= self.since and age >= -_GRACE else None


def _chunk_of(row: OutcomeRow) -> int:
    return row[0] // CHUNK


def counted(rows: Sequence[OutcomeRow]) -> Counter[Outcome]:
    """Return the number of items by outcome."""
    states = Counter(map(_STATE, rows))
    return Counter({OUTCOMES[state]: count for state, count in states.items()})
