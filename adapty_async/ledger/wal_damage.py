"""Detection of damage in the write-ahead log of a ledger, as a killed process leaves it.

SQLite reads the log up to the first byte that has changed and ignores the rest without an error. The format is
described in https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import errno
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_BIG_ENDIAN_MAGIC: Final = 0x377F0683
_MAGIC_NUMBERS: Final = 0x377F0682, _BIG_ENDIAN_MAGIC
_UINT32_MASK: Final = 0xFFFFFFFF


def is_log_damaged(path: Path) -> bool:
    """Return True if commits follow a byte that has changed. Raise OSError.

    A sound log may have one commit after an invalid frame: a power cut can interrupt the write of a commit. That commit
    was never reported as complete.
    """
    data = path.read_bytes()
    if len(data) < _HEADER_BYTES + _FRAME_HEADER_BYTES:
        return False
    magic, _, page_size, _, *salts_and_sums = struct.unpack(">8I", data[:_HEADER_BYTES])
    salts, sums = salts_and_sums[:2], salts_and_sums[2:]
    if magic not in _MAGIC_NUMBERS or page_size not in {1 << power for power in range(9, 17)}:
        return True
    byte_order = ">" if magic == _BIG_ENDIAN_MAGIC else "<"
    state = _compute_checksum(data[: _HEADER_BYTES - 8], byte_order, (0, 0))
    if list(state) != sums:
        return True
    is_sound, commits = True, 0
    for header, page in _iter_frames(data, page_size):
        _, size, *its_salts, first, second = struct.unpack(">6I", header)
        if is_sound:
            state = _compute_checksum(page, byte_order, _compute_checksum(header[:8], byte_order, state))
            is_sound = its_salts == salts and state == (first, second)
        # A frame of an earlier cycle has neither salt. If one byte of the salts has changed, one salt still matches.
        if not is_sound and size and (its_salts[0] == salts[0] or its_salts[1] == salts[1]):
            commits += 1
    return commits > 1


def is_log_start_damaged(path: Path) -> bool:
    """Return True if a log with data exists that was overwritten at its start. Raise OSError.

    A log without a frame has no data. A power cut may leave its header unwritten, and SQLite then writes it again. A
    process without a free descriptor can't look, and the next check does.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES + _FRAME_HEADER_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            return False
        raise
    if len(head) < _HEADER_BYTES + _FRAME_HEADER_BYTES:
        return False
    return int.from_bytes(head[:4], "big") not in _MAGIC_NUMBERS


def _iter_frames(data: bytes, page_size: int) -> Iterator[tuple[bytes, bytes]]:
    for begin in range(_HEADER_BYTES, len(data) - _FRAME_HEADER_BYTES - page_size + 1, _FRAME_HEADER_BYTES + page_size):
        page = begin + _FRAME_HEADER_BYTES
        yield data[begin:page], data[page : page + page_size]


def _compute_checksum(data: bytes, byte_order: str, initial: tuple[int, int]) -> tuple[int, int]:
    """Return the checksum of data, continued from the checksum `initial`."""
    words = array("I", data)
    if (byte_order == "<") != (sys.byteorder == "little"):
        words.byteswap()
    first, second = initial
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & _UINT32_MASK
        second = (second + other + first) & _UINT32_MASK
    return first, second
