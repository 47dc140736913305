"""Calls of a client compared with bare aiohttp calls: one at a time, and of many callers at once.

Run as `python -m benchmarks.speed_bench.single URL CALLERS CALLS`, it prints for each operation and each way the
microseconds of CPU per call, the median and the 99th percentile of the latency in milliseconds, and the calls per
second. The ways alternate within a process; each keeps its connections.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, TypeAlias

import aiohttp
import attrs

from adapty_async import AdaptyClient
from adapty_async.testing import prefilled_customer_user_id
from benchmarks.speed_bench.bulk import KEY, PATH, headers_of
from benchmarks.speed_bench.loops import run
from benchmarks.speed_bench.part import Chart, Part, table
from benchmarks.speed_bench.rounds import Figures, Rounds, run_apart, together

Call: TypeAlias = Callable[[str], Awaitable[object]]
"""A call for one customer user ID."""

OURS: Final = "adapty_async"
BARE: Final = "aiohttp"
OPERATIONS: Final = ("get", "delete")
CALLERS: Final = (1, 10, 100, 1000)
_TURNS: Final = 10


def ours(client: AdaptyClient) -> dict[str, Call]:
    """Return the calls of the library, with retries, send queue, errors, and the model of a profile."""
    profiles = client.profiles
    return {
        "get": lambda customer_user_id: profiles.get(customer_user_id=customer_user_id),
        "delete": lambda customer_user_id: profiles.delete(customer_user_id=customer_user_id),
    }


def bare(session: aiohttp.ClientSession, url: str) -> dict[str, Call]:
    """Return the shortest calls that aiohttp allows. Profiles are parsed with json.loads only."""
    address = url + PATH

    async def get(customer_user_id: str) -> object:
        async with session.get(address, headers=headers_of(customer_user_id)) as response:
            response.raise_for_status()
            return json.loads(await response.read())

    async def delete(customer_user_id: str) -> object:
        async with session.delete(address, headers=headers_of(customer_user_id)) as response:
            response.raise_for_status()
            return await response.read()

    return {"get": get, "delete": delete}


@attrs.define
class Series:
    """The measurements of one way."""

    cpu: float = 0.0
    wall: float = 0.0
    latencies: list[float] = attrs.field(factory=list)

    async def take(self, call: Call, callers: int, calls: int) -> None:
        """Let `callers` callers share the calls, each making one after the other."""
        ids = map(prefilled_customer_user_id, range(calls))

        async def caller() -> None:
            for customer_user_id in ids:
                began = time.perf_counter()
                await call(customer_user_id)
                self.latencies.append(time.perf_counter() - began)

        cpu, wall = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall

    @property
    def figures(self) -> Figures:
        """Return the figures of all turns."""
        latencies, calls = sorted(self.latencies), len(self.latencies)
        return {
            "cpu": self.cpu / calls * 1e6,
            "p50": latencies[calls // 2] * 1e3,
            "p99": latencies[calls * 99 // 100] * 1e3,
            "rate": calls / self.wall,
        }


@contextlib.asynccontextmanager
async def both(url: str) -> AsyncIterator[dict[str, dict[str, Call]]]:
    """Open a client and a session, and yield the calls of both."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, AdaptyClient(KEY, base_url=url) as client:
        yield {OURS: ours(client), BARE: bare(session, url)}


async def measure(url: str, callers: int, calls: int) -> dict[str, Figures]:
    """Alternate between both ways for each operation. The first turn opens the connections and isn't counted."""
    series = {key_of(way, operation): Series() for way in (OURS, BARE) for operation in OPERATIONS}
    a_turn = max(calls // _TURNS, 2 * callers)
    async with both(url) as ways:
        for operation, way in _pairs():
            await Series().take(ways[way][operation], callers, a_turn)
        for number in range(_TURNS):
            for operation, way in _pairs() if number % 2 else reversed(list(_pairs())):
                await series[key_of(way, operation)].take(ways[way][operation], callers, a_turn)
    return {key: each.figures for key, each in series.items()}


def key_of(way: str, operation: str) -> str:
    """Return the name of the figure of a way and an operation."""
    return f"{way}, {operation}"


def _pairs() -> Iterator[tuple[str, str]]:
    return itertools.product(OPERATIONS, (OURS, BARE))


def part(url: str, rounds: int, calls: int, widths: tuple[int, ...] = CALLERS) -> Part:
    """Measure every number of callers in processes of their own."""
    found = {callers: together(run_apart("single", url, callers, calls) for _ in range(rounds)) for callers in widths}
    figures = {}
    for operation in OPERATIONS:
        way, other = key_of(OURS, operation), key_of(BARE, operation)
        if 1 in found:
            figures[operation] = found[1].ratio("cpu", way, other)
        if 100 in found:
            figures[f"p99 of {operation}s"] = found[100].ratio("p99", way, other)
    return Part(
        title="Single calls",
        says=f"Concurrent callers of one client. Both clients take turns in a process, in {rounds} rounds. "
        "`get` includes the model of a profile; for aiohttp, it includes json.loads. With many callers, the rate and "
        "the latencies are those of one busy process.",
        table=table(
            ["callers, operation", "CPU, µs per call", "p50, ms", "p99, ms", "calls per second", "CPU", "p99", "rate"],
            [row for callers, each in found.items() for row in _rows(callers, each)],
        ),
        figures=figures,
        charts=[_chart(found)],
    )


def _rows(callers: int, found: Rounds) -> Iterator[list[str]]:
    for operation, way in _pairs():
        key, other = key_of(way, operation), key_of(BARE, operation)
        cpu, p50, p99, rate = (found.median(figure, key) for figure in ("cpu", "p50", "p99", "rate"))
        compared = [f"{found.ratio(figure, key, other):.2f}" for figure in ("cpu", "p99", "rate")]
        shown = [f"{cpu:.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{rate:,.0f}"]
        yield [f"{callers:,}: {way}, {operation}", *shown, *(compared if way == OURS else [""] * 3)]


def _chart(found: dict[int, Rounds]) -> Chart:
    return Chart(
        file="latency.png",
        title="Latency of profiles.get and of a bare aiohttp call",
        unit="milliseconds",
        groups=[f"{callers:,} caller{'s' if callers > 1 else ''}" for callers in found],
        bars={
            f"{way}, {figure}": [each.median(figure, key_of(way, "get")) for each in found.values()]
            for way in (OURS, BARE)
            for figure in ("p50", "p99")
        },
        logarithmic=True,
    )


if __name__ == "__main__":
    url, callers, calls = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for two thousand connections
    print(json.dumps(run(measure(url, int(callers), int(calls)))))
