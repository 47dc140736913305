"""The real command in a process of its own: signals, pipes, terminals."""

import asyncio
import fcntl
import os
import pty
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault, Simulator, prefilled_customer_user_id
from tests.cli.served import AT_ONCE, ROOT, Patient, environment, ids_file, served, settings_for, started, wait_until
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id")


@contextmanager
def simulated(**options: Any) -> Iterator[tuple[Simulator, dict[str, str]]]:
    with served(Simulator(**options)) as sim:
        yield sim, settings_for(sim)


def test_a_deletion_from_standard_input_to_its_summary(tmp_path: Path) -> None:
    ids = "\n".join(["customer_user_id", *map(prefilled_customer_user_id, range(1, 201))])
    with simulated(profiles=200, fault_rates={Fault.UNAVAILABLE: 0.02, Fault.RESET_AFTER: 0.02}) as (sim, settings):
        with started([*DELETE, "-", "--yes"], settings, stdin=subprocess.PIPE, cwd=tmp_path) as process:
            out, err = process.communicate(ids.encode(), timeout=PATIENCE)
            assert process.returncode == 0, err
        assert len(sim.profiles) == 0
    assert b"total                        200  rows" in out
    assert not list(tmp_path.glob("*.spool*"))
    assert b"200 of 200 rows" in err
    assert b"example.com" not in out + err


@pytest.mark.parametrize(
    "command",
    [
        ("status", "stdin.adapty.db"),
        ("resume", "stdin.adapty.db"),
        ("delete", "none.csv", "--ledger", "stdin.adapty.db"),
    ],
    ids=lambda command: str(command[0]),
)
def test_what_a_kill_left_of_a_copy_is_removed_by_the_next_command(tmp_path: Path, command: tuple[str, ...]) -> None:
    part = tmp_path / "stdin.adapty.db.spool.part"
    options = ["--by", "customer_user_id", "--yes"] if command[0] == "delete" else []
    with simulated(profiles=1) as (_, settings):
        with started([*DELETE, "-", "--yes"], settings, stdin=subprocess.PIPE, cwd=tmp_path) as process:
            assert process.stdin is not None
            process.stdin.write(b"u1\n" * 100_000)
            process.stdin.flush()
            wait_until(lambda: part.exists() and part.stat().st_size > 0)
            for attempt in (b"meanwhile", b"after the kill"):
                with started([*command, *options], settings, cwd=tmp_path) as other:
                    _, err = other.communicate(timeout=PATIENCE)
                    assert other.returncode in (2, 5), err
                assert part.exists() == (attempt == b"meanwhile")
                process.kill()
                process.wait()
        assert not [*tmp_path.glob("*.spool*")]


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_ends_well_with_130(tmp_path: Path, signum: signal.Signals, options: tuple[str, ...]) -> None:
    path = ids_file(tmp_path, 2000)
    failures = tmp_path / "failures.csv"
    with simulated(profiles=2000, latency=0.02) as (sim, settings):
        arguments = [*DELETE, str(path), "--yes", "--concurrency", "10", "--failures", str(failures), *options]
        with started(arguments, settings) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 20)
            process.send_signal(signum)
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 130, err
        assert 0 < len(sim.profiles) < 2000
        left = {line.split(",")[0] for line in failures.read_text().splitlines()[1:]}
        assert left == set(sim.profiles.customer_user_ids)
    assert b"2,000  rows" in out
    assert b"stopped: requested" in out
    assert b"Traceback" not in err


@pytest.mark.parametrize("options", [["--max-failures=3"], ["--max-failures=50%", "--no-ledger"]])
def test_an_interrupt_while_the_last_are_under_way_hides_no_failures(tmp_path: Path, options: list[str]) -> None:
    with simulated(profiles=12, latency=1.0, fault_rates={Fault.REDIRECT: 1.0}) as (sim, settings):
        arguments = [*DELETE, str(ids_file(tmp_path, 12)), "--yes", *options]
        with started(arguments, settings, cwd=tmp_path) as process:
            wait_until(lambda: sim.stats.in_flight == 12)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 3
    assert b"too many rows failed" in out


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_an_interrupt_while_the_last_are_under_way_hides_no_guard(tmp_path: Path, options: tuple[str, ...]) -> None:
    people = tmp_path / "people"
    people.write_text("".join(f"stranger-{number}\n" for number in range(12)))
    with simulated(latency=1.0) as (sim, settings), people.open() as source:
        arguments = [*DELETE, str(people) if options else "-", "--yes", *options]
        with started(arguments, settings, cwd=tmp_path, stdin=source) as process:
            wait_until(lambda: sim.stats.requests == 12)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 3
    assert (tmp_path / "stdin.adapty.db.spool").exists() == (not options)


