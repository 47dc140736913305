"""The command line.

Its dependencies beyond those of the library come with the extra `cli` and are only imported when it runs.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from .process import leave_none, let_be_lost
from .signals import INTERRUPTED, hear, hear_while_loading, hearing_afterwards, stop_hearing

_EXTRA: Final = {"typer", "rich"}
_SYSTEMS: Final = ("linux", "darwin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. None means sys.argv[1:], and that the process ends after the command.

    Returns:
        The exit status.
    """
    if argv is None:
        leave_none()
    if argv is None or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
        let_be_lost()
    with contextlib.nullcontext() if argv is None else hearing_afterwards():
        try:
            (hear_while_loading if argv is None else hear)()
            status = _run(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt:  # while modules are loaded, with argv; later the commands handle it
            status = INTERRUPTED
            print("adapty-async: interrupted", file=sys.stderr)
        stop_hearing()
        exec("")  # noqa: S102 - otherwise a signal during the last exec ends the process
    return status


def _run(arguments: list[str]) -> int:
    if not sys.platform.startswith(_SYSTEMS):
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
        if error.name not in _EXTRA:
            raise
        return _without_extra(arguments)
    return run(arguments)


def _without_extra(arguments: list[str]) -> int:
    if arguments[:1] == ["simulator"]:
        from ..testing.command import main as simulate

        return simulate(arguments[1:])
    from ..installation import how_to_install

    print(
        f"adapty-async: the command line needs two more packages; install them with: {how_to_install('cli')}",
        file=sys.stderr,
    )
    return 2
