"""Bulk jobs over real sockets, against a simulator of the API in another process."""

import asyncio
import itertools
import json
import statistics
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from adapty_async import AdaptivePacer, AdaptyClient, bulk
from adapty_async.testing import prefilled_customer_user_id
from benchmarks.pacing_bench.contenders import OURS, figures_of
from benchmarks.pacing_bench.figures import Scenario
from benchmarks.pacing_bench.scenarios import bucket, steady
from benchmarks.pacing_bench.table import share

SECONDS: Final = 40.0
STARTED: Final = 20.0
PROFILES: Final = 1000
UNDER_WAY: Final = 64
LATENCY: Final = 0.1
STATE_PATH: Final = "/_simulator/state"


@dataclass(frozen=True)
class Limit:
    """The hidden limit of the server."""

    name: str
    rate: float
    burst: int
    retry_after: float | None = None

    @property
    def words(self) -> Iterator[str]:
        """Yield the options of the simulator. Its burst doesn't include the first request."""
        options = {"rate": self.rate, "burst": self.burst - 1, "retry-after": self.retry_after}
        return itertools.chain(*((f"--{name}", str(value)) for name, value in options.items() if value is not None))

    @property
    def scenario(self) -> Scenario:
        """Return the same limit in virtual time."""
        world = bucket(self.rate, self.burst, SECONDS, retry_after=lambda _: self.retry_after)
        return Scenario(self.name, world, steady(self.rate), after=STARTED)


LIMITS: Final = [
    Limit("50/s, burst 10", 50, 10),
    Limit("300/s, burst 30", 300, 30),
    Limit("50/s, burst 10, Retry-After 1", 50, 10, retry_after=1.0),
]


@dataclass(frozen=True)
class Count:
    """The responses of the server so far."""

    accepted: int
    refused: int

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Count":
        """Parse the state of the simulator."""
        answers: dict[str, int] = state["answers"].get("GET", {})
        refused = answers.get("429", 0)
        return cls(sum(answers.values()) - refused, refused)


async def loopback_table(seeds: int = 5) -> list[str]:
    """Run the jobs one after the other. Return a table that compares them with virtual time."""
    lines = ["| hidden limiter | goodput | in virtual time | 429s | in virtual time |", "|---|---|---|---|---|"]
    for limit in LIMITS:
        goodput, refused = await run(limit)
        twins = figures_of(OURS, limit.scenario, seeds)
        virtual_goodput = statistics.fmean(twin.goodput for twin in twins)
        virtual_refused = statistics.fmean(twin.refused for twin in twins)
        cells = [share(goodput, 1), share(virtual_goodput, 1), share(refused, 2), share(virtual_refused, 2)]
        lines.append(f"| {limit.name} | {' | '.join(cells)} |")
    return lines


async def run(limit: Limit, started: float = STARTED, seconds: float = SECONDS) -> tuple[float, float]:
    """Run a bulk job against a limit. Return the goodput and the share of 429s, as counted by the server."""
    ids = map(prefilled_customer_user_id, itertools.cycle(range(1, PROFILES + 1)))
    async with (
        simulator(limit) as (base_url, api_key),
        aiohttp.ClientSession(base_url) as session,
        AdaptyClient(api_key, base_url=base_url) as client,
        bulk.get_profiles(client, ids, by="customer_user_id", concurrency=UNDER_WAY, pacer=AdaptivePacer()) as job,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(finish(job))
        await asyncio.sleep(started)
        before = await count(session)
        await asyncio.sleep(seconds - started)
        after = await count(session)
        job.stop()
    goodput = (after.accepted - before.accepted) / limit.rate / (seconds - started)
    return goodput, after.refused / (after.accepted + after.refused)


async def finish(job: bulk.BulkJob[Any, Any]) -> None:
    """Run a job until it ends."""
    await job


async def count(session: aiohttp.ClientSession) -> Count:
    """Return the counts of the simulator."""
    async with session.get(STATE_PATH) as answer:
        return Count.of(await answer.json())


@asynccontextmanager
async def simulator(limit: Limit) -> AsyncIterator[tuple[str, str]]:
    """Run the simulator during the block. Yield its address and its key."""
    words = ["--profiles", str(PROFILES), "--latency", str(LATENCY), *limit.words]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapty_async.testing", *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        server = json.loads(await process.stdout.readline())
        yield server["base_url"], server["api_key"]
    finally:
        process.terminate()
        await process.wait()
