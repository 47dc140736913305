"""The command `verify`: check that deleted profiles are gone."""

import asyncio
import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...bulk import BulkReport, Outcome, StopReason
from ...bulk.operations import OPERATIONS
from ...client import AdaptyClient
from ...escaping import escape_line
from ...ledger import LedgerReader, Verified
from ...ledger import verify as verify_ledger
from ...ledger.deletion_verification import count_deleted_items
from ...pacing import Pacer
from ..exit_status import CommandError, ExitStatus
from ..inputs.input_types import InputSchema
from ..inputs.job_input import JobInput
from ..options import NewKeyOptions, SpeedOptions
from ..output.command_output import get_output, show_note
from ..output.progress import LiveStatus, OutcomeCounts
from ..output.progress_screen import create_screen, show_log_messages, show_progress
from ..signals import run_event_loop
from .client_from_env import create_client_from_env, format_key_advice
from .failed_rows_file import FailedRow, check_new_file, write_failed_rows
from .job_key_check import read_witness_id, verify_same_app
from .job_options import JobOptions
from .ledger_access import (
    format_command,
    open_input,
    open_ledger,
    read_job_options,
    refuse_job_file,
    translate_ledger_errors,
)
from .pace import Pace
from .rerun_command import format_rerun_command

_ALL: Final = "all"
_SAMPLE_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)(%?)")
_STOP_MESSAGES: Final = {
    StopReason.CREDENTIALS: "Adapty doesn't accept the key (401): {key_advice}",
    StopReason.PERMISSION: "the key may not read profiles (403): {key_advice}",
    StopReason.MAX_OUTAGE: "Adapty has answered only with errors for too long: verify later",
    StopReason.MAX_THROTTLED: "Adapty has rate-limited every request for too long: verify later, or with a lower "
    "--max-rate",
}
_OUTCOME_LABELS: Final = {Outcome.FETCHED: "present", Outcome.NOT_FOUND: "absent"}


def verify_job(
    path: Path,
    sample: str,
    file: Path | None,
    speed_options: SpeedOptions,
    new_key_options: NewKeyOptions,
    present_file: Path | None = None,
    *,
    is_remaining_only: bool = False,
) -> ExitStatus:
    """Verify the deletions of a job.

    Args:
        path: The ledger.
        sample: How many profiles to check: "all", a number or a percentage.
        file: The new path of the input.
        speed_options: How fast to send.
        new_key_options: Whether another key of the same app is accepted.
        present_file: A new file for the rows whose profiles are present.
        is_remaining_only: Whether to check only profiles that have no result yet.

    Raises:
        CommandError: If nothing can be verified.
    """
    pace = Pace.from_options(speed_options.pace, speed_options.max_rate)
    if present_file is not None:
        refuse_job_file(present_file, path)
        check_new_file(present_file, "--present")
    with open_ledger(path) as reader:
        if not OPERATIONS[reader.job.operation].is_verifiable:
            raise CommandError(
                f"only deletions can be verified, but {path} is the ledger of the operation {reader.job.operation}: to "
                f"see the outcomes of its rows, run {format_command('report', path)}"
            )
        with translate_ledger_errors():
            deleted_count = count_deleted_items(reader, remaining=is_remaining_only)
        sample_size = _parse_sample_size(sample, deleted_count)
        if not deleted_count:
            raise CommandError(
                f"{path} contains no accepted deletion {'left to verify' if is_remaining_only else 'yet'}: "
                "nothing to verify"
            )
        client = create_client_from_env(speed_options.timeout)
        job_options = read_job_options(reader)
        witness_id = read_witness_id(new_key_options.witness_id, file, job_options.allowances)
        with (
            open_input(reader, file) as job_input,
            translate_ledger_errors(job_input),
            pace.open_pacer(client) as pacer,
        ):
            if new_key_options.new_key:
                verify_same_app(reader, job_input, job_options, witness_id, client)
            plain = job_input.iter_raw_ids()
            try:
                result = run_event_loop(
                    lambda _: _verify(
                        client,
                        reader,
                        plain,
                        sample_size,
                        pacer,
                        speed_options.concurrency,
                        is_remaining_only=is_remaining_only,
                        allow_new_key=new_key_options.new_key,
                    )
                )
            except (KeyboardInterrupt, asyncio.CancelledError):
                _show_remaining_command(path)
                raise
            written = None if present_file is None else _write_present_rows(path, job_input, present_file)
            schema = job_input.read_schema()
    _show_result(result)
    present_count = _count_present(path)
    if present_count:
        show_note(f"\nThe record shows them, too:\n  {format_command('report', path)}")
        _show_present_steps(path, job_options, schema, written)
    if result.stop_reason is not None or result.unknown:
        _show_remaining_command(path)
    return _choose_exit_status(result, present_count)


