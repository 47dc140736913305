"""The lock of a ledger, held by one command from start to end."""

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from .files import FileLock, acquire_lock, get_lock_path, open_regular_file, resolve_link, translate_errors

_LOCKED_BYTES: Final = (0x40000002, 510)
"""Start and length of the range in a file that SQLite locks exclusively. It is part of SQLite's file format."""
_FLOCK_FORMAT: Final = "qqihh" if sys.platform == "darwin" else "hhqqi0q"
"""The fields of the C struct flock, which differ in order. "0q" pads it to its full size."""


@attrs.frozen
class LedgerLock:
    """The lock of a ledger. The holder passes it to the functions that use the ledger.

    Attributes:
        path: The path of the ledger.
        file_lock: The lock itself.
    """

    path: Path
    file_lock: FileLock = attrs.field(repr=False)


@contextlib.contextmanager
def lock_ledger(path: str | os.PathLike[str]) -> Iterator[LedgerLock]:
    """Lock a ledger in the block.

    No other process can use the ledger, create one at this path, or copy an input next to it. If the block makes no
    ledger, the lock file is removed.

    Args:
        path: The path of the ledger. It needn't exist.

    Returns:
        The lock.

    Raises:
        LedgerError: If the ledger is in use or can't be locked.
    """
    path = resolve_link(path)
    with translate_errors(path):
        file_lock = acquire_lock(path)
    try:
        yield LedgerLock(path, file_lock)
    finally:
        with contextlib.suppress(OSError):  # the folder can't be entered any more
            if not path.exists():
                file_lock.remove()
        file_lock.close()


def find_lock_holder(path: str | os.PathLike[str]) -> int | None:
    """Return the process that holds the lock of a ledger.

    The operating system knows it, so the result is never out of date. The caller must not hold the lock: closing the
    lock file would release it. Windows can't tell.

    Args:
        path: The path of the ledger.

    Returns:
        The process ID, 0 if the process can't be seen from here (it is in another container or on another machine), or
        None if no process holds the lock.

    Raises:
        LedgerError: If the lock file can't be read.
    """
    import fcntl  # Windows has none

    path = resolve_link(path)
    start, length = _LOCKED_BYTES
    question = (
        (start, length, 0, fcntl.F_RDLCK, os.SEEK_SET)
        if sys.platform == "darwin"
        else (fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
    )
    with translate_errors(path):
        try:
            with open_regular_file(get_lock_path(path)) as file:
                found = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_FLOCK_FORMAT, *question))
        except FileNotFoundError:
            return None
    if sys.platform == "darwin":
        _, _, process_id, lock_type, _ = struct.unpack(_FLOCK_FORMAT, found)
    else:
        lock_type, _, _, _, process_id = struct.unpack(_FLOCK_FORMAT, found)
    return None if lock_type == fcntl.F_UNLCK else max(process_id, 0)
