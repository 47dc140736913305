"""What a kept-alive connection holds before it is used again, and after its last response. Knows aiohttp's connector.

HTTP/1.1 pairs responses with requests by their order alone. One response too many on a connection, and each request
after it would be given the response of the one before. So a connection is used again only where nothing came on it
since its last response, and what comes there soon after a response makes that response doubtful.
"""
# ruff: noqa: SLF001 - aiohttp 3.14 looks at what a connection holds when it is given back, and not when it is taken again

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
"""Seconds without a byte after a response, by which it is settled that the response was the only one."""
_WARY: Final = 60.0
"""Seconds after a byte too many in which no connection is used again before what it is watched for is settled."""
_BUSY: Final = 2.0
"""Seconds at most for which a connection of a job is used without a quiet time in between.

A response too many that comes after the next request has left is taken for its response, and nothing shows it while the
connection is used again at once: each response is then that of the request before.
"""
_ROUNDS: Final = 4
"""Rounds of the event loop in which it reads what has come: two, and one more for each layer that TLS adds."""
_POSTPONED: Final = 0.001
_OWN_POOL: Final = -1


class Origin:
    """Where a response came from: the connection of one attempt.

    `fresh`: the attempt wants a connection of its own, newly opened. `reused`: the connection had been used before.
    `is_settled`: True where nothing else came on the connection, False where something did, None while that is open.
    `is_suspect`: the connection must not be used again before that. `due`: when its quiet time ends, by the event loop.
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
        """Whether a connection to the server held a byte too many a short while ago."""
        return self._connector is not None and self._connector.is_wary

    def doubt(self) -> None:
        """Close the connection, whoever uses it by now: what came on it was meant for somebody else."""
        self.is_settled = None  # whatever was found before
        self._settle(False)

    def watch(self, settled: Callable[[bool], None]) -> None:
        """Call `settled` with `is_settled`, once, as soon as that is known; never before this returns."""
        assert self._connector is not None
        assert self._protocol is not None
        self._settled = settled
        self.due = self._connector.watch(self, self._protocol)

    async def settled(self) -> bool:
        """Wait until it is known whether the response was the only one."""
        if self.look() is None:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.is_suspect = True
            self.watch(lambda _: None if known.done() else known.set_result(None))
            await known
        return bool(self.is_settled)

    def settle_now(self) -> bool:
        """Settle it by what is known now, and call nobody; give `is_settled`."""
        self._settled = None
        if self.look() is None:
            self._settle(True)
        return bool(self.is_settled)

    def look(self) -> bool | None:
        """Give `is_settled`, by what the connection shows now."""
        if self.is_settled is not None:
            return self.is_settled
        if self._protocol is None or self._is_taken(self._protocol):  # mocked: no connection that could hold anything
            self._settle(True)
        elif _is_stained(self._protocol):
            self._settle(False)
        elif self._protocol.transport is None:
            self._settle(True)
        return self.is_settled

    def _is_taken(self, protocol: ResponseHandler) -> bool:
        """Tell whether the owner of a borrowed session uses the connection: each request sets a parser of its own."""
        return protocol._parser is not self._parser and protocol._parser is not None

    def is_due(self, now: float) -> bool:
        """Tell whether there is nothing to wait for any more."""
        return self.is_settled is not None or self.due <= now

    def end_quiet(self) -> bool:
        """Settle it after its quiet time. False where the event loop has yet to read what came meanwhile."""
        assert self._protocol is not None
        if self.look() is None:
            if _is_readable(self._protocol):
                return False
            if self._connector is not None:
                self._connector.was_quiet(self._protocol)
            self._settle(True)
        return True

    def keep(self, connection: Connection) -> None:
        """Give the connection back only when it is settled."""
        self._kept = connection

    def begin(self, connector: "Connector", protocol: ResponseHandler, *, reused: bool) -> None:
        """Take note of the connection that the request is to leave on."""
        self._connector, self._protocol, self.reused = connector, protocol, reused

    def leave(self) -> None:
        """Take note that the request leaves."""
        if self._protocol is not None:
            self._parser = self._protocol._parser

    def end(self, *, stained: bool) -> None:
        """Take note that the connection is taken for another request, or closed."""
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
        # Not by protocol.close(), after which who waits for the body would wait for ever.
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.abort()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a response came over no connection


class Connector:
    """A connector of aiohttp, which may be somebody else's, that gives out connections only while they are idle.

    In place of `aiohttp.BaseConnector` for a session; what isn't said here is the other's.
    """

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._connector = connector
        # What each request asks for: by __getattr__ it would take longer.
        self.allowed_protocol_schema_set = connector.allowed_protocol_schema_set
        self._timeout_ceil_threshold = connector._timeout_ceil_threshold
        self._last: dict[ResponseHandler, Origin] = {}  # of each connection that is watched
        self._watched: deque[Origin] = deque()  # in the order in which they are due
        self._busy: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()  # until when it may stay so
        self._timer: asyncio.TimerHandle | None = None
        self._wary_until = -math.inf
        self._now = asyncio.get_running_loop().time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    @property
    def as_connector(self) -> aiohttp.BaseConnector:
        """Itself, to a session."""
        return cast("aiohttp.BaseConnector", self)

    async def connect(  # the session's way in
        self,
        req: Any,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> Connection:
        """Give a connection that holds nothing: one of the pool, closing those that do, or a new one."""
        origin: Origin = req.origin
        if self._last:
            self._look_at_the_closed(req)
        while True:
            connection = await self._connector.connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            reused = protocol._parser is not None  # the first request sets the first one
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
        """Whether a connection held a byte too many a short while ago."""
        return self._now() < self._wary_until

    def beware(self) -> None:
        """Take note that a connection held a byte too many."""
        self._wary_until = self._now() + _WARY

    def watch(self, origin: Origin, protocol: ResponseHandler) -> float:
        """Look at a connection after its quiet time; give that time."""
        now = self._now()
        due = now + QUIET
        if protocol not in self._busy:
            # Not all at a time, for others are opened meanwhile.
            self._busy[protocol] = now + random.uniform(_BUSY / 2, _BUSY)  # noqa: S311 - no secret
        self._last[protocol] = origin
        self._watched.append(origin)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._end_quiet)
        return due

    def was_quiet(self, protocol: ResponseHandler) -> None:
        """Take note that a connection had its quiet time, so that its responses are those to its requests."""
        self._busy.pop(protocol, None)

    def unwatch(self, origin: Origin, protocol: ResponseHandler) -> None:
        """Take note that it is settled what came on a connection for one; where it is doubtful, for a later one too."""
        last = self._last.get(protocol)
        if last is origin:
            del self._last[protocol]
        elif last is not None and not origin.is_settled:
            last.end(stained=True)

    def stop(self) -> None:
        """Settle what isn't yet, by what is known now: the connections are about to be closed."""
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
        """Look at a connection again that has something to read: a ticket of TLS is no byte of a response."""
        try:
            for _ in range(_ROUNDS):
                if not (protocol.is_connected() and _is_usable(protocol)):
                    return False
                if not _is_readable(protocol):
                    return True
                await asyncio.sleep(0)
        except BaseException:  # A cancellation, too: the connection would never go back to the pool.
            connection.close()
            raise
        return False

    def _look_at_the_closed(self, req: Any) -> None:
        """Look at the connections that the pool is about to drop: with them goes what they hold."""
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
    """Give the key of connections that are used once, so that none is taken of those that are there."""
    # To aiohttp it is the hash of headers for a proxy. It counts by the key what limit_per_host allows.
    return key._replace(proxy_headers_hash=_OWN_POOL)


