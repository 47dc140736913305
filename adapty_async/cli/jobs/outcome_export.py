"""The export of outcomes: write the rows of a job as CSV."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ...ledger import LedgerReader, Row
from ..exit_status import ExitStatus
from ..output.standard_streams import open_stdout
from .ledger_access import open_input, open_ledger, translate_ledger_errors

_COLUMNS: Final = ("position", "id", "outcome", "status", "attempts", "time", "present", "verified", "exclude_list")


def export_rows(path: Path, file: Path | None, ids: Literal["hashed", "plain", "none"]) -> ExitStatus:
    """Write the rows of a ledger as CSV."""
    with open_ledger(path) as reader:
        if ids == "plain":
            with open_input(reader, file) as source, translate_ledger_errors(source):
                _write_rows(reader, reader.rows_with_ids(source.iter_raw_ids()))
        else:
            _write_rows(reader, ((row, row.hash.hex() if ids == "hashed" else "") for row in reader.rows()))
    return ExitStatus.OK


def _write_rows(reader: LedgerReader, rows: Iterable[tuple[Row, object]]) -> None:
    verifications = reader.verification_results()
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


def _format_timestamp(at: int | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
