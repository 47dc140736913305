"""A shell in a pseudo-terminal, with the command on its path, and the contents of its screen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cli.served import environment
from tests.waiting import PATIENCE

COLUMNS: Final = 100
_LINES: Final = 50
# Makes this terminal the controlling one, so that its driver handles Ctrl-C.
_SHELL: Final = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp('sh', ['sh', '-i'])"
_COMMAND: Final = f'#!/bin/sh\nexec {sys.executable} -m adapty_async "$@"\n'


def screen_of(written: str) -> list[str]:
    """Return the lines on the screen of a terminal, including those scrolled away."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|\x1b", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(row - int(part[2:-1] or 1), 0)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return lines


class Shell:
    """A shell whose prompt shows the last exit status. `written`: the output since the last command was entered."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self.written = ""
        self.everything = ""

    def until(self, pattern: str) -> "re.Match[str]":
        """Wait until the output since the last command contains a pattern."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.written)) is None:
            assert time.monotonic() < deadline, self.written
            if select.select([self._ours], [], [], 0.1)[0]:
                more = os.read(self._ours, 65536).decode(errors="replace")
                self.written += more
                self.everything += more
        return found

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def enter(self, command: str) -> None:
        self.written = ""
        self.type(f"{command}\n")

    def ended(self) -> tuple[int, list[str]]:
        """Wait for the next prompt. Return the exit status and the screen since the command was entered."""
        status = int(self.until(r"\[(\d+)\] \$ $")[1])
        return status, screen_of(self.written)[:-1]

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to the process in the foreground, like kill in another terminal."""
        os.killpg(os.tcgetpgrp(self._ours), signum)


@contextmanager
def shell_in(folder: Path, settings: dict[str, str]) -> Iterator[Shell]:
    """Run a shell in a folder. `settings`: environment variables to add to those of this process."""
    command = folder / "bin" / "adapty-async"
    command.parent.mkdir()
    command.write_text(_COMMAND)
    command.chmod(0o755)
    variables = {
        **{name: value for name, value in environment(settings).items() if name not in ("COLUMNS", "LINES", "ENV")},
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PS1": "[$?] $ ",
    }
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _SHELL],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=variables,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shell = Shell(ours)
        shell.until(r"\$ $")
        yield shell
    finally:
        os.close(ours)  # closes the terminal, which ends the shell and its process
        process.kill()
        process.wait()
