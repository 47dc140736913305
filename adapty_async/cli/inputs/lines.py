"""Read the lines of a text in bounded memory, skipping lines that are too long."""

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

LONGEST: Final = 1 << 20
"""The approximate maximum length of a line, in bytes. A longer line can't be a row with an ID."""
# Placeholders for lines that are too long. No valid row contains NUL.
TOO_LONG: Final = "\0\0\0 too long"
TOO_LONG_AND_QUOTED: Final = "\0\0\0 too long and a quote isn't closed"
_MARK: Final = b"\xef\xbb\xbf"


def first_lines(blocks: Iterable[bytes], most: int) -> list[str]:
    """Return the first lines that aren't blank or too long, at most `most` lines and about LONGEST characters."""
    found: list[str] = []
    size = 0
    for line in Lines(blocks):
        if not line.isspace() and not line.startswith((TOO_LONG, TOO_LONG_AND_QUOTED)):
            found.append(line)
        size += len(line)
        if len(found) == most or size > LONGEST:
            break
    return found


class Lines:
    r"""Iterate once over lines with their ends (\n, \r\n or \r). Bytes that aren't UTF-8 become surrogates."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._text = io.StringIO()

    def __iter__(self) -> Iterator[str]:
        # Iterates in C only, because this loop takes most of the reading time.
        return itertools.chain.from_iterable(self._texts())

    def last(self) -> str:
        """Return the last yielded line again."""
        given = self._text.getvalue()[: self._text.tell()]
        *_, last = io.StringIO(given, newline="")
        return last

    def _texts(self) -> Iterator[io.StringIO]:
        source = self._blocks
        rest = next(source, b"").removeprefix(_MARK)
        while True:
            end = _end_of_lines(rest)
            if end:
                yield self._of(rest[:end].decode("utf-8", "surrogateescape"))
                rest = rest[end:]
            elif len(rest) > LONGEST:
                stand_in, rest = _skip(rest, source)
                yield self._of(stand_in)
            block = next(source, b"")
            if not block:
                break
            rest += block
        if rest:
            yield self._of(rest.decode("utf-8", "surrogateescape"))

    def _of(self, text: str) -> io.StringIO:
        self._text = io.StringIO(text, newline="")
        return self._text


def _end_of_lines(content: bytes) -> int:
    """Return the end of the last complete line. A final carriage return may be half of a line end."""
    return content.rfind(b"\n") + 1 or content.rfind(b"\r", 0, len(content) - 1) + 1


def _skip(begun: bytes, source: Iterator[bytes]) -> tuple[str, bytes]:
    """Skip the rest of a line. Return its placeholder and the content read after it."""
    quotes = begun.count(b'"')
    pending = begun[-1:]  # after a carriage return, the next byte may belong to the line end
    for block in source:
        content = pending + block
        ends = [place for place in (content.find(b"\n"), content.find(b"\r", 0, len(content) - 1)) if place >= 0]
        if ends:
            end = min(ends)
            end += 2 if content[end : end + 2] == b"\r\n" else 1
            quotes += content.count(b'"', len(pending), end)
            return _stand_in(quotes), content[end:]
        quotes += block.count(b'"')
        pending = content[-1:]
    return _stand_in(quotes), b""


def _stand_in(quotes: int) -> str:
    return (TOO_LONG_AND_QUOTED if quotes % 2 else TOO_LONG) + "\n"
