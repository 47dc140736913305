"""The engine of a mass job: lazy, bounded, streaming.

A fixed number of runners take turns: each takes an item, makes one attempt for it and, where it has to be tried again,
puts it aside and takes the next. So a runner is a permit that is held per attempt: an item that waits holds none.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar, cast

import attrs

from .results import BulkReport, ItemResult, ItemT, Outcome, StopReason, StopRules, Tally, ValueT

T = TypeVar("T")

_PROGRESS_INTERVAL: Final = 0.1
_BREATH: Final = 0.005
_END: Final = object()

_log: Final = logging.getLogger("adapty_async")


@attrs.define(eq=False)
class Work(Generic[ItemT]):
    """An item on its way: what is known of it until it has an outcome.

    `attempts`: requests made; `throttled`: those of them that were answered 429, which don't count against it. `taken`:
    the server took one in, whatever came of it. `fate_unknown`: one may have been executed. `under_way`: one is out.
    `error`: the last one.
    """

    position: int
    item: ItemT
    began: float
    attempts: int = 0
    throttled: int = 0
    taken: bool = False
    fate_unknown: bool = False
    under_way: bool = False
    error: Exception | None = None


class Operation(Protocol[ItemT, ValueT]):
    """What a job does with an item."""

    async def attempt(
        self, work: Work[ItemT], job: "BulkJob[ItemT, ValueT]"
    ) -> ItemResult[ItemT, ValueT] | float | None:
        """Make one attempt: its result, or the seconds until the next one, or None where the job was stopped first."""
        ...

    def close(self) -> None:
        """Let go of what the operation holds, at the end of the job."""
        ...


class BulkJob(Generic[ItemT, ValueT]):
    """A mass job: await it for its BulkReport, or iterate over it for each ItemResult as it comes.

    It starts at the first await or iteration. Iterated, it runs no further ahead than `concurrency` results. Leaving it
    early, by a cancellation, a break or `aclose()`, cancels what is under way and waits until nothing runs any more.
    """

    def __init__(
        self,
        operation: Operation[ItemT, ValueT],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        *,
        concurrency: int,
        stop: StopRules,
        on_progress: Callable[[BulkReport], object] | None,
    ) -> None:
        self._operation = operation
        self._source = _iterator(items)
        self._concurrency = checked_concurrency(concurrency)
        self._rules = stop
        self._on_progress = on_progress
        self._task: asyncio.Task[None] | None = None
        self._tally = Tally()
        self._results: asyncio.Queue[ItemResult[ItemT, ValueT] | None] | None = None
        self._taken = self._settled = 0
        self._ready: deque[Work[ItemT]] = deque()
        self._aside: dict[Work[ItemT], asyncio.TimerHandle] = {}
        self._most_unsettled = max(1000, 10 * concurrency)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._pulling = False
        self._interruptible: set[asyncio.Task[Any]] = set()
        self._input_error: Exception | None = None
        self._next_progress = self._next_breath = 0.0

    # The job as its user sees it

    @property
    def report(self) -> BulkReport:
        """Where the job stands, or how it ended."""
        return self._tally.report(self._loop.time() if self._task else 0.0)

    def stop(self) -> None:
        """Start nothing more, and let what is under way come to its end."""
        self.stop_for(StopReason.REQUESTED)

    async def aclose(self) -> None:
        """Cancel what is under way and wait until nothing runs any more; again, harmlessly."""
        task = self._task
        if task is None or task.done():
            return
        self._tally.stopped = self._tally.stopped or StopReason.REQUESTED
        task.cancel()
        await asyncio.wait([task])

    def __await__(self) -> Generator[Any, None, BulkReport]:
        return self._finish().__await__()

    def __aiter__(self) -> AsyncIterator[ItemResult[ItemT, ValueT]]:
        return self._stream()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "not started" if self._task is None else "finished" if self._task.done() else "running"
        return f"<BulkJob {state}, {self._tally.counts.total()} items>"

    async def _finish(self) -> BulkReport:
        task = self._start()
        try:
            await task
        except asyncio.CancelledError:
            # Closed by somebody else: then the one who awaits it is not cancelled.
            current = asyncio.current_task()
            if not task.cancelled() or (current is not None and current.cancelling()):
                raise
        return self.report

    async def _stream(self) -> AsyncIterator[ItemResult[ItemT, ValueT]]:
        if self._task is not None:
            raise RuntimeError("the job has started already: iterate over it once, before it is awaited")
        results = self._results = asyncio.Queue(self._concurrency)
        task = self._start()
        task.add_done_callback(lambda _: results.put_nowait(None) if results.empty() else None)
        try:
            while not (task.done() and results.empty()):
                result = await results.get()
                if result is None:
                    break
                yield result
            await self._finish()
        finally:
            await self.aclose()

    # For operations

    @property
    def stopped(self) -> StopReason | None:
        """Why the job starts nothing more; None while it goes on."""
        return self._tally.stopped

    def stop_for(self, reason: StopReason) -> None:
        """Start nothing more; the first reason stands."""
        if self._tally.stopped is not None:
            return
        self._tally.stopped = reason
        if self._task is None:
            return
        for handle in self._aside.values():
            handle.cancel()
        self._ready.extend(self._aside)
        self._aside.clear()
        current = asyncio.current_task()
        for task in self._interruptible:
            if task is not current:
                task.cancel()
        self._wake_all()

    async def unless_stopped(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Wait for something that sends nothing, but no longer than the job goes on: None where it is stopped first."""
        if self._tally.stopped is not None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._interruptible.add(task)
        try:
            return await wait()
        except asyncio.CancelledError:
            # Ours, by stop_for, or a cancellation from outside, which passes through?
            if self._tally.stopped is None or task.uncancel() > 0:
                raise
            return None
        finally:
            self._interruptible.discard(task)

    def count_request(self, seconds: float, *, number: int, answered: bool, throttled: bool) -> None:
        """Count one request for the report."""
        self._tally.request(seconds, number=number, answered=answered, throttled=throttled)

    def result(
        self,
        work: Work[ItemT],
        outcome: Outcome,
        *,
        value: ValueT | None = None,
        error: Exception | None = None,
    ) -> ItemResult[ItemT, ValueT]:
        """Make the result of an item."""
        elapsed = self._loop.time() - work.began
        return ItemResult(work.position, work.item, outcome, value, error, work.attempts, elapsed)

    # The engine

    def _start(self) -> asyncio.Task[None]:
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._tally.start(self._loop.time())
            self._task = self._loop.create_task(self._run(), name="adapty_async bulk job")
        return self._task

    async def _run(self) -> None:
        try:
            await self._run_runners()
            if self._tally.stopped is None:
                self._tally.stopped = self._rules.judge(self._tally.counts, at_end=True)
        finally:
            self._operation.close()
            self._settle_rest()
            self._tally.finish(self._loop.time())
            self._report_progress()

    async def _run_runners(self) -> None:
        bug = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._runner())
        except ExceptionGroup as several:
            bug = several.exceptions[0]
        if bug is not None:
            raise bug
        if self._input_error is not None:
            raise self._input_error

    async def _runner(self) -> None:
        while (work := await self._next()) is not None:
            try:
                step = None if self._tally.stopped else await self._operation.attempt(work, self)
            except BaseException:
                self._count(self._unfinished(work))
                raise
            if isinstance(step, ItemResult):
                await self._settle(step)
            elif step is None or self._tally.stopped:
                await self._settle(self._unfinished(work))
            else:
                self._put_aside(work, step)
            await self._breathe()
        self._wake_one()

    async def _breathe(self) -> None:
        """Let the loop run now and then, also where nothing is waited for: invalid items, operations without I/O."""
        if self._loop.time() >= self._next_breath:
            await asyncio.sleep(0)
            self._next_breath = self._loop.time() + _BREATH

    async def _next(self) -> Work[ItemT] | None:
        """Take what is to be attempted next: an item whose wait is over, or a new one. None: nothing is left."""
        while True:
            if self._ready:
                if self._may_pull():
                    self._wake_one()
                return self._ready.popleft()
            if self._may_pull():
                work = await self._pull()
                if work is not None:
                    return work
            elif self._is_drained():
                return None
            else:
                await self._idle_until_woken()

    def _may_pull(self) -> bool:
        return not (
            self._tally.input_exhausted
            or self._tally.stopped
            or self._pulling
            or self._taken - self._settled >= self._most_unsettled
        )

    def _is_drained(self) -> bool:
        """Tell whether no item will come any more but from a runner that is still at work, which takes it itself."""
        over = self._tally.input_exhausted or self._tally.stopped is not None
        return over and not self._aside and not self._pulling

    async def _pull(self) -> Work[ItemT] | None:
        self._pulling = True
        try:
            item = await self._next_item()
        except Exception as error:  # noqa: BLE001 - the caller's code; raised when what is under way has come to its end
            self._input_error = error
            self.stop_for(StopReason.REQUESTED)
            return None
        finally:
            self._pulling = False
            self._wake_one()
        if self._tally.stopped is not None and item is None:
            return None
        if item is _END:
            self._tally.input_exhausted = True
            return None
        self._taken += 1
        return Work(self._taken - 1, cast("ItemT", item), self._loop.time())

    async def _next_item(self) -> ItemT | object:
        """Read the next item; _END after the last, None where the job is stopped while it is waited for."""
        source = self._source
        if isinstance(source, Iterator):
            return next(source, _END)
        return await self.unless_stopped(lambda: anext(source, _END))

    async def _idle_until_woken(self) -> None:
        woken = self._loop.create_future()
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

    def _wake_all(self) -> None:
        while self._idle:
            self._wake_one()

    def _put_aside(self, work: Work[ItemT], seconds: float) -> None:
        self._aside[work] = self._loop.call_later(seconds, self._bring_back, work)

    def _bring_back(self, work: Work[ItemT]) -> None:
        del self._aside[work]
        self._ready.append(work)
        self._wake_one()

    async def _settle(self, result: ItemResult[ItemT, ValueT]) -> None:
        self._count(result)
        reason = self._rules.judge(self._tally.counts) if result.outcome is not Outcome.NOT_ATTEMPTED else None
        if reason is not None:
            self.stop_for(reason)
        if self._on_progress is not None and self._loop.time() >= self._next_progress:
            self._report_progress()
        if self._results is not None:
            await self._results.put(result)

    def _count(self, result: ItemResult[ItemT, ValueT]) -> None:
        self._settled += 1
        self._tally.settle(result)

    def _settle_rest(self) -> None:
        """Give an outcome to whatever the runners left when they were cancelled."""
        for handle in self._aside.values():
            handle.cancel()
        for work in (*self._ready, *self._aside):
            self._count(self._unfinished(work))
        self._ready.clear()
        self._aside.clear()

    def _unfinished(self, work: Work[ItemT]) -> ItemResult[ItemT, ValueT]:
        if work.fate_unknown or work.under_way:
            outcome = Outcome.IN_DOUBT
        elif work.taken:
            outcome = Outcome.FAILED
        else:
            outcome = Outcome.NOT_ATTEMPTED
        return self.result(work, outcome, error=work.error)

    def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        self._next_progress = self._loop.time() + _PROGRESS_INTERVAL
        try:
            self._on_progress(self.report)
        except Exception as error:  # noqa: BLE001 - a failing observer must not end the job it observes
            _log.error("on_progress raised %s", type(error).__name__)


def checked_concurrency(concurrency: int) -> int:
    """Refuse a bound that is none."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    return concurrency


def _iterator(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> Iterator[ItemT] | AsyncIterator[ItemT]:
    if isinstance(items, str | bytes):
        raise TypeError("the items must be an iterable of items, not one text: put it into a list")
    if isinstance(items, AsyncIterable):
        return aiter(items)
    if isinstance(items, Iterable):
        return iter(items)
    raise TypeError(f"the items must be an iterable or an async iterable, not {type(items).__name__}")
