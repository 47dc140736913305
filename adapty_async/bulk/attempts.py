"""One attempt for an item: its request, and the effect of the response on the item and the job."""

import asyncio
import functools
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic

from ..errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AuthenticationError,
    InvalidResponseError,
    LocalRateLimitError,
    PermissionDeniedError,
)
from ..http.clocks import ANY_TIME
from ..http.descriptor_limit import get_descriptor_limit, is_out_of_descriptors
from ..http.requests import Request, Response
from ..http.retry import is_profile_not_found, is_rate_limited, is_retryable, is_stale, is_unsent
from ..http.send_queue import LONG_HOLD_SECONDS
from ..http.sender import AttemptResult, Sender
from ..pacing import Ticket, Verdict
from .operations import Effect, OperationCallbacks
from .outcomes import Outcome
from .permits import ORDINARY_PERMIT, ConcurrencyController, Permit, ServerHealth
from .problem_timeout import ProblemTimeout
from .results import ItemT, JobStats, ValueT
from .scheduler import ScheduledRetry, Scheduler, WorkItem
from .stop_and_pause import is_being_cancelled
from .stop_rules import StopReason, StopRules

_log: Final = logging.getLogger("adapty_async")


def _has_response(result: AttemptResult) -> bool:
    return result.error is None or isinstance(result.error, AdaptyAPIError | InvalidResponseError)


def _is_outage(result: AttemptResult) -> bool:
    """Return True if the request found no working server. A proxy answers 408 if the server is silent."""
    error = result.error
    return not _has_response(result) or (
        isinstance(error, AdaptyAPIError) and (error.status >= 500 or error.status == 408)
    )


def _max_timeout(one: float | None, other: float | None) -> float | None:
    """Return the longer of two times. None means without limit."""
    return None if one is None or other is None else max(one, other)


