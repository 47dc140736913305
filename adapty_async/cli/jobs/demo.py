"""The command `demo`: delete made-up profiles in a simulator of the API on this machine."""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ...client import AdaptyClient
from ...http.requests import Request
from ...pacing import AdaptivePacer
from ...testing import prefilled_customer_user_id
from ..exit_codes import CommandError, ExitStatus
from ..output.events import current
from ..output.screen import screen_for, tell
from ..signals import Interrupts
from .options import Order, open_listing
from .pace import FULL, Pace
from .preflight import show_checked
from .result import Ended, show_ended
from .run import on_temporary_ledger

_START: Final = 60.0
"""Seconds for the simulator to start, enough for a busy machine."""
_LIMIT: Final = 600
_BURST: Final = 60  # more than the requests sent at once after a late wake-up of the event loop
_FAULTS: Final = 0.005

_INTRODUCTION: Final = """\
This deletes {profiles:,} profiles through an API that takes one profile per request, under a rate limit.
They are made up: nothing leaves this machine, and no API key is needed.

1. A simulator of Adapty's API has been started (process {pid}). It holds {profiles:,} profiles, and accepts
   {limit} requests per second. It fails now and then, as networks do: of 1,000 requests it answers 5 with
   an error, and on 5 it hangs up after it has deleted the profile.
2. The IDs have been written to {file}, in the column customer_user_id.
3. Now they are deleted, as with this command. It doesn't know the limit: it finds the limit and stays just below.

     adapty-async delete {name} --by customer_user_id --pace full --yes
"""

_NEXT: Final = """
To delete profiles of your own, put the secret key of your app into a file, and:

     export ADAPTY_API_KEY_FILE=key.txt
     adapty-async delete your.csv --by customer_user_id --failures failures.csv"""


async def demo(interrupts: Interrupts, profiles: int = 20_000) -> ExitStatus:
    """Start the simulator, delete all its profiles, and ask it how many are left."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adapty-demo-") as folder:
        async with _simulator(profiles) as (process, client), client:
            file = Path(folder, "profiles.csv")
            _write_ids(file, profiles)
            tell(
                _INTRODUCTION.format(profiles=profiles, pid=process.pid, limit=_LIMIT, file=file, name=file.name),
                sys.stdout,
            )
            ended = await _delete(client, file, interrupts)
            show_ended(ended)
            left = await _profiles_left(client)
    tell(f"\n4. Profiles left in the simulator: {left:,}.\n", sys.stdout)
    return _verdict(ended, left, profiles, time.monotonic() - began)


def _verdict(ended: Ended, left: int, profiles: int, seconds: float) -> ExitStatus:
    if ended.status is ExitStatus.DONE and ended.standing.done == profiles and not left:
        tell(f"All {profiles:,} are accounted for, and 0 are left. It took {seconds:.0f} seconds.", sys.stdout)
        tell(_NEXT, sys.stdout)
        return ExitStatus.DONE
    tell(f"Of {profiles:,} profiles {ended.standing.failed:,} have failed, and {left:,} are left.", sys.stdout)
    return ended.status or ExitStatus.FAILED


async def _delete(client: AdaptyClient, file: Path, interrupts: Interrupts) -> Ended:
    """Run the same job as the command `delete`."""
    order = Order(file=file, by="customer_user_id", column=None, pace=Pace(FULL, None))
    with open_listing(order, file) as ids:
        show_checked(ids.name, ids.check(), order.operation)
        with on_temporary_ledger(ids, client, order) as recorded:
            run = recorded.run(client, AdaptivePacer())
            await run.run_with(screen_for(sys.stderr), interrupts)
            return recorded.ended(run)[0]


def _write_ids(file: Path, profiles: int) -> None:
    with file.open("w", encoding="utf-8") as rows:
        rows.write("customer_user_id\n")
        rows.writelines(f"{prefilled_customer_user_id(number)}\n" for number in range(1, profiles + 1))


async def _profiles_left(client: AdaptyClient) -> int:
    state = await client.send(Request("GET", "/_simulator/state"))
    left: int = state.json()["profiles"]
    return left


@contextlib.asynccontextmanager
async def _simulator(profiles: int) -> AsyncIterator[tuple[Process, AdaptyClient]]:
    """Run a simulator in a separate process during the block, and yield it with a client."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapty_async.testing", "--profiles", str(profiles)),
        *("--rate", str(_LIMIT), "--burst", str(_BURST), "--retry-after", "1"),
        *("--fault", f"unavailable={_FAULTS}", "--fault", f"reset-after={_FAULTS}"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,  # Ctrl-C stops the job only, whose requests in flight still need responses
    )
    try:
        yield process, await _client_of(process)
    finally:
        # The simulator has no data that could be lost.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _client_of(process: Process) -> AdaptyClient:
    """Create a client of the simulator as soon as it prints its address."""
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START):
            line = await process.stdout.readline() if process.stdout else b""
    if not line:
        raise CommandError("the simulator didn't start: adapty-async simulator shows why", ExitStatus.FAILED)
    address = json.loads(line)
    return AdaptyClient(address["api_key"], base_url=address["base_url"], on_attempt=current().note)
