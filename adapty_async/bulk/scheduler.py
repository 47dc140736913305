"""The scheduler of a bulk job: hands out new items and the retries that are due."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, Generic, cast

import attrs

from ..http.clocks import ANY_TIME, Moment
from ..http.extra_responses import ExtraResponseCheck
from .job_store import JobSession, RemainingItem
from .outcomes import Outcome
from .overload_protection import RetryBudget
from .results import ItemResult, ItemT, SkippedItem
from .stop_and_pause import StopSignal, is_being_cancelled


class WorkItem(Generic[ItemT]):
    """The state of an item until it has an outcome.

    Attributes:
        skipped_item: Set if the item is skipped, so that no request is sent for it.
        attempts: Requests sent in this run.
        rate_limited_attempts: The attempts that were answered with 429.
        counted_attempts: The attempts that count against the retry policy.
        has_reached_server: Whether a request was sent that wasn't rate-limited, no matter its result.
        maybe_sent_at: When the first request that may have been executed was sent, in this run or an earlier one.
        is_in_flight: Whether a request is in flight.
        status: The status of the last response.
        value: What was read from it.
        error: The last error. Once there is an outcome, the error that led to it.
        connection_check: The connection of the response that decides the outcome.
        sent_at: When the request for that response was sent.
        unconfirmed_outcome: The outcome by that response, until it is confirmed that the response belongs to this item.
        needs_new_connection: Whether the next attempt needs a new connection.
    """

    # Class attributes, because one object is created per item and most of these defaults never change.
    skipped_item: SkippedItem[ItemT] | None = None
    attempts: int = 0
    rate_limited_attempts: int = 0
    counted_attempts: int = 0
    has_reached_server: bool = False
    maybe_sent_at: Moment | None = None
    is_in_flight: bool = False
    status: int | None = None
    value: Any = None
    error: Exception | None = None
    connection_check: ExtraResponseCheck | None = None
    sent_at: Moment = ANY_TIME
    unconfirmed_outcome: Outcome | None = None
    needs_new_connection: bool = False

    def __init__(self, position: int, item: ItemT, started_at: float) -> None:
        self.position = position
        self.item = item
        self.started_at = started_at

    def build_result(self, outcome: Outcome) -> ItemResult[ItemT, Any]:
        """Return the item's result."""
        elapsed = asyncio.get_running_loop().time() - self.started_at
        return ItemResult(self.position, self.item, outcome, self.value, self.error, self.attempts, elapsed)

    @property
    def is_outcome_unknown(self) -> bool:
        """Whether a request for the item may have been executed."""
        return self.maybe_sent_at is not None

    @property
    def abandoned_outcome(self) -> Outcome:
        """The outcome of an item that is abandoned in its current state."""
        if self.is_outcome_unknown or self.is_in_flight:
            return Outcome.IN_DOUBT
        return Outcome.FAILED if self.has_reached_server else Outcome.NOT_ATTEMPTED


@attrs.frozen
class ScheduledRetry:
    """The item is due for a retry after `delay`. If `needs_budget`, the retry also needs the retry budget."""

    delay: float
    needs_budget: bool


class ConfirmationPending(Enum):
    """The outcome of an item isn't confirmed yet. The scheduler returns the item later."""

    PENDING = "settling"


CONFIRMATION_PENDING: Final = ConfirmationPending.PENDING


