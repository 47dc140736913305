"""Calls and jobs against a server that is out of step: its responses are surplus, early, late or in pieces.

`python -m tests.desync --calls 20000 --seed S` prints how many got a response to another request.
"""

import argparse
import asyncio
import collections
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import attrs

from adapty_async import UNPACED, AdaptyClient, AdaptyError, ProfileAttributes, RetryPolicy
from adapty_async.bulk import Outcome, StopRules, delete_profiles

from .raw_server import answer

KEY: Final = "secret_live_Desync.0f1e2d3c"
CALLERS: Final = 200
TRICKS: Final[Mapping[str, float]] = {
    "surplus": 0.01,  # together with the response
    "surplus soon": 0.01,
    "surplus late": 0.005,
    "surplus first": 0.005,  # together with the response
    "surplus early": 0.005,  # some time before the response
    "late": 0.01,
    "pieces": 0.02,
    "half a surplus": 0.005,
    "noise": 0.005,
}
# The share of deletions that the server rejects.
_REFUSED: Final = 0.05
_KEPT: Final = 100
_APP_ID: Final = "14c3d623-2f3a-455a-aa86-ef83dff6913b"
_NAMED: Final = ProfileAttributes(first_name="Ann")


def profile_id_of(name: str) -> uuid.UUID:
    """Return the profile ID that the server assigns to a customer user ID."""
    return uuid.uuid5(uuid.NAMESPACE_URL, name)


class HostileServer:
    """Respond to requests, and also repeat earlier responses at the wrong time. `deleted`: the deleted IDs."""

    def __init__(self, seed: int, tricks: Mapping[str, float] = TRICKS, *, latency: float = 0.002) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - repeatable
        self.tricks = tricks
        self.latency = latency
        self.deleted: set[str] = set()
        self.played: collections.Counter[str] = collections.Counter()
        self.requests = self.connections = 0
        self._sent: collections.deque[bytes] = collections.deque(maxlen=_KEPT)
        self._connected: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._connected:
            task.cancel()
        await asyncio.gather(*self._connected, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._connected.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head[:-4].decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests += 1
                method, name = first.split(" ")[0], headers["adapty-customer-user-id"]
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) * self.latency)
                await self._send(writer, self._answer(method, name))
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client or the test has ended
        finally:
            self._connected.discard(task)
            writer.transport.abort()

    def _answer(self, method: str, name: str) -> bytes:
        if method == "DELETE":
            if name in self.deleted:
                return answer(404, {"errors": [], "error_code": "profile_does_not_exist", "status_code": 404})
            if self.rng.random() < _REFUSED:
                return answer(400, {"errors": [], "error_code": "validation_error", "status_code": 400})
            self.deleted.add(name)
            return answer(204)
        ids = {"app_id": _APP_ID, "profile_id": str(profile_id_of(name)), "customer_user_id": name}
        return answer(200, {"data": ids})

    async def _send(self, writer: asyncio.StreamWriter, response: bytes) -> None:
        names, shares = [*self.tricks], [*self.tricks.values()]
        (trick,) = self.rng.choices(["none", *names], [1.0 - sum(shares), *shares])
        surplus = self.rng.choice(self._sent) if self._sent else response
        self._sent.append(response)
        self.played[trick] += 1
        middle = self.rng.randrange(1, len(response))
        soon, later = self.rng.uniform(0.0, 0.003), self.rng.uniform(0.005, 0.05)
        loop = asyncio.get_running_loop()
        match trick:
            case "surplus":
                writer.write(response + surplus)
            case "surplus soon" | "surplus late":
                writer.write(response)
                loop.call_later(soon if trick == "surplus soon" else later, _write, writer, surplus)
            case "surplus first":
                writer.write(surplus + response)
            case "surplus early":
                writer.write(surplus)
                await asyncio.sleep(soon)
                writer.write(response)
            case "late":
                await asyncio.sleep(later)
                writer.write(response)
            case "pieces":
                writer.write(response[:middle])
                await asyncio.sleep(soon)
                writer.write(response[middle:])
            case "half a surplus":
                writer.write(response + surplus[: min(middle, len(surplus) - 1)])
            case "noise":
                writer.write(response)
                loop.call_later(soon, _write, writer, b"\x00\x01 no HTTP \r\n\r\n")
            case _:
                writer.write(response)
        await writer.drain()


