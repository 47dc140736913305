"""Open input files, and copy those that can't be read twice."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from .rows import InputError
from .temp_files import scratch, scratching

STDIN: Final = Path("-")
OF_STDIN: Final = "standard input"


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input, to read it once. Raises InputError."""
    if path == STDIN:
        yield _stdin()
        return
    with _opened(path) as file:
        yield file


def _stdin() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (<&-)
        raise InputError("there is no standard input to read: name a file")
    return sys.stdin.buffer


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None


@contextlib.contextmanager
def copied(source: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Copy to a temporary file that only its owner may read and that is deleted with the process.

    Raises InputError.
    """
    with contextlib.ExitStack() as stack:
        with scratching(f"{name} can't be copied to a temporary file"):
            copy = scratch(stack)
            shutil.copyfileobj(source, copy)
            copy.flush()
        yield cast("BinaryIO", copy)
