"""Look up the outcome of one ID in a ledger, and show it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ...escaping import escape_line
from ...ledger import JobRecord, Presence, Row, build_record, describe_item
from ...ledger.job_api_key import APP_ID_NOTE
from ..exit_status import CommandError, ExitStatus
from ..output.standard_streams import ID_FROM_STDIN, print_error, print_to_stdout, read_id_from_stdin
from .ledger_access import format_command, open_ledger, translate_ledger_errors


def show_id(path: Path, id_: str) -> ExitStatus:
    """Show the outcome of one ID."""
    if id_ == ID_FROM_STDIN:
        id_ = read_id_from_stdin("show")
    with open_ledger(path) as reader, translate_ledger_errors():
        rows = reader.find_rows(id_)
        if not rows:
            raise CommandError(f"no row of {path} has that ID", ExitStatus.FAILED)
        positions = {row.position for row in rows}
        verifications = [presence for presence in reader.verification_results() if presence.position in positions]
        record = build_record(reader, items=reader.status().known)  # a running job has no total yet
    print_to_stdout("\n".join(map(escape_line, _iter_evidence_lines(record, rows, verifications))))
    if any(found.present for found in verifications):
        print_error("the profile was present when it was verified, so this is no proof of a deletion")
    elif any(row.standing.is_failure for row in rows):
        print_error(
            f"not every row with this ID is known to be done, so this is no proof: see {format_command('status', path)}"
        )
    else:
        return ExitStatus.OK
    return ExitStatus.FAILED


def _iter_evidence_lines(record: JobRecord, rows: list[Row], verifications: list[Presence]) -> Iterator[str]:
    for found in verifications:
        if found.present:
            yield (
                f"row {found.position + 1:,}: the profile was present when verified at "
                f"{_format_verification_time(found)}"
            )
    yield from describe_item(rows)
    for found in verifications:
        if not found.present:
            yield (
                f"row {found.position + 1:,}: the profile was absent when verified at "
                f"{_format_verification_time(found)}"
            )
    yield ""
    yield f"server: {record.base_url}"
    yield f"{APP_ID_NOTE}: {record.app_id or 'app not verified'}"
    yield f"ID: {record.by}, in the ledger as {rows[0].hash.hex()}"
    yield f"keys: {', '.join(dict.fromkeys(run.key_fingerprint for run in record.runs))}"
    yield f"digest of the rows: {record.rows_digest}"


def _format_verification_time(verification: Presence) -> str:
    return f"{datetime.fromtimestamp(verification.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
