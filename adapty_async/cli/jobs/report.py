"""The commands that read a ledger: `status`, `export`, `report` and `redact`."""

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
from ...escaping import one_line, to_json
from ...ledger import LedgerReader, Presence, Record, Row, Run, Status, evidence, record_of
from ...ledger.last_key import APP_ID
from ...ledger.reader import RECENT
from ...ledger.record import MEANINGS
from ..exit_codes import CommandError, ExitStatus, is_full
from ..output.files import READABLE, part_beside
from ..output.progress import Sight, Standing, View
from ..output.screen import screen_for, tell
from ..output.streams import FROM_STDIN, id_of_stdin, say, show, standard_output
from .ledger_files import command, inputs_of, open_input, open_ledger, refuse_needed, refusing, resume_command
from .preflight import is_typed, require_terminal

_STREAM: Final = Path("-")
_LATELY: Final = timedelta(seconds=10)
_PAUSE: Final = 2.0
"""Seconds between two reads of a ledger, each of which reads all of it."""
_OF_PROGRAM: Final = "run the Python program of the job again"
_REDACTED: Final = (
    "After this, the job can't be resumed, its deletions can't be verified, and no row can be looked up or exported "
    "by its ID; status, report, and export without IDs still work."
)
_COLUMNS: Final = ("position", "id", "outcome", "status", "attempts", "time", "present", "verified", "exclude_list")


def status(path: Path, *, watch: bool = False, as_json: bool = False) -> ExitStatus:
    """Show the progress of a job. `watch`: repeatedly, as long as it runs. `as_json`: as one JSON object."""
    if watch:
        _watch(path)
    with open_ledger(path) as reader:
        standing, view = reader.status(), None
        is_used = reader.is_running()
        if is_used and _has_run_open(reader):
            view = _view(reader, standing)
        is_left = not is_used and bool(standing.waiting or standing.claimed)
        todo = _todo(reader) if is_left else None
        if as_json:
            show(to_json(_as_json(reader, standing, view, todo, is_used=is_used)))
            return ExitStatus.DONE
        show("\n".join(map(one_line, _standing(reader, standing, view, is_used=is_used))))
    if todo is not None:
        tell(f"\nTo resume it:\n  {todo}", sys.stderr)
    return ExitStatus.DONE


def _has_run_open(reader: LedgerReader) -> bool:
    """Return True if the last run hasn't ended. If so, the process that uses the ledger runs the job.

    Otherwise it verifies or prepares the job.
    """
    runs = reader.runs
    return bool(runs) and runs[-1].ended is None


def _todo(reader: LedgerReader) -> str:
    """Return the command that resumes a job, or a description if it was started from Python."""
    return resume_command(reader.path) if reader.order else _OF_PROGRAM


def _watch(path: Path) -> None:
    screen = screen_for(sys.stdout)
    try:
        while True:
            with open_ledger(path) as reader, refusing():
                if not (reader.is_running() and _has_run_open(reader)):
                    return
                screen.show(_view(reader, reader.status()))
            time.sleep(max(screen.interval, _PAUSE))  # no event loop runs here, and Ctrl-C ends it
    finally:
        screen.close()


def _view(reader: LedgerReader, standing: Status) -> View:
    """Return the live status of a running job, as published in the ledger.

    If there is none, as for most jobs started from Python, it is derived from the rows.
    """
    hour, runs = datetime.now().astimezone(), reader.runs
    stands = Standing(standing.known, standing.counts)
    told = reader.sight or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # no live status, or one in another form
        if abs(hour - datetime.fromisoformat(told["at"])) < _LATELY:  # an older one is left from a killed run
            return View.from_json(told, stands, hour)
    ran = (hour - runs[-1].started).total_seconds() if runs else 0.0
    return View(sight=Sight(standing=stands), rate=standing.recent / min(max(ran, 1.0), RECENT) or None, hour=hour)


