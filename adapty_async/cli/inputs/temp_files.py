"""Unnamed temporary files, which only their owner may read and which are deleted with the process."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

from ..exit_status import ExitStatus, is_disk_full
from .input_types import InputError


def open_temp_file(stack: contextlib.ExitStack) -> IO[bytes]:
    """Open a temporary file until `stack` is closed. Raises OSError."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
    stack.callback(_close_quietly, file)
    return file


def _close_quietly(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # the buffer may contain data that the full disk refused
        file.close()


@contextlib.contextmanager
def translate_temp_file_errors(problem: str = "a temporary file can't be used") -> Iterator[None]:
    """Convert an OSError of a temporary file to an InputError."""
    try:
        yield
        return
    except OSError as error:
        reason, status = error.strerror, ExitStatus.LEDGER if is_disk_full(error) else ExitStatus.USAGE
    raise InputError(f"{problem}: {reason}: free some space, or set TMPDIR to another folder", status)
