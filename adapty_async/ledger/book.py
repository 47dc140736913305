"""One run's bookkeeping: which items are to be sent, which are claimed, what became of them."""

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
from ..bulk.journal import Undertaking
from ..clock import ANY_TIME, Moment, boot_id
from ..retry import is_stale
from .chunks import CHUNK, OUTCOMES, STATES, Chunk, OutcomeRow, check_clock, noted
from .holding import Held
from .inventory import Inventory, Part, begin, check, secret_of
from .keys import ABSENT_SHARE, APP_ID
from .location import LedgerLocation
from .store import RunRow, Store, Writing

_GRACE: Final = 5.0
"""Seconds by which clocks differ; a claim that is further in the future tells nothing of its age."""
_DRIFT: Final = 0.5
"""Seconds by which the wall clock is set ahead while nobody cares."""
_STATE: Final = itemgetter(1)
_REFUSED: Final = STATES[Outcome.FAILED]
"""Up to this state it is known that nothing came of an item."""


@attrs.frozen
class Due:
    """What is to be done of a chunk: the indexes of items; of those that an earlier run may have sent, when it was."""

    indexes: Sequence[int]
    maybe_sent: Mapping[int, Moment] = attrs.field(factory=dict[int, Moment])


@attrs.frozen
class Terms:
    """On which terms an earlier job is gone on with.

    `appended`: rows may have been added at the end of the input. `retry`: what has one of these outcomes is sent again.
    `new_key`: another API key of the same app may be used. `notes`: what the record shall say of this run. `order`:
    what is asked for from this run on. `held`: the lock of the ledger, where it is held already.
    """

    appended: bool = False
    retry: frozenset[Outcome] = frozenset()
    new_key: bool = False
    notes: Mapping[str, str] = attrs.field(factory=dict)
    order: Mapping[str, Any] | None = None
    held: Held | None = None


@attrs.define
class _Open:
    """A chunk with items on their way: `due` of them."""

    chunk: Chunk
    due: int


@attrs.define
class _News:
    """What is not on the disk: chunks by their numbers, positions that are claimed, outcomes, how the run stands."""

    chunks: set[int] = attrs.field(factory=set)
    claims: list[int] = attrs.field(factory=list)
    outcomes: Counter[Outcome] = attrs.field(factory=Counter)
    run: bool = False


