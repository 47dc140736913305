"""Run a job on a temporary ledger, without a command around it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from adapty_async import UNPACED, AdaptyClient
from adapty_async.cli.inputs.job_input import JobInput
from adapty_async.cli.jobs.job_options import JobOptions
from adapty_async.cli.jobs.job_result import JobResult
from adapty_async.cli.jobs.ledger_job import JobRun, LedgerJob, create_temporary_job
from adapty_async.cli.jobs.pace import FULL
from adapty_async.cli.options import SpeedOptions
from adapty_async.cli.output.progress_screen import Screen
from adapty_async.cli.signals import InterruptHandler
from adapty_async.pacing import Pacer


@attrs.frozen
class DeletionRun:
    """The run of a deletion, and how it ended."""

    _recorded: LedgerJob
    _run: JobRun

    async def run(self, screen: Screen, interrupts: InterruptHandler) -> None:
        await self._run.run_on_screen(screen, interrupts)

    def ended(self) -> JobResult:
        return self._recorded.build_result(self._run)[0]


@contextlib.contextmanager
def run_of(
    client: AdaptyClient, ids: JobInput, *, concurrency: int = 100, pacer: Pacer = UNPACED
) -> Iterator[DeletionRun]:
    """Write the temporary ledger of a deletion and yield its run."""
    speed_options = SpeedOptions(pace=FULL, concurrency=concurrency)
    order = JobOptions(file=Path(ids.name), by=ids.by, speed_options=speed_options)
    with create_temporary_job(ids, client, order) as recorded:
        yield DeletionRun(recorded, recorded.create_run(client, pacer))
