"""The failed rows file: the columns of the input and the errors, readable as an input again."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...bulk import Outcome
from ...escaping import in_csv
from ..exit_codes import CommandError, ExitStatus
from ..inputs.attributes import typed_label
from ..inputs.json_objects import JsonReading, fields_of
from ..inputs.rows import ADDED, Reading, Row
from ..output.files import OWNER_ONLY, part_beside, sweep


class Failure(NamedTuple):
    """A failed row. `status`: of the response, or None without one."""

    row: Row
    outcome: Outcome
    reason: str
    status: int | None


class _Layout(Protocol):
    """The format of a failed rows file, which matches that of the input."""

    @property
    def header(self) -> str:
        """The header line, or an empty string."""
        ...

    def line(self, failure: Failure) -> str:
        """Return the line of a failed row."""
        ...


class _CsvLayout:
    """The columns of the input and `ADDED`. Those of an earlier failed rows file are replaced."""

    def __init__(self, reading: Reading) -> None:
        names, ids = _names(reading), reading.index
        self._kept = [index for index, name in enumerate(names) if index == ids or name not in ADDED]
        self._added = [index for index, name in enumerate(ADDED) if name != names[ids]]
        self._writer = csv.writer(_Echo(), lineterminator="\n")
        self.header = self._line([*(names[index] for index in self._kept), *(ADDED[index] for index in self._added)])

    def line(self, failure: Failure) -> str:
        row, outcome, reason, status = failure
        own = [row.record[index] if row.record else "" for index in self._kept]
        added = (outcome, in_csv(reason), status, row.line)
        return self._line([*own, *(added[index] for index in self._added)])

    def _line(self, fields: list[object]) -> str:
        line: str = self._writer.writerow(fields)  # writerow returns the result of _Echo.write
        return line


def _names(reading: Reading) -> Sequence[str]:
    """Return column names that preserve the types of the columns."""
    if not reading.kinds:
        return reading.names
    ids = reading.index
    labels = list(map(typed_label, reading.names, reading.kinds))
    return [*labels[:ids], reading.names[ids], *labels[ids + 1 :]]


class _Echo:
    """A file whose write method returns the text."""

    def write(self, text: str) -> str:
        return text


class _JsonLayout:
    """The unchanged fields of the input and `ADDED`. Those of an earlier failed rows file are replaced."""

    header = ""

    def __init__(self, reading: Reading) -> None:
        self._ours = set(ADDED) - {reading.names[reading.index]}

    def line(self, failure: Failure) -> str:
        row, outcome, reason, status = failure
        own = fields_of(row.record[0]) if row.record else ()
        added = zip(ADDED, map(_json, (outcome, reason, status, row.line)), strict=True)
        fields = [
            *((name, value) for name, value in own if name not in self._ours),
            *((name, value) for name, value in added if name in self._ours),
        ]
        return f"{{{', '.join(f'{_json(name)}: {value}' for name, value in fields)}}}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _layout_of(reading: Reading) -> _Layout:
    return _JsonLayout(reading) if isinstance(reading, JsonReading) else _CsvLayout(reading)


class Written(NamedTuple):
    """A written failed rows file. `is_whole`: it contains all failures."""

    file: Path
    is_whole: bool


def check_free(path: Path, option: str = "--failures") -> None:
    """Raise CommandError if a file exists or can't be created at the end of the job."""
    if path.exists():
        raise CommandError(f"{path} exists and may still be needed: give {option} another name")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path} can't be created in {path.parent}: give {option} another name")


def write_failures(path: Path, reading: Reading, failures: Iterable[Failure], *, keeps_part: bool = False) -> Written:
    """Write a new failed rows file atomically, readable only by its owner. Raises CommandError.

    If the path has been taken since the check, the file gets another name. Partial files of killed processes are
    removed. `keeps_part`: on an interrupt, keep the rows written so far instead of raising.
    """
    layout = _layout_of(reading)
    sweep(path)
    is_whole = True
    try:
        with (
            part_beside(path, OWNER_ONLY) as (part, descriptor),
            open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,  # noqa: PTH123 - a descriptor, not a path
        ):
            file.write(layout.header)
            try:
                file.writelines(map(layout.line, failures))
            except KeyboardInterrupt:
                if not keeps_part:
                    raise
                is_whole = False
            file.flush()
            free = _taken(path)
            part.replace(free)  # before closing, because an open part is safe from sweep()
        return Written(free, is_whole)
    except OSError as error:
        trouble = _unwritable(path, error)
    raise trouble


def _taken(path: Path) -> Path:
    """Create an empty file with this name, or with the first free number appended. Raises OSError."""
    free, number = path, 1
    while True:
        try:
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
        except FileExistsError:
            number += 1
            free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        else:
            return free


def _unwritable(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{path} can't be written ({error.strerror}): free some space before you run it again",
        ExitStatus.LEDGER,
    )
