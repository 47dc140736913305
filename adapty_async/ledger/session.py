"""One run of a job on the event loop. It reads the input in chunks, hands out claimed items and records outcomes."""

import asyncio
import functools
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, cast

from ..bulk import Outcome, SkippedItem
from ..bulk.job_store import RemainingItem, Source
from ..bulk.results import ItemT
from ..http.clocks import Moment
from .chunks import ITEMS_PER_CHUNK, STATES, Chunk, OutcomeRow, to_timestamp
from .commit_thread import CommitThread, wait_through_cancellation
from .errors import InputChangedError, LedgerError
from .input_check import InputChunk
from .item_reader import InputReader, LoopYielder
from .session_state import RemainingItems, SessionState, count_outcomes

_COMMIT_DELAY: Final = 0.3
"""Seconds until an outcome is committed, which takes 0.2 ms. Outcomes lost in a crash must be found out again."""
_STATUS_INTERVAL: Final = 1.0
"""Seconds between two updates of the live status. It is written together with pending outcomes."""
FILE_CHECK_INTERVAL: Final = 0.5
"""Seconds between two checks of the ledger's files. A waiting job would notice no change without them."""
_INITIAL_CLAIM_SIZE: Final = 10
_MIN_CLAIM_SIZE: Final = 2
_SLOW_CLAIM_SECONDS: Final = 0.05
_MAX_CLAIM_SIZE: Final = 4 * ITEMS_PER_CHUNK
_CHUNKS_PER_SKIP: Final = 10
"""Chunks to read at a time if their items are done. A resumed job may have ten million rows to skip."""
_MAX_READ_SECONDS: Final = 0.1
"""Seconds after which an input is slow. The items read until then are handed out first."""
_ITEMS_PER_YIELD: Final = 50
"""Items to identify before the event loop may run again. Identifying updates takes long."""

_log: Final = logging.getLogger("adapty_async")


