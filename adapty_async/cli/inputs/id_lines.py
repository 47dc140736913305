"""Read files with one ID per line. Quotes and commas are part of the ID."""

import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from .columns import reading_of
from .compression import blocks_of, is_gzip
from .dialects import SAMPLE
from .lines import TOO_LONG, TOO_LONG_AND_QUOTED, Lines, first_lines
from .rows import BATCH, Batch, Format, InputError, Reading, Wanted


class IdsReader:
    """Read a file with one ID per line and an optional header."""

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted) -> None:
        self._file = file
        self._name = name
        self._wanted = wanted

    def reading(self) -> Reading:
        """Return how the file is read. Raises InputError."""
        for line in Lines(blocks_of(self._file, self._name)):
            if not line.isspace():
                return reading_of(
                    [line.rstrip("\r\n")],
                    self._wanted,
                    self._name,
                    Format.IDS,
                    is_compressed=is_gzip(self._file),
                    lines=first_lines(blocks_of(self._file, self._name), SAMPLE),
                )
        raise InputError(f"{self._name} contains no IDs")

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        awaits_header = self.reading().has_header
        lines, begun = iter(Lines(blocks_of(self._file, self._name))), 1
        while read := list(itertools.islice(lines, BATCH)):
            numbered = [(begun + index, line.rstrip("\r\n")) for index, line in enumerate(read) if not line.isspace()]
            begun += len(read)
            if awaits_header and numbered:
                awaits_header = False
                del numbered[0]
            if numbered:
                yield _batch(numbered)


def _batch(numbered: Sequence[tuple[int, str]]) -> Batch:
    ids = [line for _, line in numbered]
    invalid = {}
    content = "".join(ids)
    if not content.isprintable():
        for index, id_ in enumerate(ids):
            if reason := _unreadable(id_):
                invalid[index] = reason
                ids[index] = ""
    return Batch([line for line, _ in numbered], ids, invalid, lambda index: [ids[index]] if ids[index] else ())


def _unreadable(line: str) -> str:
    if line in (TOO_LONG, TOO_LONG_AND_QUOTED):
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
