"""A ledger that one command holds, from its first look to its end, whatever it does with it in between."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from .files import Lock, lock, real, translated


@attrs.frozen
class Held:
    """The lock of a ledger: who holds it lends it to what is done with the ledger."""

    path: Path
    lock: Lock = attrs.field(repr=False)


@contextlib.contextmanager
def holding(path: str | os.PathLike[str]) -> Iterator[Held]:
    """Let nobody else use a ledger, or make one of that name, or copy an input beside it, in the block.

    It leaves no trace where no ledger is made. Raises LedgerError.
    """
    path = real(path)
    with translated(path):
        own = lock(path)
    try:
        yield Held(path, own)
    finally:
        with contextlib.suppress(OSError):  # a folder that can't be entered any more
            if not path.exists():
                own.remove()
        own.close()
