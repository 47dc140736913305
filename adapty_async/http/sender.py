"""Send requests: attempts go through the send queue and follow the retry policy."""

import asyncio
import functools
import logging
import math
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import attrs

from ..errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    InvalidResponseError,
    LocalRateLimitError,
)
from ..pacing import AdaptivePacer, Pacer, ReactivePacer, Ticket, Verdict
from .clocks import ANY_TIME, Moment, read_clocks
from .error_mapping import build_api_error
from .extra_responses import ExtraResponseCheck
from .requests import Request, Response
from .retry import RetryPolicy, is_rate_limited, is_stale, is_unsent, retry_call
from .send_queue import SendQueue, SendQueueTimeoutError, get_send_queue
from .transport import Transport

_T = TypeVar("_T")
_W = TypeVar("_W")

# Seconds that count as no time: no response can arrive in them, and timers fire early by less.
_NEGLIGIBLE_SECONDS: Final = 1e-3

_logger: Final = logging.getLogger("adapty_async")


@attrs.frozen
class Attempt:
    """The result of one attempt, for logs and metrics. It contains no IDs and no bodies.

    Attributes:
        method: The HTTP method.
        path: The path of the URL.
        number: The number of the attempt, from 1.
        status: The HTTP status. None if there was no response.
        error: The name of the error's class, None on success, or "CancelledError" if the caller was cancelled, for
            example by its own `asyncio.timeout`.
        elapsed: Seconds of the attempt.
        retry_in: Seconds until the next attempt. None if there is none.
    """

    method: str
    path: str
    number: int
    status: int | None
    error: str | None
    elapsed: float
    retry_in: float | None


@attrs.define(eq=False)  # not frozen: one is created per request
class AttemptResult:
    """One request on the wire with its result, a `response` or an `error`.

    Attributes:
        response: The response, if its status is 2xx.
        error: The error otherwise.
        retry_after: The server's Retry-After, with jitter.
        elapsed: Seconds.
        connection_check: The connection of the response, also if that is an error. None without a response or a
            connection.
        sent_at: When the request was sent. ANY_TIME if it may be sent again at any time.
    """

    response: Response | None
    error: AdaptyError | None
    retry_after: float | None
    elapsed: float
    connection_check: ExtraResponseCheck | None = None
    sent_at: Moment = ANY_TIME

    @property
    def is_doubtful(self) -> bool:
        """Whether extra bytes followed the response on its connection, or it belongs to another request."""
        return self.connection_check is not None and self.connection_check.check() is False

    @property
    def status(self) -> int | None:
        """The status of the response. None if there was none."""
        return self.response.status if self.response else getattr(self.error, "status", None)


class ApiKeyState:
    """The state that the views of a client share because it belongs to the API key."""

    def __init__(self) -> None:
        self.clock: Callable[[float], Moment] = read_clocks
        """Reads the clocks, given the time of the event loop."""
        self._send_queues: weakref.WeakSet[SendQueue] = weakref.WeakSet()
        self._hold_until = -math.inf

    def add_queue(self, send_queue: SendQueue) -> None:
        """Apply a running Retry-After to a new send queue."""
        self._send_queues.add(send_queue)
        remaining = self._hold_until - asyncio.get_running_loop().time()
        if remaining > 0:
            send_queue.hold(remaining)

    def hold(self, seconds: float, source_queue: SendQueue) -> None:
        """Hold every send queue, including those added later, except the one that received the Retry-After.

        A Retry-After applies to the API key.
        """
        self._hold_until = max(self._hold_until, asyncio.get_running_loop().time() + seconds)
        for send_queue in self._send_queues - {source_queue}:
            send_queue.hold(seconds)

    @functools.cached_property
    def reactive_pacer(self) -> Pacer:
        """The default pacer of the client and its views."""
        return ReactivePacer()

    @functools.cached_property
    def background_pacer(self) -> Pacer:
        """The default pacer of bulk jobs."""
        return AdaptivePacer.background()