class _ClaimSizer:
    """The number of items to claim at a time: about as many as are sent in 0.2 s, because a crash puts them in doubt.

    On a slow disk it is the number of items sent during one commit. Otherwise the commits would slow down the job.
    """

    def __init__(self) -> None:
        self.size = _INITIAL_CLAIM_SIZE
        self._claimed_at: float | None = None
        self._claim_seconds = 0.0
        self._has_run_out = False

    def next_size(self, now: float, unsent: int) -> int:
        """Return the size of a claim made now. `unsent` items were handed out and not yet sent."""
        if self._claimed_at is not None:
            elapsed = now - self._claimed_at
            if self._has_run_out or (elapsed < 0.1 and unsent <= self.size // 4):
                self.size = min((4 if elapsed < 0.02 else 2) * self.size, _MAX_CLAIM_SIZE)
            elif elapsed > max(0.3, 4 * self._claim_seconds):
                self.size = max(self.size // 2, _MIN_CLAIM_SIZE)
        self._claimed_at = now
        self._has_run_out = False
        return self.size

    def record_claim(self, now: float, unsent: int) -> None:
        """Record that the claim is on the disk. `unsent` items of earlier claims were not yet sent."""
        if self._claimed_at is not None:
            self._claim_seconds = now - self._claimed_at
            self._has_run_out = not unsent and self._claim_seconds > _SLOW_CLAIM_SECONDS


class _SessionEndCallback(Protocol):
    def __call__(self, *, is_refused: bool) -> None: ...


class LedgerSession(Generic[ItemT]):
    """The ledger session of one run, as the bulk engine uses it. See `bulk.job_store.JobSession`.

    `live_status` returns the live status. `on_end` runs last, in a thread, and gets whether the input was refused.
    """

    def __init__(
        self,
        source: Source[ItemT],
        open_session_state: Callable[[], SessionState],
        clock: Callable[[float], Moment],
        live_status: Callable[[], Mapping[str, Any]] | None = None,
        on_end: _SessionEndCallback | None = None,
    ) -> None:
        self._source = source
        self._open_session_state = open_session_state
        self._clock = clock
        self._live_status = live_status
        self._status_timer: asyncio.TimerHandle | None = None
        self._check_timer: asyncio.TimerHandle | None = None
        self._is_status_due = False
        self._on_end = on_end
        self._is_refused = False
        self._is_open = False
        self._chunks_per_read = 1
        self._is_input_read = False
        self._partial_chunk: tuple[InputChunk, list[ItemT | SkippedItem[ItemT]]] = (
            _make_empty_chunk(0),
            [],
        )  # the next chunk, read in part
        self._read_task: asyncio.Task[None] | None = None  # reads the next items; kept if it fails, for the next caller
        self._remaining: deque[RemainingItem[ItemT]] = deque()  # not claimed yet
        self._claim_commit: asyncio.Future[None] | None = None
        self._claimed: deque[RemainingItem[ItemT]] = deque()  # ready to be handed out
        self._unsent = 0  # handed out and not yet sent
        self._send_waiter: asyncio.Future[None] | None = None
        self._claim_sizer = _ClaimSizer()
        self._outcome_rows: list[OutcomeRow] = []
        self._commit_timer: asyncio.TimerHandle | None = None
        self._last_outcome, self._last_state = Outcome.DELETED, STATES[Outcome.DELETED]  # of the last row
        self._on_write_error: Callable[[Exception], object] | None = None
        self._error: Exception | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._yielder = LoopYielder()
        self._input = InputReader(self._source.items)
        self._commit_thread = CommitThread(self._open_session_state)
        self._session_state = await self._commit_thread.start()
        self._is_open = True
        self._schedule_check()
        if self._live_status is not None:
            self._status_timer = self._loop.call_later(_STATUS_INTERVAL, self._on_status_timer)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A second cancellation must not leave a thread that still uses the ledger.
        try:
            await wait_through_cancellation(self._loop.create_task(self._close()))
        except LedgerError:
            if error is None:
                raise

    async def _close(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
            self._check_timer = None
        if self._status_timer is not None:
            self._status_timer.cancel()
        await self._cancel_read()
        if self._claim_commit is not None:
            await asyncio.wait([self._claim_commit])
        try:
            self._flush()
            self._session_state.release([position for position, _, maybe_sent in self._claimed if maybe_sent is None])
            self._session_state.end_run(to_timestamp(self._read_clocks().wall))
        finally:
            await self._commit_thread.close()
        if self._on_end is not None:
            await asyncio.to_thread(self._on_end, is_refused=self._is_refused)

    # Items to send

    def _read_clocks(self) -> Moment:
        return self._clock(self._loop.time())

    def __aiter__(self) -> AsyncIterator[RemainingItem[ItemT]]:
        return self

    async def __anext__(self) -> RemainingItem[ItemT]:
        while (remaining_item := self.next_nowait()) is None:
            if self._error is not None:
                raise self._error
            if self._claimed:
                self._send_waiter = self._loop.create_future()
                await self._send_waiter
            elif self._claim_commit is not None:
                await asyncio.wait([self._claim_commit])
            elif self._read_task is not None:
                await self._read_task  # a cancellation of the caller also cancels this task
            else:
                raise StopAsyncIteration
        return remaining_item

    def next_nowait(self) -> RemainingItem[ItemT] | None:
        """Return the next claimed entry, if there is one. Start to claim more if there are few.

        The number of entries that wait to be sent is at most the size of a claim, because a crash puts all of them in
        doubt.
        """
        claimed, size = self._claimed, self._claim_sizer.size
        if self._claim_commit is None and len(claimed) <= size // 2:
            self._claim_and_read()
        if not claimed or self._unsent >= size:
            return None
        self._unsent += 1
        return claimed.popleft()

    def decrement_unsent(self) -> None:
        """Subtract 1 from the items handed out but not sent: a request is about to be sent, or never will be."""
        self._unsent -= 1
        if self._send_waiter is not None and not self._send_waiter.done():
            self._send_waiter.set_result(None)

    def _claim_and_read(self) -> None:
        """Claim more items, and read more for the next claim."""
        if self._remaining:
            self._claim_items()
        if self._read_task is None and not self._is_input_read and len(self._remaining) < self._claim_sizer.size:
            self._read_task = self._loop.create_task(self._read_more())

    def _claim_items(self) -> None:
        size = min(self._claim_sizer.next_size(self._loop.time(), self._unsent), len(self._remaining))
        remaining_items = [self._remaining.popleft() for _ in range(size)]
        positions = [position for position, item, _ in remaining_items if not isinstance(item, SkippedItem)]
        self._flush()
        self._session_state.claim(positions, self._read_clocks())
        self._claim_commit = self._commit()
        self._claim_commit.add_done_callback(functools.partial(self._on_claimed, remaining_items))

    def _on_claimed(self, remaining_items: Sequence[RemainingItem[ItemT]], commit: "asyncio.Future[None]") -> None:
        self._claim_commit = None
        if commit.exception() is None:
            self._claim_sizer.record_claim(self._loop.time(), len(self._claimed) + self._unsent)
            self._claimed.extend(remaining_items)

    # The input

    async def _read_more(self) -> None:
        """Read enough items for one claim, or more if the last ones were all done. Find those that are due."""
        max_chunks, deadline = (
            max(self._chunks_per_read, self._claim_sizer.size // ITEMS_PER_CHUNK),
            self._loop.time() + _MAX_READ_SECONDS,
        )
        read = await self._read_chunk(None, deadline)
        input_chunks: list[InputChunk] = []
        item_lists: list[list[ItemT | SkippedItem[ItemT]]] = []
        while read is not None:
            input_chunk, items = read
            input_chunks.append(input_chunk)
            item_lists.append(items)
            is_enough = len(input_chunks) == max_chunks or not input_chunk.is_full or self._loop.time() >= deadline
            read = None if is_enough else await self._read_chunk(input_chunk, deadline)
        try:
            stored_chunks = await self._load_and_check(input_chunks)
            count = len(self._remaining)
            for input_chunk, items, stored_chunk in zip(input_chunks, item_lists, stored_chunks, strict=True):
                self._remaining.extend(
                    _make_remaining_items(
                        input_chunk,
                        items,
                        self._session_state.open_chunk(input_chunk, stored_chunk, self._read_clocks()),
                    )
                )
                await self._yielder.yield_if_due()
        except InputChangedError:
            self._is_refused = True
            raise
        self._chunks_per_read = 1 if len(self._remaining) > count else _CHUNKS_PER_SKIP
        last = input_chunks[-1]
        self._partial_chunk = (_make_empty_chunk(last.number + 1), []) if last.is_full else (last, item_lists[-1])
        self._is_input_read = last.is_last
        self._read_task = None

    async def _load_and_check(self, input_chunks: Sequence[InputChunk]) -> Sequence[Chunk | None]:
        if not self._session_state.has_chunk(input_chunks[0]):
            return [None] * len(input_chunks)
        return await self._commit_thread.run_between_commits(lambda: self._session_state.load_and_check(input_chunks))

    async def _read_chunk(
        self, previous: InputChunk | None, deadline: float
    ) -> tuple[InputChunk, list[ItemT | SkippedItem[ItemT]]] | None:
        """Read the chunk after `previous`. Of a slow input, read only the items that are available.

        Return None if `previous` needn't wait for that chunk. Items that are in the ledger are read completely, because
        they are compared as a whole. If `previous` is None, read the rest of the chunk that was read in part.
        """
        if previous is None:
            input_chunk, items = self._partial_chunk
        else:
            input_chunk, items = _make_empty_chunk(previous.number + 1), []
        min_items = max(1, self._session_state.count_known(input_chunk.number) - len(items))
        more = await self._input.read(
            ITEMS_PER_CHUNK - len(items), min_items, deadline=deadline, wait_for_min=previous is None
        )
        if previous is not None and not more and not self._input.has_ended:
            return None
        return await self._extend_chunk(input_chunk, more), items + more

    async def _extend_chunk(self, input_chunk: InputChunk, items: Sequence[ItemT | SkippedItem[ItemT]]) -> InputChunk:
        ids, contents = [*input_chunk.ids], [*input_chunk.contents]
        is_name = self._source.get_content is self._source.get_id
        for begin in range(0, len(items), _ITEMS_PER_YIELD):
            plain = cast("Sequence[ItemT]", items[begin : begin + _ITEMS_PER_YIELD])
            if not {SkippedItem}.isdisjoint(map(type, plain)):  # usually there is none, and this is the fastest check
                plain = [_unwrap_item(item) for item in plain]
            ids += map(self._source.get_id, plain)
            if not is_name:
                contents += map(self._source.get_content, plain)
            await self._yielder.yield_if_due()
        is_last = self._input.has_ended and len(ids) < ITEMS_PER_CHUNK
        return InputChunk(input_chunk.number, ids, ids if is_name else contents, is_last=is_last)

    async def _cancel_read(self) -> None:
        if self._read_task is not None:
            self._read_task.cancel()
            await asyncio.wait([self._read_task])
            if not self._read_task.cancelled():
                self._read_task.exception()  # retrieved, so that asyncio doesn't log it
        await self._input.close()

    # Outcomes

    @property
    def uncommitted_counts(self) -> Counter[Outcome]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        return (
            count_outcomes(self._outcome_rows) + self._session_state.uncommitted_counts if self._is_open else Counter()
        )

    def record_outcome(
        self, position: int, outcome: Outcome, *, status: int | None, attempts: int, exclude_list: str | None = None
    ) -> None:
        """Record an outcome. It is committed within a second."""
        if outcome is not self._last_outcome:  # usually it is, and the lookup would take longer than the rest
            self._last_outcome, self._last_state = outcome, STATES[outcome]
        if outcome is Outcome.EXCLUDED:
            status = self._session_state.get_exclude_list_number(exclude_list)
        self._outcome_rows.append((position, self._last_state, status or 0, attempts))
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(_COMMIT_DELAY, self._flush_and_commit)

    def release(self, position: int) -> None:
        """Record that an item wasn't sent. This is committed within a second."""
        self._session_state.release([position])
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(_COMMIT_DELAY, self._flush_and_commit)

    def _flush_and_commit(self) -> None:
        self._flush()
        self._commit()

    def _flush(self) -> None:
        """Pass new outcomes and the live status to the ledger session."""
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        if self._outcome_rows:
            self._session_state.record_outcomes(self._outcome_rows, to_timestamp(self._read_clocks().wall))
            self._outcome_rows = []
        if self._is_status_due:
            self._record_live_status()

    def set_write_error_callback(self, on_write_error: Callable[[Exception], object]) -> None:
        """Call `on_write_error` once if a commit fails."""
        self._on_write_error = on_write_error

    def _commit(self) -> "asyncio.Future[None]":
        commit = self._commit_thread.commit()
        commit.add_done_callback(self._on_writer_done)
        return commit

    def _on_writer_done(self, future: "asyncio.Future[None]") -> None:
        """End the job if the work of the writer has failed, unless an earlier failure already ends it."""
        error = future.exception()
        if isinstance(error, Exception) and self._error is None:
            self._error = error
            if self._on_write_error is not None:
                self._on_write_error(error)

    # Checks of the ledger's files

    def _schedule_check(self) -> None:
        self._check_timer = self._loop.call_later(FILE_CHECK_INTERVAL, self._check_files)

    def _check_files(self) -> None:
        self._commit_thread.run_between_commits(self._session_state.check_files).add_done_callback(self._on_checked)

    def _on_checked(self, future: "asyncio.Future[None]") -> None:
        self._on_writer_done(future)
        if self._error is None and self._check_timer is not None:
            self._schedule_check()

    # Live status

    def _on_status_timer(self) -> None:
        """Have the live status recorded, with the next commit if one is due."""
        self._is_status_due = True
        self._status_timer = self._loop.call_later(_STATUS_INTERVAL, self._on_status_timer)
        if self._commit_timer is None:
            self._flush_and_commit()

    def _record_live_status(self) -> None:
        self._is_status_due = False
        assert self._live_status is not None
        try:
            self._session_state.set_live_status(json.dumps(dict(self._live_status())))
        except Exception as error:  # noqa: BLE001 - a failing callback must not end the job
            _log.error("the live status callback of the job raised %s", type(error).__name__)


def _make_empty_chunk(number: int) -> InputChunk:
    return InputChunk(number, [], [], is_last=False)


def _make_remaining_items(
    input_chunk: InputChunk, items: Sequence[ItemT | SkippedItem[ItemT]], remaining: RemainingItems
) -> Iterator[RemainingItem[ItemT]]:
    indexes = remaining.indexes
    return zip(
        map((input_chunk.number * ITEMS_PER_CHUNK).__add__, indexes),
        map(items.__getitem__, indexes),
        map(remaining.maybe_sent_at.get, indexes),
        strict=True,
    )


def _unwrap_item(item: ItemT | SkippedItem[ItemT]) -> ItemT:
    return cast("ItemT", item.item if isinstance(item, SkippedItem) else item)
