"""How every command ends: with an exit status, and what goes wrong is a sentence, never a traceback."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

import typer

from .exits import CommandError, ExitStatus, as_bug

STATUSES: Final = """\
Exit status, the first that applies of: 4 the key is missing, wrong, or may not do this; 5 the ledger is in use, another
job's or damaged, or the disk is full; 3 stopped by a guard or an outage; 130 interrupted; 1 some rows failed; 0 all
done. 2 is bad usage or input: then nothing was sent."""


def end(command: Callable[[], ExitStatus]) -> NoReturn:
    """Run a command and end with its status."""
    try:
        status = command()
    except CommandError as error:
        say(str(error))
        status = error.status
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted")
        status = ExitStatus.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no traceback reaches the user
        bug = as_bug(error)
        say(str(bug))
        status = bug.status
    raise typer.Exit(status)


def say(sentence: str) -> None:
    """Say what went wrong."""
    typer.echo(f"adapty-async: {sentence}", err=True)
