"""Check the structure of a Parquet file, which its checksums don't cover.

A checksum only covers the content of a page. Page headers and the footer (both in Thrift's compact protocol) have none.
One wrong byte in them can make pyarrow read another column as the IDs, or decode their bytes as other values.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

_Struct: TypeAlias = dict[int, Any]
"""The fields of a struct, by number."""

_TAIL_BYTES: Final = 8
"""The size of the footer length and of PAR1, in bytes."""
_HEADER_READ_BYTES: Final = (1 << 10, 1 << 24)
"""Bytes to read for a page header, and for one that is longer."""
_DATA_PAGE, _DATA_PAGE_V2 = 5, 8
_ENCODINGS: Final = {_DATA_PAGE: (2, 3), _DATA_PAGE_V2: (4,)}
"""The fields with the encodings of values and of definition levels, by type of page."""
_RLE: Final = 3
"""The usual encoding of definition levels. Some writers don't list it in the footer."""


class StructureError(Exception):
    """The structure of a file is inconsistent or can't be read."""


def has_checksums(descriptor: int, column: str) -> bool:
    """Return True if all pages of a column have checksums. Raises StructureError or OSError."""
    try:
        return _has_checksums(descriptor, column)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        message = f"its structure can't be read ({type(error).__name__})"
    raise StructureError(message)


def _has_checksums(descriptor: int, column: str) -> bool:
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, 4, size - _TAIL_BYTES), "little")
    footer = CompactReader(os.pread(descriptor, length, size - _TAIL_BYTES - length)).read_struct()
    chunks = [chunk[3] for group in footer[4] for chunk in group[1] if chunk[3][5]]  # empty chunks have no offset
    places = sorted((_get_chunk_start(chunk), _get_chunk_start(chunk) + chunk[7]) for chunk in chunks)
    places.append((size - _TAIL_BYTES - length, size))
    if any(end > start for (_, end), (start, _) in itertools.pairwise(places)):
        raise StructureError("some of its columns overlap")
    checksummed = [
        4 in page
        for chunk in chunks
        if _get_column_name(chunk) == column
        for page in _iter_page_headers(descriptor, chunk)
    ]
    return all(checksummed)


def _get_chunk_start(chunk: _Struct) -> int:
    data: int = chunk[9]
    dictionary: int = chunk.get(11, 0)
    return dictionary if 0 < dictionary < data else data


def _get_column_name(chunk: _Struct) -> str:
    return b".".join(chunk[3]).decode(errors="replace")


def _iter_page_headers(descriptor: int, chunk: _Struct) -> Iterator[_Struct]:
    """Yield the page headers of a column chunk."""
    offset, values = _get_chunk_start(chunk), 0
    while values < chunk[5]:
        page, length = _read_page_header(descriptor, offset)
        yield page
        offset += length + page[3]
        for kind in page.keys() & _ENCODINGS.keys():
            values += page[kind][1]
            named = {*chunk[2], _RLE}
            if chunk[2] and any(page[kind][field] not in named for field in _ENCODINGS[kind]):  # a list may be empty
                raise StructureError("a page has an encoding that the footer doesn't list")
    if values != chunk[5]:
        raise StructureError("its pages and its footer give different numbers of rows")


def _read_page_header(descriptor: int, offset: int) -> tuple[_Struct, int]:
    """Return a header and its length."""
    for longest in _HEADER_READ_BYTES:
        content = CompactReader(os.pread(descriptor, longest, offset))
        try:
            return content.read_struct(), content.position
        except IndexError:
            if len(content.content) < longest:
                break
    raise StructureError("a page has no header")


class CompactReader:
    """Read Thrift's compact protocol. Raises IndexError if the content ends within a value."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def read_struct(self) -> _Struct:
        """Read a struct."""
        fields: _Struct = {}
        number = 0
        while head := self._read_byte():
            number = number + (head >> 4) if head >> 4 else self._read_integer()
            fields[number] = head & 15 == 1 if head & 15 in (1, 2) else self._read_value(head & 15)
        return fields

    def _read_value(self, kind: int) -> Any:
        if kind in (1, 2, 3):
            return self._read_byte()
        if kind in (4, 5, 6):
            return self._read_integer()
        if kind == 7:
            return self._read_bytes(8)
        if kind == 8:
            return self._read_bytes(self._read_unsigned_integer())
        if kind in (9, 10):
            head = self._read_byte()
            count = self._read_unsigned_integer() if head >> 4 == 15 else head >> 4
            return [self._read_value(head & 15) for _ in range(count)]
        if kind == 11:
            count = self._read_unsigned_integer()
            kinds = self._read_byte() if count else 0
            return [(self._read_value(kinds >> 4), self._read_value(kinds & 15)) for _ in range(count)]
        if kind == 12:
            return self.read_struct()
        raise ValueError("unknown type")

    def _read_byte(self) -> int:
        self.position += 1
        return self.content[self.position - 1]

    def _read_bytes(self, count: int) -> bytes:
        if self.position + count > len(self.content):
            raise IndexError
        self.position += count
        return self.content[self.position - count : self.position]

    def _read_unsigned_integer(self) -> int:
        value = shift = 0
        while (byte := self._read_byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _read_integer(self) -> int:
        value = self._read_unsigned_integer()
        return value >> 1 ^ -(value & 1)
