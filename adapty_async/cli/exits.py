"""How a command ends: its exit status, and what went wrong as one sentence."""

import errno
import traceback
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Final

from .output import current


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    DONE = 0
    FAILED = 1
    """Some rows failed."""
    USAGE = 2
    """Bad usage or input."""
    STOPPED = 3
    """Stopped by a guard or an outage."""
    CREDENTIALS = 4
    """The key is missing, wrong, or may not do this."""
    LEDGER = 5
    """The ledger is in use, another job's or damaged, or can't be written."""
    INTERRUPTED = 130

    @classmethod
    def first_of(cls, statuses: Iterable["ExitStatus"]) -> "ExitStatus":
        """Give the one that tells most of several that apply."""
        return min(statuses, key=_PRECEDENCE.index)


_PRECEDENCE: Final = (
    ExitStatus.CREDENTIALS,
    ExitStatus.LEDGER,
    ExitStatus.STOPPED,
    ExitStatus.USAGE,
    ExitStatus.INTERRUPTED,
    ExitStatus.FAILED,
    ExitStatus.DONE,
)


_NO_ROOM: Final = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def is_full(error: OSError) -> bool:
    """Tell whether there is no room, where something was to be written."""
    return error.errno in _NO_ROOM


class CommandError(Exception):
    """A command can't go on: a sentence that says why and what to do, and the exit status."""

    def __init__(self, sentence: str, status: ExitStatus = ExitStatus.USAGE) -> None:
        super().__init__(sentence)
        self.status = status


def as_bug(error: Exception) -> CommandError:
    """Say where an error that nobody expected comes from; its own text might hold what isn't for the screen."""
    current().trace(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return CommandError(
        f"a bug ({type(error).__name__} in {place}): please report this line; --debug shows the way there",
        ExitStatus.FAILED,
    )
