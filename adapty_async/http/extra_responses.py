"""Detection of extra responses on kept-alive connections, which then must not be reused. Uses internals of aiohttp.

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

QUIET_SECONDS: Final = 0.1
"""Seconds without a byte after a response that confirm the response."""
_ALERT_SECONDS: Final = 60.0
"""Seconds after an extra byte during which every response must be confirmed before its connection is reused."""
_MAX_BUSY_SECONDS: Final = 2.0
"""Maximum seconds for which a connection of a job is used without a quiet time.

If an extra response arrives after the next request has been sent, it is taken for the response to that request. While
the connection is always reused at once, nothing reveals this: each request gets the response to the previous one.
"""
_IDLE_CHECK_ROUNDS: Final = 4
"""Rounds of the event loop in which it reads the data that has arrived: two, and one for each layer of TLS."""
_RECHECK_SECONDS: Final = 0.001
_UNPOOLED_HASH: Final = -1


class ExtraResponseCheck:
    """Checks whether extra responses arrive on the connection of one attempt's response.

    Attributes:
        needs_new_connection: Whether the attempt needs a newly opened connection.
        is_reused: Whether the connection had been used before.
        is_clean: True if nothing else arrived on the connection, False if something did, None while this is unknown.
        is_suspect: Whether the connection must not be reused before this is known.
        due_at: When the quiet time ends, by the clock of the event loop.
    """

    __slots__ = (
        "_connector",
        "_deferred_connection",
        "_on_decision",
        "_parser",
        "_protocol",
        "due_at",
        "is_clean",
        "is_reused",
        "is_suspect",
        "needs_new_connection",
    )

    def __init__(self, *, needs_new_connection: bool) -> None:
        self.needs_new_connection = needs_new_connection
        self.is_reused = False
        self.is_clean: bool | None = None
        self._connector: Connector | None = None
        self._protocol: ResponseHandler | None = None
        self._parser: object = None
        self._on_decision: Callable[[bool], None] | None = None
        self._deferred_connection: Connection | None = None
        self.is_suspect = False
        self.due_at = 0.0

    @property
    def is_server_suspect(self) -> bool:
        """Whether a connection to the server has held an extra byte recently."""
        return self._connector is not None and self._connector.is_server_suspect

    def invalidate(self) -> None:
        """Close the connection, even if another request uses it now: a response on it belonged to another request."""
        self.is_clean = None  # discards an earlier result
        self._decide(False)

    def watch(self, on_decision: Callable[[bool], None]) -> None:
        """Call `on_decision` once with `is_clean` when it is known, but never before this method returns."""
        assert self._connector is not None
        assert self._protocol is not None
        self._on_decision = on_decision
        self.due_at = self._connector.watch(self, self._protocol)

    async def wait_until_known(self) -> bool:
        """Wait until it is known whether the response was the only one. Return True if it was."""
        if self.check() is None:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.is_suspect = True
            self.watch(lambda _: None if known.done() else known.set_result(None))
            await known
        return bool(self.is_clean)

    def decide_now(self) -> bool:
        """Decide by the present state, without a callback, and return `is_clean`."""
        self._on_decision = None
        if self.check() is None:
            self._decide(True)
        return bool(self.is_clean)

    def check(self) -> bool | None:
        """Check the connection and return `is_clean`."""
        if self.is_clean is not None:
            return self.is_clean
        if self._protocol is None or self._is_used_by_session_owner(self._protocol):  # mocked: there is no connection
            self._decide(True)
        elif _has_extra_bytes(self._protocol):
            self._decide(False)
        elif self._protocol.transport is None:
            self._decide(True)
        return self.is_clean

    def _is_used_by_session_owner(self, protocol: ResponseHandler) -> bool:
        """Return True if the owner of a borrowed session uses the connection. Each request sets its own parser."""
        return protocol._parser is not self._parser and protocol._parser is not None

    def is_due(self, now: float) -> bool:
        """Return True if there is nothing left to wait for."""
        return self.is_clean is not None or self.due_at <= now

    def end_quiet_time(self) -> bool:
        """End the quiet time. Return False if the event loop has not read all bytes yet."""
        assert self._protocol is not None
        if self.check() is None:
            if _is_readable(self._protocol):
                return False
            if self._connector is not None:
                self._connector.record_quiet_time(self._protocol)
            self._decide(True)
        return True

    def defer_release(self, connection: Connection) -> None:
        """Return the connection to the pool only when its response is confirmed or in doubt."""
        self._deferred_connection = connection

    def assign_connection(self, connector: "Connector", protocol: ResponseHandler, *, is_reused: bool) -> None:
        """Record the connection that the request will be sent on."""
        self._connector, self._protocol, self.is_reused = connector, protocol, is_reused

    def on_send(self) -> None:
        """Record that the request is being sent."""
        if self._protocol is not None:
            self._parser = self._protocol._parser

    def finish(self, *, has_extra_bytes: bool) -> None:
        """Record that the connection is taken for another request or closed."""
        self._decide(not has_extra_bytes)

    def _decide(self, is_clean: bool) -> None:
        if self.is_clean is not None:
            return
        self.is_clean = is_clean
        if self._connector is not None and self._protocol is not None:
            self._connector.unwatch(self, self._protocol)
            if not is_clean:
                self._close()
                self._connector.record_extra_bytes()
        deferred, self._deferred_connection = self._deferred_connection, None
        if deferred is not None:
            deferred.release()
        on_decision, self._on_decision = self._on_decision, None
        if on_decision is not None:
            on_decision(is_clean)

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
        self._checks: dict[ResponseHandler, ExtraResponseCheck] = {}  # by connection, while it is watched
        self._watched_checks: deque[ExtraResponseCheck] = deque()  # ordered by due time
        self._quiet_due: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()  # when it must be quiet
        self._timer: asyncio.TimerHandle | None = None
        self._alert_until = -math.inf
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
        connection_check: ExtraResponseCheck = req.connection_check
        if self._checks:
            self._check_closed_connections(req)
        while True:
            connection = await self._connector.connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            is_reused = protocol._parser is not None  # the first request sets it
            last = self._checks.get(protocol) if self._checks else None
            if last is not None and self._needs_quiet_time(last, protocol):
                last.defer_release(connection)
                continue
            is_idle = _is_usable(protocol) and not _is_readable(protocol)
            if not is_idle:
                is_idle = await self._recheck_idle(connection, protocol)
            if last is not None:
                last.finish(has_extra_bytes=not is_idle and _has_unread_bytes(protocol))
            if is_idle and not (is_reused and connection_check.needs_new_connection):
                connection_check.assign_connection(self, protocol, is_reused=is_reused)
                return connection
            connection.close()
            if not is_reused:
                raise aiohttp.ClientConnectionError("the server spoke first")

    @property
    def is_server_suspect(self) -> bool:
        """Whether a connection has held an extra byte recently."""
        return self._now() < self._alert_until

    def record_extra_bytes(self) -> None:
        """Record that a connection held an extra byte."""
        self._alert_until = self._now() + _ALERT_SECONDS

    def watch(self, connection_check: ExtraResponseCheck, protocol: ResponseHandler) -> float:
        """Check a connection after its quiet time, and return when that ends."""
        now = self._now()
        due = now + QUIET_SECONDS
        if protocol not in self._quiet_due:
            # Spread out: while a connection is quiet, others must be opened.
            self._quiet_due[protocol] = now + random.uniform(_MAX_BUSY_SECONDS / 2, _MAX_BUSY_SECONDS)  # noqa: S311 - no secret
        self._checks[protocol] = connection_check
        self._watched_checks.append(connection_check)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._end_quiet_times)
        return due

    def record_quiet_time(self, protocol: ResponseHandler) -> None:
        """Record that a connection had its quiet time, so that its responses match its requests."""
        self._quiet_due.pop(protocol, None)

    def unwatch(self, connection_check: ExtraResponseCheck, protocol: ResponseHandler) -> None:
        """Stop watching a connection for one response. If that response is in doubt, so is a later one."""
        last = self._checks.get(protocol)
        if last is connection_check:
            del self._checks[protocol]
        elif last is not None and not connection_check.is_clean:
            last.finish(has_extra_bytes=True)

    def stop(self) -> None:
        """Decide all open cases by the present state, before the connections are closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for protocol, last in tuple(self._checks.items()):
            last.finish(has_extra_bytes=_has_unread_bytes(protocol))
        self._watched_checks.clear()

    def _needs_quiet_time(self, last_check: ExtraResponseCheck, protocol: ResponseHandler) -> bool:
        is_busy = self._quiet_due.get(protocol, math.inf) <= self._now()
        return (last_check.is_suspect or self.is_server_suspect or is_busy) and last_check.check() is None

    async def _recheck_idle(self, connection: Connection, protocol: ResponseHandler) -> bool:
        """Check again a connection that has something to read. It may be a TLS session ticket."""
        try:
            for _ in range(_IDLE_CHECK_ROUNDS):
                if not (protocol.is_connected() and _is_usable(protocol)):
                    return False
                if not _is_readable(protocol):
                    return True
                await asyncio.sleep(0)
        except BaseException:  # also on cancellation, or the connection would never return to the pool
            connection.close()
            raise
        return False

    def _check_closed_connections(self, request: Any) -> None:
        """Check the connections that the pool is about to drop, before their bytes are lost."""
        for protocol, _ in self._connector._conns.get(request.connection_key, ()):
            if protocol.is_connected():
                break
            if protocol in self._checks:
                self._checks[protocol].check()

    def _end_quiet_times(self) -> None:
        self._timer = None
        loop, watched, now = asyncio.get_running_loop(), self._watched_checks, self._now()
        while watched and watched[0].is_due(now):
            if not watched[0].end_quiet_time():
                self._timer = loop.call_later(_RECHECK_SECONDS, self._end_quiet_times)
                return
            watched.popleft()
        if watched:
            self._timer = loop.call_at(watched[0].due_at, self._end_quiet_times)


def make_unpooled_key(connection_key: Any) -> Any:
    """Return the key for connections that are used once, so that no existing connection is taken."""
    # aiohttp uses this field for a hash of proxy headers. limit_per_host is counted by the key.
    return connection_key._replace(proxy_headers_hash=_UNPOOLED_HASH)


def _is_usable(protocol: ResponseHandler) -> bool:
    """Return True if a connection is being read from and holds nothing."""
    return (
        not protocol.should_close
        and not protocol._reading_paused
        and not protocol._buffer_paused
        and not _is_mid_message(protocol)
    )


def _has_extra_bytes(protocol: ResponseHandler) -> bool:
    """Return True if something arrived after the response, as far as the event loop has read."""
    if len(protocol) or protocol._tail or protocol._reading_paused or _is_mid_message(protocol):
        return True
    error = protocol.exception()
    return isinstance(error, HttpProcessingError) or (
        isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
    )


def _has_unread_bytes(protocol: ResponseHandler) -> bool:
    return _has_extra_bytes(protocol) or (protocol.is_connected() and _is_readable(protocol))


def _is_mid_message(protocol: ResponseHandler) -> bool:
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
    return _has_data(descriptor)


if hasattr(select, "poll"):

    def _has_data(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:

    def _has_data(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])