class Sender:
    """Send requests for one view of a client, with its transport, send queue, timeouts and retry policy.

    `bulk` makes its attempts through this class as well.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        total_timeout: float | None,
        retry: RetryPolicy,
        pacer: Pacer | None,
        on_attempt: Callable[[Attempt], object] | None,
        key_state: ApiKeyState | None = None,
    ) -> None:
        self.transport = transport
        self.timeout = _validate_seconds("timeout", timeout)
        self.total_timeout = None if total_timeout is None else _validate_seconds("total_timeout", total_timeout)
        self._max_call_seconds = math.inf if self.total_timeout is None else self.total_timeout
        self.retry = _validate_retry(retry)
        self.given_pacer = pacer
        self.on_attempt = on_attempt
        self.rng = random.Random()  # noqa: S311 - used for jitter only
        self._send_queue: SendQueue | None = None
        self.key_state = ApiKeyState() if key_state is None else key_state
        self.pacer = self.key_state.reactive_pacer if pacer is None else pacer

    @property
    def send_queue(self) -> SendQueue:
        """The send queue of the view's pacer on the running loop."""
        if self._send_queue is None:
            self._send_queue = get_send_queue(self.pacer, self.rng)
            self.key_state.add_queue(self._send_queue)
        return self._send_queue

    def with_options(
        self, *, timeout: float, total_timeout: float | None, retry: RetryPolicy, pacer: Pacer | None
    ) -> "Sender":
        """Return a sender with other settings that shares the connections and the Retry-After of a 429."""
        return Sender(
            self.transport,
            timeout=timeout,
            total_timeout=total_timeout,
            retry=retry,
            pacer=pacer,
            on_attempt=self.on_attempt,
            key_state=self.key_state,
        )

    async def send(
        self,
        request: Request,
        read: Callable[[Response], _T],
        matches_request: Callable[[Request, _T], bool] | None = None,
    ) -> _T:
        """Send a request, with retries by the policy, and return its 2xx response as read by `read`.

        `matches_request` returns whether a value that was read can be the response to the given request.

        Raises:
            AdaptyError: If the call failed.
        """
        self.transport.check_usable()
        send_queue = self._send_queue or self.send_queue
        ticket = send_queue.try_acquire()
        first = None
        if ticket is not None:
            first = await self.send_once(request, ticket, send_queue, 1, self._max_call_seconds)
            if first.response is not None:
                try:
                    value = read(first.response)
                except AdaptyError:  # handled below
                    pass
                else:
                    if matches_request is None or first.connection_check is None or matches_request(request, value):
                        self.notify_attempt(request, first, 1, None)
                        return value
        # Created only here because most calls need a single attempt.
        call = _Call(
            self,
            request,
            read,
            matches_request,
            first,
            started_at=send_queue.now() if ticket is None else ticket.sent_at,
        )
        try:
            return await call.attempt()
        except AdaptyError as caught:
            error = caught
        if call.retry_in is None:
            raise error
        return await retry_call(error, call.attempt, lambda: call.retry_in, call.sleep)

    async def send_once(
        self,
        request: Request,
        ticket: Ticket,
        send_queue: SendQueue,
        attempt_number: int,
        seconds_left: float = math.inf,
        *,
        needs_new_connection: bool = False,
    ) -> AttemptResult:
        """Send a request once with a ticket of the send queue, and record the result there.

        Args:
            request: The request.
            ticket: The slot to use.
            send_queue: The send queue of the ticket.
            attempt_number: The number of the attempt.
            seconds_left: Seconds left for the call. The timeout of the attempt applies as well.
            needs_new_connection: Whether to open a new connection.
        """
        started_at = send_queue.now()
        sent_at = self.read_clocks() if request.goes_stale else ANY_TIME
        connection_check = None
        attempt = self.transport.attempt_on_new_connection if needs_new_connection else self.transport.attempt
        try:
            response = await attempt(request, min(self.timeout, seconds_left))
        except AdaptyError as caught:
            error = caught
        except BaseException as caught:  # every ticket needs a result, or others would wait for it forever
            send_queue.record(ticket, Verdict.UNKNOWN)
            if isinstance(caught, asyncio.CancelledError) and self.is_observed:
                name = asyncio.CancelledError.__name__
                self._log_and_notify(
                    Attempt(
                        request.method, request.path, attempt_number, None, name, send_queue.now() - started_at, None
                    )
                )
            raise
        else:
            if 200 <= response.status < 300:
                return AttemptResult(
                    response,
                    None,
                    None,
                    send_queue.record_acceptance(ticket) - started_at,
                    response.connection_check,
                    sent_at,
                )
            connection_check = response.connection_check
            error = build_api_error(response, request, secrets=self.transport.secrets)
        verdict, retry_after = _classify_error(error)
        hold_seconds = send_queue.record(ticket, verdict, retry_after)
        if verdict is Verdict.THROTTLED and hold_seconds is not None:
            self.key_state.hold(hold_seconds, send_queue)
        return AttemptResult(None, error, hold_seconds, send_queue.now() - started_at, connection_check, sent_at)

    def read_clocks(self) -> Moment:
        """Read the clocks."""
        return self.key_state.clock(asyncio.get_running_loop().time())

    @property
    def is_observed(self) -> bool:
        """Whether attempts are logged or passed to `on_attempt`."""
        return self.on_attempt is not None or _logger.isEnabledFor(logging.DEBUG)

    def notify_attempt(
        self, request: Request, result: AttemptResult, attempt_number: int, retry_in: float | None
    ) -> None:
        """Log an attempt and pass it to `on_attempt`."""
        if not self.is_observed:
            return
        name = type(result.error).__name__ if result.error else None
        self._log_and_notify(
            Attempt(request.method, request.path, attempt_number, result.status, name, result.elapsed, retry_in)
        )

    def _log_and_notify(self, attempt: Attempt) -> None:
        _logger.debug(
            "%s %s attempt %d: %s in %.3f s%s",
            attempt.method,
            attempt.path,
            attempt.number,
            " ".join(str(word) for word in (attempt.status, attempt.error) if word),
            attempt.elapsed,
            "" if attempt.retry_in is None else f", retry in {attempt.retry_in:.3f} s",
        )
        if self.on_attempt is not None:
            try:
                self.on_attempt(attempt)
            except Exception as error:  # noqa: BLE001 - an observer that fails must not fail the call
                _logger.error("on_attempt raised %s", type(error).__name__)


