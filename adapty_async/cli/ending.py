"""End a command with an exit status, and with an error message instead of a traceback."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

import typer

from .exit_codes import HELP, CommandError, ExitStatus
from .output.events import as_bug, current, logging_to
from .output.streams import say
from .signals import hear, stop_hearing

STATUSES: Final = HELP


def end(command: Callable[[], ExitStatus]) -> NoReturn:
    """Run a command and end with its status."""
    try:
        with logging_to(current().log_file):
            status, sentence = _carry_out(command)
            stop_hearing()
            current().ended(status, sentence)
    except (OSError, ValueError) as error:  # from the log file; the command's own errors are already messages
        reason = getattr(error, "strerror", None) or error
        status, sentence = ExitStatus.USAGE, f"--log-file {current().log_file} can't be written: {reason}"
        current().ended(status, sentence)
    if sentence is not None:
        say(sentence)
    raise typer.Exit(status)


def _carry_out(command: Callable[[], ExitStatus]) -> tuple[ExitStatus, str | None]:
    """Run a command. Return its status and its error message, if any."""
    try:
        hear()
        return command(), None
    except CommandError as error:
        current().trace(error)
        return error.status, str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitStatus.INTERRUPTED, "interrupted"
    except Exception as error:  # noqa: BLE001 - tracebacks are only shown with --debug
        bug = as_bug(error)
        return bug.status, str(bug)
