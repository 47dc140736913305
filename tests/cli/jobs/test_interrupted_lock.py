"""An interrupt at any moment leaves no lock file if no ledger is created."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from adapty_async.cli.jobs.ledger_access import acquire_ledger_lock
from adapty_async.cli.signals import install_interrupt_handlers, restore_signal_handlers
from tests.cli.served import ROOT


class _SignalAtLine:
    """Send this process a signal after a number of executed lines."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.is_sent = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self._left -= 1
            if self._left < 0 and not self.is_sent:
                self.is_sent = True
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return None if self.is_sent else self


def hold_until_line(number: int, ledger: Path) -> bool:
    """Lock a ledger that is never created. Return True if the signal was sent during that time."""
    interrupter = _SignalAtLine(number)
    before = sys.gettrace()
    with restore_signal_handlers():
        install_interrupt_handlers()
        try:
            sys.settrace(interrupter)
            with acquire_ledger_lock(ledger):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
    return interrupter.is_sent


def interrupt_at_every_line(folder: Path) -> None:
    """Print the number of lines at which a signal was sent. Raise AssertionError if one left a file."""
    for number in itertools.count():
        is_interrupted = hold_until_line(number, folder / "job.db")
        assert not list(folder.iterdir()), f"after {number} lines"
        if not is_interrupted:
            print(number)
            break


def test_an_interrupt_at_any_line_leaves_no_lock_file(tmp_path: Path) -> None:
    # In another process, because CPython 3.11 keeps an exception raised at some lines as the handled one forever.
    program = f"from pathlib import Path; from {__name__} import *; interrupt_at_every_line(Path({str(tmp_path)!r}))"
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50
