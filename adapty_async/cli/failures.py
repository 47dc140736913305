"""The file of the rows that failed: the input's own columns and what went wrong, to be fed back as it is."""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from ..bulk import Outcome
from ..escaping import in_csv
from .attributes import typed_label
from .exits import CommandError, ExitStatus
from .inputs import Reading, Row
from .json_ids import JsonReading, fields_of
from .parts import OWNER_ONLY, part_beside, sweep

ADDED: Final = ("adapty_outcome", "adapty_reason", "adapty_status", "adapty_line")
"""What a file of failures adds to the columns of the input, which may have a status or line of its own."""


class Failure(NamedTuple):
    """A row that failed. `status`: of the answer, None where there was none."""

    row: Row
    outcome: Outcome
    reason: str
    status: int | None


class _Layout(Protocol):
    """How failures are written, so that they can be read as the input was."""

    @property
    def header(self) -> str:
        """What stands above them."""
        ...

    def line(self, failure: Failure) -> str:
        """Give the line of a failure."""
        ...


class _CsvLayout:
    """The columns: those of the input, but for what an earlier file of failures added, and what this one adds."""

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
        line: str = self._writer.writerow(fields)  # what _Echo gives
        return line


def _names(reading: Reading) -> Sequence[str]:
    """Name the columns so that the type of none is lost."""
    if not reading.kinds:
        return reading.names
    ids = reading.index
    labels = list(map(typed_label, reading.names, reading.kinds))
    return [*labels[:ids], reading.names[ids], *labels[ids + 1 :]]


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


class _JsonLayout:
    """The objects of the input as they stand there, but for what an earlier file added, and what this one adds."""

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


class FailuresFile:
    """A new file of failures, written as they come. Only its owner may read it.

    `trouble`: why it can't be written any more. Raises CommandError where it can't be made.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.trouble: CommandError | None = None
        self._path = path
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        except FileExistsError:
            raise CommandError(f"{path} exists and may still be needed: give --failures another name") from None
        except OSError as error:
            raise _unmakable(path, error) from None
        # Written by the line: whoever looks into it meanwhile, or after a kill, finds whole rows.
        self._file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="", buffering=1)  # noqa: PTH123, SIM115 - a descriptor, no path; `__exit__` closes it
        self._layout = _layout_of(reading)
        self._write(self._layout.header)
        if self.trouble is not None:
            self._close()
            path.unlink()  # else its name would be taken when there is room
            raise self.trouble

    def write(self, row: Row, outcome: Outcome, reason: str, status: int | None = None) -> None:
        """Write a row down, where there is no trouble."""
        if self.trouble is None:
            self._write(self._layout.line(Failure(row, outcome, reason, status)))

    def _write(self, line: str) -> None:
        try:
            self._file.write(line)
        except OSError as error:
            self.trouble = _unwritable(self._path, error)

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # known already, from the row that couldn't be written
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


def check_free(path: Path, option: str = "--failures") -> None:
    """Make sure that a file of rows can be written at the end. Raises CommandError."""
    if path.exists():
        raise CommandError(f"{path} exists and may still be needed: give {option} another name")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path} can't be made in {path.parent}: give {option} another name")


def write_failures(path: Path, reading: Reading, failures: Iterable[Failure]) -> Path:
    """Write a new file of failures, whole or not at all; only its owner may read it. Raises CommandError.

    Where somebody has made such a file meanwhile it gets another name: give the one that it has. What kills have left
    of such a file is removed.
    """
    layout = _layout_of(reading)
    sweep(path)
    try:
        with (
            part_beside(path, OWNER_ONLY) as (part, descriptor),
            open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,  # noqa: PTH123 - a descriptor, no path
        ):
            file.write(layout.header)
            file.writelines(map(layout.line, failures))
            file.flush()
            free = _taken(path)
            part.replace(free)  # before it is closed: until then nobody sweeps it
        return free
    except OSError as error:
        trouble = _unwritable(path, error)
    raise trouble


def _taken(path: Path) -> Path:
    """Make an empty file of that name, or of the first like it that is free. Raises OSError."""
    free, number = path, 1
    while True:
        try:
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
        except FileExistsError:
            number += 1
            free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        else:
            return free


def _unmakable(path: Path, error: OSError) -> CommandError:
    return CommandError(f"{path} can't be made: {error.strerror}: give --failures another name")


def _unwritable(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{path} can't be written ({error.strerror}): make room before you run it again",
        ExitStatus.LEDGER,
    )
