"""Read CSV and TSV."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from ...pluralization import format_count
from .compression import is_gzip, iter_blocks
from .id_column import detect_schema
from .input_types import BATCH_ROWS, NO_ID, Batch, Format, IdColumn, InputError, InputSchema, NoIdsError
from .line_reader import TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE, LineReader, read_first_lines
from .table_detection import SAMPLE_LINES, refuse_table

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# NUL, or the surrogates of bytes that aren't UTF-8.
_UNREADABLE: Final = re.compile(r"[\0\udc80-\udcff]")
_QUOTE_ADVICE: Final = "a quote isn't closed, or text follows a closing quote: correct the line"


class CsvReader:
    """Read a table with a separator. The first row determines the ID column."""

    def __init__(self, file: BinaryIO, name: str, id_column: IdColumn, format: Format) -> None:  # noqa: A002 - its name everywhere
        self._file = file
        self._name = name
        self._id_column = id_column
        self._format = format

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        for records, _ in self._iter_records(1):
            for record in records:
                if record == [_BROKEN_RECORD]:
                    refuse_table(self._read_first_lines(), self._name, self._format)
                    raise InputError(f"{self._name} begins with an invalid row: {_QUOTE_ADVICE}")
                if not _is_blank_line(record):
                    return detect_schema(
                        record,
                        self._id_column,
                        self._name,
                        self._format,
                        is_compressed=is_gzip(self._file),
                        lines=self._read_first_lines() if len(record) == 1 else (),
                    )
        raise NoIdsError(self._name)

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        schema = self.read_schema()
        skipped = not schema.has_header
        for records, line in self._iter_records(BATCH_ROWS):
            batch = _parse_regular_batch(records, line, schema) or self._parse_irregular_batch(records, line, schema)
            if not skipped and batch.ids:
                skipped = True
                batch = _drop_first_row(batch)
            if batch.ids:
                yield batch

    def _read_first_lines(self) -> list[str]:
        return read_first_lines(iter_blocks(self._file, self._name), SAMPLE_LINES)

    def _iter_records(self, max_records: int) -> Iterator[tuple[list[list[str]], int]]:
        """Yield batches of at most `max_records` records, blank ones included, with the line of the first."""
        lines = LineReader(iter_blocks(self._file, self._name))
        reader = csv.reader(iter(lines), delimiter=self._format.separator, strict=True)
        line = 1
        while True:
            records: list[list[str]] = []
            try:
                records.extend(itertools.islice(reader, max_records))
            except csv.Error:
                broken_line = line + sum(map(_count_lines, records))
                if broken_line != reader.line_num or lines.get_last_line().count('"') % 2:
                    # The broken record may contain later rows.
                    raise InputError(f"{self._name}, line {broken_line}: {_QUOTE_ADVICE}") from None
                records.append([_BROKEN_RECORD])
            if not records:
                return
            yield records, line
            line = reader.line_num + 1

    def _parse_irregular_batch(self, records: Sequence[list[str]], line: int, schema: InputSchema) -> Batch:
        """Check each record of an irregular batch."""
        lines: list[int] = []
        ids: list[str] = []
        kept: list[Sequence[str]] = []
        invalid: dict[int, str] = {}
        for record in records:
            if not _is_blank_line(record):
                id_, reason = self._parse_id(record, line, schema)
                if reason:
                    invalid[len(ids)] = reason
                lines.append(line)
                ids.append(id_)
                kept.append(record if not reason or reason is NO_ID else ())
            line += _count_lines(record)
        return Batch(lines, ids, invalid, kept.__getitem__)

    def _parse_id(self, record: Sequence[str], line: int, schema: InputSchema) -> tuple[str, str]:
        """Return the ID of a record, and why it can't be read. Raises InputError."""
        content, width = "".join(record), len(schema.column_names)
        has_width = len(record) == width
        id_ = record[schema.id_index] if has_width else content
        last = line + _count_lines([id_]) - 1
        fields = format_count(len(record), "field")
        if TOO_LONG_WITH_OPEN_QUOTE in content:
            raise InputError(f"{self._name}, line {line}: {_QUOTE_ADVICE}")
        if last > line and not has_width:
            # The record may contain later rows.
            raise InputError(
                f"{self._name}, line {line}: the row continues to line {last} and has {fields} instead of "
                f"{width}: if a quote is missing, close it; otherwise give the row {format_count(width, 'field')}"
            )
        if content == _BROKEN_RECORD:
            return "", "text follows a closing quote, or a field is too long"
        if content == TOO_LONG:
            return "", "the line is too long"
        if not has_width:
            return "", f"the row has {fields} instead of {width}"
        if last > line:
            return "", f"the ID continues to line {last}, as if a quote were missing: an ID can't contain a line break"
        if unreadable := _UNREADABLE.search(content):
            what = "a NUL" if unreadable.group() == "\0" else "bytes that aren't UTF-8"
            return "", f"the row contains {what}"
        return (id_, "") if id_ else ("", NO_ID)


_BROKEN_RECORD: Final = "\0\0\0 broken"
"""A placeholder for a broken record. No valid row contains NUL."""


def _parse_regular_batch(records: Sequence[list[str]], line: int, schema: InputSchema) -> Batch | None:
    """Return a regular batch without checking each record, which is ten times as fast, or None."""
    if set(map(len, records)) != {len(schema.column_names)}:
        return None
    content = "".join(itertools.chain.from_iterable(records))
    if "\0" in content or "\n" in content or "\r" in content:
        return None
    if not content.isascii() and _UNREADABLE.search(content):
        return None
    index = schema.id_index
    ids = [record[index] for record in records]
    if "" in ids or (len(schema.column_names) == 1 and any(map(str.isspace, ids))):
        return None
    return Batch(range(line, line + len(records)), ids, {}, records.__getitem__)


def _drop_first_row(batch: Batch) -> Batch:
    record = batch.get_fields
    invalid = {index - 1: reason for index, reason in batch.invalid_reasons.items() if index}
    return Batch(batch.lines[1:], batch.ids[1:], invalid, lambda index: record(index + 1))


def _is_blank_line(record: Sequence[str]) -> bool:
    return not record or (len(record) == 1 and record[0].isspace())


def _count_lines(record: Sequence[str]) -> int:
    return 1 + sum(len(_LINE_END.findall(field)) for field in record)
