"""The commands `pause` and `unpause`: they signal the process that runs a job."""

import contextlib
import os
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from ...escaping import escape_line
from ...ledger import LedgerReader
from ...ledger.lock import find_lock_holder
from ..exit_status import CommandError, ExitStatus
from ..output.command_output import echo
from .ledger_access import format_command, open_ledger, translate_ledger_errors

_SIGNALS: Final = {"pause": signal.SIGUSR1, "unpause": signal.SIGUSR2}
_START_SECONDS: Final = 3.0
"""Seconds to wait for the live status of a job, which it publishes about a second after its start."""
_POLL_SECONDS: Final = 0.2
_MAX_STATUS_AGE: Final = timedelta(seconds=10)
"""An older live status is left from a killed run, and another process may have got its process ID."""


def pause_job(path: Path) -> ExitStatus:
    """Pause the running job of a ledger. Raises CommandError if there is none."""
    process_id = _signal_job(path, "pause")
    echo(
        escape_line(f"The job of {path} is being paused (process {process_id}). Requests in flight are completed."),
        sys.stdout,
    )
    echo(f"To unpause it:\n  {format_command('unpause', path)}", sys.stderr)
    return ExitStatus.OK


def unpause_job(path: Path) -> ExitStatus:
    """Unpause the running job of a ledger. Raises CommandError if there is none."""
    process_id = _signal_job(path, "unpause")
    echo(escape_line(f"The job of {path} is being unpaused (process {process_id})."), sys.stdout)
    return ExitStatus.OK


def _signal_job(path: Path, action: Literal["pause", "unpause"]) -> int:
    """Send a signal to the process that runs the job of a ledger. Return its process ID. Raises CommandError.

    The process must hold the lock of the ledger, and its live status must show that it handles the signal. The signal
    would end any other process.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with open_ledger(path) as reader, translate_ledger_errors():
            holder = find_lock_holder(reader.path)
            if holder is None:
                raise CommandError(f"the job of {path} isn't running: there is nothing to {action}")
            if not holder:
                raise CommandError(
                    f"the process that uses {path} is on another machine or in another container: run {action} there"
                )
            if not reader.runs or reader.runs[-1].ended is not None:
                raise CommandError(
                    f"{path} is in use by process {holder}, but its job isn't running: there is nothing to {action}"
                )
            if _get_publisher(reader) == holder:
                if not _send_signal(reader.path, holder, _SIGNALS[action]):
                    raise CommandError(f"the job of {path} has just ended: there is nothing to {action}")
                return holder
        if time.monotonic() >= deadline:
            raise CommandError(
                f"process {holder} uses {path}, but hasn't reported that it handles signals: it is starting, ending or "
                f"suspended; it runs in a container: run {action} there; or it is a Python program, in which "
                f"job.{action}() does this"
            )
        time.sleep(_POLL_SECONDS)  # no event loop runs here, and Ctrl-C ends it


def _get_publisher(reader: LedgerReader) -> int | None:
    """Return the ID of the process that has just published the live status, or None if there is none."""
    published = reader.live_status or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # no live status, or one in another form
        age = datetime.now().astimezone() - datetime.fromisoformat(published["at"])
        if abs(age) < _MAX_STATUS_AGE:
            return int(published["process"])
    return None


def _send_signal(ledger: Path, holder: int, signum: int) -> bool:
    """Send a signal to the process that holds the lock of a ledger. Return False if it has ended. Raises CommandError.

    On Linux, the process is opened before the lock is read again, so that no other process can have got its ID.
    """
    try:
        descriptor = _open_process(holder)
        try:
            if find_lock_holder(ledger) != holder:
                return False
            if descriptor is None:
                os.kill(holder, signum)
            else:
                signal.pidfd_send_signal(descriptor, signum)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    else:
        return True
    raise CommandError(f"process {holder} belongs to another user: run the command as the user who runs the job")


def _open_process(process_id: int) -> int | None:
    """Return a descriptor of a process, or None if the system has none. Raises ProcessLookupError."""
    try:
        return os.pidfd_open(process_id)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # macOS, an old Linux or a sandbox
        return None
