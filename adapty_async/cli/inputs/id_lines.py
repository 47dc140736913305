"""Read files with one ID per line. Quotes and commas are part of the ID."""

import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from .compression import is_gzip, iter_blocks
from .id_column import detect_schema
from .input_types import BATCH_ROWS, Batch, Format, IdColumn, InputSchema, NoIdsError
from .line_reader import TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE, LineReader, read_first_lines
from .table_detection import SAMPLE_LINES


class IdLinesReader:
    """Read a file with one ID per line and an optional header."""

    def __init__(self, file: BinaryIO, name: str, id_column: IdColumn) -> None:
        self._file = file
        self._name = name
        self._id_column = id_column

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        for line in LineReader(iter_blocks(self._file, self._name)):
            if not line.isspace():
                return detect_schema(
                    [line.rstrip("\r\n")],
                    self._id_column,
                    self._name,
                    Format.IDS,
                    is_compressed=is_gzip(self._file),
                    lines=read_first_lines(iter_blocks(self._file, self._name), SAMPLE_LINES),
                )
        raise NoIdsError(self._name)

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        awaits_header = self.read_schema().has_header
        lines, line_number = iter(LineReader(iter_blocks(self._file, self._name))), 1
        while read := list(itertools.islice(lines, BATCH_ROWS)):
            numbered = [
                (line_number + index, line.rstrip("\r\n")) for index, line in enumerate(read) if not line.isspace()
            ]
            line_number += len(read)
            if awaits_header and numbered:
                awaits_header = False
                del numbered[0]
            if numbered:
                yield _build_batch(numbered)


def _build_batch(numbered: Sequence[tuple[int, str]]) -> Batch:
    ids = [line for _, line in numbered]
    invalid = {}
    content = "".join(ids)
    if not content.isprintable():
        for index, id_ in enumerate(ids):
            if reason := _explain_unreadable(id_):
                invalid[index] = reason
                ids[index] = ""
    return Batch([line for line, _ in numbered], ids, invalid, lambda index: [ids[index]] if ids[index] else ())


def _explain_unreadable(line: str) -> str:
    if line in (TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE):
        return "the line is too long"
    if "\0" in line:
        return "the row contains a NUL"
    return "" if is_utf8(line) else "the row contains bytes that aren't UTF-8"


def is_utf8(text: str) -> bool:
    """Return True if a text was decoded from UTF-8, without surrogates for invalid bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
