"""The command `plan`: show what another command would do with a file, without changing anything."""

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from ...bulk.operations import OPERATIONS, AnyOperation, Effect
from ...client import AdaptyClient, clone_client
from ...escaping import escape_line
from ..exit_status import CommandError, ExitStatus
from ..inputs.change_input import ChangeInput
from ..inputs.change_summary import AttributeCounter
from ..inputs.id_input import InputSummary
from ..inputs.input_source import STDIN_PATH
from ..inputs.input_types import InputSchema
from ..inputs.job_input import JobInput
from ..option_group_conversion import to_cli_options
from ..options import Allowances, AttributeOptions, PlanOptions
from ..output.command_output import echo, get_output
from ..output.standard_streams import print_to_stdout
from ..signals import run_event_loop
from .app_check import check_api_key
from .client_from_env import create_client_from_env
from .confirmation import confirm_rounded_ids
from .guards import MAX_UNCOUNTED_PROFILES
from .id_mask import mask_id
from .job_options import JobOptions, build_exclude_cli_options, build_input_cli_options, open_job_input
from .ledger_access import format_command
from .preflight import load_exclude_lists, show_input_summary
from .profile_sample import ProfileSample, fetch_profile_sample

_APP_UNKNOWN: Final = "unknown: none of them exists; check the key, --by and --column"
_APP_UNKNOWN_YET: Final = "unknown: none of them exists, as expected before they are created"


def plan(plan_options: PlanOptions) -> ExitStatus:
    """Check a file like the command that it is meant for. Raises CommandError if that command would."""
    spec = OPERATIONS[plan_options.target_command.value]
    if not spec.has_attributes and plan_options.attribute_options != AttributeOptions():
        others = ", or ".join(f"--for {other.name}" for other in OPERATIONS.values() if other.has_attributes)
        raise CommandError(f"{spec.name} writes no attributes: add {others}")
    if plan_options.exclude and not spec.has_ledger:
        raise CommandError(f"{spec.name} has no --exclude: leave it out")
    job_options = JobOptions.from_options(spec.name, plan_options)
    return plan_job(job_options, plan_options.file, sample_size=plan_options.probe)


def plan_job(
    job_options: JobOptions, file: Path, *, sample_size: int | None = None, more_options: Sequence[str] = ()
) -> ExitStatus:
    """Show what a job would do with a file. Raises CommandError if the file would be refused.

    `sample_size`: how many profiles to fetch, or None to send nothing. `more_options`: further options of the command
    that is shown.
    """
    client = _try_create_client()
    exclude_lists = load_exclude_lists(job_options, can_ask=False)
    sample = None
    with open_job_input(job_options, file, excluded_ids=exclude_lists.excluded_ids) as job_input:
        input_summary = job_input.check()
        show_input_summary(
            job_input.name, input_summary, job_options.operation, excluded_id_count=len(job_input.excluded_ids)
        )
        exclude_lists.check(job_input, job_options.allowances)
        confirm_rounded_ids(
            job_input.name, input_summary.rounded_count, is_allowed=job_options.allowances.rounded, can_ask=False
        )
        known = None if isinstance(client, CommandError) else client
        _print_result(
            "\n".join(_iter_lines(job_input, input_summary, job_options, job_options.pace.estimate_rate(known)))
        )
        if sample_size is not None:
            if isinstance(client, CommandError):
                raise client
            sample = _fetch_sample(client, job_input, input_summary, job_options, sample_size)
    what = "sent" if sample_size is None else "changed"
    _print_result(
        f"\nNothing was {what}. To {job_options.operation} them:\n  "
        f"{_format_planned_command(file, job_options, input_summary, sample, more_options)}"
    )
    return ExitStatus.OK if sample is None or sample.is_complete else ExitStatus.STOPPED


def _try_create_client() -> AdaptyClient | CommandError:
    """Return the client of the command, or the error if it can't be made. Called once: the key may be readable once."""
    try:
        return create_client_from_env()
    except CommandError as error:  # without a key no rate limit is remembered, but the file can still be checked
        return error


def _iter_lines(
    job_input: JobInput, input_summary: InputSummary, job_options: JobOptions, rate: float | None
) -> Iterator[str]:
    figures = {
        "rows": input_summary.row_count,
        "profiles": input_summary.profile_count,
        "duplicates": input_summary.duplicate_count,
        "excluded": input_summary.excluded_count,
        "invalid": input_summary.invalid_count,
    }
    yield _format_line("format", input_summary.schema.format_label)
    yield _format_line("column", input_summary.schema.column_label)
    yield from _iter_header_lines(input_summary.schema)
    yield from (f"{name:<20}{count:>12,}" for name, count in figures.items())
    yield from _iter_sent_lines(job_input)
    yield _format_line("time", _format_duration(rate, input_summary.profile_count))