class Holding(Simulator):
    """A simulator that checks the key of a request only after it is released."""

    arrived = 0
    is_let_go = False

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        self.arrived += 1
        while not self.is_let_go:  # noqa: ASYNC110 - another thread releases it
            await asyncio.sleep(0.01)
        return await super()._handle_api_request(request)


def test_a_key_that_is_refused_after_an_interrupt_is_told(tmp_path: Path) -> None:
    sim = Holding(profiles=20)
    with served(sim), started([*DELETE, str(ids_file(tmp_path, 5)), "--yes"], settings_for(sim)) as process:
        wait_until(lambda: sim.arrived == 5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"Stopping" not in process.stderr.readline():
            pass
        sim.api_key, sim.is_let_go = "another", True
        assert process.wait(PATIENCE) == 4


def test_a_terminal_that_is_closed_loses_nothing_that_sigterm_keeps(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    sim = Patient(profiles=2000)
    people = ids_file(tmp_path, 2000)
    with served(sim), Path(tmp_path / "out").open("wb") as out:
        command = [*DELETE, str(people), "--yes", "--concurrency", "10", "--failures", str(tmp_path / "failures.csv")]
        options: dict[str, Any] = {"stdin": theirs, "stderr": theirs, "stdout": out, "start_new_session": True}
        options["preexec_fn"] = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sim.most = 100
        with started(command, settings_for(sim), **options) as process:
            os.close(theirs)
            wait_until(lambda: sim.stats.count_responses(204) >= 100 and sim.stats.in_flight == 10)
            os.close(ours)
            os.kill(process.pid, signal.SIGHUP)  # a shell also sends SIGHUP before it exits
            sim.most = None
            assert process.wait(PATIENCE) == 130
        left = {line.split(",")[0] for line in (tmp_path / "failures.csv").read_text().splitlines()[1:]}
        assert left == set(sim.profiles.customer_user_ids)
    assert 0 < len(left) < 2000
    assert b"stopped: requested" in (tmp_path / "out").read_bytes()
    with LedgerReader(people.with_name("people.csv.adapty.db")) as reader:
        assert not reader.status().claimed  # the requests in flight were completed
        assert all(run.ended is not None for run in reader.runs)


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_a_hangup_that_is_ignored_as_by_nohup_ends_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    sim = Patient(profiles=50)
    sim.most = 10
    with served(sim):
        command = [*DELETE, str(ids_file(tmp_path, 50)), "--yes", *options]
        ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
        with started(command, settings_for(sim), **ignoring) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 10)
            process.send_signal(signal.SIGHUP)
            sim.most = None
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
    assert b"deleted                       50" in out


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_a_crash_leaves_no_core_file(tmp_path: Path, options: tuple[str, ...]) -> None:
    def allow_core_files() -> None:
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    folder = tmp_path / "crashed"
    folder.mkdir()
    sim = Patient(profiles=50)
    sim.most = 10
    with served(sim):
        command = [*DELETE, str(ids_file(tmp_path, 50)), "--yes", *options]
        with started(command, settings_for(sim), cwd=folder, preexec_fn=allow_core_files) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 10)
            if sys.platform == "linux":
                limits = Path(f"/proc/{process.pid}/limits").read_text()
                assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
            process.send_signal(signal.SIGABRT)
            assert process.wait(PATIENCE) == -signal.SIGABRT
    assert not list(folder.glob("*core*"))


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_a_second_signal_ends_at_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    failures = tmp_path / "failures.csv"
    with simulated(profiles=50, latency=600) as (sim, settings):
        arguments = [*DELETE, str(ids_file(tmp_path, 50)), "--yes", "--concurrency", "7", "--timeout", "600"]
        arguments += ["--failures", str(failures), *options]
        with started(arguments, settings) as process:
            wait_until(lambda: sim.stats.in_flight == 7)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while b"Stopping" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 130, err
    assert b"in_doubt                       7" in out
    assert failures.read_text().count(",in_doubt,") == 7
    assert failures.read_text().count(",not_attempted,") == 43
    assert b"Traceback" not in err


