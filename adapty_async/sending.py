"""Sending: attempts through the gate, under the retry policy."""

import asyncio
import functools
import logging
import math
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import attrs

from .clock import ANY_TIME, Moment, moment
from .connections import Origin
from .errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    InvalidResponseError,
    LocalRateLimitError,
    error_from,
)
from .gate import Gate, GateWaitTooLong, gate_of
from .messages import Request, Response
from .pacing import AdaptivePacer, Pacer, ReactivePacer, Ticket, Verdict
from .retry import RetryPolicy, again, is_stale, is_throttled, is_unsent
from .transport import Transport

_T = TypeVar("_T")
_W = TypeVar("_W")

# Seconds that are no time: no answer comes in them, and timers are early by less.
_SOON: Final = 1e-3

_log: Final = logging.getLogger("adapty_async")


@attrs.frozen
class Attempt:
    """What one attempt came to: for logs and metrics, without ids and bodies.

    `number`: from 1. `status`: None where no answer came. `error`: the class's name, None where it went well;
    "CancelledError" where the caller was cancelled, as by an `asyncio.timeout` of its own.
    `elapsed`: seconds of the attempt. `wait`: seconds until the next attempt, None where none follows.
    """

    method: str
    path: str
    number: int
    status: int | None
    error: str | None
    elapsed: float
    wait: float | None


@attrs.define(eq=False)  # not frozen: one is made for each request of every job
class Exchange:
    """One request on the wire and what came of it: a `response` or an `error`.

    `pause`: the server's Retry-After with its jitter. `elapsed`: seconds. `origin`: of the response, also where that is
    an error; None where there is none, or it came over no connection. `sent`: when it left; ANY_TIME where the request
    may be sent again whenever that was.
    """

    response: Response | None
    error: AdaptyError | None
    pause: float | None
    elapsed: float
    origin: Origin | None = None
    sent: Moment = ANY_TIME

    @property
    def is_doubtful(self) -> bool:
        """Whether more came on the connection than the response, or the response was another request's."""
        return self.origin is not None and self.origin.look() is False

    @property
    def status(self) -> int | None:
        """The answer's; None where none came."""
        return self.response.status if self.response else getattr(self.error, "status", None)


