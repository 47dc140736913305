"""The HTTP server under the simulator: counts connections, stops at once."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# Everyone may connect at the same time; a full queue would cost a second each.
_BACKLOG = 4096
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Name the error of a request that can't be parsed, and hide its text, which shows headers."""
    if record.exc_info and record.exc_info[0]:
        record.msg = f"{record.msg} ({record.exc_info[0].__name__})"
        record.exc_info = None
    return True


_logger = logging.getLogger(__name__)
_logger.addFilter(_without_traceback)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection of a request; the answer returned never reaches the wire."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def send_surplus(
    request: web.BaseRequest, response: web.Response, surplus: web.Response, *, first: bool
) -> web.StreamResponse:
    """Send a response and one too many; `first`: that one before it."""
    if first:
        _write(request, surplus)
    await response.prepare(request)
    await response.write_eof()
    if not first:
        _write(request, surplus)
    return response


def _write(request: web.BaseRequest, response: web.Response) -> None:
    body = response.body if isinstance(response.body, bytes) else b""
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    if response.status != 204:
        lines.append(f"Content-Length: {len(body)}")
    if request.transport is not None:
        request.transport.write("\r\n".join([*lines, "", ""]).encode() + body)


class Server:
    """Serve one handler on a loopback port, from `start` to `stop`; it may be started again.

    `connected` is called for each TCP connection that is accepted.
    """

    def __init__(self, handler: Handler, connected: Callable[[], None]) -> None:
        self._handler = handler
        self._connected = connected
        self._under_way: set[asyncio.Task[Any]] = set()
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use. Raises RuntimeError while the server is not running."""
        if self._listener is None:
            raise RuntimeError("the simulator is not running")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def start(self, port: int) -> None:
        """Listen on `port`, 0 for any free one. Raises OSError where it is taken."""
        if self._listener is not None:
            raise RuntimeError("the simulator is running already")
        self._http = http = web.Server(self._tracked, access_log=None, logger=_logger)

        def connection() -> asyncio.Protocol:
            self._connected()
            return http()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(connection, "127.0.0.1", port, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Stop listening, cancel the requests under way and close every connection."""
        if self._listener is None or self._http is None:
            return
        # asyncio loses a connection that it accepts in the same round in which the listener is closed.
        with contextlib.suppress(NotImplementedError):  # raised where no selector, and no such gap, is
            asyncio.get_running_loop().remove_reader(self._listener.sockets[0])
        await _settle()
        self._listener.close()
        self._listener = None
        for connection in self._http.connections:
            # An abort, for a close would wait for callers that don't read.
            if connection.transport is not None:
                connection.transport.abort()
        await _settle()
        while self._under_way:
            for task in self._under_way:
                task.cancel()
            await asyncio.wait(self._under_way)

    async def _tracked(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._handler(request)
        finally:
            self._under_way.remove(task)


async def _settle() -> None:
    """Let what is just beginning or ending on a connection do so: that takes the loop three rounds at most."""
    for _ in range(3):
        await asyncio.sleep(0)
