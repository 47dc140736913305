"""An interrupt at any moment leaves no lock file where no ledger is made."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from adapty_async.cli.ledgers import hold
from adapty_async.cli.signals import hear, hearing_afterwards
from tests.cli.served import ROOT


class _SignalAtLine:
    """Send this process a signal when so many lines have been run."""

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
    """Hold a ledger that is never made; tell whether a signal came meanwhile."""
    interrupter = _SignalAtLine(number)
    before = sys.gettrace()
    with hearing_afterwards():
        hear()
        try:
            sys.settrace(interrupter)
            with hold(ledger):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
    return interrupter.is_sent


def interrupt_at_every_line(folder: Path) -> None:
    """Print the number of lines at which a signal was sent; raise AssertionError if one left a file."""
    for number in itertools.count():
        is_interrupted = hold_until_line(number, folder / "job.db")
        assert not list(folder.iterdir()), f"after {number} lines"
        if not is_interrupted:
            print(number)
            break


def test_an_interrupt_at_any_line_leaves_no_lock_file(tmp_path: Path) -> None:
    # In a process of its own: raised at some lines, an exception stays the one that CPython 3.11 is handling, for good.
    program = f"from pathlib import Path; from {__name__} import *; interrupt_at_every_line(Path({str(tmp_path)!r}))"
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50
