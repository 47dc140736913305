"""Exit statuses and the error that ends a command."""

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
        """Return the most informative of several statuses."""
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
    """Return True if a write failed because there is no space left."""
    return error.errno in _NO_ROOM


class CommandError(Exception):
    """An error that ends a command with an exit status. The message names the cause and the remedy."""

    def __init__(self, sentence: str, status: ExitStatus = ExitStatus.USAGE) -> None:
        super().__init__(sentence)
        self.status = status


def as_bug(error: Exception) -> CommandError:
    """Return an error with the place of an unexpected exception, without its text, which may be private."""
    current().trace(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return CommandError(
        f"a bug ({type(error).__name__} in {place}): please report this line; --debug shows the way there",
        ExitStatus.FAILED,
    )
