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

from ..http.hook_check import check_hook
from .job_store import JobSession
from .outcomes import FAILURES, Outcome
from .results import BulkReport, ItemResult, ItemT, JobStats, SkippedItem, ValueT
from .scheduler import ConfirmationPending, ScheduledRetry, Scheduler, WorkItem
from .stop_and_pause import is_being_cancelled
from .stop_rules import STOP_RULE_OUTCOMES, StopReason, StopRules

_PROGRESS_INTERVAL: Final = 0.1
_YIELD_INTERVAL: Final = 0.005

_log: Final = logging.getLogger("adapty_async")


class ItemOperation(Protocol[ItemT]):
    """What a job does with an item."""

    def open(self, scheduler: Scheduler[ItemT], stats: JobStats) -> None:
        """Prepare the operation when the job starts.

        `scheduler` must be informed before each request is sent, and `stats` of its result.

        Raises:
            RuntimeError: If nothing can be sent.
        """
        ...

    async def attempt(self, work: WorkItem[ItemT]) -> Outcome | ScheduledRetry | None:
        """Make one attempt.

        Return the outcome, when to make the next attempt, or None if the job was stopped before this one. With an
        outcome, `work` holds the value and the error of the item's result.
        """
        ...

    def handle_doubtful_response(self, work: WorkItem[ItemT]) -> Outcome | ScheduledRetry:
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
        operation: ItemOperation[ItemT],
        items: Iterable[ItemT | SkippedItem[ItemT]] | AsyncIterable[ItemT | SkippedItem[ItemT]],
        *,
        concurrency: int,
        stop: StopRules,
        on_progress: Callable[[BulkReport], object] | None,
        job_session: JobSession[ItemT] | None = None,
    ) -> None:
        self._operation = operation
        self._concurrency = validate_concurrency(concurrency)
        if not isinstance(stop, StopRules):
            raise TypeError(f"stop must be StopRules, not {type(stop).__name__}")
        check_hook("on_progress", on_progress)
        self._stop_rules = stop
        self._sample_sizes = (stop.min_sample, stop.canary)
        self._on_progress = on_progress
        self._job_session = job_session
        max_pending = max(1000, 10 * concurrency)
        self._scheduler = Scheduler(items, max_pending=max_pending, canary=stop.canary or 0, job_session=job_session)
        if job_session is not None:
            job_session.set_write_error_callback(self._scheduler.fail)
        self._stop_signal = self._scheduler.stop_signal
        self._pause = self._stop_signal.pause
        self._stats = JobStats()
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        self._results: asyncio.Queue[ItemResult[ItemT, ValueT] | None] | None = None
        self._next_progress = self._yield_at = 0.0

    # The public interface

    @property
    def report(self) -> BulkReport:
        """The progress of the job, or its final state. With a ledger, only committed outcomes are counted."""
        return self._stats.build_report(
            self._loop.time() if self._task else 0.0,
            uncommitted_counts={} if self._job_session is None else self._job_session.uncommitted_counts,
            stop_reason=self._stop_signal.reason,
            input_exhausted=self._scheduler.is_exhausted,
            awaiting_retry=self._scheduler.awaiting_retry,
        )

    def stop(self) -> None:
        """Send no new requests and let those in flight complete."""
        if not self._has_ended:
            self._stop_signal.set(StopReason.REQUESTED)

    def pause(self) -> None:
        """Send no new requests until `unpause` is called. Requests in flight complete.

        The time limits of StopRules don't run during a pause. Repeated calls have no effect, nor has a call after the
        job was stopped.
        """
        if not (self._is_stopping or self._pause.is_active):
            self._pause.start()
            _log.info("the job is paused: no new requests are sent")

    def unpause(self) -> None:
        """Send requests again after a pause, at the rate of the pacer. Without a pause this has no effect."""
        if self.is_paused:
            self._pause.end()
            _log.info("the job is unpaused: requests are sent again")

    @property
    def is_paused(self) -> bool:
        """Whether the job is paused. A job that was stopped isn't."""
        return self._pause.is_active and not self._is_stopping

    @property
    def _is_stopping(self) -> bool:
        return self._has_ended or self._stop_signal.is_set

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
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "not started" if self._task is None else "finished" if self._task.done() else "running"
        return f"<BulkJob {state}, {self._stats.counts.total()} items>"

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
            self._stats.start(self._loop.time())
            self._scheduler.open(self._loop.time)
            self._task = self._loop.create_task(self._run(), name="adapty_async bulk job")
        return self._task

    async def _run(self) -> None:
        try:
            async with self._job_session or contextlib.nullcontext():
                await self._run_operation()
        finally:
            self._stats.finish(self._loop.time())
            self._has_ended = True
            self._report_progress()

    async def _run_operation(self) -> None:
        try:
            self._operation.open(self._scheduler, self._stats)
            await self._run_workers()
            self._check_stop_rules(at_end=True)
        finally:
            self._operation.close()
            for work in self._scheduler.drain_waiting_items() + self._scheduler.drain_unconfirmed_items():
                self._abandon_item(work)

    async def _run_workers(self) -> None:
        bug = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._run_worker())
        except ExceptionGroup as several:
            bug = several.exceptions[0]
        if bug is not None:
            raise bug
        if self._scheduler.error is not None:
            raise self._scheduler.error

    async def _run_worker(self) -> None:
        scheduler, stop_signal, pause, stats = self._scheduler, self._stop_signal, self._pause, self._stats
        while (work := scheduler.next_nowait() or await scheduler.next()) is not None:
            requests = stats.requests
            try:
                step: Outcome | ScheduledRetry | ConfirmationPending | None
                if work.skipped_item is not None:
                    step = self._skip_item(work, work.skipped_item)
                elif work.unconfirmed_outcome is not None:
                    step = work.unconfirmed_outcome
                else:
                    if pause.is_active:
                        await pause.wait_until_over()
                    step = None if stop_signal.is_set else await self._operation.attempt(work)
            except BaseException as error:  # also on cancellation: the item must be counted
                self._abandon_item(work)
                if isinstance(error, asyncio.CancelledError) and not is_being_cancelled():
                    # The task group would ignore a worker that ends this way, and its share of the work would be lost.
                    raise RuntimeError("an attempt was cancelled by something other than its job") from error
                raise
            result = None
            if isinstance(step, Outcome):
                step = self._confirm_outcome(work, step)
            if isinstance(step, Outcome):
                result = self._finish_item(work, step)
            elif step is None or (stop_signal.is_set and isinstance(step, ScheduledRetry)):
                result = self._abandon_item(work)
            elif isinstance(step, ScheduledRetry):
                scheduler.schedule_retry(work, step)
            if result is not None and self._results is not None:
                await self._results.put(result)
            # If another worker completed a request in this time, the loop has run. Up to two requests are this worker's
            # own.
            if stats.requests <= requests + 2 and self._loop.time() >= self._yield_at:
                await self._yield_to_loop()

    def _confirm_outcome(
        self, work: WorkItem[ItemT], outcome: Outcome
    ) -> Outcome | ScheduledRetry | ConfirmationPending:
        """Return the outcome once it is confirmed that its response belongs to this item."""
        connection_check, is_requeued = work.connection_check, work.unconfirmed_outcome is not None
        if connection_check is None:
            # An outcome without a response must not overtake one that waits, so that the results of one worker keep
            # their order.
            if self._results is None or is_requeued or not self._scheduler.has_unconfirmed:
                return outcome
            return self._scheduler.queue_behind(work, outcome)
        # The stop rules must count a failure at once, or more requests are sent. This holds as long as connections are
        # reliable. An absent profile counts as deleted, so its response must be confirmed first.
        is_clean = (
            connection_check.decide_now()
            if outcome in FAILURES and not connection_check.is_server_suspect
            else connection_check.check()
        )
        if is_clean is None:
            connection_check.watch(functools.partial(self._on_confirmation, work, outcome))
            return self._scheduler.await_confirmation(work, outcome)
        work.connection_check = work.unconfirmed_outcome = None
        return outcome if is_clean else self._operation.handle_doubtful_response(work)

    def _on_confirmation(self, work: WorkItem[ItemT], outcome: Outcome, is_clean: bool) -> None:
        results = self._results
        if not is_clean or (results is not None and results.full()):
            self._scheduler.return_to_worker(work)
            return
        # The usual case. No worker needs to handle the item again.
        result = self._finish_item(work, outcome)
        if results is not None and result is not None:
            results.put_nowait(result)
        self._scheduler.end_confirmation(work)

    def _skip_item(self, work: WorkItem[ItemT], skipped_item: SkippedItem[ItemT]) -> Outcome:
        work.error = skipped_item.error
        return Outcome.IN_DOUBT if work.is_outcome_unknown else skipped_item.outcome

    async def _yield_to_loop(self) -> None:
        """Run the event loop regularly even if nothing is awaited (invalid items, operations without I/O)."""
        if self._yield_at > -math.inf:
            # Until the loop has run, every worker yields after its item. A separate timer per worker would cost too
            # much.
            self._yield_at = -math.inf
            self._loop.call_soon(self._schedule_next_yield)
        await asyncio.sleep(0)

    def _schedule_next_yield(self) -> None:
        self._yield_at = self._loop.time() + _YIELD_INTERVAL

    def _finish_item(self, work: WorkItem[ItemT], outcome: Outcome) -> ItemResult[ItemT, ValueT] | None:
        """Record the outcome of an item and apply the stop rules. Return the item's result if someone reads it."""
        if self._job_session is not None:
            skipped_item = work.skipped_item
            self._job_session.record_outcome(
                work.position,
                outcome,
                status=work.status,
                attempts=work.attempts,
                exclude_list=None if skipped_item is None else skipped_item.exclude_list,
            )
        stats, result = self._stats, None
        if outcome in STOP_RULE_OUTCOMES or work.skipped_item is not None or self._results is not None:
            result = self._count_item(work, outcome)
            self._check_stop_rules()
        else:  # the usual case
            stats.counts[outcome] += 1
            stats.sample_size += 1
            self._scheduler.record_success()
            if stats.sample_size in self._sample_sizes:
                self._check_stop_rules()
        if self._on_progress is not None and self._loop.time() >= self._next_progress:
            self._report_progress()
        return result

    def _abandon_item(self, work: WorkItem[ItemT]) -> ItemResult[ItemT, ValueT] | None:
        """Count an item that is abandoned in its current state. The next run continues from there."""
        if work.unconfirmed_outcome is not None:
            if work.connection_check is None or work.connection_check.decide_now():
                return self._finish_item(work, work.unconfirmed_outcome)
            work.is_in_flight = True  # as if no response had arrived
        outcome = work.abandoned_outcome
        if self._job_session is not None and outcome is Outcome.NOT_ATTEMPTED:
            self._job_session.release(work.position)
        return self._count_item(work, outcome)

    def _count_item(self, work: WorkItem[ItemT], outcome: Outcome) -> ItemResult[ItemT, ValueT] | None:
        self._stats.counts[outcome] += 1
        if work.skipped_item is None:
            self._stats.sample_size += 1
        else:
            self._stats.skipped_counts[outcome] += 1
        if outcome in FAILURES:
            self._scheduler.record_end(work)
            result = work.build_result(outcome)
            self._stats.keep_failure(result)
            return result
        if work.skipped_item is None:
            self._scheduler.record_success()
        else:
            self._scheduler.record_end(work)
        return None if self._results is None else work.build_result(outcome)

    def _check_stop_rules(self, *, at_end: bool = False) -> None:
        reason = self._stop_rules.check(self._stats.sample_counts, at_end=at_end)
        if reason is not None:
            self._stop_signal.set(reason)

    def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        self._next_progress = self._loop.time() + _PROGRESS_INTERVAL
        try:
            self._on_progress(self.report)
        except Exception as error:  # noqa: BLE001 - an observer that fails must not end the job
            _log.error("on_progress raised %s", type(error).__name__)


def validate_concurrency(concurrency: int) -> int:
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
