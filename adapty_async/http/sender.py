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
from .clock import ANY_TIME, Moment, moment
from .connections import Origin
from .error_mapping import error_from
from .requests import Request, Response
from .retry import RetryPolicy, again, is_stale, is_throttled, is_unsent
from .send_queue import Gate, GateWaitTooLong, gate_of
from .transport import Transport

_T = TypeVar("_T")
_W = TypeVar("_W")

# Seconds that count as no time: no response can arrive in them, and timers fire early by less.
_SOON: Final = 1e-3

_log: Final = logging.getLogger("adapty_async")


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
        wait: Seconds until the next attempt. None if there is none.
    """

    method: str
    path: str
    number: int
    status: int | None
    error: str | None
    elapsed: float
    wait: float | None


@attrs.define(eq=False)  # not frozen: one is created per request
class Exchange:
    """One request on the wire with its result, a `response` or an `error`.

    Attributes:
        response: The response, if its status is 2xx.
        error: The error otherwise.
        pause: The server's Retry-After, with jitter.
        elapsed: Seconds.
        origin: The connection of the response, also if that is an error. None without a response or a connection.
        sent: When the request was sent. ANY_TIME if it may be sent again at any time.
    """

    response: Response | None
    error: AdaptyError | None
    pause: float | None
    elapsed: float
    origin: Origin | None = None
    sent: Moment = ANY_TIME

    @property
    def is_doubtful(self) -> bool:
        """Whether extra bytes followed the response on its connection, or it belongs to another request."""
        return self.origin is not None and self.origin.look() is False

    @property
    def status(self) -> int | None:
        """The status of the response. None if there was none."""
        return self.response.status if self.response else getattr(self.error, "status", None)


class Shared:
    """The state that the views of a client share because it belongs to the API key."""

    def __init__(self) -> None:
        self.clock: Callable[[float], Moment] = moment
        """Reads the clocks, given the time of the event loop."""
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet()
        self._held_until = -math.inf

    def add(self, gate: Gate) -> None:
        """Apply a running Retry-After to a new send queue."""
        self._gates.add(gate)
        left = self._held_until - asyncio.get_running_loop().time()
        if left > 0:
            gate.hold(left)

    def hold(self, seconds: float, told: Gate) -> None:
        """Hold every send queue, including those added later, except the one that received the Retry-After.

        A Retry-After applies to the API key.
        """
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
        for gate in self._gates - {told}:
            gate.hold(seconds)

    @functools.cached_property
    def reactive(self) -> Pacer:
        """The default pacer of the client and its views."""
        return ReactivePacer()

    @functools.cached_property
    def background(self) -> Pacer:
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
        shared: Shared | None = None,
    ) -> None:
        self.transport = transport
        self.timeout = _checked_seconds("timeout", timeout)
        self.total_timeout = None if total_timeout is None else _checked_seconds("total_timeout", total_timeout)
        self._call_seconds = math.inf if self.total_timeout is None else self.total_timeout
        self.retry = _checked_retry(retry)
        self.given_pacer = pacer
        self.on_attempt = on_attempt
        self.rng = random.Random()  # noqa: S311 - used for jitter only
        self._gate: Gate | None = None
        self.shared = Shared() if shared is None else shared
        self.pacer = self.shared.reactive if pacer is None else pacer

    @property
    def gate(self) -> Gate:
        """The send queue of the view's pacer on the running loop."""
        if self._gate is None:
            self._gate = gate_of(self.pacer, self.rng)
            self.shared.add(self._gate)
        return self._gate

    def view(self, *, timeout: float, total_timeout: float | None, retry: RetryPolicy, pacer: Pacer | None) -> "Sender":
        """Return a sender with other settings that shares the connections and the Retry-After of a 429."""
        return Sender(
            self.transport,
            timeout=timeout,
            total_timeout=total_timeout,
            retry=retry,
            pacer=pacer,
            on_attempt=self.on_attempt,
            shared=self.shared,
        )

    async def send(
        self, request: Request, read: Callable[[Response], _T], is_answer: Callable[[Request, _T], bool] | None = None
    ) -> _T:
        """Send a request, with retries by the policy, and return its 2xx response as read by `read`.

        `is_answer` returns whether a value that was read can be the response to the given request.

        Raises:
            AdaptyError: If the call failed.
        """
        self.transport.check_usable()
        gate = self._gate or self.gate
        ticket = gate.try_enter()
        first = None
        if ticket is not None:
            first = await self.exchange(request, ticket, gate, 1, self._call_seconds)
            if first.response is not None:
                try:
                    value = read(first.response)
                except AdaptyError:  # handled below
                    pass
                else:
                    if is_answer is None or first.origin is None or is_answer(request, value):
                        self.observe(request, first, 1, None)
                        return value
        # Created only here because most calls need a single attempt.
        call = _Call(self, request, read, is_answer, first, began=gate.now() if ticket is None else ticket.sent_at)
        try:
            return await call.attempt()
        except AdaptyError as caught:
            error = caught
        if call.wait is None:
            raise error
        return await again(error, call.attempt, lambda: call.wait, call.sleep)

    async def exchange(
        self,
        request: Request,
        ticket: Ticket,
        gate: Gate,
        number: int,
        seconds_left: float = math.inf,
        *,
        fresh: bool = False,
    ) -> Exchange:
        """Send a request once with a ticket of the send queue, and record the result there.

        Args:
            request: The request.
            ticket: The slot to use.
            gate: The send queue of the ticket.
            number: The number of the attempt.
            seconds_left: Seconds left for the call. The timeout of the attempt applies as well.
            fresh: Whether to open a new connection.
        """
        began = gate.now()
        sent = self.moment() if request.goes_stale else ANY_TIME
        origin = None
        attempt = self.transport.attempt_afresh if fresh else self.transport.attempt
        try:
            response = await attempt(request, min(self.timeout, seconds_left))
        except AdaptyError as caught:
            error = caught
        except BaseException as caught:  # every ticket needs a result, or others would wait for it forever
            gate.heard(ticket, Verdict.UNKNOWN)
            if isinstance(caught, asyncio.CancelledError) and self.is_observed:
                name = asyncio.CancelledError.__name__
                self._tell(Attempt(request.method, request.path, number, None, name, gate.now() - began, None))
            raise
        else:
            if 200 <= response.status < 300:
                return Exchange(response, None, None, gate.accepted(ticket) - began, response.origin, sent)
            origin = response.origin
            error = error_from(response, request, secrets=self.transport.secrets)
        verdict, retry_after = _verdict(error)
        pause = gate.heard(ticket, verdict, retry_after)
        if verdict is Verdict.THROTTLED and pause is not None:
            self.shared.hold(pause, gate)
        return Exchange(None, error, pause, gate.now() - began, origin, sent)

    def moment(self) -> Moment:
        """Read the clocks."""
        return self.shared.clock(asyncio.get_running_loop().time())

    @property
    def is_observed(self) -> bool:
        """Whether attempts are logged or passed to `on_attempt`."""
        return self.on_attempt is not None or _log.isEnabledFor(logging.DEBUG)

    def observe(self, request: Request, exchange: Exchange, number: int, wait: float | None) -> None:
        """Log an attempt and pass it to `on_attempt`."""
        if not self.is_observed:
            return
        name = type(exchange.error).__name__ if exchange.error else None
        self._tell(Attempt(request.method, request.path, number, exchange.status, name, exchange.elapsed, wait))

    def _tell(self, attempt: Attempt) -> None:
        _log.debug(
            "%s %s attempt %d: %s in %.3f s%s",
            attempt.method,
            attempt.path,
            attempt.number,
            " ".join(str(word) for word in (attempt.status, attempt.error) if word),
            attempt.elapsed,
            "" if attempt.wait is None else f", retry in {attempt.wait:.3f} s",
        )
        if self.on_attempt is not None:
            try:
                self.on_attempt(attempt)
            except Exception as error:  # noqa: BLE001 - an observer that fails must not fail the call
                _log.error("on_attempt raised %s", type(error).__name__)


