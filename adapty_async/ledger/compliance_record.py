"""The record of a job for the files of a data protection officer, as data, JSON and Markdown. It contains no IDs."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import attrs

from ..bulk import Outcome
from ..bulk.operations import OPERATIONS, OUTCOME_MEANINGS
from ..escaping import dump_json, escape_line, escape_markdown
from ..pluralization import format_count
from .chunks import STATES, UNSENT_OUTCOMES, Row
from .errors import LedgerError, LedgerUnreadableError
from .job_api_key import APP_ID_NOTE
from .reader import LedgerReader, RowsDigest, Run

OPERATOR_NOTE: Final = "operator"
REQUEST_NOTE: Final = "request"
"""The notes of a run that have their own columns in the record. All other notes are shown as guards of the run."""

_URL_PATTERN: Final = re.compile(r"https?://[A-Za-z0-9.:/-]+")
_COLUMN_NOTES: Final = frozenset({APP_ID_NOTE, OPERATOR_NOTE, REQUEST_NOTE})


@attrs.frozen
class Verification:
    """The results of asking Adapty for the profiles again after the job.

    Attributes:
        absent: Profiles that don't exist.
        present: Profiles that exist.
        first: When the first profile was checked.
        last: When the last profile was checked.
    """

    absent: int
    present: int
    first: datetime
    last: datetime


@attrs.frozen(kw_only=True)
class JobRecord:
    """The record of a job over all of its runs.

    Attributes:
        open: Items that have no outcome yet.
        resume_command: How to resume the job. None if the caller gave no text, or if the job is finished.
        operation: The name of the operation, such as `delete`.
        by: The type of the IDs.
        base_url: The server.
        app_id: The app. None if a key may have had an effect and no run has verified its app.
        items: The number of items.
        input_digest: The keyed digest of the input. It needs the ledger's key file.
        first: When the first outcome was recorded. None if there is none.
        last: When the last outcome was recorded. None if there is none.
        totals: All items by outcome.
        excluded: The number of excluded items by exclude list.
        rows_digest: The digest of the rows in the order of the input.
        runs: The runs, in order.
        verified: The results of the verification. None if there was none.
        library_version: The version of adapty-async.
    """

    open: int
    resume_command: str | None
    operation: str
    by: str
    base_url: str
    app_id: str | None
    items: int
    input_digest: str
    first: datetime | None
    last: datetime | None
    totals: Mapping[Outcome, int]
    excluded: Mapping[str, int]
    rows_digest: str
    runs: tuple[Run, ...]
    verified: Verification | None
    library_version: str

    def as_json(self) -> str:
        """Format the record as JSON, with times in UTC.

        Returns:
            The JSON text.
        """
        data = {"finished": not self.open, **attrs.asdict(self, value_serializer=_serialize_value)}
        data["totals"] = {
            outcome: self.totals.get(outcome, 0) for outcome in OUTCOME_MEANINGS if self.totals.get(outcome)
        }
        return dump_json(data, indent=2, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """Format the record as a Markdown page, with times in UTC.

        Returns:
            The Markdown text.
        """
        return (
            "\n".join(
                [
                    *self._format_heading(),
                    "",
                    *self._format_table(),
                    "",
                    *self._format_totals(),
                    "",
                    *self._format_runs(),
                ]
            )
            + "\n"
        )

    def _format_heading(self) -> list[str]:
        spec = OPERATIONS[self.operation]
        lines = [f"# Record of a mass {spec.noun}", "", *self._format_unfinished_warning()]
        if self.verified is not None and self.verified.present:
            present = format_count(
                self.verified.present, "profile was present when it was", "profiles were present when they were"
            )
            lines += [
                f"**{present} checked afterwards.**",
                "",
            ]
        return lines[:-1] if spec.record_note is None else [*lines, spec.record_note]

    def _format_unfinished_warning(self) -> list[str]:
        if not self.open:
            return []
        items = f"{format_count(self.items, 'item')} {'was' if self.open == 1 else 'were'}"
        sentence = f"**The job isn't finished: {self.open:,} of {items} open when this was written.**"
        if self.resume_command is None:
            return [sentence, ""]
        return [f"{sentence} To resume it:", "", f"    {escape_line(self.resume_command)}", ""]

    def _format_table(self) -> list[str]:
        rows = {
            "app": self.app_id or "app not verified",
            "IDs": self.by,
            "items": f"{self.items:,}",
            "first outcome": _format_time(self.first),
            "last outcome": _format_time(self.last),
            "digest of the input (keyed)": self.input_digest,
            "digest of the rows": self.rows_digest,
            "exclude lists": ", ".join(f"{name}: {count:,}" for name, count in self.excluded.items()) or "none",
            "verified": self._format_verification(),
            "adapty-async": self.library_version,
        }
        server = self.base_url if _URL_PATTERN.fullmatch(self.base_url) else escape_markdown(self.base_url)
        others = (f"| {name} | {escape_markdown(value)} |" for name, value in rows.items())
        return ["| | |", "|---|---|", f"| server | {server} |", *others]

    def _format_verification(self) -> str:
        verification = self.verified
        if verification is None:
            return "no"
        return (
            f"{verification.absent:,} absent, {verification.present:,} present, "
            f"{_format_time(verification.first)} to {_format_time(verification.last)}"
        )

    def _format_totals(self) -> list[str]:
        rows = [
            f"| {outcome} | {self.totals[outcome]:,} | {meaning} |"
            for outcome, meaning in OUTCOME_MEANINGS.items()
            if self.totals.get(outcome)
        ]
        return ["| outcome | items | meaning |", "|---|---:|---|", *rows]

    def _format_runs(self) -> list[str]:
        rows = [f"| {' | '.join(_format_cells(run))} |" for run in self.runs]
        return ["| run | started | ended | key | operator | request | guards |", "|---|---|---|---|---|---|---|", *rows]


def build_record(reader: LedgerReader, *, items: int | None = None, resume_command: str | None = None) -> JobRecord:
    """Build the record of a job from its rows.

    Args:
        reader: The ledger.
        items: The number of items in the input. It is needed if a stopped job hasn't read its input to the end. The
            unread items are `not_attempted`.
        resume_command: How to resume the job. The record of an unfinished job shows it.

    Returns:
        The record.

    Raises:
        LedgerError: If the number of items isn't known, or the rows contradict it.
    """
    job, status = reader.job, reader.status()
    expected = job.items if job.items is not None else items
    if expected is None:
        raise LedgerError("the job hasn't read its input to the end: finish the job before you build its record")
    digest = RowsDigest()
    totals: Counter[Outcome] = Counter()
    excluded: Counter[str] = Counter()
    for row in reader.rows():
        digest.add(row)
        totals[row.standing] += 1
        if row.standing is Outcome.EXCLUDED and row.exclude_list is not None:
            excluded[row.exclude_list] += 1
    complete = totals.total() == expected if job.items is not None else totals.total() <= expected
    if totals != Counter(status.totals) or not complete:
        raise LedgerUnreadableError(
            f"the ledger contradicts itself: {totals.total():,} of {expected:,} rows: restore it from a backup"
        )
    unread = expected - totals.total()
    totals[Outcome.NOT_ATTEMPTED] += unread
    remaining = status.waiting + status.claimed + unread
    runs = tuple(reader.runs)
    return JobRecord(
        open=remaining,
        resume_command=resume_command if remaining else None,
        operation=job.operation,
        by=job.by,
        base_url=job.base_url,
        app_id=_get_app_id(runs),
        items=expected,
        input_digest=reader.input_digest(),
        first=status.first,
        last=status.last,
        totals=+totals,
        excluded=excluded,
        rows_digest=digest.hexdigest(),
        runs=runs,
        verified=_summarize_verification(reader),
        library_version=version("adapty-async"),
    )


def _get_app_id(runs: Collection[Run]) -> str | None:
    """Return the app of the job, or None if it isn't verified for each key that may have had an effect."""
    apps = {run.notes[APP_ID_NOTE] for run in runs if APP_ID_NOTE in run.notes}
    keys = {run.key_fingerprint for run in runs if APP_ID_NOTE in run.notes}
    if len(apps) != 1 or any(run.touched and run.key_fingerprint not in keys for run in runs):
        return None
    return apps.pop()


