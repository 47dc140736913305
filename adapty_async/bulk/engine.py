"""The engine of a bulk job: lazy, bounded, streaming.

A fixed number of workers run a loop. A worker takes an item, makes one attempt, puts the item aside if it needs a
retry, and takes the next one. An item that waits for a retry therefore occupies no worker.
"""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self

from ..http.hooks import check_hook
from .job_store import Entries
from .results import (
    FAILURES,
    JUDGED,
    BulkReport,
    Decided,
    ItemResult,
    ItemT,
    Outcome,
    StopReason,
    StopRules,
    Tally,
    ValueT,
)
from .scheduler import Again, Lineup, Settling, Work
from .stop_signal import is_cancelled

_PROGRESS_INTERVAL: Final = 0.1
_BREATH: Final = 0.005

_log: Final = logging.getLogger("adapty_async")


class Operation(Protocol[ItemT]):
    """What a job does with an item."""

    def open(self, lineup: Lineup[ItemT], tally: Tally) -> None:
        """Prepare the operation when the job starts.

        `lineup` must be informed before each request is sent, and `tally` of its result.

        Raises:
            RuntimeError: If nothing can be sent.
        """
        ...

    async def attempt(self, work: Work[ItemT]) -> Outcome | Again | None:
        """Make one attempt.

        Return the outcome, when to make the next attempt, or None if the job was stopped before this one. With an
        outcome, `work` holds the value and the error of the item's result.
        """
        ...

    def doubt(self, work: Work[ItemT]) -> Outcome | Again:
        """Decide what follows if the last response may belong to another request."""
        ...

    def close(self) -> None:
        """Release the resources of the operation when the job ends."""
        ...


