"""Measure the profiles per second at several concurrencies, against a simulator in another process.

python examples/benchmark.py --profiles 500 --latency 0.02
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.testing import prefilled_customer_user_id

WIDTHS = (1, 10, 100)


@asynccontextmanager
async def simulator(*options: str) -> AsyncIterator[AdaptyClient]:
    """Run a simulator during the block. Yield a client for it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapty_async.testing", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        server = json.loads(await process.stdout.readline())
        async with AdaptyClient(server["api_key"], base_url=server["base_url"]) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


async def measure(profiles: int, latency: float) -> None:
    """Get every profile once per concurrency, and print the results."""
    ids = [prefilled_customer_user_id(number) for number in range(1, profiles + 1)]
    async with simulator("--profiles", str(profiles), "--latency", str(latency)) as client:
        print("width  profiles/s  p50 ms  p99 ms")
        for width in WIDTHS:
            report = await bulk.get_profiles(client, ids, by="customer_user_id", concurrency=width, pacer=UNPACED)
            report.raise_for_failures()
            assert report.latency is not None
            print(f"{width:5}  {report.rate:10.0f}  {report.latency.p50 * 1000:6.1f}  {report.latency.p99 * 1000:6.1f}")


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=int, default=500, help="profiles to get at each width (default: 500)")
    parser.add_argument(
        "--latency", type=float, default=0.02, help="latency of each response, in seconds (default: 0.02)"
    )
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.profiles, arguments.latency))


if __name__ == "__main__":
    main()
