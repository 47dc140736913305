"""Detection of extra responses on kept-alive connections. Depends on the internals of aiohttp's connector.

HTTP/1.1 pairs responses with requests by order alone. After one extra response on a connection, each later request
would receive the response to the previous one. Therefore a connection is reused only if nothing has arrived on it since
its last response, and bytes that arrive soon after a response put that response in doubt.
"""
# ruff: noqa: SLF001 - aiohttp 3.14 checks a connection for leftover bytes when it is released, not when it is reused

import asyncio
import math
import random
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

QUIET: Final = 0.1
"""Seconds without a byte after a response that confirm the response."""
_WARY: Final = 60.0
"""Seconds after an extra byte during which every response must be confirmed before its connection is reused."""
_BUSY: Final = 2.0
"""Maximum seconds for which a connection of a job is used without a quiet time.

If an extra response arrives after the next request has been sent, it is taken for the response to that request. While
the connection is always reused at once, nothing reveals this: each request gets the response to the previous one.
"""
_ROUNDS: Final = 4
"""Rounds of the event loop in which it reads the data that has arrived: two, and one for each layer of TLS."""
_POSTPONED: Final = 0.001
_OWN_POOL: Final = -1


class Origin:
    """The connection that the response of one attempt came from.

    Attributes:
        fresh: Whether the attempt needs a newly opened connection.
        reused: Whether the connection had been used before.
        is_settled: True if nothing else arrived on the connection, False if something did, None while this is unknown.
        is_suspect: Whether the connection must not be reused before this is known.
        due: When the quiet time ends, by the clock of the event loop.
    """

    __slots__ = (
        "_connector",
        "_kept",
        "_parser",
        "_protocol",
        "_settled",
        "due",
        "fresh",
        "is_settled",
        "is_suspect",
        "reused",
    )

    def __init__(self, *, fresh: bool) -> None:
        self.fresh = fresh
        self.reused = False
        self.is_settled: bool | None = None
        self._connector: Connector | None = None
        self._protocol: ResponseHandler | None = None
        self._parser: object = None
        self._settled: Callable[[bool], None] | None = None
        self._kept: Connection | None = None
        self.is_suspect = False
        self.due = 0.0

    @property
    def is_wary(self) -> bool:
        """Whether a connection to the server has held an extra byte recently."""
        return self._connector is not None and self._connector.is_wary

    def doubt(self) -> None:
        """Close the connection, even if another request uses it now: a response on it belonged to another request."""
        self.is_settled = None  # discards an earlier result
        self._settle(False)

    def watch(self, settled: Callable[[bool], None]) -> None:
        """Call `settled` once with `is_settled` when it is known, but never before this method returns."""
        assert self._connector is not None
        assert self._protocol is not None
        self._settled = settled
        self.due = self._connector.watch(self, self._protocol)

    async def settled(self) -> bool:
        """Wait until it is known whether the response was the only one. Return True if it was."""
        if self.look() is None:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.is_suspect = True
            self.watch(lambda _: None if known.done() else known.set_result(None))
            await known
        return bool(self.is_settled)

    def settle_now(self) -> bool:
        """Decide by the present state, without a callback, and return `is_settled`."""
        self._settled = None
        if self.look() is None:
            self._settle(True)
        return bool(self.is_settled)

    def look(self) -> bool | None:
        """Check the connection and return `is_settled`."""
        if self.is_settled is not None:
            return self.is_settled
        if self._protocol is None or self._is_taken(self._protocol):  # mocked: there is no connection
            self._settle(True)
        elif _is_stained(self._protocol):
            self._settle(False)
        elif self._protocol.transport is None:
            self._settle(True)
        return self.is_settled

    def _is_taken(self, protocol: ResponseHandler) -> bool:
        """Return True if the owner of a borrowed session uses the connection. Each request sets its own parser."""
        return protocol._parser is not self._parser and protocol._parser is not None

    def is_due(self, now: float) -> bool:
        """Return True if there is nothing left to wait for."""
        return self.is_settled is not None or self.due <= now

    def end_quiet(self) -> bool:
        """End the quiet time. Return False if the event loop has not read all bytes yet."""
        assert self._protocol is not None
        if self.look() is None:
            if _is_readable(self._protocol):
                return False
            if self._connector is not None:
                self._connector.was_quiet(self._protocol)
            self._settle(True)
        return True

    def keep(self, connection: Connection) -> None:
        """Return the connection to the pool only when its response is confirmed or in doubt."""
        self._kept = connection

    def begin(self, connector: "Connector", protocol: ResponseHandler, *, reused: bool) -> None:
        """Record the connection that the request will be sent on."""
        self._connector, self._protocol, self.reused = connector, protocol, reused

    def leave(self) -> None:
        """Record that the request is being sent."""
        if self._protocol is not None:
            self._parser = self._protocol._parser

    def end(self, *, stained: bool) -> None:
        """Record that the connection is taken for another request or closed."""
        self._settle(not stained)

    def _settle(self, is_settled: bool) -> None:
        if self.is_settled is not None:
            return
        self.is_settled = is_settled
        if self._connector is not None and self._protocol is not None:
            self._connector.unwatch(self, self._protocol)
            if not is_settled:
                self._close()
                self._connector.beware()
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.release()
        settled, self._settled = self._settled, None
        if settled is not None:
            settled(is_settled)

    def _close(self) -> None:
        # protocol.close() would leave the reader of the body waiting forever.
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.abort()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a response has no connection


