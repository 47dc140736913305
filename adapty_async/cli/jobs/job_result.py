"""The result of a bulk job: how it ended, its exit status and its summary."""

import logging
from typing import Final

import attrs

from ...bulk import BulkReport, Outcome, StopReason
from ...escaping import escape_line
from ...ledger.chunks import UNSENT_OUTCOMES
from ..exit_status import CommandError, ExitStatus
from ..output.command_output import get_output
from ..output.progress import OutcomeCounts, select_nonzero_counts
from ..output.progress_screen import format_summary
from .client_from_env import format_key_advice

logger: Final = logging.getLogger("adapty_async")

_EXIT_STATUSES: Final = {
    StopReason.CREDENTIALS: ExitStatus.CREDENTIALS,
    StopReason.PERMISSION: ExitStatus.CREDENTIALS,
    StopReason.REQUESTED: ExitStatus.INTERRUPTED,
}

# They also apply to jobs that can't be resumed: `get`, and those without a ledger.
_STOP_MESSAGES: Final = {
    StopReason.MAX_FAILURES: "too many rows failed: find out why before you send the rest",
    StopReason.MAX_FAILURE_RATIO: "too many rows failed: find out why before you send the rest",
    StopReason.MAX_ABSENT_RATIO: (
        "too few of these IDs exist in Adapty: check the key's app, --by and --column; if they are right, allow it "
        "with --max-absent 100%"
    ),
    StopReason.MAX_OUTAGE: "Adapty has answered only with errors for too long: try again later",
    StopReason.MAX_THROTTLED: "Adapty has rate-limited every request for too long: try again later, or with a lower "
    "--max-rate",
    StopReason.CREDENTIALS: "Adapty doesn't accept the key (401): {key_advice}",
    StopReason.PERMISSION: "the key may not do this (403): {key_advice}",
    StopReason.REQUESTED: "by Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal",
    StopReason.CLOSED: "its connections were closed: send the rest again",
}


@attrs.frozen
class JobResult:
    """How a job ended.

    Attributes:
        outcome_counts: The rows by outcome.
        report: The report of the last run.
        error: The error on our side that stopped the job.
        violated_rule: The stop rule that all rows together violate at the end.
        is_output_truncated: Whether an interrupt cut off the output about the rows.
    """

    outcome_counts: OutcomeCounts
    report: BulkReport
    error: CommandError | None
    violated_rule: StopReason | None = None
    is_output_truncated: bool = False

    @property
    def stop_reason(self) -> StopReason | None:
        """The stop rule that the run or all runs together violated. It takes precedence over an interrupt."""
        stopped = self.report.stop_reason
        return self.violated_rule or stopped if stopped is StopReason.REQUESTED else stopped or self.violated_rule

    @property
    def status(self) -> ExitStatus:
        """The exit status: the first one that applies."""
        statuses = [ExitStatus.FAILED if self.outcome_counts.failed_count else ExitStatus.OK]
        if self._is_all_excluded:
            statuses.append(ExitStatus.USAGE)
        if self.error is not None:
            statuses.append(self.error.status)
        if self.stop_reason is not None:
            statuses.append(_EXIT_STATUSES.get(self.stop_reason, ExitStatus.STOPPED))
        if self.is_output_truncated:
            statuses.append(ExitStatus.INTERRUPTED)
        return ExitStatus.pick_by_precedence(statuses)

    @property
    def _is_all_excluded(self) -> bool:
        """Whether exclude lists left no row to send."""
        counts = self.outcome_counts.by_outcome
        return bool(counts.get(Outcome.EXCLUDED)) and not any(
            counts[outcome] for outcome in counts.keys() - UNSENT_OUTCOMES
        )

    @property
    def stop_message(self) -> str | None:
        """Why the job was stopped, and what to do about it. None if it wasn't stopped."""
        if self.error is not None:
            return escape_line(str(self.error))
        if self.stop_reason is None:
            return None
        message = _STOP_MESSAGES[self.stop_reason].format(key_advice=format_key_advice("the secret key of the app"))
        return f"{self.stop_reason}: {message}"


def show_result(result: JobResult) -> None:
    """Print the summary. If the job was stopped, also print the reason and what to do about it."""
    stopped = "" if result.stop_message is None else f"\n\nstopped: {result.stop_message}"
    if result.stop_message is not None:
        logger.info("the job was stopped: %s", result.stop_message)
    get_output().print_result(
        format_summary(result.outcome_counts, result.report) + stopped,
        total=result.outcome_counts.total,
        counts=select_nonzero_counts(result.outcome_counts),
        requests=result.report.requests,
        throttled=result.report.throttled,
        stopped=result.stop_message,
    )
