"""Sending: attempts through the gate, under the retry policy."""

import asyncio
import functools
import logging
import math
import random
import weakref
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs

from .errors import AdaptyAPIError, AdaptyError, LocalRateLimitError, error_from
from .gate import Gate, GateWaitTooLong, gate_of
from .messages import Request, Response
from .pacing import AdaptivePacer, Pacer, Ticket, Unpaced, Verdict
from .retry import RetryPolicy, again, is_throttled
from .transport import Transport

_T = TypeVar("_T")

_log: Final = logging.getLogger("adapty_async")


@attrs.frozen
class Attempt:
    """What one attempt came to: for logs and metrics, without ids and bodies.

    `number`: from 1. `status`: None where no answer came. `error`: the class's name, None where it went well.
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

    `pause`: the server's Retry-After with its jitter. `elapsed`: seconds.
    """

    response: Response | None
    error: AdaptyError | None
    pause: float | None
    elapsed: float

    @property
    def status(self) -> int | None:
        """The answer's; None where none came."""
        return self.response.status if self.response else getattr(self.error, "status", None)


class Shared:
    """What the views of a client share beside its connections, since it belongs to the API key."""

    def __init__(self) -> None:
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
        return Unpaced()

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
        retry: RetryPolicy,
        pacer: Pacer | None,
        on_attempt: Callable[[Attempt], object] | None,
        shared: Shared | None = None,
    ) -> None:
        self.transport = transport
        self.timeout = _checked_timeout(timeout)
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

    def view(self, *, timeout: float, retry: RetryPolicy, pacer: Pacer | None) -> "Sender":
        """Make a sender with other settings that shares the connections, and the Retry-After of a 429."""
        return Sender(
            self.transport,
            timeout=timeout,
            retry=retry,
            pacer=pacer,
            on_attempt=self.on_attempt,
            shared=self.shared,
        )

    async def send(self, request: Request, read: Callable[[Response], _T]) -> _T:
        """Send a request, again where the policy says so, and `read` its 2xx answer. Raises AdaptyError."""
        self.transport.check_usable()
        gate = self._gate or self.gate
        ticket = gate.try_enter()
        first = None
        if ticket is not None:
            first = await self.exchange(request, ticket, gate)
            if first.response is not None:
                try:
                    value = read(first.response)
                except AdaptyError:  # is told below
                    pass
                else:
                    self.observe(request, first, 1, None)
                    return value
        # Only now, for most calls need no more than one attempt.
        call = _Call(self, request, read, first, first_sent=0.0 if ticket is None else ticket.sent_at)
        try:
            return await call.attempt()
        except AdaptyError as caught:
            error = caught
        if call.wait is None:
            raise error
        return await again(error, call.attempt, lambda: call.wait, asyncio.sleep)

    async def exchange(self, request: Request, ticket: Ticket, gate: Gate) -> Exchange:
        """Send a request exactly once, with the ticket of a gate, and tell that gate what became of it."""
        began = gate.now()
        try:
            response = await self.transport.attempt(request, self.timeout)
        except AdaptyError as caught:
            error = caught
        except BaseException:  # cancelled, or closed under way: who waits for the ticket's fate must not wait for ever
            gate.heard(ticket, Verdict.UNKNOWN)
            raise
        else:
            if 200 <= response.status < 300:
                return Exchange(response, None, None, gate.accepted(ticket) - began)
            error = error_from(response, request, secrets=self.transport.secrets)
        verdict, retry_after = _verdict(error)
        pause = gate.heard(ticket, verdict, retry_after)
        if verdict is Verdict.THROTTLED and pause is not None:
            self.shared.hold(pause, gate)
        return Exchange(None, error, pause, gate.now() - began)

    @property
    def is_observed(self) -> bool:
        """Tell whether anybody wants to know of each attempt."""
        return self.on_attempt is not None or _log.isEnabledFor(logging.DEBUG)

    def observe(self, request: Request, exchange: Exchange, number: int, wait: float | None) -> None:
        """Tell the log and `on_attempt` of an attempt."""
        if not self.is_observed:
            return
        name = type(exchange.error).__name__ if exchange.error else None
        attempt = Attempt(request.method, request.path, number, exchange.status, name, exchange.elapsed, wait)
        _log.debug(
            "%s %s attempt %d: %s in %.3f s%s",
            attempt.method,
            attempt.path,
            number,
            " ".join(str(word) for word in (exchange.status, name) if word),
            attempt.elapsed,
            "" if wait is None else f", again in {wait:.3f} s",
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
    """One call: its attempts so far, and what is left of its budget."""

    def __init__(
        self,
        sender: Sender,
        request: Request,
        read: Callable[[Response], _T],
        first: Exchange | None,
        *,
        first_sent: float,
    ) -> None:
        self._sender = sender
        self._request = request
        self._read = read
        self._first = first
        self._first_sent = first_sent
        self._number = 0
        self._maybe_executed = False
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
                value = self._read(exchange.response)
            except AdaptyError as caught:
                error = caught
            else:
                self._sender.observe(self._request, exchange, self._number, None)
                return value
        assert error is not None
        self._count(error)
        self.wait = self._wait_after(error, exchange.pause)
        self._sender.observe(self._request, attrs.evolve(exchange, error=error), self._number, self.wait)
        # Without the frames in which it was made: they hold the body, and tools that report errors show such.
        raise error.with_traceback(None)

    async def _exchange(self) -> Exchange:
        gate = self._sender.gate
        ticket = gate.try_enter() or await self._enter(gate)
        if not self._number:
            self._first_sent = ticket.sent_at
        return await self._sender.exchange(self._request, ticket, gate)

    async def _enter(self, gate: Gate) -> Ticket:
        """Pass the gate, if what is left of the budget allows the wait there."""
        arrived = gate.now()
        try:
            ticket = await gate.enter(self._sender.retry.budget - self._elapsed(arrived))
        except GateWaitTooLong as caught:
            seconds = caught.seconds
        else:
            if self._number:
                self._at_gate += gate.now() - arrived
            return ticket
        # What the API said last tells more than that there is no time left to ask it again.
        raise self._unsent(seconds) if self._last_error is None else self._last_error.with_traceback(None)

    def _elapsed(self, now: float) -> float:
        """Give the seconds of the budget that are used up: since the first send, without the waits at the gate."""
        return now - self._first_sent - self._at_gate if self._number else 0.0

    def _wait_after(self, error: AdaptyError, pause: float | None) -> float | None:
        return self._sender.retry.wait_after(
            error,
            self._number,
            self._elapsed(self._sender.gate.now()),
            resendable=self._request.is_resendable,
            pause=pause,
            rng=self._sender.rng,
        )

    def _count(self, error: AdaptyError) -> None:
        """Put on the error of one attempt what is known of the whole call."""
        self._maybe_executed = error.maybe_executed = self._maybe_executed or error.maybe_executed
        error.attempts = self._number
        self._last_error = error

    def _unsent(self, seconds: float) -> LocalRateLimitError:
        request = self._request
        return LocalRateLimitError(
            f"{request.method} {request.path}: not sent, the rate limit leaves no room for {seconds:.1f} s, "
            "longer than the retry budget",
            retry_after=seconds,
        )


def _checked_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not 0 < timeout < math.inf:
        raise ValueError("timeout must be a positive, finite number of seconds")
    return float(timeout)


def _checked_retry(retry: RetryPolicy) -> RetryPolicy:
    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, as in RetryPolicy.none(), not {type(retry).__name__}")
    return retry
