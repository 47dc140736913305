"""Write a file atomically, completely or not at all: first as a partial file with a unique name next to it."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...ledger.input_copy import lock_descriptor, remove_abandoned_file

READABLE_MODE: Final = 0o666
"""Readable by everyone, as far as the umask allows."""
OWNER_ONLY_MODE: Final = 0o600


@contextlib.contextmanager
def create_partial_file(path: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """Create an empty file next to another. Yield its path and a descriptor, which the caller must close.

    The file is removed if the block fails, and `remove_partial_files` doesn't remove it until it is closed. Raises
    OSError.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    lock_descriptor(descriptor)
    try:
        yield part, descriptor
    except BaseException:  # including an interrupt: the partial file would stay behind
        part.unlink(missing_ok=True)
        raise


def remove_partial_files(path: Path) -> None:
    """Remove the partial files that killed processes have left."""
    name = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if name.fullmatch(other.name):
                remove_abandoned_file(other)
