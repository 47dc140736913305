"""Show what to do after a run: the commands that resume the job, unless its ledger was temporary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from ...bulk import Outcome, StopReason
from ...escaping import escape_line
from ...ledger import Spool, Status
from ...pluralization import format_count
from ..inputs.job_input import JobInput
from ..output.command_output import show_note
from .client_from_env import format_key_advice
from .failed_rows_file import get_failures_format
from .finished_job import RETRYABLE_OUTCOMES, show_next_commands
from .job_key_check import ACCEPTED_OUTCOMES
from .job_options import JobOptions, build_exclude_cli_options, build_input_cli_options
from .job_result import JobResult
from .ledger_access import format_command, format_resume_command, get_input_path
from .rerun_command import format_rerun_command

_KEY_STOP_REASONS: Final = frozenset({StopReason.CREDENTIALS, StopReason.PERMISSION})


@attrs.frozen
class CollectedFailures:
    """The failed rows after a run.

    Attributes:
        excluded_counts: The number of rows, by outcome, that failed before they were put on an exclude list.
        file: The file with the other failed rows, or None if there is no such file.
        is_complete: Whether the file contains all of them.
    """

    excluded_counts: Mapping[Outcome, int] = attrs.field(factory=dict[Outcome, int])
    file: Path | None = None
    is_complete: bool = True


@attrs.frozen
class ResumeSteps:
    """The next steps of a job with a ledger. `app`, `failures`: as in `LedgerJob`."""

    ledger: Path
    job_input: JobInput
    job_options: JobOptions
    app: str | None
    failures: Path | None
    can_resume = True

    def format_refusal(self, message: str) -> str:
        """Return the message that nothing was sent, with the command that resumes the job."""
        return f"{message}; to resume: {format_resume_command(self.ledger)}"

    def show_after_interrupt(self, result: JobResult | None) -> None:
        """Show how to resume the job."""
        how = format_resume_command(self.ledger) if result is None else self._format_next_command("resume", result)
        show_note(f"To resume:\n  {how}")

    def show(self, result: JobResult, status_after: Status | None, failure_summary: CollectedFailures) -> None:
        """Show how to resume the job, or the optional next steps if no row is left to send."""
        remaining = None if status_after is None else status_after.waiting + status_after.claimed
        failed = (
            0 if status_after is None else sum(status_after.counts.get(outcome, 0) for outcome in RETRYABLE_OUTCOMES)
        )
        retryable = failed - sum(failure_summary.excluded_counts.get(outcome, 0) for outcome in RETRYABLE_OUTCOMES)
        is_too_absent = result.stop_reason is StopReason.MAX_ABSENT_RATIO
        if is_too_absent:
            self._show_absent_advice(result, remaining)
        elif remaining != 0:
            show_note("To resume:" if remaining is None else f"{format_count(remaining, 'row')} left. To resume:")
            show_note(f"  {self._format_next_command('resume', result)}")
        if remaining == 0 and retryable:
            show_note(f"To send the {format_count(retryable, 'failed or in-doubt row')} again:")
            show_note(f"  {self._format_next_command('retry-failed', result)}")
        has_failures = result.outcome_counts.failed_count > (remaining or 0) + sum(
            failure_summary.excluded_counts.values()
        )
        if has_failures:
            self._show_failures(failure_summary, result)
        is_done = remaining == 0 and not retryable and not is_too_absent
        self._release_spool(is_needed=not is_done or (has_failures and failure_summary.file is None))
        if is_done:
            show_next_commands(self.ledger, self.job_options, has_input=self.job_options.file is not None)

    def _show_absent_advice(self, result: JobResult, remaining: int | None) -> None:
        """Show how to find out why too many profiles were absent, and how to resume the job after that."""
        file = get_input_path(self.ledger, self.job_options)
        options = [
            *build_input_cli_options(self.job_options),
            *build_exclude_cli_options(self.job_options),
            "--probe",
            "20",
        ]
        if remaining:
            show_note(f"{format_count(remaining, 'row')} left.")
        show_note("To see the app of the key, and how many of the profiles exist:")
        show_note(f"  {format_command('plan', file, *options)}")
        if self.app is None and not self._is_bound_to_app(result):
            advice = format_key_advice("the right one")
            show_note(f"If the key was for another app, {advice}, and name its app:")
            show_note(f"  {format_command('resume', self.ledger, '--new-key', '--app', 'UUID')}")
        show_note("If the key, --by and --column are right, and the profiles don't exist:")
        show_note(f"  {format_command('resume', self.ledger, '--max-absent', '100%')}")

    def _is_bound_to_app(self, result: JobResult) -> bool:
        """Return True if profiles were changed under an unknown app, which rules out another key."""
        return self.app is None and any(result.outcome_counts.by_outcome.get(outcome) for outcome in ACCEPTED_OUTCOMES)

    def _format_next_command(self, name: str, result: JobResult, *options: str) -> str:
        """Return the command `name` for the ledger, with the options for a new key if the current one was rejected."""
        if result.report.stop_reason in _KEY_STOP_REASONS and not self._is_bound_to_app(result):
            options = (*options, "--new-key", *([] if self.app else ["--app", "UUID"]))
        return format_command(name, self.ledger, *options)

    def _show_failures(self, failure_summary: CollectedFailures, result: JobResult) -> None:
        if self.failures is None:
            name = f"failures.{get_failures_format(self.job_input.read_schema())}"
            show_note("To write the failed rows, with reasons, to a file that can be sent again:")
            show_note(f"  {self._format_next_command('resume', result, '--failures', name)}")
        elif failure_summary.file is not None:
            _show_rerun_command(self.failures, failure_summary.file, self.job_input, self.job_options)

    def _release_spool(self, *, is_needed: bool) -> None:
        """Remove the spool of the input once it isn't needed any more."""
        spool = Spool(self.ledger)
        if not spool.is_filled:
            return
        if is_needed:
            what = f"{spool.path}, a copy of the input, keeps the IDs until then."
            show_note(escape_line(what))
        else:
            spool.discard()