def _standing(reader: LedgerReader, standing: Status, view: View | None, *, is_used: bool) -> Iterator[str]:
    job = reader.job
    yield f"{job.operation} by {job.by} at {job.base_url}"
    if view is None:
        yield "it isn't running, but in use by another command" if is_used else "it isn't running"
    else:
        yield from filter(None, ["it is running", view.done, *view.lines])
    yield ""
    outcomes = _outcomes(standing, view)
    yield from (f"{outcome:<20}{count:>12,}  {MEANINGS[outcome]}" for outcome, count in outcomes.items())
    yield f"{'total':<20}{standing.known:>12,}  {'rows' if job.items is not None else 'rows so far'}"
    yield f"{'waiting':<20}{standing.waiting:>12,}  of the rows: still to be sent"
    yield f"{'claimed':<20}{standing.claimed:>12,}  of the rows: in flight, now or when a run ended"
    yield ""
    yield from map(_run, reader.runs)


def _outcomes(standing: Status, view: View | None) -> dict[Outcome, int]:
    """Return the number of rows by outcome. While the job runs, rows that wait or are in flight aren't included."""
    counts = standing.totals if view is None else standing.counts
    return {outcome: count for outcome in MEANINGS if (count := counts.get(outcome))}


def _as_json(
    reader: LedgerReader, standing: Status, view: View | None, todo: str | None, *, is_used: bool
) -> dict[str, Any]:
    job = reader.job
    return {
        "operation": job.operation,
        "by": job.by,
        "server": job.base_url,
        "running": view is not None,
        "in_use": is_used,
        "progress": None if view is None else view.as_json(),
        "totals": _outcomes(standing, view),
        "total": standing.known,
        "waiting": standing.waiting,
        "claimed": standing.claimed,
        "runs": [
            {
                "number": run.number,
                "started": _time(run.started),
                "ended": _time(run.ended) or None,
                "key": run.key_fingerprint,
            }
            for run in reader.runs
        ],
        "to_go_on": todo,
    }


def _run(run: Run) -> str:
    return f"run {run.number}: from {_time(run.started)} to {_time(run.ended) or '-'}, key {run.key_fingerprint}"


def export(path: Path, file: Path | None, ids: Literal["hashed", "plain", "none"]) -> ExitStatus:
    """Write the rows of a ledger as CSV."""
    with open_ledger(path) as reader:
        if ids == "plain":
            with open_input(reader, file) as source, refusing(source):
                _write_rows(reader, reader.joined(source.plain()))
        else:
            _write_rows(reader, ((row, row.hash.hex() if ids == "hashed" else "") for row in reader.rows()))
    return ExitStatus.DONE


def _write_rows(reader: LedgerReader, rows: Iterable[tuple[Row, object]]) -> None:
    presences = reader.presences()
    found = next(presences, None)
    with standard_output() as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row, id_ in rows:
            verified: tuple[str, str] = ("", "")
            if found is not None and found.position == row.position:
                verified = ("yes" if found.present else "no", _seconds(found.at))
                found = next(presences, None)
            known = (row.position, id_, row.standing, row.status or "", row.attempts, _seconds(row.at))
            writer.writerow((*known, *verified, row.exclude_list or ""))


def report(path: Path, json: Path | None, markdown: Path | None, *, force: bool = False) -> ExitStatus:
    """Write the record of a job. Return FAILED if a verification found profiles. `force`: overwrite existing files."""
    files = [file for file in (json, markdown) if file is not None]
    if len({file.resolve() for file in files}) < len(files):
        raise CommandError("--json and --markdown name the same file: give each a name of its own")
    with open_ledger(path) as reader:
        for file in files:
            refuse_needed(file, path, *inputs_of(reader))
            if file.is_file() and not force:
                raise CommandError(
                    f"{file} exists and may be a record: name another file, or add --force to replace it"
                )
        record = record_of(reader, to_go_on=None if reader.is_running() else _todo(reader))
    if json is not None:
        _write(json, record.as_json())
    if markdown is not None or json is None:
        _write(markdown or _STREAM, record.as_markdown())
    _show_unfinished(record)
    present = 0 if record.verified is None else record.verified.present
    if not present:
        return ExitStatus.DONE
    say(f"{present:,} profiles were present when they were verified; to write their rows to a file:")
    tell(f"  {command('verify', path, 'all', '--present', 'present.csv')}", sys.stderr)
    return ExitStatus.FAILED