class Scheduler(Generic[ItemT]):
    """Hand out work to any number of workers, reading the input no further than necessary.

    An item that needs a retry waits without a worker, then for the retry budget. New items overtake it. No new item is
    started while `max_pending` items have no outcome. The first `canary` items that are sent must have an
    outcome before the next one is started. With a ledger session, its remaining items are handed out
    instead.
    """

    def __init__(
        self,
        items: Iterable[ItemT | SkippedItem[ItemT]] | AsyncIterable[ItemT | SkippedItem[ItemT]],
        *,
        max_pending: int,
        canary: int = 0,
        job_session: JobSession[ItemT] | None = None,
    ) -> None:
        self._job_session = job_session
        source = _make_iterator(items)
        self._async_items = None if isinstance(source, Iterator) else source
        self._positions = itertools.count()
        self._next_item_nowait: Callable[[], RemainingItem[ItemT] | None] = _return_none
        if job_session is not None:
            self._next_item_nowait = job_session.next_nowait
        elif isinstance(source, Iterator):
            self._next_item_nowait = zip(self._positions, source, itertools.repeat(None)).__next__
        self._max_pending = max_pending
        self._pending_limit = max_pending  # 0 while no new item may be started
        self._canary_remaining = canary
        self._is_canary_running = False
        self.stop_signal = StopSignal(self._on_stop)
        self.pending = 0
        self._ready: deque[WorkItem[ItemT]] = deque()
        self._unconfirmed: set[WorkItem[ItemT]] = set()
        self._behind_unconfirmed: list[WorkItem[ItemT]] = []
        self._retry_timers: dict[WorkItem[ItemT], asyncio.TimerHandle] = {}
        self._awaiting_budget: deque[WorkItem[ItemT]] = deque()
        self._retry_budget = RetryBudget()
        self._budget_timer: asyncio.TimerHandle | None = None
        self._idle_workers: deque[asyncio.Future[None]] = deque()
        self._is_reading = False
        self.is_exhausted = False
        self.error: Exception | None = None

    def open(self, clock: Callable[[], float]) -> None:
        """Prepare for the start of the job. `clock` is the clock of the event loop."""
        self._clock = clock

    @property
    def awaiting_retry(self) -> int:
        """The number of items that wait for another attempt."""
        return len(self._retry_timers) + len(self._awaiting_budget) + len(self._ready)

    def next_nowait(self) -> WorkItem[ItemT] | None:
        """Return a new item if one is available without waiting and no retry is due. Otherwise call `next`."""
        if self.pending >= self._pending_limit or self._ready or self._awaiting_budget:
            return None
        return self._read_nowait()

    async def next(self) -> WorkItem[ItemT] | None:
        """Wait for the next work. Return None if there is no more.

        The workers that are still busy may produce retries, but they take these themselves.
        """
        while True:
            waiting = self._ready.popleft() if self._ready else self._next_within_budget()
            if waiting is not None:
                if self.pending < self._pending_limit:
                    self._wake_worker()
                return waiting
            if self.pending < self._pending_limit:
                work = self._read_nowait()
                if work is None and (self._job_session is not None or self._async_items is not None):
                    work = await self._read()
                if work is not None:
                    return work
            elif self._is_drained():
                self._wake_worker()
                return None
            else:
                await self._wait_for_wakeup()

    def schedule_retry(self, work: WorkItem[ItemT], retry: ScheduledRetry) -> None:
        """Return the work to the workers when its retry is due."""
        queue = self._awaiting_budget if retry.needs_budget else self._ready
        self._retry_timers[work] = asyncio.get_running_loop().call_later(retry.delay, self._on_retry_due, work, queue)

    @property
    def has_unconfirmed(self) -> bool:
        """Whether any outcome waits for confirmation."""
        return bool(self._unconfirmed)

    def await_confirmation(self, work: WorkItem[ItemT], outcome: Outcome) -> "ConfirmationPending":
        """Hold back an outcome until it is confirmed that its response belongs to this item."""
        work.unconfirmed_outcome = outcome
        self._unconfirmed.add(work)
        return CONFIRMATION_PENDING

    def end_confirmation(self, work: WorkItem[ItemT]) -> None:
        """Remove a confirmed item, and release the outcomes that wait behind it."""
        self._unconfirmed.discard(work)
        if self._behind_unconfirmed:
            self._ready.extend(self._behind_unconfirmed)
            self._behind_unconfirmed.clear()
        if self._idle_workers:  # there may be room for new items, or none may be left
            self._wake_worker()

    def queue_behind(self, work: WorkItem[ItemT], outcome: Outcome) -> "ConfirmationPending":
        """Hand out the work after the next outcome that is confirmed."""
        work.unconfirmed_outcome = outcome
        self._behind_unconfirmed.append(work)
        return CONFIRMATION_PENDING

    def return_to_worker(self, work: WorkItem[ItemT]) -> None:
        """Return work to a worker when its outcome is confirmed or in doubt, with the outcomes that wait behind it."""
        self._ready.append(work)
        self.end_confirmation(work)

    def record_send(self, work: WorkItem[ItemT]) -> None:
        """Record that a request for an item is about to be sent."""
        if self._job_session is not None and not work.attempts:
            self._job_session.decrement_unsent()
        work.attempts += 1
        work.is_in_flight = True

    def record_success(self) -> None:
        """Record an outcome that is no failure for an item that was sent. It adds to the retry budget."""
        self.pending -= 1
        if self._is_canary_running:
            self._check_canary()
        self._retry_budget.record_success(self._clock())

    def record_end(self, work: WorkItem[ItemT]) -> None:
        """Record that an item has another outcome, or that it ends without one."""
        if not work.attempts and self._job_session is not None:
            self._job_session.decrement_unsent()
        self.pending -= 1
        if self._is_canary_running:
            self._check_canary()

    def _check_canary(self) -> None:
        if not self.pending:
            self._is_canary_running = False
            self._allow_or_block_new_items()

    def _next_within_budget(self) -> WorkItem[ItemT] | None:
        """Return the first retry if the retry budget allows it, else None. A timer wakes a worker for the next one."""
        if not self._awaiting_budget:
            return None
        loop = asyncio.get_running_loop()
        work = None
        if not self._retry_budget.delay(loop.time()):
            self._retry_budget.spend(loop.time())
            work = self._awaiting_budget.popleft()
        if self._awaiting_budget and self._budget_timer is None:
            self._budget_timer = loop.call_later(self._retry_budget.delay(loop.time()), self._on_budget_timer)
        return work

    def _on_budget_timer(self) -> None:
        self._budget_timer = None
        self._wake_worker()

    def _on_stop(self) -> None:
        """Hand out all waiting items at once: to get an outcome, not another attempt."""
        self._allow_or_block_new_items()
        self._ready.extend(self.drain_waiting_items())
        while self._idle_workers:
            self._wake_worker()

    def drain_waiting_items(self) -> list[WorkItem[ItemT]]:
        """Remove all waiting items and return them."""
        for handle in self._retry_timers.values():
            handle.cancel()
        if self._budget_timer is not None:
            self._budget_timer.cancel()
            self._budget_timer = None
        waiting = [*self._ready, *self._awaiting_budget, *self._retry_timers]
        self._ready.clear()
        self._awaiting_budget.clear()
        self._retry_timers.clear()
        return waiting

    def drain_unconfirmed_items(self) -> list[WorkItem[ItemT]]:
        """Remove all unconfirmed items and return them."""
        unconfirmed = [*self._unconfirmed, *self._behind_unconfirmed]
        self._unconfirmed.clear()
        self._behind_unconfirmed.clear()
        return unconfirmed

    def _allow_or_block_new_items(self) -> None:
        """Set the number of items without an outcome at which no new item is started."""
        is_blocked = self.is_exhausted or self.stop_signal.is_set or self._is_reading or self._is_canary_running
        self._pending_limit = 0 if is_blocked else self._max_pending

    def _is_drained(self) -> bool:
        over = self.is_exhausted or self.stop_signal.is_set
        return over and not (self._retry_timers or self._awaiting_budget or self._unconfirmed or self._is_reading)

    def _read_nowait(self) -> WorkItem[ItemT] | None:
        """Return the next item if it is available without waiting.

        With a ledger session this is an item that is ready. An async input never has one.
        """
        try:
            remaining_item = self._next_item_nowait()
        except StopIteration:
            self.is_exhausted = True
            self._allow_or_block_new_items()
            self._wake_worker()
            return None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller's code
            self._on_read_error(error)
            return None
        return None if remaining_item is None else self._start_item(remaining_item)

    async def _read(self) -> WorkItem[ItemT] | None:
        """Wait for the next item."""
        self._is_reading = True
        self._allow_or_block_new_items()
        try:
            remaining_item = await self.stop_signal.run_until_stop(self._next_remaining_item)
        except StopAsyncIteration:
            self.is_exhausted = True
            return None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller's code
            self._on_read_error(error)
            return None
        finally:
            self._is_reading = False
            self._allow_or_block_new_items()
            self._wake_worker()
        return None if remaining_item is None else self._start_item(remaining_item)

    async def _next_remaining_item(self) -> RemainingItem[ItemT]:
        if self._job_session is not None:
            return await anext(self._job_session)
        assert self._async_items is not None
        item = await anext(self._async_items)
        return next(self._positions), item, None

    def _start_item(self, remaining_item: RemainingItem[ItemT]) -> WorkItem[ItemT]:
        position, item, maybe_sent_at = remaining_item
        self.pending += 1
        if isinstance(item, SkippedItem):
            work = WorkItem(position, cast("ItemT", item.item), self._clock())
            work.skipped_item = item
        else:
            work = WorkItem(position, item, self._clock())
            if self._canary_remaining:
                self._count_canary()
        if maybe_sent_at is not None:
            work.maybe_sent_at = maybe_sent_at
        if self._idle_workers:
            self._wake_worker()
        return work

    def _count_canary(self) -> None:
        self._canary_remaining -= 1
        if not self._canary_remaining:
            self._is_canary_running = True
            self._allow_or_block_new_items()

    def _on_read_error(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            assert isinstance(error, Exception)
            self.fail(error)
        elif is_being_cancelled():
            raise error
        else:
            self.fail(RuntimeError("a task that the input waited for was cancelled"))

    def fail(self, error: Exception) -> None:
        """End the job with an error. It is raised after the requests in flight are complete."""
        self.error = error
        self.stop_signal.set(None)

    async def _wait_for_wakeup(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._idle_workers.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake_worker()
            raise

    def _wake_worker(self) -> None:
        while self._idle_workers:
            woken = self._idle_workers.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _on_retry_due(self, work: WorkItem[ItemT], queue: deque[WorkItem[ItemT]]) -> None:
        del self._retry_timers[work]
        queue.append(work)
        self._wake_worker()


def _return_none() -> None:
    """Return None: an async input never has an item without waiting."""


def _make_iterator(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> Iterator[ItemT] | AsyncIterator[ItemT]:
    if isinstance(items, str | bytes):
        raise TypeError("the items must be an iterable, not a single text: put it into a list")
    if isinstance(items, AsyncIterable):
        return aiter(items)
    if isinstance(items, Iterable):
        return iter(items)
    raise TypeError(f"the items must be an iterable or an async iterable, not {type(items).__name__}")
