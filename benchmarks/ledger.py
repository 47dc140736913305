"""What a ledger costs a mass deletion: CPU time, bytes on disk and memory, and the time until a resumed job sends.

The requests are answered at once, in the process itself: what differs between a job with and without a ledger is the
ledger's. Each job runs in a process of its own, for its memory; jobs with and without take turns.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from adapty_async import AdaptyClient, FixedPacer, Request, Response, bulk
from adapty_async.client import sender_of
from adapty_async.ledger import Ledger
from adapty_async.testing import prefilled_customer_user_id
from adapty_async.transport import Transport

SIZES: Final = [100_000, 1_000_000]
LARGEST: Final = 10_000_000
UNIT: Final = 1 if sys.platform == "darwin" else 1024


class QuietTransport(Transport):
    """Say yes to every request at once, and remember when the first came."""

    first: float | None = None

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - as in the original
        """Answer 204."""
        if self.first is None:
            self.first = time.perf_counter()
        await asyncio.sleep(0)
        return Response(204)


def ids(count: int) -> Iterator[str]:
    """Make so many ids, one by one."""
    return map(prefilled_customer_user_id, range(count))


async def run(items: int, ledger: Path | None, *, appended: bool) -> dict[str, float]:
    """Delete so many profiles, and say what it took."""
    transport = QuietTransport("https://api.test", "secret", session=None, trust_env=False, ssl=None)
    client = AdaptyClient("secret")
    sender_of(client).transport = transport
    journal = None if ledger is None else Ledger(ledger, appended=appended)
    cpu, began = time.process_time(), time.perf_counter()
    await bulk.delete_profiles(client, ids(items), by="customer_user_id", pacer=FixedPacer(1e6), journal=journal)
    assert transport.first is not None
    return {
        "cpu": (time.process_time() - cpu) / items * 1e6,
        "first request": transport.first - began,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**20,
    }


def run_apart(items: int, ledger: Path | None, *, appended: bool = False) -> dict[str, float]:
    """Do the same in a process of its own."""
    words = ["--alone", str(items), *([] if ledger is None else ["--ledger", str(ledger)])]
    command = [sys.executable, __file__, *words, *(["--appended"] if appended else [])]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter
    numbers: dict[str, float] = json.loads(said.stdout)
    return numbers


def measure(items: int, rounds: int) -> None:
    """Run jobs of a size in turn, resume the last one with one item more, and print the medians."""
    without, within = [], []
    with tempfile.TemporaryDirectory() as folder:
        ledgers = [Path(folder) / f"{number}.db" for number in range(rounds)]
        for ledger in ledgers:
            without.append(run_apart(items, None))
            within.append(run_apart(items, ledger))
        size = ledgers[-1].stat().st_size / items
        resumed = run_apart(items + 1, ledgers[-1], appended=True)
    cpu = statistics.median(with_it["cpu"] - bare["cpu"] for with_it, bare in zip(within, without, strict=True))
    memory = statistics.median(numbers["memory"] for numbers in within)
    bare_memory = statistics.median(numbers["memory"] for numbers in without)
    print(
        f"{items:>10,} {cpu:>10.2f} {size:>10.1f} {memory:>7.0f} {bare_memory:>10.0f} "
        f"{resumed['first request']:>10.2f} {resumed['memory']:>7.0f}",
        flush=True,
    )


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each size, with and without (default: 3)")
    parser.add_argument("--largest", action="store_true", help=f"one round of {LARGEST:,} items as well: some minutes")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--appended", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(asyncio.run(run(arguments.alone, arguments.ledger, appended=arguments.appended))))
        return
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, ", end="")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    print(
        "CPU: microseconds an item; disk: bytes an item; memory: the most, MiB; resumed: seconds to the first request"
    )
    print(f"{'items':>10} {'CPU':>10} {'disk':>10} {'memory':>7} {'without':>10} {'resumed':>10} {'memory':>7}")
    for items in SIZES:
        measure(items, arguments.rounds)
    if arguments.largest:
        measure(LARGEST, 1)


if __name__ == "__main__":
    main()