class BulkJob(Generic[ItemT, ValueT]):
    """A bulk job. Await it to get its BulkReport, or iterate over it to get each ItemResult.

    The job starts when it is first awaited or iterated over. While you iterate, it runs at most `concurrency` results
    ahead, so await it after the iteration and not inside it.

    If you leave the job early, by a cancellation, `aclose()` or the end of an `async with` block, the requests in
    flight are cancelled, and you wait until nothing runs any more. After a plain `break` out of the iteration, the
    event loop does this as soon as it can.
    """

    def __init__(
        self,
        operation: Operation[ItemT],
        items: Iterable[ItemT | Decided[ItemT]] | AsyncIterable[ItemT | Decided[ItemT]],
        *,
        concurrency: int,
        stop: StopRules,
        on_progress: Callable[[BulkReport], object] | None,
        entries: Entries[ItemT] | None = None,
    ) -> None:
        self._operation = operation
        self._concurrency = checked_concurrency(concurrency)
        if not isinstance(stop, StopRules):
            raise TypeError(f"stop must be StopRules, not {type(stop).__name__}")
        check_hook("on_progress", on_progress)
        self._rules = stop
        self._judged_at = (stop.min_sample, stop.canary)
        self._on_progress = on_progress
        self._entries = entries
        most_unsettled = max(1000, 10 * concurrency)
        self._lineup = Lineup(items, most_unsettled=most_unsettled, canary=stop.canary or 0, entries=entries)
        if entries is not None:
            entries.watch(self._lineup.fail)
        self._signal = self._lineup.signal
        self._pause = self._signal.pause
        self._tally = Tally()
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._results: asyncio.Queue[ItemResult[ItemT, ValueT] | None] | None = None
        self._next_progress = self._breathe_at = 0.0

    # The public interface

    @property
    def report(self) -> BulkReport:
        """The progress of the job, or its final state. With a ledger, only committed outcomes are counted."""
        return self._tally.report(
            self._loop.time() if self._task else 0.0,
            uncommitted={} if self._entries is None else self._entries.uncommitted,
            stopped=self._signal.reason,
            input_exhausted=self._lineup.exhausted,
            awaiting_retry=self._lineup.awaiting_retry,
        )

    def stop(self) -> None:
        """Send no new requests and let those in flight complete."""
        if not self._ended:
            self._signal.give(StopReason.REQUESTED)

    def pause(self) -> None:
        """Send no new requests until `go_on` is called. Requests in flight complete.

        The time limits of StopRules don't run during a pause. Repeated calls have no effect.
        """
        if not (self._ended or self._pause.is_on):
            self._pause.begin()
            _log.info("the job is paused: no new requests are sent")

    def go_on(self) -> None:
        """Send requests again after a pause, at the rate of the pacer. Without a pause this has no effect."""
        if not self._ended and self._pause.is_on:
            self._pause.end()
            _log.info("the job is unpaused: requests are sent again")

    @property
    def is_paused(self) -> bool:
        """Whether the job is paused."""
        return self._pause.is_on

    async def aclose(self) -> None:
        """Cancel the requests in flight and wait until nothing runs any more. Repeated calls have no effect."""
        self.stop()
        task = self._task
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved, so that asyncio doesn't log it

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
            # If the job was closed elsewhere, the task that awaits it isn't cancelled.
            current = asyncio.current_task()
            if not task.cancelled() or (current is not None and current.cancelling()):
                raise
        return self.report

    async def _stream(self) -> AsyncIterator[ItemResult[ItemT, ValueT]]:
        if self._task is not None:
            raise RuntimeError("the job has already started: iterate over it once, before you await it")
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

    def _start(self) -> asyncio.Task[None]:
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._tally.start(self._loop.time())
            self._lineup.open(self._loop.time)
            self._task = self._loop.create_task(self._run(), name="adapty_async bulk job")
        return self._task

    async def _run(self) -> None:
        try:
            async with self._entries or contextlib.nullcontext():
                await self._run_operation()
        finally:
            self._tally.finish(self._loop.time())
            self._ended = True
            self._report_progress()

    async def _run_operation(self) -> None:
        try:
            self._operation.open(self._lineup, self._tally)
            await self._run_runners()
            self._judge(at_end=True)
        finally:
            self._operation.close()
            for work in self._lineup.abandon() + self._lineup.stop_settling():
                self._give_up(work)

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
        if self._lineup.error is not None:
            raise self._lineup.error

    async def _runner(self) -> None:
        lineup, signal, pause, tally = self._lineup, self._signal, self._pause, self._tally
        while (work := lineup.take() or await lineup.next()) is not None:
            requests = tally.requests
            try:
                step: Outcome | Again | Settling | None
                if work.decided is not None:
                    step = self._decided(work, work.decided)
                elif work.unsettled_outcome is not None:
                    step = work.unsettled_outcome
                else:
                    if pause.is_on:
                        await pause.pass_by()
                    step = None if signal.given else await self._operation.attempt(work)
            except BaseException as error:  # also on cancellation: the item must be counted
                self._give_up(work)
                if isinstance(error, asyncio.CancelledError) and not is_cancelled():
                    # The task group would ignore a worker that ends this way, and its share of the work would be lost.
                    raise RuntimeError("an attempt was cancelled by something other than its job") from error
                raise
            result = None
            if isinstance(step, Outcome):
                step = self._settled(work, step)
            if isinstance(step, Outcome):
                result = self._conclude(work, step)
            elif step is None or (signal.given and isinstance(step, Again)):
                result = self._give_up(work)
            elif isinstance(step, Again):
                lineup.put_aside(work, step)
            if result is not None and self._results is not None:
                await self._results.put(result)
            # If another worker completed a request in this time, the loop has run. Up to two requests are this worker's
            # own.
            if tally.requests <= requests + 2 and self._loop.time() >= self._breathe_at:
                await self._breathe()

    def _settled(self, work: Work[ItemT], outcome: Outcome) -> Outcome | Again | Settling:
        """Return the outcome once it is confirmed that its response belongs to this item."""
        origin, is_back = work.origin, work.unsettled_outcome is not None
        if origin is None:
            # An outcome without a response must not overtake one that waits, so that the results of one worker keep
            # their order.
            if self._results is None or is_back or not self._lineup.is_settling:
                return outcome
            return self._lineup.line_up_behind(work, outcome)
        # The stop rules must count a failure at once, or more requests are sent. This holds as long as connections are
        # reliable. An absent profile counts as deleted, so its response must be confirmed first.
        is_settled = origin.settle_now() if outcome in FAILURES and not origin.is_wary else origin.look()
        if is_settled is None:
            origin.watch(functools.partial(self._have_settled, work, outcome))
            return self._lineup.begin_settling(work, outcome)
        work.origin = work.unsettled_outcome = None
        return outcome if is_settled else self._operation.doubt(work)

    def _have_settled(self, work: Work[ItemT], outcome: Outcome, is_settled: bool) -> None:
        results = self._results
        if not is_settled or (results is not None and results.full()):
            self._lineup.bring_back(work)
            return
        # The usual case. No worker needs to handle the item again.
        result = self._conclude(work, outcome)
        if results is not None and result is not None:
            results.put_nowait(result)
        self._lineup.end_settling(work)

    def _decided(self, work: Work[ItemT], decided: Decided[ItemT]) -> Outcome:
        work.error = decided.error
        return Outcome.IN_DOUBT if work.fate_unknown else decided.outcome

    async def _breathe(self) -> None:
        """Run the event loop regularly even if nothing is awaited (invalid items, operations without I/O)."""
        if self._breathe_at > -math.inf:
            # Until the loop has run, every worker yields after its item. A separate timer per worker would cost too
            # much.
            self._breathe_at = -math.inf
            self._loop.call_soon(self._draw_breath)
        await asyncio.sleep(0)

    def _draw_breath(self) -> None:
        self._breathe_at = self._loop.time() + _BREATH

    def _conclude(self, work: Work[ItemT], outcome: Outcome) -> ItemResult[ItemT, ValueT] | None:
        """Record the outcome of an item and apply the stop rules. Return the item's result if someone reads it."""
        if self._entries is not None:
            skipped = work.decided
            self._entries.settle(
                work.position,
                outcome,
                status=work.status,
                attempts=work.attempts,
                exclude_list=None if skipped is None else skipped.exclude_list,
            )
        tally, result = self._tally, None
        if outcome in JUDGED or work.decided is not None or self._results is not None:
            result = self._count(work, outcome)
            self._judge()
        else:  # the usual case
            tally.counts[outcome] += 1
            tally.settled += 1
            self._lineup.succeeded()
            if tally.settled in self._judged_at:
                self._judge()
        if self._on_progress is not None and self._loop.time() >= self._next_progress:
            self._report_progress()
        return result

    def _give_up(self, work: Work[ItemT]) -> ItemResult[ItemT, ValueT] | None:
        """Count an item that is abandoned in its current state. The next run continues from there."""
        if work.unsettled_outcome is not None:
            if work.origin is None or work.origin.settle_now():
                return self._conclude(work, work.unsettled_outcome)
            work.under_way = True  # as if no response had arrived
        outcome = work.unfinished
        if self._entries is not None and outcome is Outcome.NOT_ATTEMPTED:
            self._entries.release(work.position)
        return self._count(work, outcome)

    def _count(self, work: Work[ItemT], outcome: Outcome) -> ItemResult[ItemT, ValueT] | None:
        self._tally.counts[outcome] += 1
        if work.decided is None:
            self._tally.settled += 1
        else:
            self._tally.decided[outcome] += 1
        if outcome in FAILURES:
            self._lineup.settled(work)
            result = work.result(outcome)
            self._tally.keep(result)
            return result
        if work.decided is None:
            self._lineup.succeeded()
        else:
            self._lineup.settled(work)
        return None if self._results is None else work.result(outcome)

    def _judge(self, *, at_end: bool = False) -> None:
        reason = self._rules.judge(self._tally.judged, at_end=at_end)
        if reason is not None:
            self._signal.give(reason)

    def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        self._next_progress = self._loop.time() + _PROGRESS_INTERVAL
        try:
            self._on_progress(self.report)
        except Exception as error:  # noqa: BLE001 - an observer that fails must not end the job
            _log.error("on_progress raised %s", type(error).__name__)


def checked_concurrency(concurrency: int) -> int:
    """Return `concurrency` if it is an int of at least 1.

    Raises:
        TypeError: If it isn't an int.
        ValueError: If it is less than 1.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    return concurrency