class Shared:
    """What the views of a client share beside its connections, since it belongs to the API key."""

    def __init__(self) -> None:
        self.clock: Callable[[float], Moment] = moment
        """Reads the clocks, told what the loop's says."""
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet()
        self._held_until = -math.inf

    def add(self, gate: Gate) -> None:
        """Let a gate in on the Retry-After that runs."""
        self._gates.add(gate)
        left = self._held_until - asyncio.get_running_loop().time()
        if left > 0:
            gate.hold(left)

    def hold(self, seconds: float, told: Gate) -> None:
        """Hold all gates but the one that was told, those to come too: a Retry-After is meant for the key."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
        for gate in self._gates - {told}:
            gate.hold(seconds)

    @functools.cached_property
    def reactive(self) -> Pacer:
        """The pacer of the client and its views where none was given."""
        return ReactivePacer()

    @functools.cached_property
    def background(self) -> Pacer:
        """The pacer of the mass jobs where neither they nor the client were given one."""
        return AdaptivePacer.background()


class Sender:
    """Send requests for one view of a client: its transport, its gate, its patience. `bulk` drives it by hand."""

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
        self.rng = random.Random()  # noqa: S311 - jitter, no secret
        self._gate: Gate | None = None
        self.shared = Shared() if shared is None else shared
        self.pacer = self.shared.reactive if pacer is None else pacer

    @property
    def gate(self) -> Gate:
        """The gate of the view's pacer, on the running loop."""
        if self._gate is None:
            self._gate = gate_of(self.pacer, self.rng)
            self.shared.add(self._gate)
        return self._gate

    def view(self, *, timeout: float, total_timeout: float | None, retry: RetryPolicy, pacer: Pacer | None) -> "Sender":
        """Make a sender with other settings that shares the connections, and the Retry-After of a 429."""
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
        """Send a request, again where the policy says so, and `read` its 2xx answer. Raises AdaptyError.

        `is_answer`: tells whether what was read may be the answer to the request.
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
                except AdaptyError:  # is told below
                    pass
                else:
                    if is_answer is None or first.origin is None or is_answer(request, value):
                        self.observe(request, first, 1, None)
                        return value
        # Only now, for most calls need no more than one attempt.
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
        """Send a request exactly once, with the ticket of a gate, and tell that gate what became of it.

        `number`: of the attempt. `seconds_left`: for the call; the timeout of the attempt holds as well. `fresh`: on a
        newly opened connection.
        """
        began = gate.now()
        sent = self.moment() if request.goes_stale else ANY_TIME
        origin = None
        attempt = self.transport.attempt_afresh if fresh else self.transport.attempt
        try:
            response = await attempt(request, min(self.timeout, seconds_left))
        except AdaptyError as caught:
            error = caught
        except BaseException as caught:  # who waits for the ticket's fate must not wait for ever
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
        """Tell whether anybody wants to know of each attempt."""
        return self.on_attempt is not None or _log.isEnabledFor(logging.DEBUG)

    def observe(self, request: Request, exchange: Exchange, number: int, wait: float | None) -> None:
        """Tell the log and `on_attempt` of an attempt."""
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
            "" if attempt.wait is None else f", again in {attempt.wait:.3f} s",
        )
        if self.on_attempt is not None:
            try:
                self.on_attempt(attempt)
            except Exception as error:  # noqa: BLE001 - a failing observer must not fail the call it observes
                _log.error("on_attempt raised %s", type(error).__name__)


def _verdict(error: AdaptyError) -> tuple[Verdict, float | None]:
    if not isinstance(error, AdaptyAPIError):
        return Verdict.UNKNOWN, None
    if is_throttled(error):
        return Verdict.THROTTLED, error.retry_after
    if error.status >= 500 or error.status == 408:
        return Verdict.UNKNOWN, error.retry_after
    # An answer of the API's own, whatever it says, was let through its rate limit.
    return Verdict.ACCEPTED, None


class _Call(Generic[_T]):
    """One call: its attempts so far, and what is left of its budget and its time.

    Each of its awaits is within a deadline: so it ends in time, and when the client is closed.
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
        self._fresh = False  # the next attempt wants a connection of its own
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
        """Make one attempt; the first may have been made. Where it fails, `wait` says when the next is due."""
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
        # Without the frames in which it was made: they hold the body, and tools that report errors show such.
        raise last.with_traceback(None)

    async def _value(self, exchange: Exchange, response: Response) -> _T:
        """Read a 2xx answer. Raises InvalidResponseError, also where it is the answer to another request.

        The only one on a new connection isn't, whatever it looks like.
        """
        value, origin = self._read(response), exchange.origin
        if self._is_answer is None or origin is None or self._is_answer(self._request, value):
            return value
        method = self._request.method
        # Known now, for the call may end while it waits.
        self._sent, self._maybe_executed = True, self._maybe_executed or method != "GET"
        if not origin.reused and await self._in_time(origin.settled()):
            return value
        origin.doubt()
        message = f"{method} {self._request.path}: the answer is about another profile"
        raise InvalidResponseError(message, maybe_executed=method != "GET")

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt. Raises AdaptyConnectionError where the client is closed meanwhile."""
        await self._in_time(asyncio.sleep(seconds))

    async def _exchange(self) -> Exchange:
        gate = self._sender.gate
        ticket = gate.try_enter() or await self._enter(gate)
        if not self._number:
            self._first_sent = ticket.sent_at
        left = self._left()
        if left <= _SOON:  # the turn came as the time was over: a request would leave for nothing
            gate.heard(ticket, Verdict.UNKNOWN)
            raise self._ended()
        if self._last_error is not None and self._is_stale():
            gate.heard(ticket, Verdict.UNKNOWN)
            raise self._of_call(self._last_error.with_traceback(None))
        return await self._sender.exchange(self._request, ticket, gate, self._number + 1, left, fresh=self._fresh)

    async def _enter(self, gate: Gate) -> Ticket:
        """Pass the gate, if what is left of the budget and the time allows the wait there."""
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
        # What the API said last tells more than that there is no time left to ask it again.
        raise self._of_call(self._last_error.with_traceback(None))

    async def _in_time(self, wait: Coroutine[Any, Any, _W]) -> _W:
        """Wait for what sends nothing, until the time of the call is over or the client closed: its error is raised."""
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
        """Return the seconds that are left of the whole call."""
        return math.inf if self._ends == math.inf else self._ends - self._sender.gate.now()

    def _elapsed(self, now: float) -> float:
        """Give the seconds of the budget that are used up: since the first send, without the waits at the gate."""
        return now - self._first_sent - self._at_gate if self._number else 0.0

    def _what_follows(self, error: AdaptyError, exchange: Exchange) -> tuple[float | None, AdaptyError]:
        """Decide what follows a failed attempt: the seconds until the next one, or None and the last error."""
        wait, left = self._wait_after(error, exchange), self._left()
        is_over = left <= _SOON and isinstance(error, AdaptyTimeoutError)
        if is_over or (wait is not None and self._sender.transport.is_closed):
            return None, self._ended()
        if wait is not None and wait < left and not self._is_stale(wait):
            return wait, error
        return None, self._of_call(error)

    def _is_stale(self, seconds: float = 0.0) -> bool:
        """Tell whether the request must not be sent again in so many seconds, for it may have been executed before."""
        if self._maybe_sent is None or not self._request.goes_stale:
            return False
        return is_stale(self._maybe_sent, self._sender.moment().earlier(-seconds))

    def _wait_after(self, error: AdaptyError, exchange: Exchange) -> float | None:
        policy, elapsed = self._sender.retry, self._elapsed(self._sender.gate.now())
        if isinstance(error, InvalidResponseError) and exchange.is_doubtful and self._request.method == "GET":
            # It is the connection's fault, not the server's: there is nothing to wait for.
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
        """Put on the error of one attempt, which was made at that moment, what is known of the whole call."""
        if error.maybe_executed and self._maybe_sent is None:
            self._maybe_sent = sent
        self._sent = self._sent or not is_unsent(error)
        self._maybe_executed = error.maybe_executed = self._maybe_executed or error.maybe_executed
        error.attempts = self._number
        self._last_error = error

    def _of_call(self, error: AdaptyError) -> AdaptyError:
        """Let the error of the last attempt say of the whole call whether it was sent."""
        if isinstance(error, AdaptyConnectionError | AdaptyTimeoutError):
            error.sent = self._sent
        return error

    def _ended(self) -> AdaptyError:
        """Make the error of a call that is ended from without: its time is over, or the client closed."""
        transport = self._sender.transport
        if transport.is_closed:
            return transport.closed_error(sent=self._sent, attempts=self._number, maybe_executed=self._maybe_executed)
        request = self._request
        return AdaptyTimeoutError(
            f"{request.method} {request.path}: not done within the total timeout of {self._sender.total_timeout:g} s",
            sent=self._sent,
            attempts=self._number,
            maybe_executed=self._maybe_executed,
        )

    def _unsent(self, seconds: float) -> LocalRateLimitError:
        request = self._request
        return LocalRateLimitError(
            f"{request.method} {request.path}: not sent, the rate limit leaves no room for {seconds:.1f} s, "
            "longer than the call may wait",
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
        raise TypeError(f"retry must be a RetryPolicy, as in RetryPolicy.none(), not {type(retry).__name__}")
    return retry