class Connector:
    """A wrapper around an aiohttp connector that hands out only idle connections.

    It takes the place of an `aiohttp.BaseConnector` in a session. The wrapped connector may be borrowed; everything not
    defined here is delegated to it.
    """

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._connector = connector
        # Every request reads these two; __getattr__ would be slower.
        self.allowed_protocol_schema_set = connector.allowed_protocol_schema_set
        self._timeout_ceil_threshold = connector._timeout_ceil_threshold
        self._last: dict[ResponseHandler, Origin] = {}  # by connection, while it is watched
        self._watched: deque[Origin] = deque()  # ordered by due time
        self._busy: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()  # when it must be quiet
        self._timer: asyncio.TimerHandle | None = None
        self._wary_until = -math.inf
        self._now = asyncio.get_running_loop().time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    @property
    def as_connector(self) -> aiohttp.BaseConnector:
        """This object, typed for a session."""
        return cast("aiohttp.BaseConnector", self)

    async def connect(  # called by the session
        self,
        req: Any,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> Connection:
        """Return a connection that holds no bytes, from the pool or new. Close those that hold some."""
        origin: Origin = req.origin
        if self._last:
            self._look_at_the_closed(req)
        while True:
            connection = await self._connector.connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            reused = protocol._parser is not None  # the first request sets it
            last = self._last.get(protocol) if self._last else None
            if last is not None and self._is_to_rest(last, protocol):
                last.keep(connection)
                continue
            is_idle = _is_usable(protocol) and not _is_readable(protocol)
            if not is_idle:
                is_idle = await self._is_idle(connection, protocol)
            if last is not None:
                last.end(stained=not is_idle and _holds_bytes(protocol))
            if is_idle and not (reused and origin.fresh):
                origin.begin(self, protocol, reused=reused)
                return connection
            connection.close()
            if not reused:
                raise aiohttp.ClientConnectionError("the server spoke first")

    @property
    def is_wary(self) -> bool:
        """Whether a connection has held an extra byte recently."""
        return self._now() < self._wary_until

    def beware(self) -> None:
        """Record that a connection held an extra byte."""
        self._wary_until = self._now() + _WARY

    def watch(self, origin: Origin, protocol: ResponseHandler) -> float:
        """Check a connection after its quiet time, and return when that ends."""
        now = self._now()
        due = now + QUIET
        if protocol not in self._busy:
            # Spread out: while a connection is quiet, others must be opened.
            self._busy[protocol] = now + random.uniform(_BUSY / 2, _BUSY)  # noqa: S311 - no secret
        self._last[protocol] = origin
        self._watched.append(origin)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._end_quiet)
        return due

    def was_quiet(self, protocol: ResponseHandler) -> None:
        """Record that a connection had its quiet time, so that its responses match its requests."""
        self._busy.pop(protocol, None)

    def unwatch(self, origin: Origin, protocol: ResponseHandler) -> None:
        """Stop watching a connection for one response. If that response is in doubt, so is a later one."""
        last = self._last.get(protocol)
        if last is origin:
            del self._last[protocol]
        elif last is not None and not origin.is_settled:
            last.end(stained=True)

    def stop(self) -> None:
        """Decide all open cases by the present state, before the connections are closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for protocol, last in tuple(self._last.items()):
            last.end(stained=_holds_bytes(protocol))
        self._watched.clear()

    def _is_to_rest(self, last: Origin, protocol: ResponseHandler) -> bool:
        is_busy = self._busy.get(protocol, math.inf) <= self._now()
        return (last.is_suspect or self.is_wary or is_busy) and last.look() is None

    async def _is_idle(self, connection: Connection, protocol: ResponseHandler) -> bool:
        """Check again a connection that has something to read. It may be a TLS session ticket."""
        try:
            for _ in range(_ROUNDS):
                if not (protocol.is_connected() and _is_usable(protocol)):
                    return False
                if not _is_readable(protocol):
                    return True
                await asyncio.sleep(0)
        except BaseException:  # also on cancellation, or the connection would never return to the pool
            connection.close()
            raise
        return False

    def _look_at_the_closed(self, req: Any) -> None:
        """Check the connections that the pool is about to drop, before their bytes are lost."""
        for protocol, _ in self._connector._conns.get(req.connection_key, ()):
            if protocol.is_connected():
                break
            if protocol in self._last:
                self._last[protocol].look()

    def _end_quiet(self) -> None:
        self._timer = None
        loop, watched, now = asyncio.get_running_loop(), self._watched, self._now()
        while watched and watched[0].is_due(now):
            if not watched[0].end_quiet():
                self._timer = loop.call_later(_POSTPONED, self._end_quiet)
                return
            watched.popleft()
        if watched:
            self._timer = loop.call_at(watched[0].due, self._end_quiet)


def own_pool(key: Any) -> Any:
    """Return the key for connections that are used once, so that no existing connection is taken."""
    # aiohttp uses this field for a hash of proxy headers. limit_per_host is counted by the key.
    return key._replace(proxy_headers_hash=_OWN_POOL)


def _is_usable(protocol: ResponseHandler) -> bool:
    """Return True if a connection is being read from and holds nothing."""
    return (
        not protocol.should_close
        and not protocol._reading_paused
        and not protocol._buffer_paused
        and not _is_amid(protocol)
    )


def _is_stained(protocol: ResponseHandler) -> bool:
    """Return True if something arrived after the response, as far as the event loop has read."""
    if len(protocol) or protocol._tail or protocol._reading_paused or _is_amid(protocol):
        return True
    error = protocol.exception()
    return isinstance(error, HttpProcessingError) or (
        isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
    )


def _holds_bytes(protocol: ResponseHandler) -> bool:
    return _is_stained(protocol) or (protocol.is_connected() and _is_readable(protocol))


def _is_amid(protocol: ResponseHandler) -> bool:
    """Return True if a message has begun but not ended."""
    if protocol._payload is not None and not protocol._payload.is_eof():
        return True
    parser = protocol._parser
    if parser is None:
        return False
    try:
        # The parser in pure Python keeps lines that don't form a complete head, and returns nothing for them.
        has_begun = parser.feed_eof() is not None or bool(getattr(parser, "_lines", None))
    except Exception:  # noqa: BLE001 - any error means an incomplete message
        has_begun = True
    if has_begun:
        protocol.set_exception(HttpProcessingError())  # the parser would answer differently the next time
    return has_begun


def _is_readable(protocol: ResponseHandler) -> bool:
    """Return True if the operating system has data for a connection, or its end."""
    transport = protocol.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        return False
    descriptor = connection.fileno()
    if descriptor < 0:
        return True
    return _has_news(descriptor)


if hasattr(select, "poll"):

    def _has_news(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:

    def _has_news(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])
