"""The commands that read a ledger: `status`, `export`, `report` and `anonymize`."""

import contextlib
import csv
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from ... import ledger as ledgers
from ...bulk import Outcome
from ...bulk.operations import OUTCOME_MEANINGS
from ...escaping import dump_json, escape_line
from ...ledger import JobRecord, LedgerReader, Row, Run, Status, build_record
from ...ledger.reader import RECENT_SECONDS
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus, is_disk_full
from ..output.atomic_files import READABLE_MODE, create_partial_file
from ..output.progress import LiveStatus, OutcomeCounts, ProgressView
from ..output.progress_screen import create_screen, echo
from ..output.standard_streams import open_stdout, print_error, print_to_stdout
from .ledger_access import (
    format_command,
    format_resume_command,
    list_input_files,
    open_input,
    open_ledger,
    refuse_job_file,
    translate_ledger_errors,
)
from .preflight import ask_to_type, require_terminal

_STDOUT_PATH: Final = Path("-")
_MAX_LIVE_STATUS_AGE: Final = timedelta(seconds=10)
_REFRESH_SECONDS: Final = 2.0
"""Seconds between two reads of a ledger, each of which reads all of it."""
_PROGRAM_ADVICE: Final = "run the Python program of the job again"
_ANONYMIZE_WARNING: Final = (
    "After this, the job can't be resumed, its deletions can't be verified, and no row can be looked up or exported "
    "by its ID; status, report, and export without IDs still work."
)
_COLUMNS: Final = ("position", "id", "outcome", "status", "attempts", "time", "present", "verified", "exclude_list")


def show_status(path: Path, *, watch: bool = False, as_json: bool = False) -> ExitStatus:
    """Show the progress of a job. `watch`: repeatedly, as long as it runs. `as_json`: as one JSON object."""
    if watch:
        _watch_progress(path)
    with open_ledger(path) as reader:
        job_status, view = reader.status(), None
        is_in_use = reader.is_running()
        if is_in_use and _has_open_run(reader):
            view = _build_view(reader, job_status)
        is_left = not is_in_use and bool(job_status.waiting or job_status.claimed)
        resume_advice = _get_resume_advice(reader) if is_left else None
        if as_json:
            print_to_stdout(dump_json(_build_status_dict(reader, job_status, view, resume_advice, is_in_use=is_in_use)))
            return ExitStatus.OK
        print_to_stdout("\n".join(map(escape_line, _iter_status_lines(reader, job_status, view, is_in_use=is_in_use))))
    if resume_advice is not None:
        echo(f"\nTo resume it:\n  {resume_advice}", sys.stderr)
    return ExitStatus.OK


def _has_open_run(reader: LedgerReader) -> bool:
    """Return True if the last run hasn't ended. If so, the process that uses the ledger runs the job.

    Otherwise it verifies or prepares the job.
    """
    runs = reader.runs
    return bool(runs) and runs[-1].ended is None


def _get_resume_advice(reader: LedgerReader, ledger: Path | None = None) -> str:
    """Return the command that resumes a job, or a description if it was started from Python.

    `ledger`: the ledger as the command names it, if not by the path of the reader.
    """
    return format_resume_command(ledger or reader.path) if reader.job_options else _PROGRAM_ADVICE


def _watch_progress(path: Path) -> None:
    screen = create_screen(sys.stdout)
    try:
        while True:
            with open_ledger(path) as reader, translate_ledger_errors():
                if not (reader.is_running() and _has_open_run(reader)):
                    return
                screen.show(_build_view(reader, reader.status()))
            time.sleep(max(screen.interval, _REFRESH_SECONDS))  # no event loop runs here, and Ctrl-C ends it
    finally:
        screen.close()


