"""The failed rows file: the columns of the input and the errors, readable as an input again."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...bulk import Outcome
from ...escaping import escape_csv
from ..exit_status import CommandError, ExitStatus
from ..inputs.attribute_parser import add_type_to_label
from ..inputs.input_types import ADDED_COLUMNS, Format, InputSchema, Row
from ..inputs.json_lines_with_attributes import JsonInputSchema, iter_raw_fields
from ..output.atomic_files import OWNER_ONLY_MODE, create_partial_file, remove_partial_files


class FailedRow(NamedTuple):
    """A failed row. `status`: of the response, or None without one."""

    row: Row
    outcome: Outcome
    reason: str
    status: int | None


class _RowFormatter(Protocol):
    """The format of a failed rows file, which matches that of the input."""

    @property
    def header(self) -> str:
        """The header line, or an empty string."""
        ...

    def format_row(self, failed_row: FailedRow) -> str:
        """Return the line of a failed row."""
        ...


class _CsvRowFormatter:
    """The columns of the input and `ADDED_COLUMNS`. Those of an earlier failed rows file are replaced."""

    def __init__(self, schema: InputSchema) -> None:
        names, ids = _build_typed_column_names(schema), schema.id_index
        self._kept = [index for index, name in enumerate(names) if index == ids or name not in ADDED_COLUMNS]
        self._added = [index for index, name in enumerate(ADDED_COLUMNS) if name != names[ids]]
        self._writer = csv.writer(_EchoWriter(), lineterminator="\n")
        self.header = self._format_fields(
            [*(names[index] for index in self._kept), *(ADDED_COLUMNS[index] for index in self._added)]
        )

    def format_row(self, failed_row: FailedRow) -> str:
        row, outcome, reason, status = failed_row
        own = [row.fields[index] if row.fields else "" for index in self._kept]
        added = (outcome, escape_csv(reason), status, row.line)
        return self._format_fields([*own, *(added[index] for index in self._added)])

    def _format_fields(self, fields: list[object]) -> str:
        line: str = self._writer.writerow(fields)  # writerow returns the result of _Echo.write
        return line


def _build_typed_column_names(schema: InputSchema) -> Sequence[str]:
    """Return column names that preserve the types of the columns."""
    if not schema.column_types:
        return schema.column_names
    ids = schema.id_index
    labels = list(map(add_type_to_label, schema.column_names, schema.column_types))
    return [*labels[:ids], schema.column_names[ids], *labels[ids + 1 :]]


class _EchoWriter:
    """A file whose write method returns the text."""

    def write(self, text: str) -> str:
        return text


class _JsonRowFormatter:
    """The unchanged fields of the input and `ADDED_COLUMNS`. Those of an earlier failed rows file are replaced."""

    header = ""

    def __init__(self, schema: InputSchema) -> None:
        self._ours = set(ADDED_COLUMNS) - {schema.column_names[schema.id_index]}

    def format_row(self, failed_row: FailedRow) -> str:
        row, outcome, reason, status = failed_row
        own = iter_raw_fields(row.fields[0]) if row.fields else ()
        added = zip(ADDED_COLUMNS, map(_dump_json, (outcome, reason, status, row.line)), strict=True)
        fields = [
            *((name, value) for name, value in own if name not in self._ours),
            *((name, value) for name, value in added if name in self._ours),
        ]
        return f"{{{', '.join(f'{_dump_json(name)}: {value}' for name, value in fields)}}}\n"


def _dump_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def get_failures_format(schema: InputSchema) -> Format:
    """Return the format in which the failed rows of an input are written."""
    return Format.JSONL if isinstance(schema, JsonInputSchema) else Format.CSV


def _create_formatter(schema: InputSchema) -> _RowFormatter:
    return _JsonRowFormatter(schema) if isinstance(schema, JsonInputSchema) else _CsvRowFormatter(schema)


class FailuresFile(NamedTuple):
    """A written failed rows file. `is_complete`: it contains all failures."""

    path: Path
    is_complete: bool


def check_new_file(path: Path, option: str = "--failures") -> None:
    """Raise CommandError if a file exists or can't be created at the end of the job."""
    if path.exists():
        raise CommandError(f"{path} exists and may still be needed: give {option} another name")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path} can't be created in {path.parent}: give {option} another name")


def write_failed_rows(
    path: Path, schema: InputSchema, failed_rows: Iterable[FailedRow], *, keep_partial: bool = False
) -> FailuresFile:
    """Write a new failed rows file atomically, readable only by its owner. Raises CommandError.

    If the path has been taken since the check, the file gets another name. Partial files of killed processes are
    removed. `keep_partial`: on an interrupt, keep the rows written so far instead of raising.
    """
    formatter = _create_formatter(schema)
    remove_partial_files(path)
    is_complete = True
    try:
        with (
            create_partial_file(path, OWNER_ONLY_MODE) as (part, descriptor),
            open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,  # noqa: PTH123 - a descriptor, not a path
        ):
            file.write(formatter.header)
            try:
                file.writelines(map(formatter.format_row, failed_rows))
            except KeyboardInterrupt:
                if not keep_partial:
                    raise
                is_complete = False
            file.flush()
            free = _reserve_path(path)
            part.replace(free)  # before closing, because an open part is safe from sweep()
        return FailuresFile(free, is_complete)
    except OSError as error:
        command_error = _build_write_error(path, error)
    raise command_error


def _reserve_path(path: Path) -> Path:
    """Create an empty file with this name, or with the first free number appended. Raises OSError."""
    free, number = path, 1
    while True:
        try:
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_MODE))
        except FileExistsError:
            number += 1
            free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        else:
            return free


def _build_write_error(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{path} can't be written ({error.strerror}): free some space before you run it again",
        ExitStatus.LEDGER,
    )
