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

_TAIL: Final = 8
"""The size of the footer length and of PAR1, in bytes."""
_HEADERS: Final = (1 << 10, 1 << 24)
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
        sentence = f"its structure can't be read ({type(error).__name__})"
    raise StructureError(sentence)


def _has_checksums(descriptor: int, column: str) -> bool:
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, 4, size - _TAIL), "little")
    footer = Compact(os.pread(descriptor, length, size - _TAIL - length)).struct()
    chunks = [chunk[3] for group in footer[4] for chunk in group[1] if chunk[3][5]]  # empty chunks have no offset
    places = sorted((_start(chunk), _start(chunk) + chunk[7]) for chunk in chunks)
    places.append((size - _TAIL - length, size))
    if any(end > start for (_, end), (start, _) in itertools.pairwise(places)):
        raise StructureError("some of its columns overlap")
    checksummed = [4 in page for chunk in chunks if _name(chunk) == column for page in _pages(descriptor, chunk)]
    return all(checksummed)


def _start(chunk: _Struct) -> int:
    data: int = chunk[9]
    dictionary: int = chunk.get(11, 0)
    return dictionary if 0 < dictionary < data else data


def _name(chunk: _Struct) -> str:
    return b".".join(chunk[3]).decode(errors="replace")


def _pages(descriptor: int, chunk: _Struct) -> Iterator[_Struct]:
    """Yield the page headers of a column chunk."""
    place, values = _start(chunk), 0
    while values < chunk[5]:
        page, length = _header(descriptor, place)
        yield page
        place += length + page[3]
        for kind in page.keys() & _ENCODINGS.keys():
            values += page[kind][1]
            named = {*chunk[2], _RLE}
            if chunk[2] and any(page[kind][field] not in named for field in _ENCODINGS[kind]):  # a list may be empty
                raise StructureError("a page has an encoding that the footer doesn't list")
    if values != chunk[5]:
        raise StructureError("its pages and its footer give different numbers of rows")


def _header(descriptor: int, place: int) -> tuple[_Struct, int]:
    """Return a header and its length."""
    for longest in _HEADERS:
        content = Compact(os.pread(descriptor, longest, place))
        try:
            return content.struct(), content.at
        except IndexError:
            if len(content.content) < longest:
                break
    raise StructureError("a page has no header")


class Compact:
    """Read Thrift's compact protocol. Raises IndexError if the content ends within a value."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def struct(self) -> _Struct:
        """Read a struct."""
        fields: _Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = head & 15 == 1 if head & 15 in (1, 2) else self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._octets(8)
        if kind == 8:
            return self._octets(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15) for _ in range(count)]
        if kind == 11:
            count = self._unsigned()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError("unknown type")

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _octets(self, count: int) -> bytes:
        if self.at + count > len(self.content):
            raise IndexError
        self.at += count
        return self.content[self.at - count : self.at]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
