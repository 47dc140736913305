"""The preflight of a job: check the input, the guards and the app, and ask for confirmation."""

from collections.abc import Callable, Iterable
from pathlib import Path

from ...client import AdaptyClient, clone_client
from ...escaping import escape_line
from ...ledger.compliance_record import OPERATOR_NOTE, REQUEST_NOTE
from ...ledger.job_api_key import APP_ID_NOTE
from ...pluralization import format_count
from ..exit_status import CommandError
from ..inputs.change_input import ChangeInput
from ..inputs.exclude_lists import ExcludeLists, read_exclude_lists
from ..inputs.id_input import InputSummary
from ..inputs.job_input import JobInput
from ..output.command_output import show_note
from .app_check import verify_app
from .confirmation import confirm_job, confirm_rounded_ids
from .failed_rows_file import get_failures_format
from .job_options import JobOptions
from .ledger_access import is_rereadable


def load_exclude_lists(job_options: JobOptions, *, can_ask: bool) -> ExcludeLists:
    """Read the exclude lists of a job. `can_ask`: as in `confirm_rounded_ids`. Raises CommandError."""
    exclude_lists = read_exclude_lists(
        job_options.exclude, by=job_options.by, column=job_options.exclude_column, allowances=job_options.allowances
    )
    for each in exclude_lists.lists:
        confirm_rounded_ids(
            f"--exclude: {each.file}", each.rounded_count, is_allowed=job_options.allowances.rounded, can_ask=can_ask
        )
    return exclude_lists


def run_preflight(
    job_input: JobInput,
    job_options: JobOptions,
    client: AdaptyClient,
    exclude_lists: ExcludeLists,
    *,
    is_confirmed: bool,
    count_remaining_rows: Callable[[], int] | None = None,
) -> InputSummary:
    """Check the input, the exclude lists and the guards, and ask for confirmation. Raises CommandError.

    `count_remaining_rows`: returns the number of profiles left, for a job that has been run before.
    """
    input_summary = job_input.check()
    remaining = input_summary.profile_count if count_remaining_rows is None else count_remaining_rows()
    show_input_summary(
        job_input.name, input_summary, job_options.operation, remaining, excluded_id_count=len(job_input.excluded_ids)
    )
    if isinstance(job_input, ChangeInput):
        show_note(f"  {escape_line(job_input.description)}")
    exclude_lists.check(job_input, job_options.allowances)
    confirm_rounded_ids(
        job_input.name, input_summary.rounded_count, is_allowed=job_options.allowances.rounded, can_ask=not is_confirmed
    )
    job_options.guards.check(input_summary.profile_count, job_options.operation_spec, is_confirmed=is_confirmed)
    if not is_confirmed:
        confirm_job(remaining, client.base_url, job_options.operation_spec)
    return input_summary


def verify_app_and_build_notes(job_options: JobOptions, job_input: JobInput, client: AdaptyClient) -> dict[str, str]:
    """Verify the app if one is given, and return the notes of the run for the record. Raises CommandError.

    The request uses the key of `client`, but doesn't open it.
    """
    notes = build_notes(job_options)
    app = job_options.app
    if app is not None:
        to_send = (row.id for row in job_input.iter_rows() if row.outcome is None)
        verify_app(clone_client(client), to_send, by=job_options.by, app=app)
        notes[APP_ID_NOTE] = app
    return notes


def build_notes(job_options: JobOptions) -> dict[str, str]:
    """Return notes for the record: the operator, the reason and the exclude lists."""
    notes = {
        OPERATOR_NOTE: job_options.record_options.operator,
        REQUEST_NOTE: job_options.record_options.request,
        "exclude": ", ".join(job_options.exclude),
    }
    return {name: note for name, note in notes.items() if note}


def show_input_summary(
    name: str, input_summary: InputSummary, operation: str, remaining: int | None = None, *, excluded_id_count: int = 0
) -> None:
    """Show the contents of a file, how many of its profiles are `remaining`, and its invalid lines.

    `excluded_id_count`: the number of IDs on the exclude lists, whether they are in the file or not.
    """
    schema = input_summary.schema
    rest = "" if remaining in (None, input_summary.profile_count) else f", {remaining:,} of them still"
    rows = format_count(input_summary.row_count, "row")
    profiles = format_count(input_summary.profile_count, "profile")
    lines = [
        f"{name}: {rows}, {profiles}{rest} to {operation}",
        f"  read as {schema.format_label}: {schema.column_label}",
    ]
    if not schema.has_checksums:
        lines.append("  its pages have no checksums: damaged bytes in IDs aren't detected")
    if input_summary.duplicate_count:
        repeats = format_count(input_summary.duplicate_count, "row repeats", "rows repeat")
        lines.append(f"  {repeats} an ID of an earlier line; each ID is sent once")
    if input_summary.cleared_count or input_summary.emptied_count:
        lines.append(
            f"  attributes: {format_count(input_summary.cleared_count, 'is', 'are')} cleared (null), "
            f"{input_summary.emptied_count:,} set to an empty text"
        )
    if excluded_id_count:
        excluded = format_count(input_summary.excluded_count, "row is", "rows are")
        lines.append(f"  --exclude lists {format_count(excluded_id_count, 'ID')}: {excluded} excluded")
    if input_summary.invalid_count:
        lines.append(f"  {format_count(input_summary.invalid_count, 'row is', 'rows are')} invalid:")
        lines += [f"    {schema.unit} {row.line}: {row.reason}" for row in input_summary.first_invalid_rows]
    if input_summary.invalid_count > len(input_summary.first_invalid_rows):
        lines.append(f"    and more: --failures FILE.{get_failures_format(schema)} writes all of them")
    show_note("\n".join(map(escape_line, lines)))


def require_rereadable(files: Iterable[Path]) -> None:
    """Refuse lists that a later run can't read again and would therefore ignore. Raises CommandError."""
    for file in files:
        if not is_rereadable(file):
            raise CommandError(
                f"--exclude: {file} can't be read again when the job is resumed, and its IDs must not be sent "
                "then either: write them to a file"
            )
