"""The scheduler of a bulk job: hands out new items and the retries that are due."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, Generic, cast

import attrs

from ..http.clock import ANY_TIME, Moment
from ..http.connections import Origin
from .job_store import Entries, Entry
from .overload import RetryBudget
from .results import Decided, ItemResult, ItemT, Outcome
from .stop_signal import StopSignal, is_cancelled


class Work(Generic[ItemT]):
    """The state of an item until it has an outcome.

    Attributes:
        decided: Set if the item is skipped, so that no request is sent for it.
        attempts: Requests sent in this run.
        throttled: The attempts that were answered with 429.
        tries: The attempts that count against the retry policy.
        taken: Whether a request was sent that wasn't rate-limited, no matter its result.
        maybe_sent: When the first request that may have been executed was sent, in this run or an earlier one.
        under_way: Whether a request is in flight.
        status: The status of the last response.
        value: What was read from it.
        error: The last error. Once there is an outcome, the error that led to it.
        origin: The connection of the response that decides the outcome.
        sent: When the request for that response was sent.
        unsettled_outcome: The outcome by that response, until it is confirmed that the response belongs to this item.
        fresh: Whether the next attempt needs a new connection.
    """

    # Class attributes, because one object is created per item and most of these defaults never change.
    decided: Decided[ItemT] | None = None
    attempts: int = 0
    throttled: int = 0
    tries: int = 0
    taken: bool = False
    maybe_sent: Moment | None = None
    under_way: bool = False
    status: int | None = None
    value: Any = None
    error: Exception | None = None
    origin: Origin | None = None
    sent: Moment = ANY_TIME
    unsettled_outcome: Outcome | None = None
    fresh: bool = False

    def __init__(self, position: int, item: ItemT, began: float) -> None:
        self.position = position
        self.item = item
        self.began = began

    def result(self, outcome: Outcome) -> ItemResult[ItemT, Any]:
        """Return the item's result."""
        elapsed = asyncio.get_running_loop().time() - self.began
        return ItemResult(self.position, self.item, outcome, self.value, self.error, self.attempts, elapsed)

    @property
    def fate_unknown(self) -> bool:
        """Whether a request for the item may have been executed."""
        return self.maybe_sent is not None

    @property
    def unfinished(self) -> Outcome:
        """The outcome of an item that is abandoned in its current state."""
        if self.fate_unknown or self.under_way:
            return Outcome.IN_DOUBT
        return Outcome.FAILED if self.taken else Outcome.NOT_ATTEMPTED


@attrs.frozen
class Again:
    """The item is due for a retry after `seconds`. If `rationed`, the retry also needs the retry budget."""

    seconds: float
    rationed: bool


class Settling(Enum):
    """The outcome of an item isn't confirmed yet. The scheduler returns the item later."""

    SETTLING = "settling"


SETTLING: Final = Settling.SETTLING


