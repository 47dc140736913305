"""Bulk deletion: the library, with more and more features enabled, and hand-written or other alternatives.

Each way runs in a process of its own. All send the same requests to the same server, with the same number in flight,
and check every status. Run as `python -m benchmarks.speed_bench.bulk NAME URL IDS UNDER_WAY`, it prints the seconds and
the CPU seconds as JSON, without those of imports.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

from adapty_async.testing import prefilled_customer_user_id
from benchmarks.speed_bench.loops import run
from benchmarks.speed_bench.part import Chart, Part, table
from benchmarks.speed_bench.rounds import Rounds, run_apart, take_turns

PATH: Final = "/api/v2/server-side-api/profile/"
KEY: Final = "secret_live_benchmark"

Way: TypeAlias = Callable[[str, Iterator[str], int], Awaitable[int]]
"""Deletes profiles at a URL, with a limit on the requests in flight. Returns how many were deleted."""


def headers_of(customer_user_id: str) -> dict[str, str]:
    """Return the headers of a deletion."""
    return {"Authorization": f"Api-Key {KEY}", "adapty-customer-user-id": customer_user_id}


async def _ours(url: str, ids: Iterator[str], under_way: int, *, pacer: Any, journal: Any = None) -> int:
    from adapty_async import AdaptyClient, bulk

    async with AdaptyClient(KEY, base_url=url) as client:
        report = await bulk.delete_profiles(
            client, ids, by="customer_user_id", concurrency=under_way, pacer=pacer, ledger=journal
        )
    return report.counts[bulk.Outcome.DELETED]


async def bare(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run the library with retries and outcomes."""
    from adapty_async import UNPACED

    return await _ours(url, ids, under_way, pacer=UNPACED)


async def paced(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run the library with a pacer too."""
    from adapty_async import FixedPacer

    return await _ours(url, ids, under_way, pacer=FixedPacer(1e6))


async def with_ledger(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run the library with a pacer and a ledger."""
    from adapty_async import FixedPacer
    from adapty_async.ledger import Ledger

    with tempfile.TemporaryDirectory() as folder:
        journal = Ledger(Path(folder) / "job.db")
        return await _ours(url, ids, under_way, pacer=FixedPacer(1e6), journal=journal)


async def workers(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run a hand-written loop of workers with aiohttp."""
    import aiohttp

    deleted = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal deleted
        for customer_user_id in ids:
            async with session.delete(url + PATH, headers=headers_of(customer_user_id)) as response:
                await response.read()
                deleted += response.status == 204

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(under_way):
            group.create_task(work(session))
    return deleted


async def gather(url: str, ids: Iterator[str], under_way: int) -> int:
    """Start a task for each ID, limited by a semaphore."""
    import aiohttp

    semaphore = asyncio.Semaphore(under_way)

    async def delete(session: aiohttp.ClientSession, customer_user_id: str) -> bool:
        async with (
            semaphore,
            session.delete(url + PATH, headers=headers_of(customer_user_id)) as response,
        ):
            await response.read()
            return response.status == 204

    async with aiohttp.ClientSession() as session:
        return sum(await asyncio.gather(*(delete(session, customer_user_id) for customer_user_id in ids)))


async def retrying(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run the loop of workers with aiohttp-retry."""
    from aiohttp_retry import ExponentialRetry, RetryClient

    deleted = 0

    async def work(client: RetryClient) -> None:
        nonlocal deleted
        for customer_user_id in ids:
            async with client.delete(url + PATH, headers=headers_of(customer_user_id)) as response:
                await response.read()
                deleted += response.status == 204

    async with RetryClient(retry_options=ExponentialRetry(attempts=4)) as client, asyncio.TaskGroup() as group:
        for _ in range(under_way):
            group.create_task(work(client))
    return deleted


async def httpx_workers(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run the loop of workers with httpx."""
    import httpx

    deleted = 0

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal deleted
        for customer_user_id in ids:
            response = await client.delete(url + PATH, headers=headers_of(customer_user_id))
            deleted += response.status_code == 204

    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
        for _ in range(under_way):
            group.create_task(work(client))
    return deleted


async def threads(url: str, ids: Iterator[str], under_way: int) -> int:
    """Run requests in a pool of threads, each with a session of its own."""
    import threading

    import requests

    own = threading.local()

    def delete(customer_user_id: str) -> bool:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        answer = own.session.delete(url + PATH, headers=headers_of(customer_user_id), timeout=30)
        return bool(answer.status_code == 204)

    with ThreadPoolExecutor(under_way) as pool:
        return sum(pool.map(delete, ids))


OURS: Final = ("adapty_async", "adapty_async, pacer", "adapty_async, pacer, ledger")
ALL_OF_IT: Final = OURS[-1]
WAYS: Final[dict[str, Way]] = {
    **dict(zip(OURS, (bare, paced, with_ledger), strict=True)),
    "aiohttp, a loop of workers": workers,
    "aiohttp, gather and a semaphore": gather,
    "aiohttp-retry, a loop of workers": retrying,
    "httpx, a loop of workers": httpx_workers,
    "requests, a pool of threads": threads,
}


BARS: Final = {
    "bulk / workers": "aiohttp, a loop of workers",
    "bulk / gather": "aiohttp, gather and a semaphore",
    "bulk / aiohttp-retry": "aiohttp-retry, a loop of workers",
    "bulk / httpx": "httpx, a loop of workers",
    "bulk / requests": "requests, a pool of threads",
}
"""The alternative to which each target compares the library with all features."""


async def measure(way: Way, url: str, count: int, under_way: int) -> dict[str, float]:
    """Return the seconds and CPU seconds of one way."""
    await way(url, map(prefilled_customer_user_id, range(under_way)), under_way)  # completes the imports
    cpu, began = time.process_time(), time.perf_counter()
    deleted = await way(url, map(prefilled_customer_user_id, range(count)), under_way)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert deleted == count
    return {"seconds": seconds, "cpu": cpu}


def part(url: str, rounds: int, count: int, under_way: int = 50) -> Part:
    """Run the ways in turn, each in a process of its own."""
    found = take_turns(WAYS, rounds, lambda way: run_apart("bulk", way, url, count, under_way))
    return Part(
        title="Bulk deletion",
        says=f"{count:,} profiles, {under_way} requests in flight. Each way ran in {rounds} processes of its own. The "
        "columns on the right compare the throughput of adapty_async with that of each row: bare (with retries and "
        "outcomes), with a pacer, and with pacer and ledger.",
        table=table(
            ["", "seconds", "µs per item", "CPU, µs per item", "bare /", "with a pacer /", "with pacer and ledger /"],
            [_row(way, found, count) for way in WAYS],
        ),
        figures={bar: found.ratio("seconds", other, ALL_OF_IT) for bar, other in BARS.items()},
        charts=[
            Chart(
                file="bulk.png",
                title=f"Bulk deletion, {under_way} requests in flight",
                unit="deletions per second",
                groups=list(WAYS),
                bars={"": [count / found.median("seconds", way) for way in WAYS]},
            )
        ],
    )


def _row(way: str, found: Rounds, count: int) -> list[str]:
    seconds, cpu = found.median("seconds", way), found.median("cpu", way)
    compared = [f"{found.ratio('seconds', way, ours):.2f}" for ours in OURS]
    return [way, f"{seconds:.2f}", f"{seconds / count * 1e6:.1f}", f"{cpu / count * 1e6:.1f}", *compared]


if __name__ == "__main__":
    name, url, count, under_way = sys.argv[1:]
    print(json.dumps(run(measure(WAYS[name], url, int(count), int(under_way)))))
