"""Standard output, of the commands whose result is what they print there."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from .exits import CommandError, ExitStatus


@contextlib.contextmanager
def standard_output() -> Iterator[TextIO]:
    """Give standard output; whoever doesn't read to the end of it has enough. Raises CommandError."""
    stream = sys.stdout
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - so it is where it was closed (>&-)
        raise CommandError("there is no standard output to write to: leave it open, or send it to a file")
    try:
        yield stream
        stream.flush()
        return
    except OSError as error:
        # What is left in its buffer goes there too when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return
        reason = error.strerror
    raise CommandError(f"standard output can't be written: {reason}: make room for it", ExitStatus.LEDGER)


def show(text: str) -> None:
    """Print a text there. Raises CommandError."""
    with standard_output() as stream:
        print(text, file=stream)
