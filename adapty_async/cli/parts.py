"""A file that is written whole or not at all: first as a part beside it, of a name that is nobody else's."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..ledger.spool import hold, remove_abandoned

READABLE: Final = 0o666
"""For all whom the umask lets."""
OWNER_ONLY: Final = 0o600


@contextlib.contextmanager
def part_beside(path: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """Make an empty file beside another; give its path and a descriptor, which is closed by whoever takes it.

    It is removed where the block fails, and `sweep` leaves it alone until it is closed. Raises OSError.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    hold(descriptor)
    try:
        yield part, descriptor
    except BaseException:  # an interrupt, too: the part would stay behind
        part.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove the private parts of a file that kills have left."""
    name = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if name.fullmatch(other.name):
                remove_abandoned(other)
