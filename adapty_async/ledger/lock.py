"""The lock of a ledger, held by one command from start to end."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from .files import Lock, lock, real, translated


@attrs.frozen
class Held:
    """The lock of a ledger. The holder passes it to the functions that use the ledger.

    Attributes:
        path: The path of the ledger.
        lock: The lock itself.
    """

    path: Path
    lock: Lock = attrs.field(repr=False)


@contextlib.contextmanager
def holding(path: str | os.PathLike[str]) -> Iterator[Held]:
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
    path = real(path)
    with translated(path):
        own = lock(path)
    try:
        yield Held(path, own)
    finally:
        with contextlib.suppress(OSError):  # the folder can't be entered any more
            if not path.exists():
                own.remove()
        own.close()
