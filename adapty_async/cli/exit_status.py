"""Exit statuses and the error that ends a command."""

import errno
from collections.abc import Iterable
from enum import IntEnum
from typing import Final


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    CREDENTIALS = 4
    LEDGER = 5
    INTERRUPTED = 130

    @property
    def description(self) -> str:
        """The description of the status in the help and the documentation."""
        return _DESCRIPTIONS[self]

    @classmethod
    def pick_by_precedence(cls, statuses: Iterable["ExitStatus"]) -> "ExitStatus":
        """Return the most informative of several statuses."""
        return min(statuses, key=_PRECEDENCE.index)


_DESCRIPTIONS: Final = {
    ExitStatus.OK: "success",
    ExitStatus.FAILED: "some rows failed",
    ExitStatus.USAGE: "invalid usage or input, or all rows are excluded; nothing was sent",
    ExitStatus.STOPPED: "stopped by a guard or an outage",
    ExitStatus.CREDENTIALS: "the API key is missing, invalid, or lacks permission",
    ExitStatus.LEDGER: "the ledger is in use, damaged or another job's, or the disk is full",
    ExitStatus.INTERRUPTED: "interrupted",
}
_PRECEDENCE: Final = (
    ExitStatus.CREDENTIALS,
    ExitStatus.LEDGER,
    ExitStatus.STOPPED,
    ExitStatus.USAGE,
    ExitStatus.INTERRUPTED,
    ExitStatus.FAILED,
    ExitStatus.OK,
)


PRECEDENCE_HELP: Final = "If several apply, the first of 4, 5, 3, 130 and 1 is returned."
EXIT_STATUS_HELP: Final = "\n".join(
    [
        "\b",
        "Exit status:",
        *(f"  {status.value:<3}  {status.description}" for status in sorted(ExitStatus)),
        PRECEDENCE_HELP,
    ]
)
"""The section on exit statuses in the help of every command."""

_DISK_FULL_ERRNOS: Final = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def is_disk_full(error: OSError) -> bool:
    """Return True if a write failed because there is no space left."""
    return error.errno in _DISK_FULL_ERRNOS


class CommandError(Exception):
    """An error that ends a command with an exit status. The message names the cause and the remedy."""

    def __init__(self, message: str, status: ExitStatus = ExitStatus.USAGE) -> None:
        super().__init__(message)
        self.status = status
