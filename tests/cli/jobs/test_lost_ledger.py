"""A ledger is removed, renamed or replaced while its command runs: it stops with exit status 5 and a message."""

import functools
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.ledger import LedgerReader, Spool
from adapty_async.ledger.files import is_locked
from adapty_async.testing import Simulator
from tests.cli.served import ids_file, meanwhile, served, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Witness, run
from tests.unprivileged import permissions_holding
from tests.waiting import PATIENCE

MANY = 3000
DELETE = ("delete", "--by", "customer_user_id", "--yes", "--no-canary", "--pace", "300")


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


@pytest.mark.parametrize("suffix", ["", ".lock"])
def test_a_ledger_that_is_removed_while_its_job_runs(tmp_path: Path, suffix: str) -> None:
    people = ids_file(tmp_path, MANY)
    ledger = beside(people, ".adapty.db")
    with served(Simulator(profiles=MANY)) as sim, started([*DELETE, str(people)], settings_for(sim)) as process:
        wait_until(lambda: sim.stats.count_responses(204) >= 200)
        beside(ledger, suffix).unlink()
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5, err
        assert sim.stats.requests < MANY
        reason = next(line for line in out.decode().splitlines() if line.startswith("stopped: "))
        assert f"{beside(ledger, suffix).name} was removed, renamed or replaced" in reason
        assert b"Traceback" not in err
        kept = ledger if suffix else beside(ledger, ".rescued").rename(ledger)
        with LedgerReader(kept) as reader:
            deleted = reader.status().counts[Outcome.DELETED]
        assert f"deleted{deleted:>25,}  Adapty" in out.decode()
        assert f"total{MANY:>27,}  rows" in out.decode()
        with started(["resume", str(ledger), "--pace", "100000"], settings_for(sim)) as process:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
        assert len(sim.profiles) == 0


def test_a_working_directory_that_is_removed_while_its_job_runs(tmp_path: Path) -> None:
    """The message can't resolve a relative path any more."""
    folder = tmp_path / "folder"
    folder.mkdir()
    people = ids_file(folder, MANY)
    arguments = [*DELETE, people.name]
    with served(Simulator(profiles=MANY)) as sim, started(arguments, settings_for(sim), cwd=folder) as process:
        wait_until(lambda: sim.stats.count_responses(204) >= 200)
        while folder.exists():  # the job may create a file while the others are removed
            shutil.rmtree(folder, ignore_errors=True)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5, err
        assert sim.stats.requests < MANY
    assert b"was removed, renamed or replaced" in out
    assert b"a bug" not in out


def test_another_ledger_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    people, other = ids_file(tmp_path, MANY), tmp_path / "other.csv"
    other.write_text("customer_user_id\nnobody\n")
    ledger = beside(people, ".adapty.db")
    with served(Simulator(profiles=MANY)) as sim:
        with started(["delete", "--by", "customer_user_id", "--yes", str(other)], settings_for(sim)) as process:
            process.communicate(timeout=PATIENCE)
        with started([*DELETE, str(people)], settings_for(sim)) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 200)
            beside(other, ".adapty.db").replace(ledger)
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 5
        assert b"3,000  rows" in out


def test_the_copy_of_standard_input_outlives_a_ledger_that_is_removed(tmp_path: Path) -> None:
    ledger = tmp_path / "stdin.adapty.db"
    with served(Simulator(profiles=MANY)) as sim, ids_file(tmp_path, MANY).open() as people:
        with started([*DELETE, "-"], settings_for(sim), cwd=tmp_path, stdin=people) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 200)
            ledger.unlink()
            process.communicate(timeout=PATIENCE)
            assert process.returncode == 5
        assert Spool(ledger).is_filled
        beside(ledger, ".rescued").rename(ledger)
        with started(["resume", str(ledger), "--pace", "100000"], settings_for(sim)) as process:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
        assert len(sim.profiles) == 0


def test_a_lock_that_is_removed_while_somebody_is_asked(tmp_path: Path) -> None:
    """The process that then gets the lock starts the job; the one that waits for a confirmation doesn't."""
    people = ids_file(tmp_path, 30)
    ledger = beside(people, ".adapty.db")
    with served(Simulator(profiles=30)) as sim:
        with started([*DELETE, "-", "--ledger", str(ledger)], settings_for(sim), stdin=subprocess.PIPE) as process:
            wait_until(lambda: is_locked(ledger))
            beside(ledger, ".lock").unlink()
            with started([*DELETE, str(people)], settings_for(sim)) as second:
                second.communicate(timeout=PATIENCE)
                assert second.returncode == 0
            _, err = process.communicate(people.read_bytes(), timeout=PATIENCE)
            assert process.returncode == 5
        assert b"lock was removed, renamed or replaced" in err
        assert sim.stats.requests == 30


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_comes_with_it_hides_nothing(tmp_path: Path, signum: signal.Signals) -> None:
    people = ids_file(tmp_path, MANY)
    with served(Simulator(profiles=MANY)) as sim, started([*DELETE, str(people)], settings_for(sim)) as process:
        wait_until(lambda: sim.stats.count_responses(204) >= 200)
        beside(people, ".adapty.db").unlink()
        process.send_signal(signum)
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5
    assert b"was removed, renamed or replaced" in out
    assert beside(people, ".adapty.db.rescued").exists()


def test_a_folder_that_cannot_be_entered_any_more(
    witness: Witness, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    people = ids_file(folder, PEOPLE)
    close = functools.partial(folder.chmod, 0o600)
    try:
        with permissions_holding(), meanwhile(lambda: witness.stats.count_responses(204) >= 3, close):
            assert run("delete", people, "--by", "customer_user_id", "--yes", "--pace", 15) == 5
    finally:
        folder.chmod(0o700)
    written = capfd.readouterr()
    assert "can't be made or opened (Permission denied): check the permissions" in written.out
    assert "a bug" not in written.err
    assert witness.stats.requests < PEOPLE
    with LedgerReader(beside(people, ".adapty.db")) as reader:
        status = reader.status()
    assert status.counts[Outcome.DELETED] + status.claimed >= witness.stats.count_responses(204)