def _iter_header_lines(schema: InputSchema) -> Iterator[str]:
    """Report whether the first line of a single column was taken as a header or as an ID."""
    if not schema.is_single_column:
        return
    name = schema.column_names[schema.id_index]
    if schema.has_header:
        yield _format_line("first line", "taken as the column's name, not as an ID")
    else:
        yield _format_line("first line", f"taken as an ID: a column's name would be {name}, or id")


def _iter_sent_lines(job_input: JobInput) -> Iterator[str]:
    """Show the first and last ID to send, masked, and the attributes to write."""
    first = last = ""
    attribute_counter = AttributeCounter()
    count = 0
    for row in job_input.iter_rows():
        if row.outcome is None:
            count += 1
            first, last = first or row.id, row.id
            if isinstance(job_input, ChangeInput):
                attribute_counter.count(job_input.build_item(row)[1])
    yield _format_line("first ID", mask_id(first))
    if count > 1:
        yield _format_line("last ID", mask_id(last))
    if isinstance(job_input, ChangeInput):
        both, *each = attribute_counter.iter_lines()
        yield _format_line("attributes", both)
        yield from (_format_line("", line) for line in each)


def _print_result(text: str) -> None:
    """Print a text to standard output, which --json reserves for events. Raises CommandError."""
    if get_output().json:
        echo(text, sys.stderr)
    else:
        print_to_stdout(text)


def _format_line(name: str, text: str) -> str:
    return f"{name:<20}{escape_line(text)}"


def _format_duration(rate: float | None, profile_count: int) -> str:
    if rate is None:
        return "unknown: no rate limit is stored for the key; to set a rate, add --pace, such as --pace 50"
    return f"about {timedelta(seconds=round(profile_count / rate))} at {rate:,.1f} requests per second"


def _fetch_sample(
    client: AdaptyClient, job_input: JobInput, input_summary: InputSummary, job_options: JobOptions, max_count: int
) -> ProfileSample:
    sample_size = min(max_count, input_summary.profile_count)
    places = {number * input_summary.profile_count // sample_size for number in range(sample_size)}
    sent = (row.id for row in job_input.iter_rows() if row.outcome is None)
    picked = (id_ for place, id_ in enumerate(sent) if place in places)
    with job_options.pace.open_pacer(client) as pacer:
        sample_result = run_event_loop(lambda _: fetch_profile_sample(client, picked, by=job_options.by, pacer=pacer))
    if not sample_size:  # no profile is fetched, but the key must be checked anyway
        run_event_loop(lambda _: check_api_key(clone_client(client)))
    _print_result("\n".join(_iter_sample_lines(sample_result, job_options.operation_spec)))
    return sample_result


def _iter_sample_lines(sample: ProfileSample, operation_spec: AnyOperation) -> Iterator[str]:
    yield ""
    yield f"{'asked for':<20}{sample.requested_count:>12,}  profiles, from all over the file"
    if not sample.known_count:
        yield f"no request was answered ({_explain_incomplete(sample)}): see adapty-async doctor, and try again later"
        return
    yield f"{'exist':<20}{sample.existing_count:>12,}"
    yield f"{'do not exist':<20}{sample.absent_count:>12,}"
    nobody = _APP_UNKNOWN_YET if operation_spec.effect is Effect.CREATE else _APP_UNKNOWN
    yield _format_line("app", ", ".join(map(str, sample.apps)) or nobody)
    if not sample.is_complete:
        yield f"not all requests were answered ({_explain_incomplete(sample)}): try again later"


def _explain_incomplete(sample: ProfileSample) -> str:
    """Return why some weren't answered: the last kinds of errors, without their time."""
    errors = [line.split("  ", 1)[1] for line in get_output().recent_errors.format_lines()]
    return "; ".join(errors) or str(sample.stop_reason or "errors")


def _format_planned_command(
    file: Path,
    job_options: JobOptions,
    input_summary: InputSummary,
    sample: ProfileSample | None,
    more_options: Sequence[str],
) -> str:
    """Return the command that was planned, with --app if the app is known."""
    options = [*build_input_cli_options(job_options), *build_exclude_cli_options(job_options)]
    if job_options.operation_spec.has_ledger:
        options += (
            ["--expect", str(input_summary.profile_count)]
            if input_summary.profile_count > MAX_UNCOUNTED_PROFILES and not {"--expect", "--max"} & {*more_options}
            else []
        )
        options += ["--app", str(sample.apps[0])] if sample is not None and len(sample.apps) == 1 else []
    options += to_cli_options(job_options.speed_options)
    options += to_cli_options(Allowances(damaged=job_options.allowances.damaged))
    options += more_options
    if job_options.operation not in OPERATIONS:
        return f"{format_command(job_options.operation, file, *options)} > profiles.jsonl"
    return format_command(job_options.operation, file, *options, *(["--yes"] if file == STDIN_PATH else []))