@attrs.frozen
class FailedRowsSteps:
    """The next steps of a job whose ledger is temporary. It can't be resumed, but its failed rows can be sent again."""

    job_input: JobInput
    job_options: JobOptions
    failures: Path | None
    can_resume = False

    def format_refusal(self, message: str) -> str:
        """Return the message that nothing was sent."""
        return message

    def show_after_interrupt(self, result: JobResult | None) -> None:
        """Show nothing. The caller reports the interrupt."""

    def show(self, result: JobResult, status_after: Status | None, failure_summary: CollectedFailures) -> None:
        """Show what to do with the failed rows."""
        failed = result.outcome_counts.failed_count
        if not failed:
            return
        if self.failures is None:
            name = f"FILE.{get_failures_format(self.job_input.read_schema())}"
            what = f"--failures {name} writes the failed rows, with reasons, to a file that can be sent again."
            show_note(what)
        elif failure_summary.file is None:
            show_note(escape_line(f"{self.failures} wasn't written."))
        elif not failure_summary.is_complete:
            what = f"{failure_summary.file} contains only some of the {format_count(failed, 'row')} that failed."
            show_note(escape_line(what))
        else:
            _show_rerun_command(self.failures, failure_summary.file, self.job_input, self.job_options)


NextSteps: TypeAlias = ResumeSteps | FailedRowsSteps
"""The next steps to show after a run. `can_resume`: whether the job can be resumed."""


def _show_rerun_command(requested: Path, written: Path, job_input: JobInput, job_options: JobOptions) -> None:
    """Show how to send the failed rows again.

    `requested`: the file named by --failures, `written`: the file written.
    """
    is_other = written != requested
    why = f" ({requested} was created by another process during the run and is unchanged.)" if is_other else ""
    what = f"{written} contains the failed rows, with reasons.{why} To send them again, corrected:"
    show_note(escape_line(what))
    show_note(f"  {format_rerun_command(job_options, written, job_input.read_schema())}")
