"""The client: its settings and lifetime, the chapters of the API, and sending: attempts under the retry policy."""

import asyncio
import contextlib
import ipaddress
import logging
import math
import os
import random
import ssl as ssl_module
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypedDict, TypeVar, Unpack

import aiohttp
import attrs
import yarl

from .errors import AdaptyAPIError, AdaptyError, RateLimitedError, error_from
from .gate import Gate, GateWaitTooLong, gate_of
from .messages import Request, Response, check_header_value
from .models import UNSET, Unset
from .pacing import UNPACED, Pacer, Ticket, Unpaced, Verdict
from .resources import Profiles
from .retry import RetryPolicy, again, is_throttled
from .transport import Transport

DEFAULT_BASE_URL: Final = "https://api.adapty.io"

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


@attrs.frozen
class Exchange:
    """One request on the wire and what came of it: a `response`, an `error`, or both where a 2xx can't be read.

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


class Sender:
    """Send requests for one view of a client: its transport, its gate, its patience. `bulk` drives it by hand."""

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        retry: RetryPolicy,
        pacer: Pacer,
        on_attempt: Callable[[Attempt], object] | None,
        gates: "weakref.WeakSet[Gate] | None" = None,
    ) -> None:
        self.transport = transport
        self.timeout = _checked_timeout(timeout)
        self.retry = _checked_retry(retry)
        self.pacer = pacer
        self.on_attempt = on_attempt
        self.rng = random.Random()  # noqa: S311 - jitter, no secret
        self._gate: Gate | None = None
        # Those of all the views of a client: a Retry-After is meant for the key, whichever of them is told.
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet() if gates is None else gates

    @property
    def gate(self) -> Gate:
        """The gate of the view's pacer, on the running loop."""
        if self._gate is None:
            self._gate = gate_of(self.pacer, self.rng)
            self._gates.add(self._gate)
        return self._gate

    def view(self, *, timeout: float, retry: RetryPolicy, pacer: Pacer) -> "Sender":
        """Make a sender with other settings that shares the connections, and the Retry-After of a 429."""
        return Sender(
            self.transport,
            timeout=timeout,
            retry=retry,
            pacer=pacer,
            on_attempt=self.on_attempt,
            gates=self._gates,
        )

    async def send(self, request: Request, read: Callable[[Response], _T]) -> _T:
        """Send a request, again where the policy says so, and `read` its 2xx answer. Raises AdaptyError."""
        self.transport.check_usable()
        call = _Call(self, request, read)
        try:
            return await call.attempt()
        except AdaptyError as error:
            first = error
        if call.wait is None:
            raise first
        return await again(first, call.attempt, lambda: call.wait, asyncio.sleep)

    async def exchange(self, request: Request, ticket: Ticket, gate: Gate) -> Exchange:
        """Send a request exactly once, with the ticket of a gate, and tell that gate what became of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        error: AdaptyError | None = None
        response: Response | None = None
        try:
            response = await self.transport.attempt(request, self.timeout)
        except AdaptyError as caught:
            error = caught
        except BaseException:  # cancelled, or closed under way: who waits for the ticket's fate must not wait for ever
            gate.heard(ticket, Verdict.UNKNOWN)
            raise
        if response is not None and not 200 <= response.status < 300:
            error = error_from(response, request, secrets=self.transport.secrets)
            response = None
        verdict, retry_after = _verdict(error)
        pause = gate.heard(ticket, verdict, retry_after)
        if verdict is Verdict.THROTTLED and pause is not None:
            for other in self._gates - {gate}:
                other.hold(pause)
        return Exchange(response, error, pause, loop.time() - began)

    def observe(self, request: Request, exchange: Exchange, number: int, wait: float | None) -> None:
        """Tell the log and `on_attempt` of an attempt."""
        if self.on_attempt is None and not _log.isEnabledFor(logging.DEBUG):
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


def _verdict(error: AdaptyError | None) -> tuple[Verdict, float | None]:
    if not isinstance(error, AdaptyAPIError):
        return (Verdict.ACCEPTED if error is None else Verdict.UNKNOWN), None
    if is_throttled(error):
        return Verdict.THROTTLED, error.retry_after
    if error.status >= 500 or error.status == 408:
        return Verdict.UNKNOWN, error.retry_after
    # An answer of the API's own, whatever it says, was let through its rate limit.
    return Verdict.ACCEPTED, None


class _Call(Generic[_T]):
    """One call: its attempts so far, and what is left of its budget."""

    def __init__(self, sender: Sender, request: Request, read: Callable[[Response], _T]) -> None:
        self._sender = sender
        self._request = request
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._maybe_executed = False
        self._first_sent = 0.0
        self._at_gate = 0.0
        self.wait: float | None = None

    async def attempt(self) -> _T:
        """Make one attempt. Where it fails, `wait` says when the next is due."""
        self.wait = None
        gate = self._sender.gate
        ticket = await self._enter(gate)
        self._number += 1
        exchange = await self._sender.exchange(self._request, ticket, gate)
        try:
            value = self._value_of(exchange)
        except AdaptyError as caught:
            error = caught
        else:
            self._sender.observe(self._request, exchange, self._number, None)
            return value
        self._count(error)
        self.wait = self._wait_after(error, exchange.pause)
        self._sender.observe(self._request, attrs.evolve(exchange, error=error), self._number, self.wait)
        # Without the frames in which it was made: they hold the body, and tools that report errors show such.
        raise error.with_traceback(None)

    async def _enter(self, gate: Gate) -> Ticket:
        """Pass the gate, if what is left of the budget allows the wait there."""
        arrived = self._loop.time()
        try:
            ticket = await gate.enter(self._sender.retry.budget - self._elapsed(arrived))
        except GateWaitTooLong as caught:
            seconds = caught.seconds
        else:
            entered = self._loop.time()
            if self._number:
                self._at_gate += entered - arrived
            else:
                self._first_sent = entered
            return ticket
        raise self._unsent(seconds)

    def _value_of(self, exchange: Exchange) -> _T:
        if exchange.response is not None:
            return self._read(exchange.response)
        assert exchange.error is not None
        raise exchange.error

    def _elapsed(self, now: float) -> float:
        """Give the seconds of the budget that are used up: since the first send, without the waits at the gate."""
        return now - self._first_sent - self._at_gate if self._number else 0.0

    def _wait_after(self, error: AdaptyError, pause: float | None) -> float | None:
        return self._sender.retry.wait_after(
            error,
            self._number,
            self._elapsed(self._loop.time()),
            resendable=self._request.is_resendable,
            pause=pause,
            rng=self._sender.rng,
        )

    def _count(self, error: AdaptyError) -> None:
        """Put on the error of one attempt what is known of the whole call."""
        self._maybe_executed = error.maybe_executed = self._maybe_executed or error.maybe_executed
        error.attempts = self._number

    def _unsent(self, seconds: float) -> RateLimitedError:
        request = self._request
        return RateLimitedError(
            f"{request.method} {request.path}: not sent, the rate limit leaves no room for {seconds:.1f} s, "
            "longer than the retry budget",
            status=429,
            retry_after=seconds,
            attempts=self._number,
            maybe_executed=self._maybe_executed,
        )


class ClientOptions(TypedDict, total=False):
    """The settings of an AdaptyClient beside its key and server."""

    timeout: float
    retry: RetryPolicy
    pacer: Pacer | None
    session: aiohttp.ClientSession | None
    trust_env: bool
    ssl: ssl_module.SSLContext | None
    on_attempt: Callable[[Attempt], object] | None


class AdaptyClient:
    """Call Adapty's server-side API for the app of a secret key.

    `timeout`: seconds of one attempt, its body included, waiting at the gate not. `pacer`: paces every call; None: only
    the Retry-After of a 429 holds calls back. `session`: its connections are used and stay open, nothing else of it.
    `trust_env`: proxies from the environment. `ssl`: for a certificate authority of your own. `on_attempt`: called
    once an attempt. Built anywhere, opened by the first call, for the event loop of that call. Raises ValueError or
    TypeError for settings that can't work.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeout: float = 30.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        pacer: Pacer | None = None,
        session: aiohttp.ClientSession | None = None,
        trust_env: bool = False,
        ssl: ssl_module.SSLContext | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
    ) -> None:
        self.base_url = _checked_base_url(base_url)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise TypeError(f"session must be an aiohttp.ClientSession, not {type(session).__name__}")
        if on_attempt is not None and not callable(on_attempt):
            raise TypeError("on_attempt must be callable")
        transport = Transport(self.base_url, _checked_key(api_key), session=session, trust_env=trust_env, ssl=ssl)
        self._use(
            Sender(transport, timeout=timeout, retry=retry, pacer=_own_pacer(pacer), on_attempt=on_attempt),
            is_view=False,
        )

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ADAPTY_API_KEY, or the file that ADAPTY_API_KEY_FILE names, and ADAPTY_BASE_URL.

        Raises ValueError where the key is missing, or given in both ways.
        """
        return cls(_key_from_env(), base_url=os.environ.get("ADAPTY_BASE_URL") or DEFAULT_BASE_URL, **options)

    def with_options(
        self,
        *,
        timeout: float | Unset = UNSET,
        retry: RetryPolicy | Unset = UNSET,
        pacer: Pacer | Unset | None = UNSET,
    ) -> Self:
        """Make a view of the client with other settings.

        It shares the connections, which only the client closes, and the Retry-After of a 429.
        """
        sender = self._sender
        view = object.__new__(type(self))
        view.base_url = self.base_url
        view._use(
            sender.view(
                timeout=sender.timeout if timeout is UNSET else timeout,
                retry=sender.retry if retry is UNSET else retry,
                pacer=sender.pacer if pacer is UNSET else _own_pacer(pacer),
            ),
            is_view=True,
        )
        return view

    def _use(self, sender: Sender, *, is_view: bool) -> None:
        self._sender = sender
        self._is_view = is_view
        self.profiles = Profiles(sender.send)

    async def send(self, request: Request) -> Response:
        """Send any request with the client's key, gate, retries and errors; give the 2xx answer. Raises AdaptyError."""
        return await self._sender.send(request, _as_it_is)

    async def close(self) -> None:
        """Close the connections; again, harmlessly. A view closes nothing."""
        if not self._is_view:
            await self._sender.transport.close()

    async def __aenter__(self) -> Self:
        self._sender.transport.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AdaptyClient(base_url={self.base_url!r}, timeout={self._sender.timeout:g})"


