"""Run a bulk job, and describe how it ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from ...bulk import BulkJob, BulkReport, Outcome, StopReason
from ...escaping import one_line
from ...ledger.chunks import UNSENT
from ...pacing import Pacer
from ..exit_codes import CommandError, ExitStatus
from ..output.events import as_bug, current
from ..output.progress import Keeper, Sight, Standing, counts_of
from ..output.screen import Screen, saying, showing, summary
from ..signals import Interrupts

logger: Final = logging.getLogger("adapty_async")

_STATUSES: Final = {
    StopReason.CREDENTIALS: ExitStatus.CREDENTIALS,
    StopReason.PERMISSION: ExitStatus.CREDENTIALS,
    StopReason.REQUESTED: ExitStatus.INTERRUPTED,
}

# They also apply to jobs that can't be resumed: `get`, and those without a ledger.
_REASONS: Final = {
    StopReason.MAX_FAILURES: "too many rows failed: find out why before you send the rest",
    StopReason.FAILURE_SHARE: "too many rows failed: find out why before you send the rest",
    StopReason.ABSENT_SHARE: "too few of these IDs exist in Adapty: check the key's app, --by and --column; if they "
    "are right, allow it with --max-absent 100%",
    StopReason.OUTAGE: "Adapty has answered only with errors for too long: try again later",
    StopReason.THROTTLED_FOR: "Adapty has rate-limited every request for too long: try again later, or with a lower "
    "--max-rate",
    StopReason.CREDENTIALS: "Adapty doesn't accept the key (401): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.PERMISSION: "the key may not do this (403): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.REQUESTED: "by Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal",
    StopReason.CLOSED: "its connections were closed: send the rest again",
}


@attrs.frozen
class Ended:
    """How a job ended.

    Attributes:
        standing: The rows by outcome.
        report: The report of the last run.
        trouble: The error on our side that stopped the job.
        doubt: The stop rule that all rows together violate at the end.
        is_cut: Whether an interrupt cut off the output about the rows.
    """

    standing: Standing
    report: BulkReport
    trouble: CommandError | None
    doubt: StopReason | None = None
    is_cut: bool = False

    @property
    def stopped(self) -> StopReason | None:
        """The stop rule that the run or all runs together violated. It takes precedence over an interrupt."""
        stopped = self.report.stopped
        return self.doubt or stopped if stopped is StopReason.REQUESTED else stopped or self.doubt

    @property
    def status(self) -> ExitStatus:
        """The exit status: the first one that applies."""
        statuses = [ExitStatus.FAILED if self.standing.failed else ExitStatus.DONE]
        if self._is_all_excluded:
            statuses.append(ExitStatus.USAGE)
        if self.trouble is not None:
            statuses.append(self.trouble.status)
        if self.stopped is not None:
            statuses.append(_STATUSES.get(self.stopped, ExitStatus.STOPPED))
        if self.is_cut:
            statuses.append(ExitStatus.INTERRUPTED)
        return ExitStatus.first_of(statuses)

    @property
    def _is_all_excluded(self) -> bool:
        """Whether exclude lists left no row to send."""
        counts = self.standing.counts
        return bool(counts.get(Outcome.EXCLUDED)) and not any(counts[outcome] for outcome in counts.keys() - UNSENT)

    @property
    def reason(self) -> str | None:
        """Why the job was stopped, and what to do about it. None if it wasn't stopped."""
        if self.trouble is not None:
            return one_line(str(self.trouble))
        return None if self.stopped is None else f"{self.stopped}: {_REASONS[self.stopped]}"


def show_ended(ended: Ended) -> None:
    """Print the summary. If the job was stopped, also print the reason and what to do about it."""
    stopped = "" if ended.reason is None else f"\n\nstopped: {ended.reason}"
    if ended.reason is not None:
        logger.info("the job was stopped: %s", ended.reason)
    current().show(
        summary(ended.standing, ended.report) + stopped,
        total=ended.standing.total,
        counts=counts_of(ended.standing),
        requests=ended.report.requests,
        throttled=ended.report.throttled,
        stopped=ended.reason,
    )


def look_at(keeper: Keeper, job: BulkJob[Any, Any] | None, pacer: Pacer | None) -> Sight:
    """Return the live status of a job."""
    sight = Sight(
        standing=keeper.standing, is_paused=job is not None and job.is_paused, errors=current().errors.shown()
    )
    if job is not None:
        sight = sight.of_requests(job.report)
    return sight if pacer is None else sight.of_pacing(pacer.snapshot())


async def conduct(
    work: Callable[[], Awaitable[object]],
    end_early: Callable[[], object],
    keeper: Keeper,
    screen: Screen,
    interrupts: Interrupts,
    *,
    job: BulkJob[Any, Any] | None = None,
    pacer: Pacer | None = None,
) -> CommandError | None:
    """Run a job until it ends, is stopped or is interrupted. Return our own error, if there was one.

    Args:
        work: Runs the job.
        end_early: Stops the job; called on the first interrupt.
        keeper: Knows the outcomes of the rows.
        screen: Shows the progress.
        interrupts: Handles the signals.
        job: The job that SIGUSR1 pauses, and whose requests are shown.
        pacer: The pacer whose state is shown.

    Raises:
        asyncio.CancelledError: If the task was cancelled by something other than `interrupts`. Nothing else is raised.
    """

    def stop() -> None:
        end_early()
        logger.info("Stopping: waiting for requests in flight (up to --timeout). Press Ctrl-C again to abort.")

    def pause_or_go_on() -> None:
        if job is not None:
            (job.go_on if job.is_paused else job.pause)()

    async with showing(lambda: look_at(keeper, job, pacer), screen):
        with saying(screen), interrupts.first_to(stop), interrupts.usr1_to(pause_or_go_on):
            try:
                await work()
            except CommandError as error:
                return error
            except Exception as error:  # noqa: BLE001 - the summary of the requests sent must still be printed
                return as_bug(error)
            except asyncio.CancelledError:
                if not interrupts.aborted:
                    raise
                interrupts.go_on()
    return None
