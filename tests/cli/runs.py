"""Run a job on a temporary ledger, without a command around it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from adapty_async import UNPACED, AdaptyClient
from adapty_async.cli.inputs.bulk_input import Listing
from adapty_async.cli.jobs.options import Order
from adapty_async.cli.jobs.pace import FULL, Pace
from adapty_async.cli.jobs.result import Ended
from adapty_async.cli.jobs.run import Recorded, Run, on_temporary_ledger
from adapty_async.cli.output.screen import Screen
from adapty_async.cli.signals import Interrupts
from adapty_async.pacing import Pacer


@attrs.frozen
class DeletionRun:
    """The run of a deletion, and how it ended."""

    _recorded: Recorded
    _run: Run

    async def run(self, screen: Screen, interrupts: Interrupts) -> None:
        await self._run.run_with(screen, interrupts)

    def ended(self) -> Ended:
        return self._recorded.ended(self._run)[0]


@contextlib.contextmanager
def run_of(
    client: AdaptyClient, ids: Listing, *, concurrency: int = 100, pacer: Pacer = UNPACED
) -> Iterator[DeletionRun]:
    """Write the temporary ledger of a deletion and yield its run."""
    order = Order(file=Path(ids.name), by=ids.by, column=None, pace=Pace(FULL, None), concurrency=concurrency)
    with on_temporary_ledger(ids, client, order) as recorded:
        yield DeletionRun(recorded, recorded.run(client, pacer))
