"""A session at a terminal, as an operator has it: a real shell in a pseudo-terminal, the command, the simulator."""

import fcntl
import json
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

import pytest

from tests.cli.served import PATIENCE, environment, ids_file, start

PEOPLE = 600
COLUMNS, LINES = 100, 50
# Makes the terminal the controlling one, so that Ctrl-C comes from its driver.
SHELL = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp('sh', ['sh', '-i'])"
COMMAND = f'#!/bin/sh\nexec {sys.executable} -m adapty_async "$@"\n'


def screen_of(written: str) -> list[str]:
    """Give the lines that a terminal shows, and showed before they were scrolled away."""
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
    """A shell, whose prompt shows the last exit status."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self.written = ""

    def until(self, pattern: str) -> "re.Match[str]":
        """Wait until what was written since the last command holds a pattern."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.written)) is None:
            assert time.monotonic() < deadline, self.written
            if select.select([self._ours], [], [], 0.1)[0]:
                self.written += os.read(self._ours, 65536).decode(errors="replace")
        return found

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def enter(self, command: str) -> None:
        self.written = ""
        self.type(f"{command}\n")

    def ended(self) -> tuple[int, list[str]]:
        """Wait for the next prompt; give the exit status, and what is on the screen since the command was typed."""
        status = int(self.until(r"\[(\d+)\] \$ $")[1])
        return status, screen_of(self.written)[:-1]

    def signal(self, signum: signal.Signals) -> None:
        """Send what runs in the foreground a signal, as another terminal would by kill."""
        os.killpg(os.tcgetpgrp(self._ours), signum)


@contextmanager
def simulated(profiles: int) -> Iterator[dict[str, str]]:
    process = start(["simulator", "--profiles", str(profiles)], {})
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        yield {"ADAPTY_API_KEY": address["api_key"], "ADAPTY_BASE_URL": address["base_url"]}
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "adapty-async"
    command.write_text(COMMAND)
    command.chmod(0o755)
    with simulated(PEOPLE) as address:
        yield {**address, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "PS1": "[$?] $ ", "ENV": ""}


@pytest.fixture
def shell(tmp_path: Path, settings: dict[str, str]) -> Iterator[Shell]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    variables = {name: value for name, value in environment(settings).items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SHELL],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=variables,
        start_new_session=True,
    )
    os.close(theirs)
    opened = Shell(ours)
    try:
        opened.until(r"\$ $")
        yield opened
    finally:
        os.close(ours)  # hangs up: the shell and what it runs end
        process.kill()
        process.wait()


def test_a_deletion_is_typed_interrupted_gone_on_with_verified_and_recorded(
    shell: Shell, settings: dict[str, str], tmp_path: Path
) -> None:
    ids_file(tmp_path, PEOPLE)
    everything = ""

    # It is confirmed by its number, shown, paused by a signal and let go on, and stopped by Ctrl-C.
    shell.enter("adapty-async delete people.csv --by customer_user_id --pace 100")
    shell.until(f"Type {PEOPLE} to delete them: $")
    shell.type(f"{PEOPLE}\n")
    shell.until(r"[1-9]\d* deleted")
    shell.signal(signal.SIGUSR1)
    shell.until("paused: nothing new is sent")
    beside = start(["status", "people.csv.adapty.db"], settings, cwd=tmp_path)
    told, _ = beside.communicate(timeout=PATIENCE)
    shell.signal(signal.SIGUSR1)
    shell.until("goes on after its pause")
    shell.type("\x03")
    status, screen = shell.ended()
    everything += shell.written
    assert status == 130
    assert beside.returncode == 0
    assert re.search(rb"^it is running; \d", told, re.MULTILINE)
    page = "\n".join(screen)
    assert f"of {PEOPLE} rows" in page
    assert re.search(r"\d+% refused, \d+ under way, answers in \d+ ms", page)
    assert "Stopping: what is under way comes to its end" in page
    assert "stopped: requested: by Ctrl-C or SIGTERM" in page
    assert "  adapty-async resume people.csv.adapty.db" in page
    assert_calm(screen)

    # It goes on where it was.
    shell.enter("adapty-async resume people.csv.adapty.db --pace 1000")
    status, screen = shell.ended()
    everything += shell.written
    assert status == 0
    assert f"{PEOPLE} of {PEOPLE} rows" in "\n".join(screen)
    assert re.search(rf"^deleted +{PEOPLE}  ", "\n".join(screen), re.MULTILINE)
    assert_calm(screen)

    # Some are asked for afresh, and the record is written.
    shell.enter("adapty-async verify people.csv.adapty.db 10% --pace 1000")
    status, screen = shell.ended()
    everything += shell.written
    assert status == 0
    assert re.search(r"^absent +60  ", "\n".join(screen), re.MULTILINE)
    assert_calm(screen)
    shell.enter("adapty-async report people.csv.adapty.db --json record.json --markdown record.md")
    status, screen = shell.ended()
    everything += shell.written
    assert (status, len(screen)) == (0, 1)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["totals"] == {"deleted": PEOPLE}
    assert len(record["runs"]) >= 2

    assert "example.com" not in everything
    assert "Traceback" not in everything


def assert_calm(screen: list[str]) -> None:
    """The progress is written over, not below itself: all that a command leaves fits on a terminal, with one bar."""
    assert len(screen) <= 30
    assert sum("━" in line for line in screen) == 1
    assert all(len(line) <= COLUMNS for line in screen)
