"""The command `status`: show the progress of a job."""

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ...bulk import Outcome
from ...bulk.operations import OUTCOME_MEANINGS
from ...escaping import dump_json, escape_line
from ...ledger import LedgerReader, Run, Status
from ...ledger.reader import RECENT_SECONDS
from ..exit_status import ExitStatus
from ..output.command_output import echo
from ..output.progress import LiveStatus, OutcomeCounts, ProgressView
from ..output.progress_screen import create_screen
from ..output.standard_streams import print_to_stdout
from .ledger_access import get_resume_advice, open_ledger, translate_ledger_errors

_MAX_LIVE_STATUS_AGE: Final = timedelta(seconds=10)
_REFRESH_SECONDS: Final = 2.0
"""Seconds between two reads of a ledger, each of which reads all of it."""


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
        resume_advice = get_resume_advice(reader) if is_left else None
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


def _format_time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"
