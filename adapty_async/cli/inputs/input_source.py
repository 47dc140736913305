"""Open the source of an input, a file or standard input, and copy one that can't be read twice."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from .input_types import InputError
from .temp_files import open_temp_file, translate_temp_file_errors

STDIN_PATH: Final = Path("-")
STDIN_LABEL: Final = "standard input"


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input, to read it once. Raises InputError."""
    if path == STDIN_PATH:
        yield _get_stdin()
        return
    with _open_file(path) as file:
        yield file


def _get_stdin() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (<&-)
        raise InputError("there is no standard input to read: name a file")
    return sys.stdin.buffer


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None


@contextlib.contextmanager
def copy_to_temp_file(source: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Copy to a temporary file that only its owner may read and that is deleted with the process.

    Raises InputError.
    """
    with contextlib.ExitStack() as stack:
        with translate_temp_file_errors(f"{name} can't be copied to a temporary file"):
            copy = open_temp_file(stack)
            shutil.copyfileobj(source, copy)
            copy.flush()
        yield cast("BinaryIO", copy)