def _build_view(reader: LedgerReader, job_status: Status) -> ProgressView:
    """Return the live status of a running job, as published in the ledger.

    If there is none, as for most jobs started from Python, it is derived from the rows.
    """
    local_time, runs = datetime.now().astimezone(), reader.runs
    outcome_counts = OutcomeCounts(job_status.known, job_status.counts)
    published = reader.live_status or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # no live status, or one in another form
        if (
            abs(local_time - datetime.fromisoformat(published["at"])) < _MAX_LIVE_STATUS_AGE
        ):  # an older one is left from a killed run
            return ProgressView.from_dict(published, outcome_counts, local_time)
    run_seconds = (local_time - runs[-1].started).total_seconds() if runs else 0.0
    return ProgressView(
        live_status=LiveStatus(outcome_counts=outcome_counts),
        rate=job_status.recent / min(max(run_seconds, 1.0), RECENT_SECONDS) or None,
        local_time=local_time,
    )


def _iter_status_lines(
    reader: LedgerReader, job_status: Status, view: ProgressView | None, *, is_in_use: bool
) -> Iterator[str]:
    job = reader.job
    yield f"{job.operation} by {job.by} at {job.base_url}"
    if view is None:
        yield "it isn't running, but in use by another command" if is_in_use else "it isn't running"
    else:
        yield from filter(None, ["it is running", view.done_text, *view.lines])
    yield ""
    outcomes = _count_outcomes(job_status, view)
    yield from (f"{outcome:<20}{count:>12,}  {OUTCOME_MEANINGS[outcome]}" for outcome, count in outcomes.items())
    yield f"{'total':<20}{job_status.known:>12,}  {'rows' if job.items is not None else 'rows so far'}"
    yield f"{'waiting':<20}{job_status.waiting:>12,}  of the rows: still to be sent"
    yield f"{'claimed':<20}{job_status.claimed:>12,}  of the rows: in flight, now or when a run ended"
    yield ""
    yield from map(_format_run, reader.runs)


def _count_outcomes(job_status: Status, view: ProgressView | None) -> dict[Outcome, int]:
    """Return the number of rows by outcome. While the job runs, rows that wait or are in flight aren't included."""
    counts = job_status.totals if view is None else job_status.counts
    return {outcome: count for outcome in OUTCOME_MEANINGS if (count := counts.get(outcome))}


def _build_status_dict(
    reader: LedgerReader, job_status: Status, view: ProgressView | None, resume_advice: str | None, *, is_in_use: bool
) -> dict[str, Any]:
    job = reader.job
    return {
        "operation": job.operation,
        "by": job.by,
        "server": job.base_url,
        "running": view is not None,
        "in_use": is_in_use,
        "progress": None if view is None else view.to_dict(),
        "totals": _count_outcomes(job_status, view),
        "total": job_status.known,
        "waiting": job_status.waiting,
        "claimed": job_status.claimed,
        "runs": [
            {
                "number": run.number,
                "started": _format_time(run.started),
                "ended": _format_time(run.ended) or None,
                "key": run.key_fingerprint,
            }
            for run in reader.runs
        ],
        "resume_command": resume_advice,
    }


def _format_run(run: Run) -> str:
    return (
        f"run {run.number}: from {_format_time(run.started)} to {_format_time(run.ended) or '-'}, key "
        f"{run.key_fingerprint}"
    )


def export_rows(path: Path, file: Path | None, ids: Literal["hashed", "plain", "none"]) -> ExitStatus:
    """Write the rows of a ledger as CSV."""
    with open_ledger(path) as reader:
        if ids == "plain":
            with open_input(reader, file) as source, translate_ledger_errors(source):
                _write_rows(reader, reader.joined(source.iter_raw_ids()))
        else:
            _write_rows(reader, ((row, row.hash.hex() if ids == "hashed" else "") for row in reader.rows()))
    return ExitStatus.OK


def _write_rows(reader: LedgerReader, rows: Iterable[tuple[Row, object]]) -> None:
    verifications = reader.presences()
    verification = next(verifications, None)
    with open_stdout() as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row, id_ in rows:
            verified: tuple[str, str] = ("", "")
            if verification is not None and verification.position == row.position:
                verified = ("yes" if verification.present else "no", _format_timestamp(verification.at))
                verification = next(verifications, None)
            known = (row.position, id_, row.standing, row.status or "", row.attempts, _format_timestamp(row.at))
            writer.writerow((*known, *verified, row.exclude_list or ""))


