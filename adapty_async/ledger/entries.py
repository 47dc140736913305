"""One run of a job on the event loop: reads the input in chunks, hands out what is claimed, takes outcomes in."""

import asyncio
import contextlib
import itertools
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, cast

from ..bulk import Decided, Outcome
from ..bulk.journal import Entry, Source
from ..bulk.results import ItemT
from .book import Book, Due
from .chunks import CHUNK, OUTCOMES, STATES, OutcomeRow
from .errors import InputChangedError, LedgerError
from .inventory import Part
from .writer import Writer, outlasting

_COMMIT_AFTER: Final = 0.3
"""Seconds after which an outcome is on its way to the disk, in 0.2 ms. What a crash loses has to be learnt anew."""
_LOOK_AFTER: Final = 1.0
"""Seconds from one look at the job to the next: what is seen goes with the outcomes that are on their way."""
_FIRST_CLAIM: Final = 10
_LEAST_CLAIM: Final = 2
_SLOW_CLAIM: Final = 0.05
_MOST_UNWRITTEN: Final = 10
_STATE: Final = itemgetter(1)
_STRIDE: Final = 10
"""So many chunks are read at one time where all is done already: a resumed job has ten million rows to pass by."""
_BREATH: Final = 0.005
_ITEMS_A_LOOK: Final = 8
"""So many items are read between two looks at the clock; CHUNK is a multiple of it."""

_log: Final = logging.getLogger("adapty_async")


