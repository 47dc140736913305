"""Run a command: the options of its output, its exit status, and an error message instead of a traceback."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from .exit_codes import HELP, CommandError, ExitStatus
from .output.events import Output, as_bug, current, logging_to, using
from .output.streams import say
from .signals import hear, stop_hearing

_DEBUG: Final = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors, without values.")]
_JSON: Final = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines: progress, log messages, and the end.")
]
_LOG_FILE: Final = Annotated[
    Path | None,
    typer.Option(
        "--log-file", metavar="FILE", help="Append a log to this private file: failed attempts, pauses, stops; no IDs."
    ),
]


def traced(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --debug to a command."""
    return _with_options(command, debug=(_DEBUG, False))


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --json, --log-file and --debug to a command that runs a job."""
    return _with_options(command, json=(_JSON, False), log_file=(_LOG_FILE, None), debug=(_DEBUG, False))


def _with_options(command: Callable[..., None], **options: tuple[Any, Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        with using(Output(**{name: arguments.pop(name) for name in options})):
            try:
                command(**arguments)
            except KeyboardInterrupt:  # just before the command starts or after it ends
                say("interrupted")
                raise typer.Exit(ExitStatus.INTERRUPTED) from None

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **{name: annotation for name, (annotation, _) in options.items()}}
    return run


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