def write_record(path: Path, record_format: Literal["json", "md"], output: Path, *, force: bool = False) -> ExitStatus:
    """Write the record of a job. Return FAILED if a verification found profiles.

    Args:
        path: The ledger.
        record_format: JSON or Markdown.
        output: The file to write, or `-` for standard output.
        force: Overwrite an existing file.

    Raises:
        CommandError: If the record can't be made or written.
    """
    with open_ledger(path) as reader:
        if output != _STDOUT_PATH:
            refuse_job_file(output, path, *list_input_files(reader))
            if output.is_file() and not force:
                raise CommandError(
                    f"{output} exists and may be a record: name another file, or add --force to replace it"
                )
        # The record may be filed elsewhere, so that it names the ledger without its directory.
        how = None if reader.is_running() else _get_resume_advice(reader)
        how_in_record = None if how is None else _get_resume_advice(reader, Path(path.name))
        record = build_record(reader, resume_command=how_in_record)
    _write_text(output, record.as_json() if record_format == "json" else record.as_markdown())
    _show_open_items(record, how)
    present = 0 if record.verified is None else record.verified.present
    if not present:
        return ExitStatus.OK
    what = format_count(
        present,
        "profile was present when it was verified; to write its row to a file:",
        "profiles were present when they were verified; to write their rows to a file:",
    )
    print_error(what)
    echo(f"  {format_command('verify', path, '--present', 'present.csv')}", sys.stderr)
    return ExitStatus.FAILED


def _show_open_items(record: JobRecord, resume_advice: str | None) -> None:
    if record.open:
        how = "" if resume_advice is None else f" To resume it:\n  {resume_advice}"
        echo(f"The job isn't finished: {format_count(record.open, 'item is', 'items are')} open.{how}", sys.stderr)


def anonymize(path: Path, *, is_confirmed: bool) -> ExitStatus:
    """Remove everything that connects a ledger with IDs. `is_confirmed`: don't ask for confirmation."""
    with open_ledger(path) as reader:
        job_status, how = reader.status(), _get_resume_advice(reader)
    remaining = job_status.waiting + job_status.claimed
    if not is_confirmed:
        if remaining:
            left = format_count(
                remaining,
                "row is left and can't be sent after this. To send it:",
                "rows are left and can't be sent after this. To send them:",
            )
            echo(f"{left} {how}", sys.stderr)
        require_terminal(None)
        if not ask_to_type(f"{_ANONYMIZE_WARNING} This can't be undone.\nType anonymize to confirm: ", "anonymize"):
            raise CommandError("not confirmed, so nothing was removed: to do it, type anonymize or add --yes")
    with translate_ledger_errors():
        ledgers.anonymize(path)
    what = f"{path} is anonymous: its key file and the copy of its input, if there was one, were removed."
    echo(escape_line(what), sys.stdout)
    echo(_ANONYMIZE_WARNING, sys.stderr)
    return ExitStatus.OK


def _write_text(path: Path, text: str) -> None:
    text = text.encode(errors="backslashreplace").decode()  # file names may contain bytes that aren't UTF-8
    if path == _STDOUT_PATH:
        with open_stdout() as stream:
            stream.write(text)
        return
    try:
        if path.exists() and not path.is_file():  # a pipe must be written to, not replaced by a file
            path.write_text(text, encoding="utf-8")
        else:
            _replace_file(path.resolve(), text)
    except OSError as error:
        reason, status = error.strerror, ExitStatus.LEDGER if is_disk_full(error) else ExitStatus.USAGE
    else:
        return
    raise CommandError(f"{path} can't be written: {reason}: make room, or name another file", status)


def _replace_file(path: Path, text: str) -> None:
    """Write a file completely or not at all. Raises OSError."""
    with create_partial_file(path, READABLE_MODE) as (part, descriptor):
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        part.replace(path)


def _format_time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _format_timestamp(at: int | None) -> str:
    return "" if at is None else _format_time(datetime.fromtimestamp(at, UTC))
