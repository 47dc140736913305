"""The lock of a ledger, held by one command from start to end."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from .files import FileLock, acquire_lock, resolve_link, translate_errors


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