class _Ahead:
    """How many items are claimed at one time: what is sent in about 0.2 s, for a crash puts them in doubt.

    On a slow disk, as many as are sent until the next are claimed: else its commits would be what holds the job back.
    """

    def __init__(self) -> None:
        self.size = _FIRST_CLAIM
        self._before: float | None = None
        self._took = 0.0
        self._ran_out = False

    def next(self, now: float, unsent: int) -> int:
        """Give the number for a claim that is made now, while so many that were handed out haven't left."""
        if self._before is not None:
            elapsed = now - self._before
            if self._ran_out or (elapsed < 0.1 and unsent <= self.size // 4):
                self.size = min((4 if elapsed < 0.02 else 2) * self.size, CHUNK)
            elif elapsed > max(0.3, 4 * self._took):
                self.size = max(self.size // 2, _LEAST_CLAIM)
        self._before = now
        self._ran_out = False
        return self.size

    def made(self, now: float, unsent: int) -> None:
        """Take note that the claim is on the disk, while so many that were claimed before haven't left."""
        if self._before is not None:
            self._took = now - self._before
            self._ran_out = not unsent and self._took > _SLOW_CLAIM


class _AtEnd(Protocol):
    def __call__(self, *, refused: bool) -> None: ...


class LedgerEntries(Generic[ItemT]):
    """The entries of a ledger for one run; see `bulk.journal.Entries`.

    `look`: gives what the ledger is to tell of the job while it runs. `at_end`: done in a thread, after all else; it is
    told whether the input was refused.
    """

    def __init__(
        self,
        source: Source[ItemT],
        open_book: Callable[[], Book],
        now: Callable[[], float],
        look: Callable[[], Mapping[str, Any]] | None = None,
        at_end: _AtEnd | None = None,
    ) -> None:
        self._source = source
        self._iterator = _iterator(source)
        self._open_book = open_book
        self._now = now
        self._look = look
        self._next_look: asyncio.TimerHandle | None = None
        self._is_look_due = False
        self._at_end = at_end
        self._is_refused = False
        self._chunk = 0
        self._stride = 1
        self._ended = False
        self._reading: asyncio.Task[None] | None = None  # of the next chunk, ahead of who will ask for it
        self._unsent = 0  # handed out, and no request for them has left
        self._one_left: asyncio.Future[None] | None = None
        self._ahead = _Ahead()
        self._due: deque[Entry[ItemT]] = deque()  # not claimed yet
        self._claimed: deque[Entry[ItemT]] = deque()  # ready to be handed out
        self._asked: asyncio.Future[Any] | None = None  # the writer, for a chunk or a claim
        self._receive: Callable[[Any], None] = _nothing
        self._rows: list[OutcomeRow] = []
        self._timer: asyncio.TimerHandle | None = None
        self._unwritten: dict[asyncio.Future[None], Counter[Outcome]] = {}
        self._lost: Counter[Outcome] = Counter()
        self._outcome, self._state = Outcome.DELETED, STATES[Outcome.DELETED]  # of the last row
        self._failure: BaseException | None = None
        self.has_room = True

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._open_book)
        await self._writer.start()
        if self._look is not None:
            self._next_look = self._loop.call_later(_LOOK_AFTER, self._look_again)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What a second cancellation must not leave behind is a thread that still holds the ledger.
        try:
            await outlasting(self._loop.create_task(self._close()))
        except LedgerError:
            if error is None:
                raise

    async def _close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        await self._stop_reading()
        self._hand_over()
        if self._asked is not None:
            with contextlib.suppress(LedgerError):  # it is told already, or by the commit below
                await self._answered()
        unsent = [position for position, _, maybe_sent in self._claimed if not maybe_sent]
        now = int(self._now())
        self._writer.ask(lambda book: book.release(unsent))
        self._writer.ask(lambda book: book.end_run(now))
        await self._writer.close()
        self._lost.clear()  # what a commit had failed to write, the last one wrote as well
        if self._at_end is not None:
            await asyncio.to_thread(self._at_end, refused=self._is_refused)

    # What is to be sent

    def __aiter__(self) -> AsyncIterator[Entry[ItemT]]:
        return self

    async def __anext__(self) -> Entry[ItemT]:
        while not self._claimed or self._unsent >= self._ahead.size:
            if self._claimed:
                self._one_left = self._loop.create_future()
                await self._one_left
            elif self._reading is not None:
                await self._reading  # who is cancelled here cancels it
                self._reading = None
            elif self._asked is not None:
                await self._answered()
            elif self._ended and not self._due:
                raise StopAsyncIteration
            else:
                self._look_ahead()
        self._unsent += 1
        return self._claimed.popleft()

    def ready(self) -> Entry[ItemT] | None:
        """Give the next entry that is claimed; see to it that there are more soon.

        No more of them wait to be sent than are claimed at one time: all of them would be in doubt after a crash.
        """
        claimed, size = self._claimed, self._ahead.size
        if self._asked is None and len(claimed) <= size // 2:
            self._look_ahead()
        if not claimed or self._unsent >= size:
            return None
        self._unsent += 1
        return claimed.popleft()

    def left(self) -> None:
        """Take note that a request leaves for an entry, or that none ever will."""
        self._unsent -= 1
        if self._one_left is not None and not self._one_left.done():
            self._one_left.set_result(None)

    def _look_ahead(self) -> None:
        """Claim more of what is due; where nothing is any more, begin to read the next chunk."""
        if self._due:
            self._ask_for_claim()
        elif self._reading is None and not self._ended:
            self._reading = self._loop.create_task(self._ask_for_chunks())

    async def _stop_reading(self) -> None:
        if self._reading is None:
            return
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled():
            self._reading.exception()  # nobody asks for it any more; unasked, asyncio would write it to its log

    async def _answered(self) -> None:
        assert self._asked is not None
        try:
            answer = await asyncio.shield(self._asked)
        except LedgerError as error:
            self._asked = None
            self._is_refused = isinstance(error, InputChangedError)
            raise
        self._asked = None
        self._receive(answer)

    async def _ask_for_chunks(self) -> None:
        """Read a chunk of the input, and claim the first of what is due; or several, where nothing was of the last."""
        parts: list[Part] = []
        chunks: list[list[ItemT | Decided[ItemT]]] = []
        while len(parts) < self._stride and not (parts and parts[-1].is_last):
            chunks.append(await self._read())
            parts.append(self._part(self._chunk + len(parts), chunks[-1]))
        # Of several none is claimed: where a later one is refused, nobody would be told of the claims.
        now, claims = int(self._now()), self._ahead.next(self._loop.time(), self._unsent) if len(parts) == 1 else 0
        self._hand_over()

        def take(book: Book) -> list[Due]:
            return [book.take(part, claims=claims, now=now) for part in parts]

        def receive(due: list[Due]) -> None:
            found = [_entries(part, items, mine) for part, items, mine in zip(parts, chunks, due, strict=True)]
            entries = itertools.chain.from_iterable(found)
            self._claimed.extend(itertools.islice(entries, claims))
            self._due.extend(entries)
            self._chunk += len(parts)
            self._stride = 1 if any(mine.indexes for mine in due) else _STRIDE
            self._ended = parts[-1].is_last

        self._receive = receive
        self._asked = self._writer.ask(take)
        if claims:
            self._asked.add_done_callback(self._have_claimed)

    def _part(self, number: int, items: Sequence[ItemT | Decided[ItemT]]) -> Part:
        decided: set[int] = set()
        if not {Decided}.isdisjoint(map(type, items)):  # mostly there is none, and this finds that out the fastest
            decided = {index for index, item in enumerate(items) if isinstance(item, Decided)}
        plain = [_plain(item) for item in items] if decided else cast("Sequence[ItemT]", items)
        names = list(map(self._source.name, plain))
        contents = names if self._source.content is self._source.name else list(map(self._source.content, plain))
        return Part(number, names, contents, decided, is_last=len(items) < CHUNK)

    async def _read(self) -> list[ItemT | Decided[ItemT]]:
        items: list[ItemT | Decided[ItemT]] = []
        source = self._iterator
        if not isinstance(source, Iterator):
            while len(items) < CHUNK:
                try:
                    items.append(await anext(source))
                except StopAsyncIteration:
                    break
            return items
        breathe_at = self._loop.time() + _BREATH
        while len(items) < CHUNK:
            before = len(items)
            items.extend(itertools.islice(source, _ITEMS_A_LOOK))
            if len(items) < before + _ITEMS_A_LOOK:
                break
            if self._loop.time() >= breathe_at:
                await asyncio.sleep(0)
                breathe_at = self._loop.time() + _BREATH
        return items

    def _ask_for_claim(self) -> None:
        size = min(self._ahead.next(self._loop.time(), self._unsent), len(self._due))
        entries = [self._due.popleft() for _ in range(size)]
        positions = [position for position, item, _ in entries if not isinstance(item, Decided)]
        now = int(self._now())
        self._hand_over()
        self._receive = lambda _: self._claimed.extend(entries)
        self._asked = self._writer.ask(lambda book: book.claim(positions, now))
        self._asked.add_done_callback(self._have_claimed)

    def _have_claimed(self, _: "asyncio.Future[Any]") -> None:
        self._ahead.made(self._loop.time(), len(self._claimed) + self._unsent)

    # What became of it

    @property
    def uncommitted(self) -> Counter[Outcome]:
        """How many items have an outcome that a crash would still lose."""
        return sum(self._unwritten.values(), _counted(self._rows) + self._lost)

    def settle(self, position: int, outcome: Outcome, *, status: int | None, attempts: int) -> None:
        """Take down an outcome; it is committed within a second."""
        if outcome is not self._outcome:  # mostly it is: to look it up takes longer than all the rest
            self._outcome, self._state = outcome, STATES[outcome]
        self._rows.append((position, self._state, status or 0, attempts))
        if self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_AFTER, self._hand_over)

    def release(self, position: int) -> None:
        """Take down that an item wasn't sent."""
        self._writer.ask(lambda book: book.release([position]))

    async def wait_for_room(self) -> None:
        """Wait while too many outcomes wait to be written. Raises LedgerError where they can't be."""
        while not self.has_room and self._failure is None:
            await asyncio.wait(self._unwritten, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure

    def _hand_over(self) -> None:
        """Give the writer what has come in."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sight = self._sight() if self._is_look_due else None
        if not self._rows and sight is None:
            return
        rows, self._rows = self._rows, []
        now = int(self._now())

        def write(book: Book) -> None:
            book.settle(rows, now)
            if sight is not None:
                book.show(sight)

        written = self._writer.ask(write)
        self._unwritten[written] = _counted(rows)
        written.add_done_callback(self._have_written)
        self._look_for_room()

    def _look_again(self) -> None:
        """See to it that what is seen of the job is taken down; it makes no commit of its own where one is coming."""
        self._is_look_due = True
        self._next_look = self._loop.call_later(_LOOK_AFTER, self._look_again)
        if self._timer is None:
            self._hand_over()

    def _sight(self) -> str | None:
        self._is_look_due = False
        try:
            return None if self._look is None else json.dumps(dict(self._look()))
        except Exception as error:  # noqa: BLE001 - a failing observer must not end the job it observes
            _log.error("what looks at the job raised %s", type(error).__name__)
        return None

    def _have_written(self, written: "asyncio.Future[None]") -> None:
        counts = self._unwritten.pop(written)
        if written.cancelled():
            return
        self._failure = self._failure or written.exception()
        if self._failure is not None:
            self._lost += counts
        self._look_for_room()

    def _look_for_room(self) -> None:
        self.has_room = self._failure is None and len(self._unwritten) <= _MOST_UNWRITTEN


def _entries(part: Part, items: Sequence[ItemT | Decided[ItemT]], due: Due) -> Iterator[Entry[ItemT]]:
    indexes = due.indexes
    return zip(
        map((part.number * CHUNK).__add__, indexes),
        map(items.__getitem__, indexes),
        map(due.maybe_sent.__contains__, indexes),
        strict=True,
    )


def _plain(item: ItemT | Decided[ItemT]) -> ItemT:
    return cast("ItemT", item.item if isinstance(item, Decided) else item)


def _counted(rows: Iterable[OutcomeRow]) -> Counter[Outcome]:
    states = Counter(map(_STATE, rows))
    return Counter({OUTCOMES[state]: count for state, count in states.items()})


def _nothing(_: object) -> None:
    """Receive what nobody asked for."""


def _iterator(source: Source[ItemT]) -> Iterator[ItemT | Decided[ItemT]] | AsyncIterator[ItemT | Decided[ItemT]]:
    return aiter(source.items) if isinstance(source.items, AsyncIterable) else iter(source.items)