def _is_usable(protocol: ResponseHandler) -> bool:
    """Tell whether a connection is read from and holds nothing."""
    return (
        not protocol.should_close
        and not protocol._reading_paused
        and not protocol._buffer_paused
        and not _is_amid(protocol)
    )


def _is_stained(protocol: ResponseHandler) -> bool:
    """Tell whether something came after the response, as far as the event loop has read."""
    if len(protocol) or protocol._tail or protocol._reading_paused or _is_amid(protocol):
        return True
    error = protocol.exception()
    return isinstance(error, HttpProcessingError) or (
        isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
    )


def _holds_bytes(protocol: ResponseHandler) -> bool:
    return _is_stained(protocol) or (protocol.is_connected() and _is_readable(protocol))


def _is_amid(protocol: ResponseHandler) -> bool:
    """Tell whether a message has begun and not ended."""
    if protocol._payload is not None and not protocol._payload.is_eof():
        return True
    parser = protocol._parser
    if parser is None:
        return False
    try:
        # The parser that isn't compiled keeps lines, and gives nothing for such as make no head.
        has_begun = parser.feed_eof() is not None or bool(getattr(parser, "_lines", None))
    except Exception:  # noqa: BLE001 - whatever it is that can't end here
        has_begun = True
    if has_begun:
        protocol.set_exception(HttpProcessingError())  # asked again, the parser would say something else
    return has_begun


def _is_readable(protocol: ResponseHandler) -> bool:
    """Tell whether the system holds something for a connection, be it its end."""
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