class ProfileOperation(Generic[ItemT, ValueT]):
    """Make the attempts of a job through the send queue, with the client's retry policy."""

    def __init__(
        self, sender: Sender, callbacks: OperationCallbacks[ItemT, ValueT], stop: StopRules, *, max_in_flight: int
    ) -> None:
        self._sender = sender
        self._max_in_flight = max_in_flight
        self._callbacks = callbacks
        self._spec = callbacks.spec
        self._is_write = callbacks.spec.effect is not Effect.READ
        self._diagnosis_lock = asyncio.Lock()
        self._stop_rules = stop
        self._is_timeout_running = False  # set if a time limit runs, or may run
        self._hold_logged_until = -math.inf
        self._has_logged_descriptors = False

    def open(self, scheduler: Scheduler[ItemT], stats: JobStats) -> None:
        """Prepare the operation.

        Raises:
            RuntimeError: If the client is closed or belongs to another event loop.
        """
        stop_signal = scheduler.stop_signal
        self._outage_timeout = ProblemTimeout(self._stop_rules.max_outage, StopReason.MAX_OUTAGE, stop_signal.pause)
        self._rate_limit_timeout = ProblemTimeout(
            self._stop_rules.max_throttled, StopReason.MAX_THROTTLED, stop_signal.pause
        )
        # In an outage with an occasional 429, each of the two problems would reset the other's time limit forever.
        self._mixed_timeout = ProblemTimeout(
            _max_timeout(self._stop_rules.max_outage, self._stop_rules.max_throttled),
            StopReason.MAX_OUTAGE,
            stop_signal.pause,
        )
        self._concurrency = ConcurrencyController(self._max_in_flight, lambda: self._sender.pacer.rate)
        self._send_queue = self._sender.send_queue
        self._sender.transport.check_usable()
        self._scheduler = scheduler
        self._stop_signal = stop_signal
        self._pause = stop_signal.pause
        self._stats = stats
        self._is_observed = self._sender.is_observed  # once per job: to check this for each item costs too much
        self._send_queue.add_hold_listener(self._on_long_hold)
        self._sender.transport.add_close_listener(self._on_client_closed)

    async def attempt(self, work: WorkItem[ItemT]) -> Outcome | ScheduledRetry | None:
        """Make one attempt for an item. If its request can't be built, the item is `invalid` and isn't sent."""
        work.connection_check = None
        try:
            request = self._callbacks.build_request(work.item)
        except (ValueError, TypeError) as error:
            work.error = error
            return Outcome.INVALID
        if self._is_stale(work, request):  # no need to wait for a permit
            return Outcome.IN_DOUBT
        permit = self._concurrency.try_acquire()
        ticket = None
        if permit is ORDINARY_PERMIT and not self._diagnosis_lock.locked():
            ticket = self._send_queue.try_acquire()
        if permit is None or ticket is None:
            permit_and_ticket = await self._acquire_permit_and_slot(permit)
            if permit_and_ticket is None:
                return None
            permit, ticket = permit_and_ticket
        if self._is_stale(work, request):
            self._send_queue.record(ticket, Verdict.UNKNOWN)
            self._concurrency.release(permit, ServerHealth.UNKNOWN)
            return Outcome.IN_DOUBT
        self._scheduler.record_send(work)
        self._stats.in_flight += 1
        try:
            result = await self._sender.send_once(
                request, ticket, self._send_queue, work.attempts, needs_new_connection=work.needs_new_connection
            )
        except BaseException:  # return the permit on every error, cancellation included
            self._concurrency.release(permit, ServerHealth.UNKNOWN)
            raise
        finally:
            self._stats.in_flight -= 1
        work.is_in_flight = False
        response = result.response
        if response is not None:
            seconds = result.elapsed
            work.status = response.status
            self._stats.record_request(work.attempts, seconds)
            if self._is_timeout_running:
                self._reset_problem_timeouts()
            self._concurrency.release_after_response(permit, seconds)
            if self._is_observed:
                self._sender.notify_attempt(request, result, work.attempts, None)
            return self._handle_success(work, request, result, response)
        if self._sender.transport.is_closed and not _has_response(result):
            self._concurrency.release(permit, ServerHealth.UNKNOWN)
            self._handle_closed_client(work, request, result)
            return None
        server_signal = self._record_failure(work, result)
        if server_signal is ServerHealth.OK:
            self._concurrency.release_after_response(permit, result.elapsed)
        else:
            self._concurrency.release(permit, server_signal)
        return await self._handle_failure(work, request, result)

    def close(self) -> None:
        """Stop the timers and leave the send queue."""
        self._send_queue.remove_hold_listener(self._on_long_hold)
        self._sender.transport.remove_close_listener(self._on_client_closed)
        self._reset_problem_timeouts()

    def _is_stale(self, work: WorkItem[ItemT], request: Request) -> bool:
        """Return True if the item may have been sent too long ago to be sent again."""
        if work.maybe_sent_at is None or not request.goes_stale:
            return False
        return is_stale(work.maybe_sent_at, self._sender.read_clocks())

    async def _acquire_permit_and_slot(self, permit: Permit | None) -> tuple[Permit, Ticket] | None:
        """Wait for a permit, if there is none, and for a slot in the send queue. Return None if the job is stopped."""
        while True:
            permit = (
                permit
                or self._concurrency.try_acquire()
                or await self._stop_signal.run_until_stop(self._concurrency.acquire)
            )
            if permit is None:
                return None
            ticket = None
            try:
                ticket = await self._acquire_slot_after_diagnosis()
            finally:
                if ticket is None:
                    self._concurrency.release(permit, ServerHealth.UNKNOWN)
            if ticket is None:
                return None
            if self._concurrency.confirm_send(permit):
                return permit, ticket
            self._send_queue.record(ticket, Verdict.UNKNOWN)
            self._concurrency.release(permit, ServerHealth.UNKNOWN)
            permit = None

    async def _acquire_slot_after_diagnosis(self) -> Ticket | None:
        send_queue = self._send_queue
        while True:
            if self._diagnosis_lock.locked():
                await self._stop_signal.run_until_stop(self._wait_for_401_diagnosis)
            ticket = await self._acquire_slot()
            if ticket is None or not self._diagnosis_lock.locked():
                return ticket
            send_queue.record(ticket, Verdict.UNKNOWN)

    async def _acquire_slot(self) -> Ticket | None:
        """Wait for the end of a pause and a slot in the send queue. Return None if the job is stopped first."""
        send_queue, pause = self._send_queue, self._pause
        while True:
            if pause.is_active:
                await pause.wait_until_over()
            ticket = send_queue.try_acquire() or await self._stop_signal.run_until_stop(send_queue.acquire)
            if ticket is None or not (self._stop_signal.is_set or pause.is_active):
                return ticket
            send_queue.record(ticket, Verdict.UNKNOWN)
            if self._stop_signal.is_set:
                return None

    async def _wait_for_401_diagnosis(self) -> None:
        async with self._diagnosis_lock:
            pass

    def _reset_problem_timeouts(self) -> None:
        """Record a request that succeeded, which resets all time limits."""
        self._rate_limit_timeout.reset()
        self._outage_timeout.reset()
        self._mixed_timeout.reset()
        self._is_timeout_running = False

    def _record_failure(self, work: WorkItem[ItemT], result: AttemptResult) -> ServerHealth:
        """Count a failed request and update the time limits. Return the state of the server."""
        work.status = result.status
        self._is_timeout_running = True
        was_rate_limited, has_response = is_rate_limited(result.error), _has_response(result)
        self._stats.record_request(work.attempts, result.elapsed if has_response else None)
        if was_rate_limited:
            self._stats.throttled += 1
            self._rate_limit_timeout.start(self._on_timeout)
        elif has_response:
            self._rate_limit_timeout.reset()
        if was_rate_limited and result.retry_after is not None and result.retry_after > LONG_HOLD_SECONDS:
            self._on_long_hold(result.retry_after)
        if is_out_of_descriptors(result.error):
            self._lower_concurrency()
            if self._stats.in_flight:  # these will free their descriptors
                return ServerHealth.UNKNOWN
        if _is_outage(result):
            self._outage_timeout.start(self._on_timeout)
            self._mixed_timeout.start(self._on_timeout)
            return ServerHealth.FAILURE
        self._outage_timeout.reset()
        if was_rate_limited:
            return ServerHealth.UNKNOWN
        self._mixed_timeout.reset()
        return ServerHealth.OK

    def _lower_concurrency(self) -> None:
        """Limit the requests in flight to those that got a file descriptor, and log it once."""
        self._concurrency.lower(self._stats.in_flight)
        if not self._has_logged_descriptors:
            self._has_logged_descriptors = True
            _log.warning(
                "concurrency lowered to %d: too many open files; raise the limit (ulimit -n), which is %.0f",
                max(1, self._stats.in_flight),
                get_descriptor_limit(),
            )

    def _on_long_hold(self, seconds: float) -> None:
        """Handle a long Retry-After that any user of the API key has received. Log each such period once."""
        self._is_timeout_running = True
        self._rate_limit_timeout.start(self._on_timeout)
        now = asyncio.get_running_loop().time()
        if now + seconds < self._hold_logged_until + LONG_HOLD_SECONDS:
            return
        self._hold_logged_until = now + seconds
        max_seconds = self._rate_limit_timeout.seconds
        too_long = max_seconds is not None and max_seconds < seconds
        _log.warning(
            "no requests are sent for %.0f s, because the API sent a Retry-After%s",
            seconds,
            f"; the job stops after {max_seconds:.0f} s of that (max_throttled)" if too_long else "",
        )

    def _on_timeout(self, reason: StopReason) -> None:
        # If the last affected item is long done and none has come since, the problem may be over.
        if self._scheduler.pending:
            self._stop_signal.set(reason)

    def handle_doubtful_response(self, work: WorkItem[ItemT]) -> Outcome | ScheduledRetry:
        """Decide what follows if the last response may belong to another request. It then counts as unanswered."""
        error = AdaptyConnectionError(
            "the connection received an extra response, or the response to another request", sent=True
        )
        work.value, work.needs_new_connection = None, True
        result = AttemptResult(None, error, None, 0.0, sent_at=work.sent_at)
        self._record_error(work, result)
        if self._plan_retry(work, self._callbacks.build_request(work.item), result) is None:
            return self._classify_error(work, error)
        return ScheduledRetry(
            0.0, needs_budget=False
        )  # without the retry budget: the connection is at fault, not the server

    def _handle_success(
        self, work: WorkItem[ItemT], request: Request, result: AttemptResult, response: Response
    ) -> Outcome:
        work.connection_check, work.sent_at = result.connection_check, result.sent_at
        try:
            work.value = self._spec.read_response(response)
        except InvalidResponseError as error:
            error.attempts = work.attempts
            work.error = error
            return self._classify_error(work, error)
        work.error = None
        connection_check, matches_request = result.connection_check, self._spec.matches_request
        if (
            connection_check is not None
            and connection_check.is_reused
            and matches_request is not None
            and not matches_request(request, work.value)
        ):
            connection_check.invalidate()
        return self._spec.done_outcome

    async def _handle_failure(
        self,
        work: WorkItem[ItemT],
        request: Request,
        result: AttemptResult,
    ) -> Outcome | ScheduledRetry:
        error = self._record_error(work, result)
        delay = self._plan_retry(work, request, result)
        self._sender.notify_attempt(request, result, work.attempts, delay)
        if delay is not None:
            return ScheduledRetry(delay, needs_budget=not is_rate_limited(error))
        if isinstance(error, AuthenticationError):
            return await self._diagnose_401(work, error)
        if isinstance(error, PermissionDeniedError):
            self._stop_signal.set(StopReason.PERMISSION)
        return self._classify_error(work, error)

    def _handle_closed_client(self, work: WorkItem[ItemT], request: Request, result: AttemptResult) -> None:
        """Leave an item in its state when the client was closed. This isn't a failure of the item or the server."""
        self._record_error(work, result)
        self._stats.record_request(work.attempts, None)
        self._sender.notify_attempt(request, result, work.attempts, None)
        self._on_client_closed()  # also covers a borrowed session that its owner has closed

    def _on_client_closed(self) -> None:
        self._stop_signal.set(StopReason.CLOSED)

    def _record_error(self, work: WorkItem[ItemT], result: AttemptResult) -> AdaptyError:
        """Record on an item what its failed attempt means for it, and complete the error with the state of the item."""
        error = result.error
        assert error is not None
        if error.maybe_executed and work.maybe_sent_at in (None, ANY_TIME):
            work.maybe_sent_at = result.sent_at
        error.maybe_executed = work.is_outcome_unknown
        work.has_reached_server = work.has_reached_server or not (is_rate_limited(error) or is_unsent(error))
        error.attempts = work.attempts
        work.error = error
        work.connection_check, work.sent_at = result.connection_check, result.sent_at
        return error

    def _plan_retry(self, work: WorkItem[ItemT], request: Request, result: AttemptResult) -> float | None:
        """Return the seconds until the next attempt of the item, or None.

        This follows the client's retry policy, with two exceptions.

        A 429, a failure while the circuit breaker is open and a lack of file descriptors don't count as attempts,
        because the item didn't cause them. The time limit of the policy doesn't apply, because it is meant for a caller
        who waits for one call.
        """
        policy, rng = self._sender.retry, self._sender.rng
        assert result.error is not None
        if is_rate_limited(result.error):
            work.rate_limited_attempts += 1
            return (
                policy.draw_backoff(work.rate_limited_attempts, rng)
                if result.retry_after is None
                else result.retry_after
            )
        is_innocent = self._concurrency.is_breaker_open or is_out_of_descriptors(result.error)
        if not is_innocent or policy.max_attempts == 1:
            work.counted_attempts += 1
        if work.counted_attempts >= policy.max_attempts or not is_retryable(
            result.error, is_resendable=request.is_resendable
        ):
            return None
        return (
            policy.draw_backoff(max(work.counted_attempts, 1), rng)
            if result.retry_after is None
            else result.retry_after
        )

    def _classify_error(self, work: WorkItem[ItemT], error: AdaptyError) -> Outcome:
        """Return the outcome for an error that isn't retried."""
        if is_profile_not_found(error):
            return self._classify_absence(work, error)
        if isinstance(error, InvalidResponseError):
            # A success that can't be read: the write has most likely been executed.
            in_doubt = self._is_write
        elif isinstance(error, AdaptyAPIError) and error.status < 500 and error.status != 408:
            return self._classify_rejection(work)
        else:
            in_doubt = work.is_outcome_unknown
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def _classify_rejection(self, work: WorkItem[ItemT]) -> Outcome:
        """Return the outcome of a rejected request. An earlier write without a response may have been executed."""
        in_doubt = work.is_outcome_unknown and self._is_write
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def _classify_absence(self, work: WorkItem[ItemT], error: AdaptyError) -> Outcome:
        spec = self._spec
        outcome = spec.missing_outcome
        if spec.unconfirmed_outcome is not None and work.is_outcome_unknown:
            outcome = spec.unconfirmed_outcome
        work.error = error if outcome.is_failure else None
        return outcome

    async def _diagnose_401(self, work: WorkItem[ItemT], error: AuthenticationError) -> Outcome:
        """Find the cause of a 401 with one GET of the same profile. No other request is sent until then.

        According to one page of Adapty's documentation, a delete may also answer 401 if the profile wasn't found.
        """
        async with self._diagnosis_lock:
            is_over = self._stop_signal.is_set and self._stop_signal.reason is not StopReason.REQUESTED
            result = None if is_over else await self._probe(work)
            if result is None:
                return self._classify_rejection(work)
            if isinstance(result.error, AuthenticationError):
                self._stop_signal.set(StopReason.CREDENTIALS)
            elif isinstance(result.error, PermissionDeniedError):
                self._stop_signal.set(StopReason.PERMISSION)
            elif result.error is not None and is_profile_not_found(result.error):
                return self._classify_absence(work, result.error)
            elif result.response is not None and not self._is_write:
                return self._handle_success(work, self._callbacks.build_probe(work.item), result, result.response)
            return self._classify_rejection(work)

    async def _probe(self, work: WorkItem[ItemT]) -> AttemptResult | None:
        """Get the item's profile, retrying after every 429. Return None if the job is stopped first."""
        request = self._callbacks.build_probe(work.item)
        for attempt_number in itertools.count(1):
            ticket = self._send_queue.try_acquire() if self._stop_signal.is_set else await self._acquire_slot()
            if ticket is None:
                break
            self._stats.in_flight += 1
            try:
                result = await self._sender.send_once(request, ticket, self._send_queue, attempt_number)
            finally:
                self._stats.in_flight -= 1
            if result.error is None:
                work.status = result.status
                self._stats.record_request(work.attempts, result.elapsed)
                self._reset_problem_timeouts()
            else:
                self._record_failure(work, result)
            work.connection_check, work.sent_at = result.connection_check, result.sent_at
            was_rate_limited = is_rate_limited(result.error)
            delay = result.retry_after or self._sender.retry.draw_backoff(attempt_number, self._sender.rng)
            self._sender.notify_attempt(request, result, attempt_number, delay if was_rate_limited else None)
            if not was_rate_limited:
                return result
            await self._stop_signal.run_until_stop(functools.partial(asyncio.sleep, delay))
        return None