def with_module(folder: Path, name: str, lines: str) -> dict[str, str]:
    """Write a module that the command imports instead of another of that name. Return the setting for it."""
    (folder / f"{name}.py").write_text(f"{lines}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


_INTERRUPTING = """
import os, signal, threading, time
threading.Timer(0.1, os.kill, (os.getpid(), {})).start()
{}
"""


_SIGNALLING_AT_EXIT = """
import atexit, os
atexit.register(os.kill, os.getpid(), {})
"""


@pytest.mark.parametrize(
    ("loaded", "signum"),
    [
        *((name, signal.SIGINT) for name in ("rich", "typer", "cattrs")),
        ("rich", signal.SIGTERM),
        ("rich", signal.SIGHUP),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "time.sleep(60)",
        "exec('time.sleep(60)')",
        "import weakref; weakref.ref(type('', (), {})(), lambda _: time.sleep(60))",  # exceptions there are lost
    ],
    ids=["sleep", "exec", "callback"],
)
def test_an_interrupt_while_modules_are_loaded_ends_with_130_and_a_line(
    tmp_path: Path, loaded: str, line: str, signum: signal.Signals
) -> None:
    paths = with_module(tmp_path, loaded, _INTERRUPTING.format(int(signum), line))
    with started([*DELETE, "people.csv", "--yes"], {"ADAPTY_API_KEY": "secret", **paths}, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (130, b"", b"adapty-async: interrupted\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_at_the_very_end_changes_no_status(tmp_path: Path, signum: signal.Signals) -> None:
    paths = with_module(tmp_path, "sitecustomize", _SIGNALLING_AT_EXIT.format(int(signum)))
    arguments = [*DELETE, str(ids_file(tmp_path, 3)), "--yes"]
    with simulated(profiles=3) as (_, settings), started(arguments, settings | paths) as process:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert b"Traceback" not in err


def test_where_nobody_listens_to_the_errors_it_works_all_the_same(tmp_path: Path) -> None:
    with simulated(profiles=3) as (sim, settings):
        command = shlex.join([sys.executable, "-m", "adapty_async", *DELETE, str(ids_file(tmp_path, 3)), "--yes"])
        done = subprocess.run(  # noqa: S603 - our own interpreter
            ["/bin/sh", "-c", f"exec {command} 2>&-"],
            env=environment(settings),
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0
        assert b"deleted                        3" in done.stdout
        assert len(sim.profiles) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_the_input_is_still_coming_sends_and_leaves_nothing(
    tmp_path: Path, signum: signal.Signals
) -> None:
    with simulated(profiles=1) as (sim, settings):
        with started([*DELETE, "-", "--yes"], settings, stdin=subprocess.PIPE, cwd=tmp_path) as process:
            assert process.stdin is not None
            process.stdin.write(b"u1\n")
            process.stdin.flush()
            wait_until(lambda: bool(list(tmp_path.iterdir())))
            process.send_signal(signum)
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 130
        assert sim.stats.requests == 0
    assert (out, err) == (b"", b"adapty-async: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_a_summary_that_nobody_reads_changes_nothing_about_the_end(tmp_path: Path) -> None:
    with simulated(profiles=50) as (sim, settings), Path("/dev/full").open("wb") as full:
        arguments = [*DELETE, str(ids_file(tmp_path, 50)), "--yes"]
        with started(arguments, settings, stdout=full) as process:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
        assert len(sim.profiles) == 0
    assert b"Exception" not in err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["delete", "--nix"], 2),
        (["nix"], 2),
        (["delete", "missing.csv", "--by", "profile_id"], 2),
        (["report", "x"], 2),
    ],
    ids=["option", "command", "input", "ledger"],
)
@pytest.mark.parametrize("where", ["full", "closed", "nobody"])
def test_a_complaint_that_nobody_can_read_changes_nothing_about_the_end(
    tmp_path: Path, arguments: list[str], status: int, where: str
) -> None:
    if where == "nobody":
        reading, stderr = os.pipe()
        os.close(reading)
    else:
        stderr = os.open("/dev/full", os.O_WRONLY)
    options = {"preexec_fn": lambda: os.close(2)} if where == "closed" else {}
    with started(arguments, {"ADAPTY_API_KEY": "secret"}, stderr=stderr, cwd=tmp_path, **options) as process:
        os.close(stderr)
        assert process.wait(PATIENCE) == status


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["delete", "--help"]], ids=" ".join)
def test_help_that_finds_no_room_is_one_sentence(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full, started(arguments, {}, stdout=full) as process:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5
    assert err.startswith(b"adapty-async: standard output can't be written")
    assert len(err.splitlines()) == 1


def test_a_server_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    settings = {"ADAPTY_API_KEY": "secret", "ADAPTY_BASE_URL": "http://127.0.0.1:1"}
    with started([*DELETE, str(ids_file(tmp_path, 1)), "--yes"], settings) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
    assert b"failed                         1" in out
    assert b"Traceback" not in err


def test_what_a_recorded_job_has_to_say_is_on_the_screen(tmp_path: Path) -> None:
    with simulated(profiles=300, fault_rates={Fault.UNAVAILABLE: 1.0}) as (sim, settings):
        with started([*DELETE, str(ids_file(tmp_path, 300)), "--yes"], settings) as process:
            assert process.stderr is not None
            while b"the circuit breaker opened" not in process.stderr.readline():
                pass
            sim.faults.fault_rates = {}
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
        assert len(sim.profiles) == 0
    assert b"the circuit breaker closed" in err


# On a terminal


class Terminal:
    """A pseudo-terminal: the output of a process, and its keyboard."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.shown = b""

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 65536)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def test_on_a_terminal_the_number_is_typed_and_the_bar_is_drawn(tmp_path: Path, terminal: Terminal) -> None:
    with simulated(profiles=1000, latency=0.01) as (sim, settings):
        arguments = [*DELETE, str(ids_file(tmp_path, 1000)), "--concurrency", "20"]
        with started(arguments, settings, stdin=terminal.theirs, stderr=terminal.theirs) as process:
            terminal.read_until(b"Type 1000 to delete them: ")
            assert sim.stats.requests == 0
            terminal.type("1000\n")
            terminal.read_until("━".encode())
            terminal.read_until(b"1,000 of 1,000")
            terminal.read_until(b"1,000 deleted")
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
        assert len(sim.profiles) == 0
    assert b"1,000  rows" in out
    assert b"/s" in terminal.shown


def test_on_a_terminal_anything_else_sends_nothing(tmp_path: Path, terminal: Terminal) -> None:
    with simulated(profiles=3) as (sim, settings):
        arguments = [*DELETE, str(ids_file(tmp_path, 3))]
        with started(arguments, settings, stdin=terminal.theirs, stderr=terminal.theirs) as process:
            terminal.read_until(b"Type 3 to delete them: ")
            terminal.type("yes\n")
            terminal.read_until(b"nothing was sent")
            process.wait(PATIENCE)
            assert process.returncode == 2
        assert sim.stats.requests == 0


def test_an_interrupt_at_the_question_sends_nothing(tmp_path: Path, terminal: Terminal) -> None:
    with simulated(profiles=3) as (sim, settings):
        arguments = [*DELETE, str(ids_file(tmp_path, 3))]
        with started(arguments, settings, stdin=terminal.theirs, stderr=terminal.theirs) as process:
            terminal.read_until(b"Type 3 to delete them: ")
            process.send_signal(signal.SIGINT)
            terminal.read_until(b"interrupted")
            process.wait(PATIENCE)
            assert process.returncode == 130
        assert sim.stats.requests == 0