class Lineup(Generic[ItemT]):
    """Hand out work to any number of workers, reading the input no further than necessary.

    An item that needs a retry waits without a worker, then for the retry budget. New items overtake it. No new item is
    started while `most_unsettled` items have no outcome. The first `canary` items that are sent must have an
    outcome before the next one is started. With a ledger session, its `entries` are handed out instead of the items.
    """

    def __init__(
        self,
        items: Iterable[ItemT | Decided[ItemT]] | AsyncIterable[ItemT | Decided[ItemT]],
        *,
        most_unsettled: int,
        canary: int = 0,
        entries: Entries[ItemT] | None = None,
    ) -> None:
        self._entries = entries
        source = _iterator(items)
        self._waiting = None if isinstance(source, Iterator) else source
        self._positions = itertools.count()
        self._next_at_once: Callable[[], Entry[ItemT] | None] = _nothing
        if entries is not None:
            self._next_at_once = entries.ready
        elif isinstance(source, Iterator):
            self._next_at_once = zip(self._positions, source, itertools.repeat(None)).__next__
        self._most_unsettled = most_unsettled
        self._room = most_unsettled  # 0 while no new item may be started
        self._canary = canary
        self._canary_is_out = False
        self.signal = StopSignal(self._close)
        self.unsettled = 0
        self._ready: deque[Work[ItemT]] = deque()
        self._settling: set[Work[ItemT]] = set()
        self._behind: list[Work[ItemT]] = []
        self._aside: dict[Work[ItemT], asyncio.TimerHandle] = {}
        self._rationed: deque[Work[ItemT]] = deque()
        self._budget = RetryBudget()
        self._ration_timer: asyncio.TimerHandle | None = None
        self._idle: deque[asyncio.Future[None]] = deque()
        self._pulling = False
        self.exhausted = False
        self.error: Exception | None = None

    def open(self, now: Callable[[], float]) -> None:
        """Prepare for the start of the job. `now` is the clock of the event loop."""
        self._now = now

    @property
    def awaiting_retry(self) -> int:
        """The number of items that wait for another attempt."""
        return len(self._aside) + len(self._rationed) + len(self._ready)

    def take(self) -> Work[ItemT] | None:
        """Return a new item if one is available without waiting and no retry is due. Otherwise call `next`."""
        if self.unsettled >= self._room or self._ready or self._rationed:
            return None
        return self._pull_at_once()

    async def next(self) -> Work[ItemT] | None:
        """Wait for the next work. Return None if there is no more.

        The workers that are still busy may produce retries, but they take these themselves.
        """
        while True:
            waiting = self._ready.popleft() if self._ready else self._next_rationed()
            if waiting is not None:
                if self.unsettled < self._room:
                    self._wake_one()
                return waiting
            if self.unsettled < self._room:
                work = self._pull_at_once()
                if work is None and (self._entries is not None or self._waiting is not None):
                    work = await self._pull()
                if work is not None:
                    return work
            elif self._is_drained():
                self._wake_one()
                return None
            else:
                await self._idle_until_woken()

    def put_aside(self, work: Work[ItemT], again: Again) -> None:
        """Return the work to the workers when its retry is due."""
        queue = self._rationed if again.rationed else self._ready
        self._aside[work] = asyncio.get_running_loop().call_later(again.seconds, self._bring_back, work, queue)

    @property
    def is_settling(self) -> bool:
        """Whether any outcome waits for confirmation."""
        return bool(self._settling)

    def begin_settling(self, work: Work[ItemT], outcome: Outcome) -> "Settling":
        """Hold back an outcome until it is confirmed that its response belongs to this item."""
        work.unsettled_outcome = outcome
        self._settling.add(work)
        return SETTLING

    def end_settling(self, work: Work[ItemT]) -> None:
        """Remove a confirmed item, and release the outcomes that wait behind it."""
        self._settling.discard(work)
        if self._behind:
            self._ready.extend(self._behind)
            self._behind.clear()
        if self._idle:  # there may be room for new items, or none may be left
            self._wake_one()

    def line_up_behind(self, work: Work[ItemT], outcome: Outcome) -> "Settling":
        """Hand out the work after the next outcome that is confirmed."""
        work.unsettled_outcome = outcome
        self._behind.append(work)
        return SETTLING

    def bring_back(self, work: Work[ItemT]) -> None:
        """Hand out work whose outcome is confirmed or in doubt, and the outcomes that wait behind it."""
        self._ready.append(work)
        self.end_settling(work)

    def leaves(self, work: Work[ItemT]) -> None:
        """Record that a request for an item is about to be sent."""
        if self._entries is not None and not work.attempts:
            self._entries.left()
        work.attempts += 1
        work.under_way = True

    def succeeded(self) -> None:
        """Record an outcome that is no failure for an item that was sent. It adds to the retry budget."""
        self.unsettled -= 1
        if self._canary_is_out:
            self._look_at_canary()
        self._budget.succeeded(self._now())

    def settled(self, work: Work[ItemT]) -> None:
        """Record that an item has another outcome, or that it ends without one."""
        if not work.attempts and self._entries is not None:
            self._entries.left()
        self.unsettled -= 1
        if self._canary_is_out:
            self._look_at_canary()

    def _look_at_canary(self) -> None:
        if not self.unsettled:
            self._canary_is_out = False
            self._make_room()

    def _next_rationed(self) -> Work[ItemT] | None:
        """Return the first retry if the retry budget allows it, else None. A timer wakes a worker for the next one."""
        if not self._rationed:
            return None
        loop = asyncio.get_running_loop()
        work = None
        if not self._budget.wait(loop.time()):
            self._budget.spend(loop.time())
            work = self._rationed.popleft()
        if self._rationed and self._ration_timer is None:
            self._ration_timer = loop.call_later(self._budget.wait(loop.time()), self._end_ration)
        return work

    def _end_ration(self) -> None:
        self._ration_timer = None
        self._wake_one()

    def _close(self) -> None:
        """Hand out all waiting items at once: to get an outcome, not another attempt."""
        self._make_room()
        self._ready.extend(self.abandon())
        while self._idle:
            self._wake_one()

    def abandon(self) -> list[Work[ItemT]]:
        """Remove all waiting items and return them."""
        for handle in self._aside.values():
            handle.cancel()
        if self._ration_timer is not None:
            self._ration_timer.cancel()
            self._ration_timer = None
        waiting = [*self._ready, *self._rationed, *self._aside]
        self._ready.clear()
        self._rationed.clear()
        self._aside.clear()
        return waiting

    def stop_settling(self) -> list[Work[ItemT]]:
        """Remove all unconfirmed items and return them."""
        settling = [*self._settling, *self._behind]
        self._settling.clear()
        self._behind.clear()
        return settling

    def _make_room(self) -> None:
        """Set the number of items without an outcome at which no new item is started."""
        is_held = self.exhausted or self.signal.given or self._pulling or self._canary_is_out
        self._room = 0 if is_held else self._most_unsettled

    def _is_drained(self) -> bool:
        over = self.exhausted or self.signal.given
        return over and not (self._aside or self._rationed or self._settling or self._pulling)

    def _pull_at_once(self) -> Work[ItemT] | None:
        """Return the next item if it is available without waiting.

        With a ledger session this is an entry that is ready. An async input never has one.
        """
        try:
            entry = self._next_at_once()
        except StopIteration:
            self.exhausted = True
            self._make_room()
            self._wake_one()
            return None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller's code
            self._fail_to_read(error)
            return None
        return None if entry is None else self._begin(entry)

    async def _pull(self) -> Work[ItemT] | None:
        """Wait for the next item."""
        self._pulling = True
        self._make_room()
        try:
            entry = await self.signal.cut_short(self._next_entry)
        except StopAsyncIteration:
            self.exhausted = True
            return None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller's code
            self._fail_to_read(error)
            return None
        finally:
            self._pulling = False
            self._make_room()
            self._wake_one()
        return None if entry is None else self._begin(entry)

    async def _next_entry(self) -> Entry[ItemT]:
        if self._entries is not None:
            return await anext(self._entries)
        assert self._waiting is not None
        item = await anext(self._waiting)
        return next(self._positions), item, None

    def _begin(self, entry: Entry[ItemT]) -> Work[ItemT]:
        position, item, sent = entry
        self.unsettled += 1
        if isinstance(item, Decided):
            work = Work(position, cast("ItemT", item.item), self._now())
            work.decided = item
        else:
            work = Work(position, item, self._now())
            if self._canary:
                self._count_canary()
        if sent is not None:
            work.maybe_sent = sent
        if self._idle:
            self._wake_one()
        return work

    def _count_canary(self) -> None:
        self._canary -= 1
        if not self._canary:
            self._canary_is_out = True
            self._make_room()

    def _fail_to_read(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            assert isinstance(error, Exception)
            self.fail(error)
        elif is_cancelled():
            raise error
        else:
            self.fail(RuntimeError("a task that the input waited for was cancelled"))

    def fail(self, error: Exception) -> None:
        """End the job with an error. It is raised after the requests in flight are complete."""
        self.error = error
        self.signal.give(None)

    async def _idle_until_woken(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake_one()
            raise

    def _wake_one(self) -> None:
        while self._idle:
            woken = self._idle.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _bring_back(self, work: Work[ItemT], queue: deque[Work[ItemT]]) -> None:
        del self._aside[work]
        queue.append(work)
        self._wake_one()


def _nothing() -> None:
    """Return None: an async input never has an item without waiting."""


def _iterator(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> Iterator[ItemT] | AsyncIterator[ItemT]:
    if isinstance(items, str | bytes):
        raise TypeError("the items must be an iterable, not a single text: put it into a list")
    if isinstance(items, AsyncIterable):
        return aiter(items)
    if isinstance(items, Iterable):
        return iter(items)
    raise TypeError(f"the items must be an iterable or an async iterable, not {type(items).__name__}")
