"""What one `profiles.delete` costs beside a bare aiohttp call: the same requests to the same simulator.

The simulator runs in a process of its own, so that CPU time here is the caller's alone. Rounds of both are interleaved:
what the machine does meanwhile hits both.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from adapty_async import AdaptyClient
from adapty_async.testing import prefilled_customer_user_id

Delete = Callable[[str], Awaitable[None]]

PROFILE_PATH = "/api/v2/server-side-api/profile/"


@dataclass
class Contender:
    """One way to delete a profile, and its rounds: microseconds a call."""

    name: str
    delete: Delete
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    async def run_round(self, ids: Iterator[str], calls: int) -> None:
        """Delete one profile after the other, and note what a call took."""
        batch = [next(ids) for _ in range(calls)]
        cpu, wall = time.process_time(), time.perf_counter()
        for customer_user_id in batch:
            await self.delete(customer_user_id)
        self.cpu.append((time.process_time() - cpu) / calls * 1e6)
        self.wall.append((time.perf_counter() - wall) / calls * 1e6)


@asynccontextmanager
async def simulator(profiles: int) -> AsyncIterator[tuple[str, str]]:
    """Run a simulator for the time of the block, and give its address and its key."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapty_async.testing", "--profiles", str(profiles), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        server = json.loads(await process.stdout.readline())
        yield server["base_url"], server["api_key"]
    finally:
        process.terminate()
        await process.wait()


def bare(session: aiohttp.ClientSession, base_url: str, api_key: str) -> Delete:
    """Give the shortest deletion that aiohttp allows."""
    url = base_url + PROFILE_PATH

    async def delete(customer_user_id: str) -> None:
        headers = {"Authorization": f"Api-Key {api_key}", "adapty-customer-user-id": customer_user_id}
        async with session.delete(url, headers=headers) as response:
            await response.read()
            response.raise_for_status()

    return delete


def ours(client: AdaptyClient) -> Delete:
    """Give the deletion of the library, with its retries, its gate and its errors."""

    async def delete(customer_user_id: str) -> None:
        await client.profiles.delete(customer_user_id=customer_user_id)

    return delete


async def measure(rounds: int, calls: int) -> list[Contender]:
    """Run the contenders in turn, the first of a round being the last of the next."""
    ids = map(prefilled_customer_user_id, range(1, 2 * (rounds + 1) * calls + 1))
    async with (
        simulator(2 * (rounds + 1) * calls) as (base_url, api_key),
        aiohttp.ClientSession() as session,
        AdaptyClient(api_key, base_url=base_url) as client,
    ):
        contenders = [
            Contender("aiohttp", bare(session, base_url, api_key)),
            Contender("adapty_async", ours(client)),
        ]
        for number in range(rounds + 1):
            for contender in contenders if number % 2 else contenders[::-1]:
                await contender.run_round(ids, calls)
    for contender in contenders:
        del contender.cpu[0], contender.wall[0]  # the warm-up
    return contenders


def ratio(own: list[float], theirs: list[float]) -> float:
    """Give the median of the rounds' ratios."""
    return statistics.median(mine / bare for mine, bare in zip(own, theirs, strict=True))


def show(contenders: list[Contender], rounds: int, calls: int) -> None:
    """Print the machine, the medians and the ratio."""
    theirs, own = contenders
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, ", end="")
    print(f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}")
    print(f"microseconds a call, medians of {rounds} rounds of {calls}")
    print(f"{'one delete':14} {'CPU':>8} {'wall':>8}")
    for contender in contenders:
        print(f"{contender.name:14} {statistics.median(contender.cpu):8.0f} {statistics.median(contender.wall):8.0f}")
    print(f"{'ratio':14} {ratio(own.cpu, theirs.cpu):8.2f} {ratio(own.wall, theirs.wall):8.2f}")


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each contender (default: 40)")
    parser.add_argument("--calls", type=int, default=200, help="calls a round (default: 200)")
    arguments = parser.parse_args()
    contenders = asyncio.run(measure(arguments.rounds, arguments.calls))
    show(contenders, arguments.rounds, arguments.calls)


if __name__ == "__main__":
    main()
