"""Read a file in blocks and decompress gzip."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from .input_types import InputError

GZIP_MAGIC: Final = b"\x1f\x8b"
_BLOCK_BYTES: Final = 1 << 18


class IndependentReader(io.RawIOBase):
    """Read an open file from its start, with a position independent of other readers."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position."""
        content = os.pread(self._descriptor, len(buffer), self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def is_gzip(file: BinaryIO) -> bool:
    """Return True if a file is compressed with gzip. Raises OSError."""
    return os.pread(file.fileno(), len(GZIP_MAGIC), 0) == GZIP_MAGIC


def read_head(file: BinaryIO, max_bytes: int) -> bytes:
    """Return the first bytes, decompressed; b"" if that fails. Raises OSError if the file can't be read."""
    if not is_gzip(file):
        return os.pread(file.fileno(), max_bytes, 0)
    unpacking = zlib.decompressobj(wbits=31)
    try:
        return unpacking.decompress(os.pread(file.fileno(), 1 << 16, 0), max_bytes)
    except zlib.error:
        return b""


def iter_blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the decompressed content in blocks. Raises InputError."""
    try:
        raw = io.BufferedReader(IndependentReader(file), _BLOCK_BYTES)
        source = gzip.GzipFile(fileobj=raw) if is_gzip(file) else raw
        while block := source.read(_BLOCK_BYTES):
            yield block
        return
    except (EOFError, zlib.error, gzip.BadGzipFile):
        message = f"{name} can't be decompressed completely: it is truncated or damaged: fetch it again"
    except OSError as error:
        message = f"{name} can't be read completely: {error.strerror}"
    raise InputError(message)
