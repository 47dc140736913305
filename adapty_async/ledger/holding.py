"""A ledger that one command holds, from its first look to its end, whatever it does with it in between."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from .files import lock, real, remove_lock, translated


@attrs.frozen
class Held:
    """The lock of a ledger: who holds it lends it to what is done with the ledger."""

    path: Path


@contextlib.contextmanager
def holding(path: str | os.PathLike[str]) -> Iterator[Held]:
    """Let nobody else use a ledger, or make one of that name, or copy an input beside it, in the block.

    It leaves no trace where no ledger is made. Raises LedgerError.
    """
    path = real(path)
    with translated(path):
        connection = lock(path)
    try:
        yield Held(path)
    finally:
        if not path.exists():
            remove_lock(path)
        connection.close()
