"""The records of a CSV file, each with the line where it begins."""

import csv
import functools
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from .exits import CommandError

_LONGEST_LINE: Final = 1 << 20
_NO_CSV: Final = {
    b"\xff\xfe": "is UTF-16: save it as 'CSV UTF-8'",
    b"\xfe\xff": "is UTF-16: save it as 'CSV UTF-8'",
    b"PK\x03\x04": "is a workbook or an archive: save the sheet with the ids as 'CSV UTF-8'",
}


class InputError(CommandError):
    """The input can't be used: nothing of it is sent."""


def csv_records(file: BinaryIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """Read a file from its start, but for blank lines; what is no UTF-8 is kept as surrogates. Raises InputError."""
    reader = csv.reader(lines_of(file, name), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise InputError(
                f"{name}, line {line}: no CSV (a quote isn't closed, or a field is too long): correct the line"
            ) from None
        if record and not (len(record) == 1 and record[0].isspace()):
            yield line, record


def lines_of(file: BinaryIO, name: str) -> Iterator[str]:
    """Read the lines of a file from its start; what is no UTF-8 is kept as surrogates. Raises InputError."""
    try:
        _refuse_other_formats(file, name)
        # A descriptor of its own, so that a reading that is left in its middle closes nothing but itself.
        descriptor = os.dup(file.fileno())
        with open(descriptor, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:  # noqa: PTH123 - no path
            text.seek(0)
            lines = iter(functools.partial(text.readline, _LONGEST_LINE), "")
            for number, line in enumerate(lines, start=1):
                if len(line) == _LONGEST_LINE:
                    raise InputError(f"{name}, line {number}: no CSV file with ids has a line as long as that")
                yield line
    except OSError as error:
        raise InputError(f"{name} can't be read to its end: {error.strerror}") from None


def _refuse_other_formats(file: BinaryIO, name: str) -> None:
    file.seek(0)
    head = file.read(4)
    for start, what in _NO_CSV.items():
        if head.startswith(start):
            raise InputError(f"{name} {what}")
