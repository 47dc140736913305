"""Write results to standard output, and read an ID from standard input."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from ...escaping import one_line, printable
from ..exit_codes import CommandError, ExitStatus
from .events import tell, write_no_more

FROM_STDIN: Final = "-"
"""Stands for an ID on standard input, which keeps it out of the shell history."""


@contextlib.contextmanager
def standard_output() -> Iterator[TextIO]:
    """Yield standard output. A reader that closes the pipe early is not an error. Raises CommandError."""
    stream = sys.stdout
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (>&-)
        raise CommandError("there is no standard output to write to: leave it open, or send it to a file")
    try:
        yield stream
        stream.flush()
        return
    except OSError as error:
        problem = lost(stream, error)
    if problem is not None:
        raise problem


def lost(stream: TextIO, error: OSError) -> CommandError | None:
    """Discard further output after an error. Return the error to report, or None if the reader closed the pipe."""
    write_no_more(stream)
    if isinstance(error, BrokenPipeError):
        return None
    return CommandError(f"standard output can't be written: {error.strerror}: make room for it", ExitStatus.LEDGER)


def show(text: str) -> None:
    """Print a text to standard output. Raises CommandError."""
    with standard_output() as stream:
        print(printable(text), file=stream)


def id_of_stdin(option: str) -> str:
    """Read the id of an option from the first line of standard input. Raises CommandError."""
    stream = sys.stdin
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (<&-)
        raise CommandError(f"there is no standard input to read: write the ID for {option} to it on one line")
    if stream.isatty():
        print(f"The ID for {option}: ", end="", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if id_ := stream.readline().rstrip("\r\n"):
            return id_
    raise CommandError(f"{option} - found no ID on standard input: write it there on one line")


def say(sentence: str) -> None:
    """Print an error message."""
    tell(f"adapty-async: {one_line(sentence)}", sys.stderr)