def _as_it_is(response: Response) -> Response:
    return response


def sender_of(client: AdaptyClient) -> Sender:
    """Give the sender behind a client: for `bulk`, which makes the attempts itself."""
    if not isinstance(client, AdaptyClient):
        raise TypeError(f"client must be an AdaptyClient, not {type(client).__name__}")
    return client._sender  # noqa: SLF001 - the one door to it


def _own_pacer(pacer: Pacer | None) -> Pacer:
    if pacer is not None and not isinstance(pacer, Pacer):
        raise TypeError(f"pacer must be a pacer, such as FixedPacer(50), or None; not {type(pacer).__name__}")
    # One of its own for each client: the Retry-After of one key must not hold back another's calls.
    return Unpaced() if pacer is None or pacer is UNPACED else pacer


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


def _checked_key(api_key: str) -> str:
    check_header_value("the API key", api_key)
    if not api_key.isascii() or " " in api_key:
        raise ValueError("the API key must be the secret key alone, without 'Api-Key' before it or a space in it")
    return api_key


def _key_from_env() -> str:
    key, file = os.environ.get("ADAPTY_API_KEY"), os.environ.get("ADAPTY_API_KEY_FILE")
    if key and file:
        raise ValueError("both ADAPTY_API_KEY and ADAPTY_API_KEY_FILE are set: unset one of them")
    if file:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Path(file).read_text(encoding="utf-8").strip()
        raise ValueError("the file that ADAPTY_API_KEY_FILE names can't be read")
    if not key:
        raise ValueError(
            "set ADAPTY_API_KEY to the secret key of the app, or ADAPTY_API_KEY_FILE to a file that holds it"
        )
    return key


def _checked_base_url(base_url: str) -> str:
    if not isinstance(base_url, str):
        raise TypeError(f"base_url must be a str, not {type(base_url).__name__}")
    try:
        url = yarl.URL(base_url)
        host = url.host
    except ValueError:
        url, host = yarl.URL(), None
    if url.scheme not in {"http", "https"} or not host or not url.port:
        raise ValueError(f"base_url must look like {DEFAULT_BASE_URL}")
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ValueError("base_url must hold no user, password, query or fragment")
    if url.scheme == "http" and not _is_private(host):
        raise ValueError("base_url must be https: over http anyone on the way could read the key")
    return str(url).rstrip("/")


def _is_private(host: str) -> bool:
    """Tell whether a host is on this machine or its own network, where a simulator or a sidecar may speak http."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".test"))