def _write_present_rows(path: Path, job_input: JobInput, file: Path) -> Path | None:
    """Write the rows whose profiles were present when last checked. Return the file, or None if there are none."""
    with LedgerReader(path) as reader:
        times = {found.position: found.at for found in reader.verification_results() if found.present}
        if not times:
            return None
        failures = (
            FailedRow(row, known.standing, f"present at {datetime.fromtimestamp(times[known.position], UTC)}", None)
            for known, row in zip(reader.rows(), job_input.iter_raw_rows(), strict=False)
            if known.position in times
        )
        return write_failed_rows(file, job_input.read_schema(), failures).path


def _show_present_steps(path: Path, job_options: JobOptions, schema: InputSchema, written: Path | None) -> None:
    """Show what to do about profiles that are present."""
    if written is None:
        show_note("To write the rows of these profiles to a file, to delete them again:")
        show_note(f"  {format_command('verify', path, '--present', 'present.csv')}")
        return
    show_note(f"{escape_line(str(written))} contains the rows of the profiles present. To delete them again:")
    show_note(f"  {format_rerun_command(job_options, written, schema)}")


def _show_remaining_command(path: Path) -> None:
    show_note(
        f"\nTo verify the profiles that haven't been checked yet:\n  {format_command('verify', path, '--remaining')}"
    )


def _parse_sample_size(sample: str, deleted_count: int) -> int:
    """Return how many of the deleted profiles to check. Raises CommandError if `sample` is invalid."""
    if sample == _ALL:
        return deleted_count
    match = _SAMPLE_SIZE.fullmatch(sample)
    share = float(match[1]) / 100 if match and match[2] else None
    if match is None or not float(match[1]) or (share is None and not sample.isdecimal()) or (share or 0) > 1:
        raise CommandError("--sample must be a number as in 200, a share as in 5%, or all")
    return min(deleted_count, int(sample) if share is None else math.ceil(share * deleted_count))


async def _verify(
    client: AdaptyClient,
    reader: LedgerReader,
    ids: Iterable[str],
    sample_size: int,
    pacer: Pacer,
    concurrency: int,
    *,
    is_remaining_only: bool,
    allow_new_key: bool,
) -> Verified:
    report: BulkReport | None = None

    def on_progress(current_report: BulkReport) -> None:
        nonlocal report
        report = current_report

    def build_live_status() -> LiveStatus:
        outcome_counts = OutcomeCounts(
            sample_size, {} if report is None else report.counts, success_outcomes=_OUTCOME_LABELS
        )
        live_status = LiveStatus(
            outcome_counts=outcome_counts, errors=get_output().recent_errors.format_lines(), labels=_OUTCOME_LABELS
        ).with_pacer_state(pacer.snapshot())
        return live_status if report is None else live_status.with_requests(report)

    screen = create_screen(sys.stderr)
    async with client, show_progress(build_live_status, screen):
        with show_log_messages(screen):
            return await verify_ledger(
                client,
                reader.path,
                ids,
                sample=sample_size,
                remaining=is_remaining_only,
                concurrency=concurrency,
                pacer=pacer,
                on_progress=on_progress,
                new_key=allow_new_key,
            )


def _show_result(result: Verified) -> None:
    lines = [
        f"{name:<20}{count:>12,}  {meaning}"
        for name, count, meaning in (
            ("present", result.present, "Adapty has such a profile"),
            ("absent", result.absent, "Adapty has no such profile"),
            ("unknown", result.unknown, "asked for, without a clear answer"),
        )
    ]
    stopped = None
    if result.stop_reason is not None:
        message = _STOP_MESSAGES[result.stop_reason].format(key_advice=format_key_advice("the secret key of the app"))
        stopped = f"{result.stop_reason}: {message}"
        lines.append(f"\nstopped: {stopped}")
    get_output().print_result(
        "\n".join(lines), present=result.present, absent=result.absent, unknown=result.unknown, stopped=stopped
    )


def _count_present(path: Path) -> int:
    """Count the profiles that were present when last checked, in this verification or an earlier one."""
    with translate_ledger_errors(), LedgerReader(path) as reader:
        return sum(found.present for found in reader.verification_results())


def _choose_exit_status(result: Verified, present_count: int) -> ExitStatus:
    statuses = [ExitStatus.FAILED if present_count or result.unknown else ExitStatus.OK]
    if result.stop_reason is not None:
        is_key = result.stop_reason in {StopReason.CREDENTIALS, StopReason.PERMISSION}
        statuses.append(ExitStatus.CREDENTIALS if is_key else ExitStatus.STOPPED)
    return ExitStatus.pick_by_precedence(statuses)