class CallableOperation(Generic[ItemT, ValueT]):
    """Run the caller's operation once per item."""

    def __init__(self, operation: Callable[[ItemT], Awaitable[ValueT]]) -> None:
        self._operation = operation

    def open(self, scheduler: Scheduler[ItemT], stats: JobStats) -> None:
        """Prepare the operation."""
        self._scheduler = scheduler
        self._stop_signal = scheduler.stop_signal
        self._stats = stats

    async def attempt(self, work: WorkItem[ItemT]) -> Outcome:
        """Run the operation. ValueError and TypeError propagate."""
        self._scheduler.record_send(work)
        started_at = asyncio.get_running_loop().time()
        self._stats.in_flight += 1
        try:
            work.value = await self._operation(work.item)
        except (ValueError, TypeError):
            raise
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            work.error = RuntimeError("a task that the operation waited for was cancelled")
            return Outcome.IN_DOUBT
        except Exception as caught:  # noqa: BLE001 - the caller's code: a failure ends only its item
            work.error = caught
        finally:
            self._stats.in_flight -= 1
        work.is_in_flight = False
        error = work.error
        elapsed = asyncio.get_running_loop().time() - started_at
        if not isinstance(error, LocalRateLimitError):
            self._stats.record_request(1, elapsed if error is None else None)
        self._stats.throttled += is_rate_limited(error)
        if error is None:
            return Outcome.SUCCEEDED
        if isinstance(error, AuthenticationError):
            self._stop_signal.set(StopReason.CREDENTIALS)
        elif isinstance(error, PermissionDeniedError):
            self._stop_signal.set(StopReason.PERMISSION)
        in_doubt = isinstance(error, AdaptyError) and error.maybe_executed
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def handle_doubtful_response(self, work: WorkItem[ItemT]) -> Outcome:
        """Return IN_DOUBT: only the caller's operation knows what its response means."""
        return Outcome.IN_DOUBT

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
