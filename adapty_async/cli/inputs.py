"""Ids out of a CSV file: row by row, and never a guess what a row means."""

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import attrs

from ..bulk import Decided, Outcome
from ..bulk.jobs import By, name_of
from ..resources.profiles import delete_request
from .csv_records import InputError, csv_records

STDIN: Final = Path("-")
OF_STDIN: Final = "standard input"

_SHOWN: Final = 10
_WATCHED: Final = 1000
"""So many rows are read between two looks at whether the file is still the same."""
EXCLUDED: Final = "excluded: it stands in the file of --exclude"
_NAMES: Final = ("customer_user_id", "profile_id", "id")
# What surrogateescape makes of a byte that is no UTF-8, or NUL.
_UNREADABLE: Final = re.compile(r"[\0\udc80-\udcff]")
SHORTENED: Final = re.compile(r"-?\d([.,]\d+)?E\+\d+", re.IGNORECASE)
# Where a file has no header its first row names people: only what looks like a column's name is shown.
_COLUMN_NAME: Final = re.compile(
    r"ids?|uid|users?|names?|(?:e-?)?mail|customer|profile|member|[a-z]+(?:[ _-][a-z]+)*[ _-](?:ids?|name|number)",
    re.IGNORECASE,
)


class Row(NamedTuple):
    """One row that isn't blank. `line`: where it begins, from 1. `id`: "" where it can't be read.

    `outcome`: `invalid` or `duplicate`, with the reason; None: it is to be sent. `record`: the fields of the row, none
    where they can't be read.
    """

    line: int
    id: str
    outcome: Outcome | None = None
    reason: str = ""
    record: Sequence[str] = ()


@attrs.frozen
class Reading:
    """How a file is read: its columns, which of them holds the ids, and whether they are named in a header."""

    names: list[str]
    index: int
    has_header: bool


@attrs.define
class Checked:
    """What a file holds, in numbers of rows; of the invalid ones the first few. `excluded` isn't among `invalid`."""

    rows: int = 0
    profiles: int = 0
    duplicates: int = 0
    invalid: int = 0
    excluded: int = 0
    first_invalid: list[Row] = attrs.Factory(list)


