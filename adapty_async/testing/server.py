"""The HTTP server of the simulator. It counts connections and can stop immediately."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# All clients may connect at the same time. A full queue would cost each of them a second.
_MAX_BACKLOG = 4096
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _strip_traceback(record: logging.LogRecord) -> bool:
    """Log the name of a request's parse error without its text, which contains headers."""
    if record.exc_info and record.exc_info[0]:
        record.msg = f"{record.msg} ({record.exc_info[0].__name__})"
        record.exc_info = None
    return True


_logger = logging.getLogger(__name__)
_logger.addFilter(_strip_traceback)


def reset_connection(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection of a request. The returned response is never sent."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def send_surplus(
    request: web.BaseRequest, response: web.Response, surplus: web.Response, *, is_surplus_first: bool
) -> web.StreamResponse:
    """Send a response and an extra one, which comes first if `is_surplus_first`."""
    if is_surplus_first:
        _write_response(request, surplus)
    await response.prepare(request)
    await response.write_eof()
    if not is_surplus_first:
        _write_response(request, surplus)
    return response


def _write_response(request: web.BaseRequest, response: web.Response) -> None:
    body = response.body if isinstance(response.body, bytes) else b""
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    if response.status != 204:
        lines.append(f"Content-Length: {len(body)}")
    if request.transport is not None:
        request.transport.write("\r\n".join([*lines, "", ""]).encode() + body)


class Server:
    """Serve one handler on a loopback port from `start` to `stop`. It can be started again.

    `on_connection` is called for every accepted TCP connection.
    """

    def __init__(self, handler: Handler, on_connection: Callable[[], None]) -> None:
        self._handler = handler
        self._on_connection = on_connection
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use. Raises RuntimeError while the server isn't running."""
        if self._listener is None:
            raise RuntimeError("the simulator is not running")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def start(self, port: int) -> None:
        """Listen on `port`, or on any free port if it is 0.

        Raises:
            OSError: If the port is in use.
        """
        if self._listener is not None:
            raise RuntimeError("the simulator is already running")
        self._http = http = web.Server(self._track_request, access_log=None, logger=_logger)

        def make_protocol() -> asyncio.Protocol:
            self._on_connection()
            return http()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(make_protocol, "127.0.0.1", port, backlog=_MAX_BACKLOG)

    async def stop(self) -> None:
        """Stop listening, cancel the requests in flight and close every connection."""
        if self._listener is None or self._http is None:
            return
        # asyncio loses a connection that it accepts in the same round in which the listener is closed.
        with contextlib.suppress(NotImplementedError):  # raised by loops without a selector, which aren't affected
            asyncio.get_running_loop().remove_reader(self._listener.sockets[0])
        await _run_loop_rounds()
        self._listener.close()
        self._listener = None
        for connection in self._http.connections:
            # abort() and not close(), which would wait for callers that don't read
            if connection.transport is not None:
                connection.transport.abort()
        await _run_loop_rounds()
        while self._in_flight:
            for task in self._in_flight:
                task.cancel()
            await asyncio.wait(self._in_flight)

    async def _track_request(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._in_flight.add(task)
        try:
            return await self._handler(request)
        finally:
            self._in_flight.remove(task)


async def _run_loop_rounds() -> None:
    """Run the three rounds of the loop that connections need at most to finish opening or closing."""
    for _ in range(3):
        await asyncio.sleep(0)
