"""Standard output, of the commands whose result is what they print there; and an id out of standard input."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from ..escaping import printable
from .exits import CommandError, ExitStatus
from .output import write_no_more

FROM_STDIN: Final = "-"
"""What stands for an id that no shell is to keep."""


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
        problem = lost(stream, error)
    if problem is not None:
        raise problem


def lost(stream: TextIO, error: OSError) -> CommandError | None:
    """Write no more to standard output, which failed; give what to say of it, None where its reader has enough."""
    write_no_more(stream)
    if isinstance(error, BrokenPipeError):
        return None
    return CommandError(f"standard output can't be written: {error.strerror}: make room for it", ExitStatus.LEDGER)


def show(text: str) -> None:
    """Print a text there. Raises CommandError."""
    with standard_output() as stream:
        print(printable(text), file=stream)


def id_of_stdin(option: str) -> str:
    """Read the id of an option from the first line of standard input. Raises CommandError."""
    stream = sys.stdin
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - so it is where it was closed (<&-)
        raise CommandError(f"there is no standard input to read: give the id of {option} on a line of it")
    if stream.isatty():
        print(f"The id for {option}: ", end="", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if id_ := stream.readline().rstrip("\r\n"):
            return id_
    raise CommandError(f"{option} - found no id on standard input: give it on a line there")
