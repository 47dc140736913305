"""Temporary files: only their owner may read them, they have no name, and are gone with the process."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

from ..exits import ExitStatus, is_full
from .reading import InputError


def scratch(stack: contextlib.ExitStack) -> IO[bytes]:
    """Open a temporary file until `stack` is closed. Raises OSError."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
    stack.callback(_drop, file)
    return file


def _drop(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # what found no room is in its buffer still
        file.close()


@contextlib.contextmanager
def scratching(what: str = "a temporary file can't be used") -> Iterator[None]:
    """Make a sentence of what goes wrong with a temporary file. Raises InputError."""
    try:
        yield
        return
    except OSError as error:
        reason, status = error.strerror, ExitStatus.LEDGER if is_full(error) else ExitStatus.USAGE
    raise InputError(f"{what}: {reason}: make room, or name another folder by TMPDIR", status)