class Ids:
    """The ids in an open CSV file, which can be read again and again.

    `accept_damaged`: what a spreadsheet shortened makes its row invalid, not the file. `excluded`: what stands for the
    ids, as of `digest_of`, that are not to be sent.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        by: By,
        column: str | None = None,
        accept_damaged: bool = False,
        excluded: AbstractSet[bytes] = frozenset(),
    ) -> None:
        self.by: By = by
        self.name = name
        self.file = file
        self.excluded = excluded
        self._column = column
        self._accept_damaged = accept_damaged
        self._digest = digest_of(by)
        self._stamp = self._fingerprint()

    def reading(self) -> Reading:
        """Tell how the file is read. Raises InputError."""
        first = next(csv_records(self.file, self.name), None)
        if first is None:
            raise InputError(f"{self.name} holds no ids")
        return self._reading_of(first[1])

    def rows(self) -> Iterator[Row]:
        """Read the file from its start. Raises InputError where it isn't clear what is an id.

        Memory: a digest of 16 bytes for each different id, about 130 bytes with the set around it.
        """
        seen: set[bytes] = set()
        for row in self._rows():
            if row.outcome is not None:
                yield row
                continue
            digest = self._digest(row.id)
            if digest in seen:
                yield row._replace(outcome=Outcome.DUPLICATE, reason="the same id stands on an earlier line")
                continue
            seen.add(digest)
            reason = self.refusal(row) or (EXCLUDED if digest in self.excluded else "")
            yield row._replace(outcome=Outcome.INVALID, reason=reason) if reason else row

    def decided(self) -> Iterator[str | Decided[str]]:
        """Give the id of each row, marked where it isn't to be sent. Raises InputError."""
        for row in self.rows():
            yield row.id if row.outcome is None else Decided(row.id, row.outcome)

    def ids(self) -> Iterator[str | Decided[str]]:
        """Give the id of each row; of those that aren't to be sent only the excluded are marked. Raises InputError.

        It takes a third of the time of `rows`, and no memory.
        """
        if not self.excluded:
            yield from self.plain()
            return
        for id_ in self.plain():
            yield Decided(id_, Outcome.INVALID) if self._digest(id_) in self.excluded else id_

    def item(self, row: Row) -> str:
        """Give what the library takes for a row."""
        return row.id

    def as_written(self) -> Iterator[Row]:
        """Give the rows with no outcome but `invalid`, where they can't be read. Raises InputError."""
        return self._rows()

    def plain(self) -> Iterator[str]:
        """Give the id of each row, "" where it can't be read. Raises InputError."""
        return (row.id for row in self._rows())

    def check(self) -> Checked:
        """Read the whole file, and tell what of it can be sent. Raises InputError where nothing can."""
        return checked(self.rows(), self.name)

    def line_of(self, position: int) -> int | None:
        """Give the line where the row at a position, from 0, begins; None where there is none."""
        row = next(itertools.islice(self._rows(), position, None), None)
        return None if row is None else row.line

    def refusal(self, row: Row) -> str:
        """Say why the library would not send the id of a row; nothing where it would."""
        if row.outcome is not None:
            return row.reason
        try:
            if self.by == "profile_id":
                delete_request(profile_id=row.id)
            else:
                delete_request(customer_user_id=row.id)
        except ValueError as error:
            return str(error)
        return ""

    def _fingerprint(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def _refuse_change(self) -> None:
        if self._fingerprint() != self._stamp:
            raise InputError(f"{self.name} has changed while it was read: run the command again")

    def _rows(self) -> Iterator[Row]:
        """Give the rows as they stand there: of the outcomes only `invalid`, where they can't be read."""
        records = csv_records(self.file, self.name)
        first = next(records, None)
        if first is None:
            return
        reading = self._reading_of(first[1])
        index, width = reading.index, len(reading.names)
        read = itertools.chain(() if reading.has_header else (first,), records)
        for number, (line, record) in enumerate(read):
            if number % _WATCHED == 0:
                self._refuse_change()
            yield self._row(line, record, index, width)
        self._refuse_change()

    def _row(self, line: int, record: list[str], index: int, width: int) -> Row:
        content = ",".join(record)
        has_width = len(record) == width
        id_ = record[index] if has_width else content
        if "\n" in id_ or "\r" in id_:
            # What belongs to the rows below would be lost in this one.
            raise InputError(f"{self.name}, line {line}: a quote isn't closed: correct the line")
        if not has_width:
            return Row(line, "", Outcome.INVALID, f"the row has {len(record)} fields instead of {width}")
        # What is sought costs half of the time where it is sought in each row of millions: first what tells cheaply.
        is_plain = content.isascii() and "\0" not in content
        if not is_plain and (unreadable := _UNREADABLE.search(content)):
            what = "a NUL in it" if unreadable.group() == "\0" else "bytes in it that are no UTF-8"
            return Row(line, "", Outcome.INVALID, f"the row has {what}")
        if not id_:
            return Row(line, "", Outcome.INVALID, "the row has no id", record)
        if "+" in id_ and SHORTENED.fullmatch(id_):
            return self._damaged(line, id_, record)
        return Row(line, id_, None, "", record)

    def _damaged(self, line: int, id_: str, record: list[str]) -> Row:
        if self._accept_damaged:
            return Row(line, id_, Outcome.INVALID, "a spreadsheet has shortened the id to a number", record)
        raise InputError(
            f"{self.name}, line {line}: a spreadsheet has shortened the id to a number as in 1.23E+15: "
            "export the ids again, as text; or leave such rows out by --accept-damaged"
        )

    def _reading_of(self, first: list[str]) -> Reading:
        index, has_header = self._find_column(first)
        # A lone column is named as the command will look for it where the rows are fed back.
        names: list[str] = [self.by] if len(first) == 1 and self._column is None else first
        return Reading(names, index, has_header)

    def _find_column(self, first: list[str]) -> tuple[int, bool]:
        """Tell which column holds the ids, and whether the first row is a header."""
        wanted = self._column or self.by
        if len(first) == 1 and self._column is None:
            return 0, self._is_header(first[0])
        if first.count(wanted) > 1:
            raise InputError(f"{self.name} has several columns {wanted}: give each a name of its own")
        if wanted not in first:
            raise InputError(f"{self.name} has no column {wanted}, but {_shown(first)}: name it by --column")
        return first.index(wanted), True

    def _is_header(self, name: str) -> bool:
        """Tell whether the first line of a single column is its name. Raises InputError for what looks like one."""
        if name in (self.by, "id"):
            return True
        for separator in (";", "\t"):
            if self.by in name.split(separator):
                raise InputError(f"{self.name} has columns separated by {separator!r}: save it with commas")
        if re.sub(r"[\W_]+", "_", name.strip().lower()) in _NAMES:
            raise InputError(
                f"{self.name} begins with {name!r}, but --by says {self.by}: if those are the ids, "
                f"add --column {name!r}"
            )
        return False


@contextlib.contextmanager
def open_ids(
    path: Path,
    *,
    by: By,
    column: str | None = None,
    accept_damaged: bool = False,
    excluded: AbstractSet[bytes] = frozenset(),
    name: str | None = None,
) -> Iterator[Ids]:
    """Open a CSV file of ids; `-` is standard input. `name`: for sentences, not the path. The rest as in `Ids`.

    What can't be read twice is copied first, to a temporary file that only its owner may read and that has no name: it
    is gone with the process, however that ends.
    """
    name = name or (OF_STDIN if path == STDIN else str(path))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(path))
        if path == STDIN or not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            source = stack.enter_context(_copied(source, name))
        yield Ids(source, name, by=by, column=column, accept_damaged=accept_damaged, excluded=excluded)


