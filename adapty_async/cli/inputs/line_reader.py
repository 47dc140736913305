"""Read the lines of a text in bounded memory, skipping lines that are too long."""

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

MAX_LINE_BYTES: Final = 1 << 20
"""The approximate maximum length of a line, in bytes. A longer line can't be a row with an ID."""
# Placeholders for lines that are too long. No valid row contains NUL.
TOO_LONG: Final = "\0\0\0 too long"
TOO_LONG_WITH_OPEN_QUOTE: Final = "\0\0\0 too long and a quote isn't closed"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def read_first_lines(blocks: Iterable[bytes], max_lines: int) -> list[str]:
    """Return the first lines that aren't blank or too long, at most `max_lines` lines and about LONGEST characters."""
    found: list[str] = []
    size = 0
    for line in LineReader(blocks):
        if not line.isspace() and not line.startswith((TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE)):
            found.append(line)
        size += len(line)
        if len(found) == max_lines or size > MAX_LINE_BYTES:
            break
    return found


class LineReader:
    r"""Iterate once over lines with their ends (\n, \r\n or \r). Bytes that aren't UTF-8 become surrogates."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._text = io.StringIO()

    def __iter__(self) -> Iterator[str]:
        # Iterates in C only, because this loop takes most of the reading time.
        return itertools.chain.from_iterable(self._iter_texts())

    def get_last_line(self) -> str:
        """Return the last yielded line again."""
        given = self._text.getvalue()[: self._text.tell()]
        *_, last = io.StringIO(given, newline="")
        return last

    def _iter_texts(self) -> Iterator[io.StringIO]:
        source = self._blocks
        rest = next(source, b"").removeprefix(_BYTE_ORDER_MARK)
        while True:
            end = _find_end_of_lines(rest)
            if end:
                yield self._buffer_text(rest[:end].decode("utf-8", "surrogateescape"))
                rest = rest[end:]
            elif len(rest) > MAX_LINE_BYTES:
                placeholder, rest = _skip_long_line(rest, source)
                yield self._buffer_text(placeholder)
            block = next(source, b"")
            if not block:
                break
            rest += block
        if rest:
            yield self._buffer_text(rest.decode("utf-8", "surrogateescape"))

    def _buffer_text(self, text: str) -> io.StringIO:
        self._text = io.StringIO(text, newline="")
        return self._text


def _find_end_of_lines(content: bytes) -> int:
    """Return the end of the last complete line. A final carriage return may be half of a line end."""
    return content.rfind(b"\n") + 1 or content.rfind(b"\r", 0, len(content) - 1) + 1


def _skip_long_line(line_start: bytes, source: Iterator[bytes]) -> tuple[str, bytes]:
    """Skip the rest of a line. Return its placeholder and the content read after it."""
    quotes = line_start.count(b'"')
    pending = line_start[-1:]  # after a carriage return, the next byte may belong to the line end
    for block in source:
        content = pending + block
        ends = [place for place in (content.find(b"\n"), content.find(b"\r", 0, len(content) - 1)) if place >= 0]
        if ends:
            end = min(ends)
            end += 2 if content[end : end + 2] == b"\r\n" else 1
            quotes += content.count(b'"', len(pending), end)
            return _choose_long_line_placeholder(quotes), content[end:]
        quotes += block.count(b'"')
        pending = content[-1:]
    return _choose_long_line_placeholder(quotes), b""


def _choose_long_line_placeholder(quotes: int) -> str:
    return (TOO_LONG_WITH_OPEN_QUOTE if quotes % 2 else TOO_LONG) + "\n"
