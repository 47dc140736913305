"""One run of a job on the event loop. It reads the input in chunks, hands out claimed items and records outcomes."""

import asyncio
import functools
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, cast

from ..bulk import Decided, Outcome
from ..bulk.job_store import Entry, Source
from ..bulk.results import ItemT
from ..http.clock import Moment
from .chunks import CHUNK, STATES, Chunk, OutcomeRow, noted
from .errors import InputChangedError, LedgerError
from .input_buffer import Breath, Feed
from .input_check import Part
from .run_state import Book, Due, counted
from .writer import Writer, outlasting

_COMMIT_AFTER: Final = 0.3
"""Seconds until an outcome is committed, which takes 0.2 ms. Outcomes lost in a crash must be found out again."""
_LOOK_AFTER: Final = 1.0
"""Seconds between two updates of the live status. It is written together with pending outcomes."""
CHECK_AFTER: Final = 0.5
"""Seconds between two checks of the ledger's files. A waiting job would notice no change without them."""
_FIRST_CLAIM: Final = 10
_LEAST_CLAIM: Final = 2
_SLOW_CLAIM: Final = 0.05
_MOST_CLAIM: Final = 4 * CHUNK
_STRIDE: Final = 10
"""Chunks to read at a time if their items are done. A resumed job may have ten million rows to skip."""
_LONGEST_READ: Final = 0.1
"""Seconds after which an input is slow. The items read until then are handed out first."""
_ITEMS_A_BREATH: Final = 50
"""Items to identify before the event loop may run again. Identifying updates takes long."""

_log: Final = logging.getLogger("adapty_async")