def _show_unfinished(record: Record) -> None:
    if record.open:
        how = "" if record.to_go_on is None else f" To resume it:\n  {record.to_go_on}"
        tell(f"The job isn't finished: {record.open:,} items are open.{how}", sys.stderr)


def about(path: Path, id_: str) -> ExitStatus:
    """Show the outcome of one ID."""
    if id_ == FROM_STDIN:
        id_ = id_of_stdin("--about")
    with open_ledger(path) as reader, refusing():
        rows = reader.about(id_)
        if not rows:
            raise CommandError(f"no row of {path} has that ID", ExitStatus.FAILED)
        positions = {row.position for row in rows}
        presences = [presence for presence in reader.presences() if presence.position in positions]
        record = record_of(reader, items=reader.status().known)  # a running job has no total yet
    _write(_STREAM, "\n".join(map(one_line, _evidence(record, rows, presences))) + "\n")
    if any(found.present for found in presences):
        say("the profile was present when it was verified, so this is no proof of a deletion")
    elif any(row.standing.is_failure for row in rows):
        say(f"not every row with this ID is known to be done, so this is no proof: see {command('status', path)}")
    else:
        return ExitStatus.DONE
    return ExitStatus.FAILED


def _evidence(record: Record, rows: list[Row], presences: list[Presence]) -> Iterator[str]:
    for found in presences:
        if found.present:
            yield f"row {found.position + 1:,}: the profile was present when verified at {_shown(found)}"
    yield from evidence(rows)
    for found in presences:
        if not found.present:
            yield f"row {found.position + 1:,}: the profile was absent when verified at {_shown(found)}"
    yield ""
    yield f"server: {record.base_url}"
    yield f"{APP_ID}: {record.app_id or 'app not verified'}"
    yield f"id: {record.by}, in the ledger as {rows[0].hash.hex()}"
    yield f"keys: {', '.join(dict.fromkeys(run.key_fingerprint for run in record.runs))}"
    yield f"digest of the rows: {record.rows_digest}"


def redact(path: Path, *, confirmed: bool) -> ExitStatus:
    """Remove everything that connects a ledger with IDs. `confirmed`: don't ask for confirmation."""
    with open_ledger(path) as reader:
        standing, how = reader.status(), _todo(reader)
    left = standing.waiting + standing.claimed
    if not confirmed:
        if left:
            tell(f"{left:,} rows are left and can't be sent after this. To send them: {how}", sys.stderr)
        require_terminal(None)
        if not is_typed(f"{_REDACTED} This can't be undone.\nType redact to confirm: ", "redact"):
            raise CommandError("not confirmed, so nothing was removed: to do it, type redact or add --yes")
    with refusing():
        ledgers.redact(path)
    what = f"{path} is anonymous: its key file and the copy of its input, if there was one, were removed."
    tell(one_line(what), sys.stdout)
    tell(_REDACTED, sys.stderr)
    return ExitStatus.DONE


def _write(path: Path, text: str) -> None:
    text = text.encode(errors="backslashreplace").decode()  # file names may contain bytes that aren't UTF-8
    if path == _STREAM:
        with standard_output() as stream:
            stream.write(text)
        return
    try:
        if path.exists() and not path.is_file():  # a pipe must be written to, not replaced by a file
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as error:
        reason, status = error.strerror, ExitStatus.LEDGER if is_full(error) else ExitStatus.USAGE
    else:
        return
    raise CommandError(f"{path} can't be written: {reason}: make room, or name another file", status)


def _replace(path: Path, text: str) -> None:
    """Write a file completely or not at all. Raises OSError."""
    with part_beside(path, READABLE) as (part, descriptor):
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        part.replace(path)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _seconds(at: int | None) -> str:
    return "" if at is None else _time(datetime.fromtimestamp(at, UTC))


def _shown(found: Presence) -> str:
    return f"{datetime.fromtimestamp(found.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
