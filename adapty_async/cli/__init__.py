"""The command line.

Its dependencies beyond those of the library come with the extra `cli` and are only imported when it runs.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from .core_dumps import disable_core_files
from .lenient_stderr import ignore_stderr_errors
from .signals import (
    EXIT_INTERRUPTED,
    ignore_signals,
    install_exit_handlers,
    install_interrupt_handlers,
    restore_signal_handlers,
)

_EXTRA_PACKAGES: Final = {"typer", "rich"}
_SUPPORTED_PLATFORMS: Final = ("linux", "darwin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. None means sys.argv[1:], and that the process ends after the command.

    Returns:
        The exit status.
    """
    if argv is None:
        disable_core_files()
    if argv is None or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
        ignore_stderr_errors()
    with contextlib.nullcontext() if argv is None else restore_signal_handlers():
        try:
            (install_exit_handlers if argv is None else install_interrupt_handlers)()
            status = _run_arguments(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt:  # while modules are loaded, with argv; later the commands handle it
            status = EXIT_INTERRUPTED
            print("adapty-async: interrupted", file=sys.stderr)
        ignore_signals()
        exec("")  # noqa: S102 - otherwise a signal during the last exec ends the process
    return status


def _run_arguments(arguments: list[str]) -> int:
    if not sys.platform.startswith(_SUPPORTED_PLATFORMS):
        print(
            f"adapty-async: the command is for Linux and macOS, not for {sys.platform}: use the library there, as in "
            "'from adapty_async import bulk'",
            file=sys.stderr,
        )
        return 2
    try:
        import rich  # noqa: F401 - imported here, so that no command fails halfway

        from .app import run
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_PACKAGES:
            raise
        return _run_without_extra(arguments)
    return run(arguments)


def _run_without_extra(arguments: list[str]) -> int:
    if arguments[:1] == ["simulator"]:
        from ..testing.command import main as simulate

        return simulate(arguments[1:])
    from ..install_command import format_install_command

    print(
        f"adapty-async: the command line needs two more packages; install them with: {format_install_command('cli')}",
        file=sys.stderr,
    )
    return 2
