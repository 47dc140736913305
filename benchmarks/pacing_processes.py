"""Real processes that share a pacer, and a small limiter on loopback. Requests and responses are lines of text.

Run as a module, it is one such process, which sends as fast as its pacer allows until it is stopped.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapty_async.http.send_queue import SendQueue
from adapty_async.pacing import SharedPacer, Ticket, Verdict
from adapty_async.testing.limiter import Limiter

ROOT: Final = Path(__file__).parents[1]
_UNDER_WAY: Final = 200


class LimitServer:
    """Responds to each request, after `latency` seconds, with "yes", "no" or the seconds of a Retry-After.

    `accepted` and `refused` contain the times of arrival by process name.
    """

    def __init__(self, limiter: Limiter, latency: float = 0.02) -> None:
        self.limiter = limiter
        self.accepted: defaultdict[str, list[float]] = defaultdict(list)
        self.refused: defaultdict[str, list[float]] = defaultdict(list)
        self._latency = latency
        self._arrived = asyncio.Event()
        self._next_refusal: float | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port of the server."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(2 * self._latency)

    def refuse_once(self, retry_after: float) -> None:
        """Reject the next request with a Retry-After."""
        self._next_refusal = retry_after

    async def heard_of(self, *names: str) -> None:
        """Wait until a request of each of these processes was accepted."""
        await self._until(lambda: all(self.accepted[name] for name in names))

    async def refusal(self) -> None:
        """Wait for the first rejected request."""
        await self._until(lambda: any(self.refused.values()))

    def count(self, first: float, last: float, name: str | None = None) -> int:
        """Count the requests accepted between two times of the event loop, of one process or of all."""
        names = list(self.accepted) if name is None else [name]
        return sum(first <= at < last for name in names for at in self.accepted[name])

    def share_refused(self) -> float:
        """Return the share of rejected requests."""
        refused = sum(map(len, self.refused.values()))
        return refused / max(1, refused + sum(map(len, self.accepted.values())))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                number, name = line.decode().split()
                answer = self._answer(loop.time(), name)
                loop.call_later(self._latency, _write, writer, f"{number} {answer}\n".encode())
        self._connections.discard(writer)
        writer.close()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._arrived.clear()
            await self._arrived.wait()

    def _answer(self, now: float, name: str) -> str:
        self._arrived.set()
        if self._next_refusal is not None:
            self.refused[name].append(now)
            answer, self._next_refusal = str(self._next_refusal), None
            return answer
        if self.limiter.accepts(now):
            self.accepted[name].append(now)
            return "yes"
        self.refused[name].append(now)
        return "no"


def _write(writer: asyncio.StreamWriter, line: bytes) -> None:
    if not writer.is_closing():
        writer.write(line)


@contextlib.asynccontextmanager
async def running(
    server: LimitServer, state: Path, *names: str, start_rate: float = 5.0, max_rate: float | None = None
) -> AsyncIterator[list[Process]]:
    """Run processes with these names during the block, then kill those that are still running."""
    command = [sys.executable, "-m", "benchmarks.pacing_processes", str(server.port), str(state), str(start_rate)]
    if max_rate is not None:
        command += ["--max-rate", str(max_rate)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        await asyncio.create_subprocess_exec(*command, name, cwd=ROOT, env=environment, stdin=DEVNULL) for name in names
    ]
    try:
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


class _Worker:
    """Sends requests as fast as the pacer allows."""

    def __init__(self, gate: SendQueue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._gate = gate
        self._reader = reader
        self._writer = writer
        self._name = name
        self._tickets: dict[str, Ticket] = {}
        self._room = asyncio.Semaphore(_UNDER_WAY)

    async def send(self) -> None:
        for number in itertools.count():
            await self._room.acquire()
            self._tickets[str(number)] = await self._gate.acquire()
            self._writer.write(f"{number} {self._name}\n".encode())

    async def hear(self) -> None:
        while line := await self._reader.readline():
            number, answer = line.decode().split()
            ticket = self._tickets.pop(number)
            self._room.release()
            if answer == "yes":
                self._gate.record(ticket, Verdict.ACCEPTED)
            else:
                self._gate.record(ticket, Verdict.THROTTLED, None if answer == "no" else float(answer))


async def _work(port: int, pacer: SharedPacer, name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    worker = _Worker(SendQueue(pacer, random.Random(name)), reader, writer, name)  # noqa: S311 - not for security
    sending = asyncio.create_task(worker.send())
    await worker.hear()
    sending.cancel()


def main() -> None:
    """Run as one process until the server ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("state", type=Path)
    parser.add_argument("start_rate", type=float)
    parser.add_argument("name")
    parser.add_argument("--max-rate", type=float)
    arguments = parser.parse_args()
    with contextlib.closing(SharedPacer(arguments.state, arguments.start_rate, arguments.max_rate)) as pacer:
        asyncio.run(_work(arguments.port, pacer, arguments.name))


if __name__ == "__main__":
    main()