def _classify_error(error: AdaptyError) -> tuple[Verdict, float | None]:
    if not isinstance(error, AdaptyAPIError):
        return Verdict.UNKNOWN, None
    if is_rate_limited(error):
        return Verdict.THROTTLED, error.retry_after
    if error.status >= 500 or error.status == 408:
        return Verdict.UNKNOWN, error.retry_after
    # The API itself has answered, so the rate limit let the request pass.
    return Verdict.ACCEPTED, None


class _Call(Generic[_T]):
    """The attempts of one call, with the rest of its retry time and its total time.

    Everything it awaits has a deadline. The call therefore ends in time, and when the client is closed.
    """

    def __init__(
        self,
        sender: Sender,
        request: Request,
        read: Callable[[Response], _T],
        matches_request: Callable[[Request, _T], bool] | None,
        first_result: AttemptResult | None,
        *,
        started_at: float,
    ) -> None:
        self._sender = sender
        self._request = request
        self._read = read
        self._matches_request = matches_request
        self._first_result = first_result
        self._needs_new_connection = False  # whether the next attempt needs a new connection
        self._started_at = started_at
        self._deadline = math.inf if sender.total_timeout is None else started_at + sender.total_timeout
        self._attempt_number = 0
        self._is_sent = False
        self._maybe_executed = False
        self._maybe_executed_at: Moment | None = None
        self._last_error: AdaptyError | None = None
        self._queue_seconds = 0.0
        self.retry_in: float | None = None

    async def attempt(self) -> _T:
        """Make one attempt; the first may have been made already. If it fails, `wait` is the seconds until the next."""
        self.retry_in = None
        result, self._first_result = self._first_result, None
        if result is None:
            result = await self._send_once()
        self._attempt_number += 1
        error = result.error
        if result.response is not None:
            try:
                value = await self._read_matching_value(result, result.response)
            except AdaptyError as caught:
                error = caught
            else:
                self._sender.notify_attempt(self._request, result, self._attempt_number, None)
                return value
        assert error is not None
        self._record_error(error, result.sent_at)
        self._needs_new_connection = self._needs_new_connection or result.is_doubtful
        self.retry_in, last = self._plan_retry(error, result)
        self._sender.notify_attempt(
            self._request, attrs.evolve(result, error=error), self._attempt_number, self.retry_in
        )
        # Without a traceback: its frames hold the body, and error reporting tools show their variables.
        raise last.with_traceback(None)

    async def _read_matching_value(self, result: AttemptResult, response: Response) -> _T:
        """Read a 2xx response.

        The only response on a new connection always belongs to this request.

        Raises:
            InvalidResponseError: If it can't be read, or belongs to another request.
        """
        value, connection_check = self._read(response), result.connection_check
        if self._matches_request is None or connection_check is None or self._matches_request(self._request, value):
            return value
        method = self._request.method
        # Set now because the call may end while it waits.
        self._is_sent, self._maybe_executed = True, self._maybe_executed or method != "GET"
        if not connection_check.is_reused and await self._await_before_deadline(connection_check.wait_until_known()):
            return value
        connection_check.invalidate()
        message = f"{method} {self._request.path}: the response is about another profile"
        raise InvalidResponseError(message, maybe_executed=method != "GET")

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt.

        Raises:
            AdaptyConnectionError: If the client is closed in the meantime.
        """
        await self._await_before_deadline(asyncio.sleep(seconds))

    async def _send_once(self) -> AttemptResult:
        send_queue = self._sender.send_queue
        ticket = send_queue.try_acquire() or await self._acquire_ticket(send_queue)
        if not self._attempt_number:
            self._started_at = ticket.sent_at
        remaining = self._get_remaining_seconds()
        if remaining <= _NEGLIGIBLE_SECONDS:  # no time is left to send the request
            send_queue.record(ticket, Verdict.UNKNOWN)
            raise self._build_ended_error()
        if self._last_error is not None and self._is_stale():
            send_queue.record(ticket, Verdict.UNKNOWN)
            raise self._complete_error(self._last_error.with_traceback(None))
        return await self._sender.send_once(
            self._request,
            ticket,
            send_queue,
            self._attempt_number + 1,
            remaining,
            needs_new_connection=self._needs_new_connection,
        )

    async def _acquire_ticket(self, send_queue: SendQueue) -> Ticket:
        """Wait in the send queue if the rest of the retry time and the total time allows it."""
        arrived = send_queue.now()
        max_wait = min(self._sender.retry.max_elapsed - self._get_retry_seconds(arrived), self._get_remaining_seconds())
        try:
            ticket = await self._await_before_deadline(send_queue.acquire(max_wait))
        except SendQueueTimeoutError as caught:
            seconds = caught.seconds
        else:
            if self._attempt_number:
                self._queue_seconds += send_queue.now() - arrived
            return ticket
        if self._last_error is None:
            raise self._build_rate_limit_error(seconds)
        # The last error from the API is more useful than the lack of time for another attempt.
        raise self._complete_error(self._last_error.with_traceback(None))

    async def _await_before_deadline(self, awaitable: Coroutine[Any, Any, _W]) -> _W:
        """Await something that sends nothing. Raise the call's error if its time is over or the client is closed."""
        deadline = self._sender.transport.deadlines.start(max(self._get_remaining_seconds(), _NEGLIGIBLE_SECONDS))
        try:
            return await awaitable
        except asyncio.CancelledError:
            if not deadline.undo_cancellation():
                raise
        finally:
            deadline.stop()
        raise self._build_ended_error()

    def _get_remaining_seconds(self) -> float:
        """Return the seconds that are left of the total time."""
        return math.inf if self._deadline == math.inf else self._deadline - self._sender.send_queue.now()

    def _get_retry_seconds(self, now: float) -> float:
        """Return the seconds used of the retry time: since the first request, without waits in the send queue."""
        return now - self._started_at - self._queue_seconds if self._attempt_number else 0.0

    def _plan_retry(self, error: AdaptyError, result: AttemptResult) -> tuple[float | None, AdaptyError]:
        """Return the seconds until the next attempt and the error, or None and the error of the call."""
        delay, remaining = self._get_retry_delay(error, result), self._get_remaining_seconds()
        is_over = remaining <= _NEGLIGIBLE_SECONDS and isinstance(error, AdaptyTimeoutError)
        if is_over or (delay is not None and self._sender.transport.is_closed):
            return None, self._build_ended_error()
        if delay is not None and delay < remaining and not self._is_stale(delay):
            return delay, error
        return None, self._complete_error(error)

    def _is_stale(self, after_seconds: float = 0.0) -> bool:
        """Return True if the request may have been executed too long before to be sent again in `after_seconds`."""
        if self._maybe_executed_at is None or not self._request.goes_stale:
            return False
        return is_stale(self._maybe_executed_at, self._sender.read_clocks().subtract(-after_seconds))

    def _get_retry_delay(self, error: AdaptyError, result: AttemptResult) -> float | None:
        policy, elapsed = self._sender.retry, self._get_retry_seconds(self._sender.send_queue.now())
        if isinstance(error, InvalidResponseError) and result.is_doubtful and self._request.method == "GET":
            # The connection is at fault, not the server, so no wait is needed.
            return 0.0 if self._attempt_number < policy.max_attempts and elapsed <= policy.max_elapsed else None
        return policy.get_retry_delay(
            error,
            self._attempt_number,
            elapsed,
            is_resendable=self._request.is_resendable,
            retry_after=result.retry_after,
            rng=self._sender.rng,
        )

    def _record_error(self, error: AdaptyError, sent_at: Moment) -> None:
        """Complete the error of one attempt, sent at `sent_at`, with the state of the whole call."""
        if error.maybe_executed and self._maybe_executed_at is None:
            self._maybe_executed_at = sent_at
        self._is_sent = self._is_sent or not is_unsent(error)
        self._maybe_executed = error.maybe_executed = self._maybe_executed or error.maybe_executed
        error.attempts = self._attempt_number
        self._last_error = error

    def _complete_error(self, error: AdaptyError) -> AdaptyError:
        """Set `sent` on the error of the last attempt to that of the whole call."""
        if isinstance(error, AdaptyConnectionError | AdaptyTimeoutError):
            error.sent = self._is_sent
        return error

    def _build_ended_error(self) -> AdaptyError:
        """Return the error of a call whose time is over, or whose client was closed."""
        transport = self._sender.transport
        if transport.is_closed:
            return transport.build_closed_error(
                sent=self._is_sent, attempts=self._attempt_number, maybe_executed=self._maybe_executed
            )
        request = self._request
        return AdaptyTimeoutError(
            f"{request.method} {request.path}: not completed within the total timeout "
            f"of {self._sender.total_timeout:g} s",
            sent=self._is_sent,
            attempts=self._attempt_number,
            maybe_executed=self._maybe_executed,
        )

    def _build_rate_limit_error(self, retry_after: float) -> LocalRateLimitError:
        request = self._request
        return LocalRateLimitError(
            f"{request.method} {request.path}: not sent, the rate limit requires a wait of {retry_after:.1f} s, "
            "longer than the call allows",
            retry_after=retry_after,
        )


def _validate_seconds(name: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a positive, finite number of seconds")
    return float(seconds)


def _validate_retry(retry: RetryPolicy) -> RetryPolicy:
    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, such as RetryPolicy.none(), not {type(retry).__name__}")
    return retry