class _Ahead:
    """The number of items to claim at a time: about as many as are sent in 0.2 s, because a crash puts them in doubt.

    On a slow disk it is the number of items sent during one commit. Otherwise the commits would slow down the job.
    """

    def __init__(self) -> None:
        self.size = _FIRST_CLAIM
        self._before: float | None = None
        self._took = 0.0
        self._ran_out = False

    def next(self, now: float, unsent: int) -> int:
        """Return the size of a claim made now. `unsent` items were handed out and not yet sent."""
        if self._before is not None:
            elapsed = now - self._before
            if self._ran_out or (elapsed < 0.1 and unsent <= self.size // 4):
                self.size = min((4 if elapsed < 0.02 else 2) * self.size, _MOST_CLAIM)
            elif elapsed > max(0.3, 4 * self._took):
                self.size = max(self.size // 2, _LEAST_CLAIM)
        self._before = now
        self._ran_out = False
        return self.size

    def made(self, now: float, unsent: int) -> None:
        """Record that the claim is on the disk. `unsent` items of earlier claims were not yet sent."""
        if self._before is not None:
            self._took = now - self._before
            self._ran_out = not unsent and self._took > _SLOW_CLAIM


class _AtEnd(Protocol):
    def __call__(self, *, refused: bool) -> None: ...


class LedgerEntries(Generic[ItemT]):
    """The ledger session of one run, as the bulk engine uses it. See `bulk.journal.Entries`.

    `look` returns the live status. `at_end` runs last, in a thread, and gets whether the input was refused.
    """

    def __init__(
        self,
        source: Source[ItemT],
        open_book: Callable[[], Book],
        clock: Callable[[float], Moment],
        look: Callable[[], Mapping[str, Any]] | None = None,
        at_end: _AtEnd | None = None,
    ) -> None:
        self._source = source
        self._open_book = open_book
        self._clock = clock
        self._look = look
        self._next_look: asyncio.TimerHandle | None = None
        self._next_check: asyncio.TimerHandle | None = None
        self._is_look_due = False
        self._at_end = at_end
        self._is_refused = False
        self._is_open = False
        self._stride = 1
        self._ended = False
        self._partial: tuple[Part, list[ItemT | Decided[ItemT]]] = (_empty(0), [])  # the next chunk, read in part
        self._reading: asyncio.Task[None] | None = None  # reads the next items; kept if it fails, for the next caller
        self._due: deque[Entry[ItemT]] = deque()  # not claimed yet
        self._claiming: asyncio.Future[None] | None = None
        self._claimed: deque[Entry[ItemT]] = deque()  # ready to be handed out
        self._unsent = 0  # handed out and not yet sent
        self._one_left: asyncio.Future[None] | None = None
        self._ahead = _Ahead()
        self._rows: list[OutcomeRow] = []
        self._timer: asyncio.TimerHandle | None = None
        self._outcome, self._state = Outcome.DELETED, STATES[Outcome.DELETED]  # of the last row
        self._failed: Callable[[Exception], object] | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._breath = Breath()
        self._feed = Feed(self._source.items)
        self._writer = Writer(self._open_book)
        self._book = await self._writer.start()
        self._is_open = True
        self._check_later()
        if self._look is not None:
            self._next_look = self._loop.call_later(_LOOK_AFTER, self._look_again)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A second cancellation must not leave a thread that still uses the ledger.
        try:
            await outlasting(self._loop.create_task(self._close()))
        except LedgerError:
            if error is None:
                raise

    async def _close(self) -> None:
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = None
        if self._next_look is not None:
            self._next_look.cancel()
        await self._stop_reading()
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
        try:
            self._tell_book()
            self._book.release([position for position, _, maybe_sent in self._claimed if maybe_sent is None])
            self._book.end_run(noted(self._moment().wall))
        finally:
            await self._writer.close()
        if self._at_end is not None:
            await asyncio.to_thread(self._at_end, refused=self._is_refused)

    # Items to send

    def _moment(self) -> Moment:
        return self._clock(self._loop.time())

    def __aiter__(self) -> AsyncIterator[Entry[ItemT]]:
        return self

    async def __anext__(self) -> Entry[ItemT]:
        while (entry := self.ready()) is None:
            if self._failure is not None:
                raise self._failure
            if self._claimed:
                self._one_left = self._loop.create_future()
                await self._one_left
            elif self._claiming is not None:
                await asyncio.wait([self._claiming])
            elif self._reading is not None:
                await self._reading  # a cancellation of the caller also cancels this task
            else:
                raise StopAsyncIteration
        return entry

    def ready(self) -> Entry[ItemT] | None:
        """Return the next claimed entry, if there is one. Start to claim more if there are few.

        The number of entries that wait to be sent is at most the size of a claim, because a crash puts all of them in
        doubt.
        """
        claimed, size = self._claimed, self._ahead.size
        if self._claiming is None and len(claimed) <= size // 2:
            self._look_ahead()
        if not claimed or self._unsent >= size:
            return None
        self._unsent += 1
        return claimed.popleft()

    def left(self) -> None:
        """Record that the request of an entry is about to be sent, or that none will ever be."""
        self._unsent -= 1
        if self._one_left is not None and not self._one_left.done():
            self._one_left.set_result(None)

    def _look_ahead(self) -> None:
        """Claim more items, and read more for the next claim."""
        if self._due:
            self._claim()
        if self._reading is None and not self._ended and len(self._due) < self._ahead.size:
            self._reading = self._loop.create_task(self._read_on())

    def _claim(self) -> None:
        size = min(self._ahead.next(self._loop.time(), self._unsent), len(self._due))
        entries = [self._due.popleft() for _ in range(size)]
        positions = [position for position, item, _ in entries if not isinstance(item, Decided)]
        self._tell_book()
        self._book.claim(positions, self._moment())
        self._claiming = self._commit()
        self._claiming.add_done_callback(functools.partial(self._have_claimed, entries))

    def _have_claimed(self, entries: Sequence[Entry[ItemT]], claiming: "asyncio.Future[None]") -> None:
        self._claiming = None
        if claiming.exception() is None:
            self._ahead.made(self._loop.time(), len(self._claimed) + self._unsent)
            self._claimed.extend(entries)

    # The input

    async def _read_on(self) -> None:
        """Read enough items for one claim, or more if the last ones were all done. Find those that are due."""
        wanted, until = max(self._stride, self._ahead.size // CHUNK), self._loop.time() + _LONGEST_READ
        read = await self._read(None, until)
        parts: list[Part] = []
        chunks: list[list[ItemT | Decided[ItemT]]] = []
        while read is not None:
            part, items = read
            parts.append(part)
            chunks.append(items)
            is_enough = len(parts) == wanted or not part.is_whole or self._loop.time() >= until
            read = None if is_enough else await self._read(part, until)
        try:
            known = await self._recall(parts)
            count = len(self._due)
            for part, items, chunk in zip(parts, chunks, known, strict=True):
                self._due.extend(_entries(part, items, self._book.take(part, chunk, self._moment())))
                await self._breath.draw()
        except InputChangedError:
            self._is_refused = True
            raise
        self._stride = 1 if len(self._due) > count else _STRIDE
        last = parts[-1]
        self._partial = (_empty(last.number + 1), []) if last.is_whole else (last, chunks[-1])
        self._ended = last.is_last
        self._reading = None

    async def _recall(self, parts: Sequence[Part]) -> Sequence[Chunk | None]:
        if not self._book.knows(parts[0]):
            return [None] * len(parts)
        return await self._writer.read(lambda: self._book.recall(parts))

    async def _read(self, part: Part | None, until: float) -> tuple[Part, list[ItemT | Decided[ItemT]]] | None:
        """Read the chunk after `part`. Of a slow input, read only the items that are available.

        Return None if `part` needn't wait for that chunk. Items that are in the ledger are read completely, because
        they are compared as a whole. If `part` is None, read the rest of the chunk that was read in part.
        """
        if part is None:
            before, items = self._partial
        else:
            before, items = _empty(part.number + 1), []
        least = max(1, self._book.known_of(before.number) - len(items))
        more = await self._feed.read(CHUNK - len(items), least, until=until, patient=part is None)
        if part is not None and not more and not self._feed.ended:
            return None
        return await self._grown(before, more), items + more

    async def _grown(self, part: Part, more: Sequence[ItemT | Decided[ItemT]]) -> Part:
        names, contents = [*part.names], [*part.contents]
        is_name = self._source.content is self._source.name
        for begin in range(0, len(more), _ITEMS_A_BREATH):
            plain = cast("Sequence[ItemT]", more[begin : begin + _ITEMS_A_BREATH])
            if not {Decided}.isdisjoint(map(type, plain)):  # usually there is none, and this is the fastest check
                plain = [_plain(item) for item in plain]
            names += map(self._source.name, plain)
            if not is_name:
                contents += map(self._source.content, plain)
            await self._breath.draw()
        is_last = self._feed.ended and len(names) < CHUNK
        return Part(part.number, names, names if is_name else contents, is_last=is_last)

    async def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.exception()  # retrieved, so that asyncio doesn't log it
        await self._feed.close()

    # Outcomes

    @property
    def uncommitted(self) -> Counter[Outcome]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        return counted(self._rows) + self._book.uncommitted if self._is_open else Counter()

    def settle(
        self, position: int, outcome: Outcome, *, status: int | None, attempts: int, exclude_list: str | None = None
    ) -> None:
        """Record an outcome. It is committed within a second."""
        if outcome is not self._outcome:  # usually it is, and the lookup would take longer than the rest
            self._outcome, self._state = outcome, STATES[outcome]
        if outcome is Outcome.EXCLUDED:
            status = self._book.number_of(exclude_list)
        self._rows.append((position, self._state, status or 0, attempts))
        if self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_AFTER, self._commit_news)

    def release(self, position: int) -> None:
        """Record that an item wasn't sent. This is committed within a second."""
        self._book.release([position])
        if self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_AFTER, self._commit_news)

    def _commit_news(self) -> None:
        self._tell_book()
        self._commit()

    def _tell_book(self) -> None:
        """Pass new outcomes and the live status to the ledger session."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._rows:
            self._book.settle(self._rows, noted(self._moment().wall))
            self._rows = []
        if self._is_look_due:
            self._show()

    def watch(self, failed: Callable[[Exception], object]) -> None:
        """Call `failed` once if a commit fails."""
        self._failed = failed

    def _commit(self) -> "asyncio.Future[None]":
        commit = self._writer.commit()
        commit.add_done_callback(self._fail_with)
        return commit

    def _fail_with(self, work: "asyncio.Future[None]") -> None:
        """End the job if the work of the writer has failed, unless an earlier failure already ends it."""
        error = work.exception()
        if isinstance(error, Exception) and self._failure is None:
            self._failure = error
            if self._failed is not None:
                self._failed(error)

    # Checks of the ledger's files

    def _check_later(self) -> None:
        self._next_check = self._loop.call_later(CHECK_AFTER, self._check)

    def _check(self) -> None:
        self._writer.read(self._book.check_files).add_done_callback(self._have_checked)

    def _have_checked(self, check: "asyncio.Future[None]") -> None:
        self._fail_with(check)
        if self._failure is None and self._next_check is not None:
            self._check_later()

    # Live status

    def _look_again(self) -> None:
        """Have the live status recorded, with the next commit if one is due."""
        self._is_look_due = True
        self._next_look = self._loop.call_later(_LOOK_AFTER, self._look_again)
        if self._timer is None:
            self._commit_news()

    def _show(self) -> None:
        self._is_look_due = False
        assert self._look is not None
        try:
            self._book.show(json.dumps(dict(self._look())))
        except Exception as error:  # noqa: BLE001 - a failing callback must not end the job
            _log.error("the live status callback of the job raised %s", type(error).__name__)


def _empty(number: int) -> Part:
    return Part(number, [], [], is_last=False)


def _entries(part: Part, items: Sequence[ItemT | Decided[ItemT]], due: Due) -> Iterator[Entry[ItemT]]:
    indexes = due.indexes
    return zip(
        map((part.number * CHUNK).__add__, indexes),
        map(items.__getitem__, indexes),
        map(due.maybe_sent.get, indexes),
        strict=True,
    )


def _plain(item: ItemT | Decided[ItemT]) -> ItemT:
    return cast("ItemT", item.item if isinstance(item, Decided) else item)
