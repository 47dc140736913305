"""The options --json, --log-file and --debug, which commands share."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from .exit_codes import ExitStatus
from .output.events import Output, using
from .output.streams import say

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
