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
from ..exit_status import CommandError, ExitStatus
from ..options import SpeedOptions
from ..output.command_output import echo, get_output
from ..output.progress_screen import create_screen
from ..signals import InterruptHandler
from .job_options import JobOptions, open_job_input
from .job_result import JobResult, show_result
from .ledger_job import create_temporary_job
from .pace import FULL
from .preflight import show_input_summary

_START_TIMEOUT_SECONDS: Final = 60.0
"""Seconds for the simulator to start, enough for a busy machine."""
_REQUESTS_PER_SECOND: Final = 600
_BURST: Final = 60  # more than the requests sent at once after a late wake-up of the event loop
_FAULT_RATE: Final = 0.005

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

_NEXT_STEPS: Final = """
To delete profiles of your own, put the secret key of your app into a file, and:

     export ADAPTY_API_KEY_FILE=key.txt
     adapty-async delete your.csv --by customer_user_id --failures failures.csv"""


async def run_demo(interrupt_handler: InterruptHandler, profile_count: int = 20_000) -> ExitStatus:
    """Start the simulator, delete all its profiles, and ask it how many are left."""
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adapty-demo-") as folder:
        async with _run_simulator(profile_count) as (process, client), client:
            file = Path(folder, "profiles.csv")
            _write_ids(file, profile_count)
            echo(
                _INTRODUCTION.format(
                    profiles=profile_count, pid=process.pid, limit=_REQUESTS_PER_SECOND, file=file, name=file.name
                ),
                sys.stdout,
            )
            result = await _delete_profiles(client, file, interrupt_handler)
            show_result(result)
            remaining = await _count_profiles(client)
    echo(f"\n4. Profiles left in the simulator: {remaining:,}.\n", sys.stdout)
    return _show_verdict(result, remaining, profile_count, time.monotonic() - started_at)


def _show_verdict(result: JobResult, remaining: int, profile_count: int, seconds: float) -> ExitStatus:
    if result.status is ExitStatus.OK and result.outcome_counts.success_count == profile_count and not remaining:
        echo(f"All {profile_count:,} are accounted for, and 0 are left. It took {seconds:.0f} seconds.", sys.stdout)
        echo(_NEXT_STEPS, sys.stdout)
        return ExitStatus.OK
    echo(
        f"Of {profile_count:,} profiles {result.outcome_counts.failed_count:,} have failed, and {remaining:,} "
        "are left.",
        sys.stdout,
    )
    return result.status or ExitStatus.FAILED


async def _delete_profiles(client: AdaptyClient, file: Path, interrupt_handler: InterruptHandler) -> JobResult:
    """Run the same job as the command `delete`."""
    job_options = JobOptions(file=file, by="customer_user_id", speed_options=SpeedOptions(pace=FULL))
    with open_job_input(job_options, file) as job_input:
        show_input_summary(job_input.name, job_input.check(), job_options.operation)
        with create_temporary_job(job_input, client, job_options) as ledger_job:
            run = ledger_job.create_run(client, AdaptivePacer())
            await run.run_on_screen(create_screen(sys.stderr), interrupt_handler)
            return ledger_job.build_result(run)[0]


def _write_ids(file: Path, profile_count: int) -> None:
    with file.open("w", encoding="utf-8") as rows:
        rows.write("customer_user_id\n")
        rows.writelines(f"{prefilled_customer_user_id(number)}\n" for number in range(1, profile_count + 1))


async def _count_profiles(client: AdaptyClient) -> int:
    state = await client.send(Request("GET", "/_simulator/state"))
    count: int = state.json()["profiles"]
    return count


@contextlib.asynccontextmanager
async def _run_simulator(profile_count: int) -> AsyncIterator[tuple[Process, AdaptyClient]]:
    """Run a simulator in a separate process during the block, and yield it with a client."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapty_async.testing", "--profiles", str(profile_count)),
        *("--rate", str(_REQUESTS_PER_SECOND), "--burst", str(_BURST), "--retry-after", "1"),
        *("--fault", f"unavailable={_FAULT_RATE}", "--fault", f"reset-after={_FAULT_RATE}"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,  # Ctrl-C stops the job only, whose requests in flight still need responses
    )
    try:
        yield process, await _create_client(process)
    finally:
        # The simulator has no data that could be lost.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _create_client(process: Process) -> AdaptyClient:
    """Create a client of the simulator as soon as it prints its address."""
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT_SECONDS):
            line = await process.stdout.readline() if process.stdout else b""
    if not line:
        raise CommandError("the simulator didn't start: adapty-async simulator shows why", ExitStatus.FAILED)
    address = json.loads(line)
    return AdaptyClient(address["api_key"], base_url=address["base_url"], on_attempt=get_output().record_attempt)
