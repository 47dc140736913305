"""Write results to standard output, and read an ID from standard input."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from ...escaping import escape_line, escape_lines
from ..exit_status import CommandError, ExitStatus
from .command_output import echo, redirect_to_devnull

ID_FROM_STDIN: Final = "-"
"""Stands for an ID on standard input, which keeps it out of the shell history."""
_MAX_ID_LINE: Final = 65_536
"""Characters. A longer line isn't an ID, and may be larger than the memory."""


@contextlib.contextmanager
def open_stdout() -> Iterator[TextIO]:
    """Yield standard output. A reader that closes the pipe early is not an error. Raises CommandError."""
    stream = sys.stdout
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (>&-)
        raise CommandError("there is no standard output to write to: leave it open, or send it to a file")
    try:
        yield stream
        stream.flush()
        return
    except OSError as error:
        problem = handle_stdout_error(stream, error)
    if problem is not None:
        raise problem


def handle_stdout_error(stream: TextIO, error: OSError) -> CommandError | None:
    """Discard further output after an error. Return the error to report, or None if the reader closed the pipe."""
    redirect_to_devnull(stream)
    if isinstance(error, BrokenPipeError):
        return None
    return CommandError(f"standard output can't be written: {error.strerror}: make room for it", ExitStatus.LEDGER)


def print_to_stdout(text: str) -> None:
    """Print a text to standard output. Raises CommandError."""
    with open_stdout() as stream:
        print(escape_lines(text), file=stream)


def read_id_from_stdin(recipient: str) -> str:
    """Read the ID for an option or a command from the first line of standard input. Raises CommandError."""
    stream = sys.stdin
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (<&-)
        raise CommandError(f"there is no standard input to read: write the ID for {recipient} to it on one line")
    if stream.isatty():
        print(f"The ID for {recipient}: ", end="", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        line = stream.readline(_MAX_ID_LINE + 1)
        if len(line) <= _MAX_ID_LINE and (id_ := line.rstrip("\r\n")):
            return id_
    raise CommandError(f"{recipient} - found no ID on standard input: write it there on one line")


def print_error(message: str) -> None:
    """Print an error message."""
    echo(f"adapty-async: {escape_line(message)}", sys.stderr)
