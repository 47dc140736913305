"""Run a command: the options of its output, its exit status, and an error message instead of a traceback."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from .exit_codes import EXIT_STATUS_HELP, CommandError, ExitStatus
from .output.events import Output, build_internal_error, get_output, log_to_file, use_output
from .output.streams import print_error
from .signals import ignore_signals, install_interrupt_handlers

_DEBUG_OPTION: Final = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors, without values.")]
_JSON_OPTION: Final = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines: progress, log messages, and the end.")
]
_LOG_FILE_OPTION: Final = Annotated[
    Path | None,
    typer.Option(
        "--log-file", metavar="FILE", help="Append a log to this private file: failed attempts, pauses, stops; no IDs."
    ),
]


def add_debug_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --debug to a command."""
    return _add_options(command, debug=(_DEBUG_OPTION, False))


def add_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --json, --log-file and --debug to a command that runs a job."""
    return _add_options(
        command, json=(_JSON_OPTION, False), log_file=(_LOG_FILE_OPTION, None), debug=(_DEBUG_OPTION, False)
    )


def _add_options(command: Callable[..., None], **options: tuple[Any, Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def run_command(**arguments: Any) -> None:
        with use_output(Output(**{name: arguments.pop(name) for name in options})):
            try:
                command(**arguments)
            except KeyboardInterrupt:  # just before the command starts or after it ends
                print_error("interrupted")
                raise typer.Exit(ExitStatus.INTERRUPTED) from None

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    run_command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run_command.__annotations__ = {
        **command.__annotations__,
        **{name: annotation for name, (annotation, _) in options.items()},
    }
    return run_command


EPILOG: Final = EXIT_STATUS_HELP


def run_and_exit(command: Callable[[], ExitStatus]) -> NoReturn:
    """Run a command and end with its status."""
    try:
        with log_to_file(get_output().log_file):
            status, message = _run_command(command)
            ignore_signals()
            get_output().emit_end(status, message)
    except (OSError, ValueError) as error:  # from the log file; the command's own errors are already messages
        reason = getattr(error, "strerror", None) or error
        status, message = ExitStatus.USAGE, f"--log-file {get_output().log_file} can't be written: {reason}"
        get_output().emit_end(status, message)
    if message is not None:
        print_error(message)
    raise typer.Exit(status)


def _run_command(command: Callable[[], ExitStatus]) -> tuple[ExitStatus, str | None]:
    """Run a command. Return its status and its error message, if any."""
    try:
        install_interrupt_handlers()
        return command(), None
    except CommandError as error:
        get_output().print_traceback(error)
        return error.status, str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitStatus.INTERRUPTED, "interrupted"
    except Exception as error:  # noqa: BLE001 - tracebacks are only shown with --debug
        bug = build_internal_error(error)
        return bug.status, str(bug)