def _write(writer: asyncio.StreamWriter, what: bytes) -> None:
    if not writer.is_closing():
        writer.write(what)


@attrs.define
class Found:
    """The results of a run: how many there are, and which of them are wrong."""

    total: int
    results: collections.Counter[str] = attrs.field(factory=collections.Counter)
    wrong: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        return f"{self.total} in all: {dict(self.results)}; {len(self.wrong)} wrong {self.wrong[:5]}"


_CALLS: Final[tuple[Callable[[AdaptyClient, str], Awaitable[Any]], ...]] = (
    lambda client, name: client.profiles.get(customer_user_id=name),
    lambda client, name: client.profiles.create(customer_user_id=name),
    lambda client, name: client.profiles.update(_NAMED, customer_user_id=name),
)


async def call(server: HostileServer, calls: int, *, callers: int = CALLERS) -> Found:
    """Get, create and update this many profiles with IDs of their own, by this many concurrent callers."""
    found, names = Found(calls), iter(range(calls))

    async def caller(client: AdaptyClient) -> None:
        for number in names:
            name = f"user-{number}"
            make = _CALLS[number % 10 % len(_CALLS)] if number % 10 < len(_CALLS) else _CALLS[0]
            try:
                profile = await make(client, name)
            except AdaptyError as error:
                found.results[type(error).__name__] += 1
                continue
            found.results["Profile"] += 1
            if profile.customer_user_id != name or profile.profile_id != profile_id_of(name):
                found.wrong.append(name)

    policy = RetryPolicy(max_attempts=4, initial_backoff=0.001, max_backoff=0.001)
    async with AdaptyClient(KEY, base_url=server.base_url, retry=policy) as client:
        await asyncio.gather(*(caller(client) for _ in range(callers)))
    return found


async def delete(server: HostileServer, deletions: int, *, concurrency: int = 100) -> Found:
    """Delete this many profiles with a job. An outcome that doesn't match the server's state is wrong."""
    found = Found(deletions)
    lenient = StopRules(max_failure_ratio=None, max_absent_ratio=None)
    policy = RetryPolicy(max_attempts=4, initial_backoff=0.001, max_backoff=0.001)
    async with AdaptyClient(KEY, base_url=server.base_url, retry=policy) as client:
        names = (f"user-{number}" for number in range(deletions))
        job = delete_profiles(
            client, names, by="customer_user_id", concurrency=concurrency, pacer=UNPACED, stop=lenient
        )
        async for result in job:
            found.results[result.outcome] += 1
            gone = result.item in server.deleted
            if _says_gone(result.outcome) is not gone and result.outcome is not Outcome.IN_DOUBT:
                found.wrong.append(f"{result.item} {result.outcome}")
    return found


def _says_gone(outcome: Outcome) -> bool:
    return outcome in (Outcome.DELETED, Outcome.DELETED_UNCONFIRMED, Outcome.ALREADY_ABSENT)


async def _run(calls: int, seed: int) -> bool:
    is_good = True
    for run, most_wrong in ((call, 0.0), (delete, 1 / 2000)):
        began = time.monotonic()
        async with HostileServer(seed) as server:
            found = await run(server, calls)
        print(f"{run.__name__}: {found}; {time.monotonic() - began:.1f} s")
        print(f"  {server.connections} connections, {server.requests} requests, {dict(server.played)}")
        is_good = is_good and len(found.wrong) <= most_wrong * calls
    return is_good


def main() -> int:
    """Run both. Fail if a call got another's data, or if more than 1 deletion in 2,000 was recorded wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.desync", description=main.__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    return 0 if asyncio.run(_run(chosen.calls, chosen.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
