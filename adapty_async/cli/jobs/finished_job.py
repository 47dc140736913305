"""Show the result of a finished job and the commands that can follow."""

from pathlib import Path
from typing import Final

from ...bulk import Outcome
from ...bulk.results import JobStats
from ...ledger import LedgerReader
from ...ledger.files import resolve_link
from ...ledger.id_key import get_key_path
from ..exit_status import ExitStatus
from ..output.command_output import show_note
from ..output.progress import OutcomeCounts
from .job_options import JobOptions
from .job_result import JobResult, show_result
from .ledger_access import format_command

RETRYABLE_OUTCOMES: Final = frozenset({Outcome.FAILED, Outcome.IN_DOUBT})
"""The outcomes that `retry-failed` sends again."""
_EMPTY_REPORT: Final = JobStats().build_report(0.0, uncommitted_counts={}, stop_reason=None, input_exhausted=True)


def is_finished(reader: LedgerReader) -> bool:
    """Return True if no command would send more rows of a job."""
    status = reader.status()
    is_left = status.waiting or status.claimed or any(status.counts.get(outcome) for outcome in RETRYABLE_OUTCOMES)
    return reader.job.items is not None and not is_left


def show_finished_job(reader: LedgerReader, job_options: JobOptions) -> ExitStatus:
    """Show the result of a finished job, using only its ledger."""
    status = reader.status()
    violated_rule = job_options.guards.find_violated_rule(status.counts)
    result = JobResult(OutcomeCounts(status.known, status.totals), _EMPTY_REPORT, None, violated_rule)
    show_result(result)
    if violated_rule is None:
        show_next_commands(reader.path, job_options, has_input=False)
    return result.status


def show_next_commands(ledger: Path, job_options: JobOptions, *, has_input: bool) -> None:
    """Show the commands that can follow, without the irreversible `anonymize`.

    `has_input`: the input is still in its place.
    """
    show_note("No row is left to send. Next, you can:")
    has_key = get_key_path(resolve_link(ledger)).exists()  # without its key file, a ledger is anonymous
    if has_key and job_options.operation_spec.is_verifiable:
        given = [] if has_input else ["--input", "FILE"]
        show_note(f"  {format_command('verify', ledger, '--sample', '5%', *given)}")
    show_note(f"  {format_command('report', ledger, '-o', 'record.md')}")
