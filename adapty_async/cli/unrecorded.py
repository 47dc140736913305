"""A job without a ledger: what it has done is known as long as it runs."""

import asyncio
import contextlib
import sys
from pathlib import Path

import attrs

from ..bulk import Outcome
from ..client import AdaptyClient
from ..escaping import one_line
from . import event_loop
from .beforehand import look_through, verified
from .books import Books
from .changes import open_listing
from .ending import say
from .exclusion import Exclusion
from .exits import ExitStatus
from .failures import FailuresFile
from .feeding import feeding_back, format_of_failures
from .inputs import Reading
from .interrupts import Interrupts
from .job import Deletion, Ended, show_ended
from .order import Order
from .output import current
from .screen import screen_for, tell


def send_unrecorded(
    client: AdaptyClient,
    order: Order,
    file: Path,
    *,
    failures: Path | None,
    exclusion: Exclusion,
    confirmed: bool,
) -> ExitStatus:
    """Carry out an order. Raises CommandError where nothing was sent."""
    with contextlib.ExitStack() as stack:
        ids = stack.enter_context(open_listing(order, file, excluded=exclusion.excluded))
        checked = look_through(ids, order, client, exclusion, confirmed=confirmed)
        verified(order, ids, client)
        written = stack.enter_context(FailuresFile(failures, ids.reading())) if failures else None
        pacer = stack.enter_context(order.pace.pacer(client))
        deletion = Deletion(
            client,
            ids,
            Books(checked.rows, written),
            operation=order.does,
            concurrency=order.concurrency,
            pacer=pacer,
            stop=order.guards.rules(checked.profiles),
        )
        try:
            event_loop.run(lambda interrupts: _run(client, deletion, interrupts))
        except (KeyboardInterrupt, asyncio.CancelledError):  # more signals than are needed to abort
            deletion.is_cut = True
        ended = _judged(deletion.end(), order, checked.profiles)
        is_whole = not ended.is_cut and (written is None or written.trouble is None)
        show_ended(ended)
        show_excluded(checked.excluded, order)
        _show_failed(ended.standing.failed, order, failures, ids.reading(), is_whole=is_whole)
    if ended.is_cut:
        say("interrupted")
    return ended.status


def _judged(ended: Ended, order: Order, profiles: int) -> Ended:
    """Judge all rows once more, where all were sent: an interrupt may have come before the run did."""
    counts = ended.standing.counts
    if counts.get(Outcome.NOT_ATTEMPTED):
        return ended
    broken = order.guards.rules(profiles).judge(ended.report.counts, at_end=True)
    return attrs.evolve(ended, doubt=order.guards.doubt(counts) or broken)


async def _run(client: AdaptyClient, deletion: Deletion, interrupts: Interrupts) -> None:
    async with client:
        await deletion.run(screen_for(sys.stderr), interrupts)


def show_excluded(excluded: int, order: Order) -> None:
    """Say how many rows were excluded, where there are any."""
    if excluded:
        lists = one_line(", ".join(map(str, order.exclude.values())))
        current().show(f"\n{excluded:,} rows are excluded, and weren't sent: they are on {lists}", excluded=excluded)


def _show_failed(failed: int, order: Order, failures: Path | None, reading: Reading, *, is_whole: bool) -> None:
    if not failed:
        return
    if failures is None:
        name = f"FILE.{format_of_failures(reading)}"
        tell(f"--failures {name} writes down which rows failed and why, as a file to feed back.", sys.stderr)
        return
    name = one_line(str(failures))
    if not is_whole:
        tell(f"{name} holds some of the {failed:,} rows that failed, not all of them.", sys.stderr)
        return
    tell(f"{name} holds the {failed:,} rows that failed, and why. To feed it back, corrected:", sys.stderr)
    tell(f"  {feeding_back(order, failures, reading)}", sys.stderr)