def digest_of(by: By) -> Callable[[str], bytes]:
    """Give what makes of an id the bytes that tell it from others."""
    name = name_of(by)
    return lambda id_: hashlib.blake2b(name(id_).encode(), digest_size=16).digest()


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input, to read it once. Raises InputError."""
    if path == STDIN:
        yield _stdin()
        return
    with _opened(path) as file:
        yield file


def _stdin() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - so it is where it was closed (<&-)
        raise InputError("there is no standard input to read: name a file")
    return sys.stdin.buffer


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None


@contextlib.contextmanager
def _copied(source: BinaryIO, name: str) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, copy)
            copy.flush()
        except OSError as error:
            raise InputError(f"{name} can't be copied to a temporary file: {error.strerror}") from None
        yield copy


def checked(rows: Iterator[Row], name: str) -> Checked:
    """Count the rows of an input, and tell what of it can be sent. Raises InputError where nothing can."""
    checked = Checked()
    for row in rows:
        checked.rows += 1
        if row.outcome is None:
            checked.profiles += 1
        elif row.outcome is Outcome.DUPLICATE:
            checked.duplicates += 1
        elif row.reason == EXCLUDED:
            checked.excluded += 1
        else:
            checked.invalid += 1
            if len(checked.first_invalid) < _SHOWN:
                checked.first_invalid.append(row)
    if not checked.rows:
        raise InputError(f"{name} holds no ids")
    if not checked.profiles:
        raise InputError(f"{name} holds no row that can be sent: {_why_none(checked)}")
    return checked


def _why_none(checked: Checked) -> str:
    if not checked.first_invalid:
        return "all are excluded"
    first = checked.first_invalid[0]
    return f"on line {first.line}, {first.reason}"


def _shown(columns: list[str]) -> str:
    names = (
        repr(name) if _COLUMN_NAME.fullmatch(name) else f"column {number} (not shown: it may be an id)"
        for number, name in enumerate(columns, start=1)
    )
    return ", ".join(names)
