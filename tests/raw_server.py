"""A server on a plain loopback socket that follows a script, for behaviour that only a socket shows."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

import attrs

Reply: TypeAlias = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""A reply to a request: bytes, which leave the connection open, or a function that acts on the connection."""


@attrs.frozen
class RawRequest:
    """A request as received. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, bytes]
    body: bytes


class RawServer:
    """Send the replies of the script in order, then the last one repeatedly. Keep the requests."""

    def __init__(self, *script: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.script = list(script)
        self._tls = tls
        self.requests: list[RawRequest] = []
        self.connections = 0
        self._connected: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # A full queue of connections would take a second.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._connected:
            task.cancel()
        await asyncio.gather(*self._connected, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._connected.add(task)
        try:
            while True:
                self.requests.append(await _read(reader))
                reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client or the test has ended
        finally:
            self._connected.discard(task)
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> RawRequest:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _ = first.decode().split(" ")
    headers = {name.decode().lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", b"0")))
    return RawRequest(method, target, headers, body)


def answer(status: int = 200, body: bytes | object = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Write a response. A body that isn't bytes is written as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Word", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if status != 204:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection instead of responding."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise EOFError


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection instead of responding."""
    raise EOFError


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Don't respond until the client closes the connection."""
    await reader.read()
    raise EOFError


def then(first: bytes, what_follows: Reply) -> Reply:
    """Write the first part of a response, then continue with a reply."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await writer.drain()
        if isinstance(what_follows, bytes):
            writer.write(what_follows)
        else:
            await what_follows(reader, writer)

    return reply
