"""Run a command: its options in groups, its exit status, and an error message instead of a traceback."""

import asyncio
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Final, NoReturn

import typer
from attrs import AttrsInstance, asdict

from .exit_status import EXIT_STATUS_HELP, CommandError, ExitStatus
from .option_group_conversion import build_groups, expand_groups
from .options import DebugOptions, OutputOptions, ScreenOptions
from .output.command_output import Output, build_internal_error, get_output, use_output
from .output.log_file import log_to_file
from .output.standard_streams import print_error
from .signals import ignore_signals, install_interrupt_handlers


def add_debug_option(command: Callable[..., None]) -> Callable[..., None]:
    """Prepare a command for Typer, with the option --debug."""
    return _add_options(command, DebugOptions)


def add_screen_options(command: Callable[..., None]) -> Callable[..., None]:
    """Prepare a command that shows its progress for Typer, with --quiet and --debug."""
    return _add_options(command, ScreenOptions, DebugOptions)


def add_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Prepare a command that runs a job for Typer, with the options of its output."""
    return _add_options(command, OutputOptions, ScreenOptions, DebugOptions)


def _add_options(command: Callable[..., None], *output_groups: type[AttrsInstance]) -> Callable[..., None]:
    """Return a command with the options of its groups and of its output as parameters."""
    groups = [*inspect.signature(command).parameters.values()]
    groups += [
        inspect.Parameter(group.__name__, inspect.Parameter.KEYWORD_ONLY, annotation=group) for group in output_groups
    ]
    options = [option for each in groups for option in expand_groups(each.name, each.annotation, each.default)]

    @functools.wraps(command)
    def run_command(**arguments: Any) -> None:
        values = {each.name: build_groups(each.name, each.annotation, arguments) for each in groups}
        output_values = [asdict(values.pop(group.__name__)) for group in output_groups]
        with use_output(Output(**dict(itertools.chain.from_iterable(map(dict.items, output_values))))):
            try:
                command(**values)
            except KeyboardInterrupt:  # just before the command starts or after it ends
                print_error("interrupted")
                raise typer.Exit(ExitStatus.INTERRUPTED) from None

    run_command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run_command.__annotations__ = {option.name: option.annotation for option in options}
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
        _check_descriptor_limit()
        return command(), None
    except CommandError as error:
        get_output().print_traceback(error)
        return error.status, str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitStatus.INTERRUPTED, "interrupted"
    except Exception as error:  # noqa: BLE001 - tracebacks are only shown with --debug
        bug = build_internal_error(error)
        return bug.status, str(bug)


def _check_descriptor_limit() -> None:
    """Raise CommandError if the process may open too few files.

    The event loop and SQLite don't report this well: they end the process, or take a file for a missing one.
    """
    from ..http.descriptor_limit import get_descriptor_limit, has_too_few_descriptors

    if has_too_few_descriptors():
        raise CommandError(
            f"this process may open only {get_descriptor_limit():.0f} files, including those that are open already: "
            "raise the limit, as with ulimit -n 1024, then run the command again"
        )
