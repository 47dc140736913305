"""Read CSV and TSV."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from .columns import reading_of
from .compression import blocks_of, is_gzip
from .dialects import SAMPLE, refuse_table
from .lines import TOO_LONG, TOO_LONG_AND_QUOTED, Lines, first_lines
from .rows import BATCH, NO_ID, Batch, Format, InputError, Reading, Wanted

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# NUL, or the surrogates of bytes that aren't UTF-8.
_UNREADABLE: Final = re.compile(r"[\0\udc80-\udcff]")
_QUOTE: Final = "a quote isn't closed, or text follows a closing quote: correct the line"


class CsvReader:
    """Read a table with a separator. The first row determines the ID column."""

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted, format: Format) -> None:  # noqa: A002 - its name everywhere
        self._file = file
        self._name = name
        self._wanted = wanted
        self._format = format

    def reading(self) -> Reading:
        """Return how the file is read. Raises InputError."""
        for records, _ in self._records(1):
            for record in records:
                if record == [_BROKEN]:
                    refuse_table(self._first_lines(), self._name, self._format)
                    raise InputError(f"{self._name} begins with an invalid row: {_QUOTE}")
                if not _is_blank(record):
                    return reading_of(
                        record,
                        self._wanted,
                        self._name,
                        self._format,
                        is_compressed=is_gzip(self._file),
                        lines=self._first_lines() if len(record) == 1 else (),
                    )
        raise InputError(f"{self._name} contains no IDs")

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        reading = self.reading()
        skipped = not reading.has_header
        for records, line in self._records(BATCH):
            batch = _quick(records, line, reading) or self._slow(records, line, reading)
            if not skipped and batch.ids:
                skipped = True
                batch = _without_first(batch)
            if batch.ids:
                yield batch

    def _first_lines(self) -> list[str]:
        return first_lines(blocks_of(self._file, self._name), SAMPLE)

    def _records(self, most: int) -> Iterator[tuple[list[list[str]], int]]:
        """Yield batches of at most `most` records, blank ones included, with the line of the first."""
        lines = Lines(blocks_of(self._file, self._name))
        reader = csv.reader(iter(lines), delimiter=self._format.separator, strict=True)
        line = 1
        while True:
            records: list[list[str]] = []
            try:
                records.extend(itertools.islice(reader, most))
            except csv.Error:
                begun = line + sum(map(_lines_in, records))
                if begun != reader.line_num or lines.last().count('"') % 2:
                    # The broken record may contain later rows.
                    raise InputError(f"{self._name}, line {begun}: {_QUOTE}") from None
                records.append([_BROKEN])
            if not records:
                return
            yield records, line
            line = reader.line_num + 1

    def _slow(self, records: Sequence[list[str]], line: int, reading: Reading) -> Batch:
        """Check each record of an irregular batch."""
        lines: list[int] = []
        ids: list[str] = []
        kept: list[Sequence[str]] = []
        invalid: dict[int, str] = {}
        for record in records:
            if not _is_blank(record):
                id_, reason = self._id_of(record, line, reading)
                if reason:
                    invalid[len(ids)] = reason
                lines.append(line)
                ids.append(id_)
                kept.append(record if not reason or reason is NO_ID else ())
            line += _lines_in(record)
        return Batch(lines, ids, invalid, kept.__getitem__)

    def _id_of(self, record: Sequence[str], line: int, reading: Reading) -> tuple[str, str]:
        """Return the ID of a record, and why it can't be read. Raises InputError."""
        content, width = "".join(record), len(reading.names)
        has_width = len(record) == width
        id_ = record[reading.index] if has_width else content
        last = line + _lines_in([id_]) - 1
        if TOO_LONG_AND_QUOTED in content:
            raise InputError(f"{self._name}, line {line}: {_QUOTE}")
        if last > line and not has_width:
            # The record may contain later rows.
            raise InputError(
                f"{self._name}, line {line}: the row continues to line {last} and has {len(record)} fields instead of "
                f"{width}: if a quote is missing, close it; otherwise give the row {width} fields"
            )
        if content == _BROKEN:
            return "", "text follows a closing quote, or a field is too long"
        if content == TOO_LONG:
            return "", "the line is too long"
        if not has_width:
            return "", f"the row has {len(record)} fields instead of {width}"
        if last > line:
            return "", f"the ID continues to line {last}, as if a quote were missing: an ID can't contain a line break"
        if unreadable := _UNREADABLE.search(content):
            what = "a NUL" if unreadable.group() == "\0" else "bytes that aren't UTF-8"
            return "", f"the row contains {what}"
        return (id_, "") if id_ else ("", NO_ID)


_BROKEN: Final = "\0\0\0 broken"
"""A placeholder for a broken record. No valid row contains NUL."""


def _quick(records: Sequence[list[str]], line: int, reading: Reading) -> Batch | None:
    """Return a regular batch without checking each record, which is ten times as fast, or None."""
    if set(map(len, records)) != {len(reading.names)}:
        return None
    content = "".join(itertools.chain.from_iterable(records))
    if "\0" in content or "\n" in content or "\r" in content:
        return None
    if not content.isascii() and _UNREADABLE.search(content):
        return None
    index = reading.index
    ids = [record[index] for record in records]
    if "" in ids or (len(reading.names) == 1 and any(map(str.isspace, ids))):
        return None
    return Batch(range(line, line + len(records)), ids, {}, records.__getitem__)


def _without_first(batch: Batch) -> Batch:
    record = batch.record
    invalid = {index - 1: reason for index, reason in batch.invalid.items() if index}
    return Batch(batch.lines[1:], batch.ids[1:], invalid, lambda index: record(index + 1))


def _is_blank(record: Sequence[str]) -> bool:
    return not record or (len(record) == 1 and record[0].isspace())


def _lines_in(record: Sequence[str]) -> int:
    return 1 + sum(len(_LINE_END.findall(field)) for field in record)