class Book:
    """The bookkeeping of a run, in memory; a disk is waited for in `open`, `recall`, `write`,
    `check_files` and `close` alone.

    Those may be done in another thread. What is new is drawn up, written, and then told to be; where that fails it
    stays as new as it was. The run itself is written down with the first chunk of the input of which something is to be
    done, or by which the app of a key gets known or a guard is accepted: what is refused leaves no trace, and what is
    done already no run.
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
        self._growing: int | None = None  # the chunk of which the input has brought some, and may bring more
        self._news = _News()
        self._under_way = _News()
        self._is_accepted = False
        self._has_begun = False
        self._has_touched = False

    @classmethod
    def open(
        cls, location: LedgerLocation, undertaking: Undertaking, terms: Terms, clock: Callable[[], Moment]
    ) -> "Book":
        """Open the ledger, locked, for a run. Raises LedgerError."""
        now = clock()
        check_clock(now.wall)
        store = Store.open(location, lambda new: begin(new, location, undertaking, noted(now.wall)), held=terms.held)
        try:
            job, runs = store.job(), store.runs()
            secret = secret_of(location, job)
            check(location.path, job, runs, undertaking, new_key=terms.new_key)
            inventory = Inventory(store, secret, job, appended=terms.appended)
            store.check_rows()  # now, for else all might be sent, and the record be refused
        except BaseException:  # an interrupt, too: the lock would stay held
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
        """Tell how many items of a chunk are known."""
        return min(max(0, self._inventory.known - number * CHUNK), CHUNK)

    def knows(self, part: Part) -> bool:
        """Tell whether there is something to recall of a chunk of the input."""
        return part.number != self._growing and self._inventory.knows(part)

    def recall(self, parts: Sequence[Part]) -> list[Chunk | None]:
        """Read what is known of chunks of the input that follow each other, and compare it; None: nothing is.

        Raises InputChangedError.
        """
        return self._inventory.recall(parts)

    def take(self, part: Part, chunk: Chunk | None, now: Moment) -> Due:
        """Give what is to be done of a chunk of the input, as it was recalled. Raises InputChangedError.

        Where the input has brought some of it before, in this run, that is what it has brought more.
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
        """Whether the notes say what the record of a finished job must hold: its app, or an accepted guard."""
        accepted = self._terms.notes.get(ABSENT_SHARE)
        return APP_ID in self._terms.notes or accepted not in (None, self._last_notes.get(ABSENT_SHARE))

    def claim(self, positions: Sequence[int], now: Moment) -> None:
        """Note that items are about to be sent, in order. Nobody is to be told so before it is written."""
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
        """Note that items which were claimed weren't sent."""
        for position in positions:
            number, index = divmod(position, CHUNK)
            opened = self._open[number]
            opened.chunk.release(index)
            opened.due -= 1
            self._news.chunks.add(number)

    def settle(self, rows: Sequence[OutcomeRow], now: int) -> None:
        """Note outcomes."""
        for number, mine in itertools.groupby(rows, _chunk_of):
            opened = self._open[number]
            opened.due -= opened.chunk.settle_rows(mine, number * CHUNK, now)
            self._news.chunks.add(number)
        self._news.outcomes += counted(rows)
        self._has_touched = self._has_touched or any(state > _REFUSED and attempts for _, state, _, attempts in rows)

    def number_of(self, exclude_list: str | None) -> int:
        """Give the number by which items name an exclude list; 0 where they don't."""
        return self._inventory.number_of(exclude_list)

    def show(self, sight: str) -> None:
        """Note what is seen of the run, for whoever reads the ledger meanwhile."""
        self._note(sight=sight)

    def end_run(self, now: int) -> None:
        """Note that the run came to its end by itself, where it began."""
        touched = self._has_touched or any(opened.chunk.claimed for opened in self._open.values())
        self._note(ended=now, touched=touched, sight=None)

    @property
    def uncommitted(self) -> Counter[Outcome]:
        """How many items have an outcome that a crash would still lose."""
        return self._news.outcomes + self._under_way.outcomes

    def draw_up(self) -> Writing | None:
        """Give what is new, to be written, after what was drawn up before; None where nothing is."""
        contents = self._inventory.draw_up()
        news, self._news = self._news, _News()
        self._under_way = news
        outcomes = [(number, self._open[number].chunk.pack()) for number in sorted(news.chunks)]
        writing = attrs.evolve(contents, run=self._run if news.run else None, outcomes=outcomes)
        return None if writing.is_empty else writing

    def write(self, writing: Writing) -> None:
        """Write all of what was drawn up, or nothing; it is on the disk then. Raises LedgerWriteError."""
        self._store.commit(writing)

    def check_files(self) -> None:
        """Raise LedgerLostError if one of the files was removed, renamed or replaced since the ledger was opened."""
        self._store.check_files()

    def written(self) -> None:
        """Take note that what was drawn up is on the disk."""
        news, self._under_way = self._under_way, _News()
        for number in news.chunks - self._news.chunks:
            if not self._open[number].due and number != self._growing:
                del self._open[number]
        self._inventory.written()

    def not_written(self) -> None:
        """Take note that what was drawn up isn't on the disk: what was claimed by it isn't any more."""
        failed, self._under_way = self._under_way, _News()
        for position in failed.claims:
            number, index = divmod(position, CHUNK)
            self._open[number].chunk.release(index)
        self._news.chunks |= failed.chunks
        self._news.outcomes += failed.outcomes
        self._news.run |= failed.run
        self._inventory.not_written()

    def close(self) -> None:
        """Let go of the ledger."""
        self._store.close()

    def _note(self, **values: Any) -> None:
        self._run = attrs.evolve(self._run, **values)
        self._news.run = self._has_begun

    def _due(self, number: int, chunk: Chunk, begin: int, now: Moment) -> Due:
        """Give what is to be done of a chunk, from the item with the index `begin` on."""
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
        """Tell when a claimed item may have been sent; None where nobody knows how long ago that was."""
        if self._repeatable or Outcome.IN_DOUBT in self._terms.retry:
            return ANY_TIME
        claimed_at = chunk.claimed_at(index)
        age = None if claimed_at is None else self._earlier.age(claimed_at, now)
        return None if age is None else now.earlier(age)


@attrs.frozen
class _Earlier:
    """The runs since the machine was started. `since`: when the first began; `booted`: as in RunRow, the latest.

    Nobody knows the age of an earlier claim: the boot clock doesn't tell it, and the wall clock, which could, may stop
    or be set back while the machine is off.
    """

    since: float
    booted: float

    @classmethod
    def of(cls, runs: Sequence[RunRow], boot: str) -> "_Earlier":
        """Look at the runs that claimed something."""
        touched = [run for run in reversed(runs) if run.touched]
        own = list(itertools.takewhile(lambda run: run.boot == boot, touched))
        return cls(own[-1].started if own else math.inf, max((run.booted for run in own), default=-math.inf))

    def age(self, claimed_at: int, now: Moment) -> float | None:
        """Give the seconds since a claim, by the clock that says the most; None where none is certain."""
        age = max(now.wall, self.booted + now.boot) - claimed_at
        return age if claimed_at >= self.since and age >= -_GRACE else None


def _chunk_of(row: OutcomeRow) -> int:
    return row[0] // CHUNK


def counted(rows: Sequence[OutcomeRow]) -> Counter[Outcome]:
    """Give how many items have which outcome."""
    states = Counter(map(_STATE, rows))
    return Counter({OUTCOMES[state]: count for state, count in states.items()})