def describe_item(rows: Iterable[Row]) -> list[str]:
    """Describe the rows of one ID.

    Args:
        rows: The rows, from `LedgerReader.about`.

    Returns:
        One sentence per row.
    """
    return [f"row {row.position + 1:,}: {_describe_row(row)}" for row in rows]


def _describe_row(row: Row) -> str:
    status = f" ({row.status})" if row.status and row.standing in _OUTCOMES_WITH_RESPONSE else ""
    at = "" if row.at is None else f" at {_format_time(datetime.fromtimestamp(row.at, UTC))}"
    if row.standing is Outcome.EXCLUDED:
        return f"on {_describe_exclude_list(row.exclude_list)}{at}; not sent"
    return f"{OUTCOME_MEANINGS[row.standing]}{status}{at}"


def _describe_exclude_list(exclude_list: str | None) -> str:
    return "an exclude list" if exclude_list is None else f"the exclude list {escape_line(exclude_list)}"


_OUTCOMES_WITH_RESPONSE: Final = frozenset(STATES) - UNSENT_OUTCOMES - {Outcome.IN_DOUBT}


def _summarize_verification(reader: LedgerReader) -> Verification | None:
    counts: Counter[bool] = Counter()
    first = last = 0
    for presence in reader.verification_results():
        counts[presence.present] += 1
        first = min(first or presence.at, presence.at)
        last = max(last, presence.at)
    if not counts:
        return None
    times = (datetime.fromtimestamp(at, UTC) for at in (first, last))
    return Verification(counts[False], counts[True], *times)


def _format_cells(run: Run) -> Iterator[str]:
    yield from (f"{run.number}", _format_time(run.started), _format_time(run.ended))
    texts = (
        run.key_fingerprint,
        run.notes.get(OPERATOR_NOTE, ""),
        run.notes.get(REQUEST_NOTE, ""),
        _format_guards(run),
    )
    yield from map(escape_markdown, texts)


def _format_guards(run: Run) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(run.notes.items()) if name not in _COLUMN_NOTES)


def _format_time(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _serialize_value(_: object, __: object, value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