def _verdict(error: AdaptyError) -> tuple[Verdict, float | None]:
    if not isinstance(error, AdaptyAPIError):
        return Verdict.UNKNOWN, None
    if is_throttled(error):
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
        is_answer: Callable[[Request, _T], bool] | None,
        first: Exchange | None,
        *,
        began: float,
    ) -> None:
        self._sender = sender
        self._request = request
        self._read = read
        self._is_answer = is_answer
        self._first = first
        self._fresh = False  # whether the next attempt needs a new connection
        self._first_sent = began
        self._ends = math.inf if sender.total_timeout is None else began + sender.total_timeout
        self._number = 0
        self._sent = False
        self._maybe_executed = False
        self._maybe_sent: Moment | None = None
        self._last_error: AdaptyError | None = None
        self._at_gate = 0.0
        self.wait: float | None = None

    async def attempt(self) -> _T:
        """Make one attempt; the first may have been made already. If it fails, `wait` is the seconds until the next."""
        self.wait = None
        exchange, self._first = self._first, None
        if exchange is None:
            exchange = await self._exchange()
        self._number += 1
        error = exchange.error
        if exchange.response is not None:
            try:
                value = await self._value(exchange, exchange.response)
            except AdaptyError as caught:
                error = caught
            else:
                self._sender.observe(self._request, exchange, self._number, None)
                return value
        assert error is not None
        self._count(error, exchange.sent)
        self._fresh = self._fresh or exchange.is_doubtful
        self.wait, last = self._what_follows(error, exchange)
        self._sender.observe(self._request, attrs.evolve(exchange, error=error), self._number, self.wait)
        # Without a traceback: its frames hold the body, and error reporting tools show their variables.
        raise last.with_traceback(None)

    async def _value(self, exchange: Exchange, response: Response) -> _T:
        """Read a 2xx response.

        The only response on a new connection always belongs to this request.

        Raises:
            InvalidResponseError: If it can't be read, or belongs to another request.
        """
        value, origin = self._read(response), exchange.origin
        if self._is_answer is None or origin is None or self._is_answer(self._request, value):
            return value
        method = self._request.method
        # Set now because the call may end while it waits.
        self._sent, self._maybe_executed = True, self._maybe_executed or method != "GET"
        if not origin.reused and await self._in_time(origin.settled()):
            return value
        origin.doubt()
        message = f"{method} {self._request.path}: the response is about another profile"
        raise InvalidResponseError(message, maybe_executed=method != "GET")

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt.

        Raises:
            AdaptyConnectionError: If the client is closed in the meantime.
        """
        await self._in_time(asyncio.sleep(seconds))

    async def _exchange(self) -> Exchange:
        gate = self._sender.gate
        ticket = gate.try_enter() or await self._enter(gate)
        if not self._number:
            self._first_sent = ticket.sent_at
        left = self._left()
        if left <= _SOON:  # no time is left to send the request
            gate.heard(ticket, Verdict.UNKNOWN)
            raise self._ended()
        if self._last_error is not None and self._is_stale():
            gate.heard(ticket, Verdict.UNKNOWN)
            raise self._of_call(self._last_error.with_traceback(None))
        return await self._sender.exchange(self._request, ticket, gate, self._number + 1, left, fresh=self._fresh)

    async def _enter(self, gate: Gate) -> Ticket:
        """Wait in the send queue if the rest of the retry time and the total time allows it."""
        arrived = gate.now()
        patience = min(self._sender.retry.budget - self._elapsed(arrived), self._left())
        try:
            ticket = await self._in_time(gate.enter(patience))
        except GateWaitTooLong as caught:
            seconds = caught.seconds
        else:
            if self._number:
                self._at_gate += gate.now() - arrived
            return ticket
        if self._last_error is None:
            raise self._unsent(seconds)
        # The last error from the API is more useful than the lack of time for another attempt.
        raise self._of_call(self._last_error.with_traceback(None))

    async def _in_time(self, wait: Coroutine[Any, Any, _W]) -> _W:
        """Await something that sends nothing. Raise the call's error if its time is over or the client is closed."""
        deadline = self._sender.transport.deadlines.start(max(self._left(), _SOON))
        try:
            return await wait
        except asyncio.CancelledError:
            if not deadline.is_behind():
                raise
        finally:
            deadline.stop()
        raise self._ended()

    def _left(self) -> float:
        """Return the seconds that are left of the total time."""
        return math.inf if self._ends == math.inf else self._ends - self._sender.gate.now()

    def _elapsed(self, now: float) -> float:
        """Return the seconds used of the retry time: since the first request, without waits in the send queue."""
        return now - self._first_sent - self._at_gate if self._number else 0.0

    def _what_follows(self, error: AdaptyError, exchange: Exchange) -> tuple[float | None, AdaptyError]:
        """Return the seconds until the next attempt and the error, or None and the error of the call."""
        wait, left = self._wait_after(error, exchange), self._left()
        is_over = left <= _SOON and isinstance(error, AdaptyTimeoutError)
        if is_over or (wait is not None and self._sender.transport.is_closed):
            return None, self._ended()
        if wait is not None and wait < left and not self._is_stale(wait):
            return wait, error
        return None, self._of_call(error)

    def _is_stale(self, seconds: float = 0.0) -> bool:
        """Return True if the request must not be sent again in `seconds`: it may have been executed too long before."""
        if self._maybe_sent is None or not self._request.goes_stale:
            return False
        return is_stale(self._maybe_sent, self._sender.moment().earlier(-seconds))

    def _wait_after(self, error: AdaptyError, exchange: Exchange) -> float | None:
        policy, elapsed = self._sender.retry, self._elapsed(self._sender.gate.now())
        if isinstance(error, InvalidResponseError) and exchange.is_doubtful and self._request.method == "GET":
            # The connection is at fault, not the server, so no wait is needed.
            return 0.0 if self._number < policy.attempts and elapsed <= policy.budget else None
        return policy.wait_after(
            error,
            self._number,
            elapsed,
            resendable=self._request.is_resendable,
            pause=exchange.pause,
            rng=self._sender.rng,
        )

    def _count(self, error: AdaptyError, sent: Moment) -> None:
        """Complete the error of one attempt, sent at `sent`, with the state of the whole call."""
        if error.maybe_executed and self._maybe_sent is None:
            self._maybe_sent = sent
        self._sent = self._sent or not is_unsent(error)
        self._maybe_executed = error.maybe_executed = self._maybe_executed or error.maybe_executed
        error.attempts = self._number
        self._last_error = error

    def _of_call(self, error: AdaptyError) -> AdaptyError:
        """Set `sent` on the error of the last attempt to that of the whole call."""
        if isinstance(error, AdaptyConnectionError | AdaptyTimeoutError):
            error.sent = self._sent
        return error

    def _ended(self) -> AdaptyError:
        """Return the error of a call whose time is over, or whose client was closed."""
        transport = self._sender.transport
        if transport.is_closed:
            return transport.closed_error(sent=self._sent, attempts=self._number, maybe_executed=self._maybe_executed)
        request = self._request
        return AdaptyTimeoutError(
            f"{request.method} {request.path}: not completed within the total timeout "
            f"of {self._sender.total_timeout:g} s",
            sent=self._sent,
            attempts=self._number,
            maybe_executed=self._maybe_executed,
        )

    def _unsent(self, seconds: float) -> LocalRateLimitError:
        request = self._request
        return LocalRateLimitError(
            f"{request.method} {request.path}: not sent, the rate limit requires a wait of {seconds:.1f} s, "
            "longer than the call allows",
            retry_after=seconds,
        )


def _checked_seconds(name: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a positive, finite number of seconds")
    return float(seconds)


def _checked_retry(retry: RetryPolicy) -> RetryPolicy:
    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, such as RetryPolicy.none(), not {type(retry).__name__}")
    return retry
