"""The commands `pause` and `unpause`: they signal only a process that runs the job of the ledger."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from adapty_async.cli import main
from adapty_async.cli.jobs import pause
from adapty_async.ledger import LedgerReader
from adapty_async.ledger.lock import find_lock_holder
from adapty_async.testing import Simulator
from tests.cli.served import ROOT, acting_after, ids_file, served, settings_for, started, wait_until
from tests.cli.witness import Say, Witness, ledger_of
from tests.waiting import PATIENCE

PEOPLE = 3000

# It holds the lock of the first argument and doesn't handle signals, which would end it.
_HOLDING = """
import sys
from adapty_async.ledger import lock_ledger
with lock_ledger(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with served(Simulator(profiles=PEOPLE, rate=200, latency=0.02)) as running:
        yield running


@contextmanager
def running(sim: Simulator, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a job, and wait until it has published its live status."""
    people = ids_file(folder, PEOPLE)
    command = ["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "100"]
    with started(command, {**settings_for(sim), "XDG_STATE_HOME": str(folder)}) as process:
        wait_until(lambda: ledger_of(people).exists() and is_paused(ledger_of(people)) is not None)
        yield process


@contextmanager
def holding(ledger: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Lock a ledger in a process that isn't the command line."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _HOLDING, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process
    finally:
        process.communicate()
    assert process.returncode == 0  # no signal has ended it


def is_paused(ledger: Path) -> bool | None:
    with LedgerReader(ledger) as reader:
        return (reader.live_status or {}).get("paused")


def test_a_job_is_paused_and_unpaused_from_another_terminal_and_repetitions_have_no_effect(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    ledger = ledger_of(tmp_path / "people.csv")
    with running(sim, tmp_path) as process:
        assert find_lock_holder(ledger) == process.pid
        for _ in range(2):
            status, out, err = say("pause", ledger)
            assert (status, err) == (0, f"To unpause it:\n  adapty-async unpause {ledger}\n")
            assert out == (
                f"The job of {ledger} is being paused (process {process.pid}). Requests in flight are completed.\n"
            )
            wait_until(lambda: is_paused(ledger) is True and sim.stats.in_flight == 0)
        sent = sim.stats.requests
        time.sleep(0.2)
        assert sim.stats.requests == sent
        assert "\npaused: no new requests are sent; to unpause, use adapty-async unpause" in say("status", ledger)[1]
        for _ in range(2):
            status, out, err = say("unpause", ledger)
            assert (status, err) == (0, "")
            assert out == f"The job of {ledger} is being unpaused (process {process.pid}).\n"
            wait_until(lambda: is_paused(ledger) is False and sim.stats.requests > sent)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert complaints.count(b"the job is paused") == complaints.count(b"the job is unpaused") == 1


@pytest.mark.parametrize("command", ["pause", "unpause"])
def test_where_no_job_runs_there_is_nothing_to_signal(
    witness: Witness, people: Path, say: Say, tmp_path: Path, command: str
) -> None:
    assert main(["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "1000"]) == 0
    ledger = ledger_of(people)
    assert say(command, ledger) == (
        2,
        "",
        f"adapty-async: the job of {ledger} isn't running: there is nothing to {command}\n",
    )
    assert say(command, tmp_path / "missing.db")[0] == 2
    assert say(command, people)[0] == 5
    with holding(ledger) as process:
        assert find_lock_holder(ledger) == process.pid
        status, out, err = say(command, ledger)
        assert (status, out) == (2, "")
        assert err == (
            f"adapty-async: {ledger} is in use by process {process.pid}, but its job isn't running: there is nothing "
            f"to {command}\n"
        )
    assert find_lock_holder(ledger) is None


def test_a_verification_is_not_paused(witness: Witness, people: Path, say: Say) -> None:
    assert main(["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "1000"]) == 0
    told: list[bytes] = []

    def ask() -> None:
        with started(["pause", str(ledger_of(people))], {}) as beside:
            told.append(beside.communicate(timeout=PATIENCE)[1])

    with acting_after(witness, 1, ask):
        assert main(["verify", str(ledger_of(people)), "--concurrency", "1", "--timeout", "600"]) == 0
    assert b"but its job isn't running" in told[0]


def test_a_process_that_does_not_handle_signals_gets_none(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(sim, tmp_path) as killed:  # its ledger then has an open run with a live status
        killed.kill()
        killed.wait()
    ledger = ledger_of(tmp_path / "people.csv")
    monkeypatch.setattr(pause, "_START_SECONDS", 0.0)
    with holding(ledger) as process:
        status, _, err = say("pause", ledger)
        assert status == 2
        assert f"process {process.pid} uses {ledger}, but hasn't reported that it handles signals" in err
        assert "it is starting, ending or suspended; it runs in a container: run pause there" in err
        assert "job.pause()" in err
        # Not even if it has got the process ID of the killed run, or if the live status has another form.
        for published in (
            {"at": "2026-01-01T00:00:00+00:00", "process": process.pid},
            {"at": datetime.now().astimezone().isoformat(), "paused": False},
            {"at": "now", "process": process.pid},
        ):
            monkeypatch.setattr(LedgerReader, "live_status", published)
            assert say("pause", ledger)[0] == 2


def test_a_process_on_another_machine_is_not_signalled(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "1000"]) == 0
    monkeypatch.setattr(pause, "find_lock_holder", lambda _: 0)
    status, _, err = say("unpause", ledger_of(people))
    assert status == 2
    assert "is on another machine or in another container: run unpause there" in err


def _fail(error: type[OSError]) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise error

    return fail


def test_a_process_that_cannot_be_signalled_is_one_sentence(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path / "people.csv")
    foreign = "belongs to another user: run the command as the user who runs the job"
    ended = "has just ended: there is nothing to pause"
    with running(sim, tmp_path) as process:
        holders = iter([process.pid, None])
        cases: list[tuple[str, dict[str, Callable[..., int | None]]]] = [
            (foreign, {"signal.pidfd_send_signal": _fail(PermissionError)}),
            (foreign, {"os.pidfd_open": _fail(OSError), "os.kill": _fail(PermissionError)}),
            (ended, {"signal.pidfd_send_signal": _fail(ProcessLookupError)}),
            (ended, {"os.pidfd_open": _fail(ProcessLookupError)}),
            (ended, {"adapty_async.cli.jobs.pause.find_lock_holder": lambda _: next(holders)}),
        ]
        for says, patches in cases:
            with monkeypatch.context() as patched:
                for name, fake in patches.items():
                    patched.setattr(name, fake)
                status, out, err = say("pause", ledger)
            assert (status, out) == (2, "")
            assert len(err.splitlines()) == 1
            assert says in err
        assert is_paused(ledger) is False
        monkeypatch.delattr(os, "pidfd_open")  # as on macOS
        assert say("pause", ledger)[0] == 0
        wait_until(lambda: is_paused(ledger) is True)


def test_a_job_that_has_just_started_is_waited_for(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path / "people.csv")
    people = ids_file(tmp_path, PEOPLE)
    monkeypatch.setattr(pause, "_START_SECONDS", PATIENCE)
    with started(["delete", str(people), "--by", "customer_user_id", "--yes"], settings_for(sim)) as process:
        wait_until(lambda: ledger.exists() and _has_run(ledger))
        assert say("pause", ledger)[0] == 0
        wait_until(lambda: is_paused(ledger) is True)
        process.kill()


def _has_run(ledger: Path) -> bool:
    with LedgerReader(ledger) as reader:
        return bool(reader.runs)
