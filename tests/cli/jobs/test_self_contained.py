"""However a command ends, the ledger is one file. A copy of it and of its key file is complete and can be read."""

import contextlib
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli import main
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault, Simulator
from tests.cli.served import AT_ONCE, ids_file, interrupting, served, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Say, Witness, ids, ledger_of, run
from tests.unprivileged import permissions_holding
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def logs(path: Path) -> list[str]:
    """Return the names of SQLite's files next to a ledger."""
    return sorted(file.name for file in path.parent.glob("*") if file.name.endswith(("-wal", "-shm", "-journal")))


def said(say: Say, ledger: Path) -> list[tuple[int, str]]:
    """Return the complete content of a ledger."""
    commands = [("status", ledger, "--json"), ("report", ledger, "--format", "json", "-o", "-"), ("export", ledger)]
    return [say(*command)[:2] for command in commands]


def check(say: Say, ledger: Path, tmp_path: Path) -> None:
    assert logs(ledger) == []
    copies = tmp_path / "copies"
    copies.mkdir()
    for suffix in ("", ".key"):
        shutil.copy(ledger.with_name(f"{ledger.name}{suffix}"), copies)
    before = said(say, ledger)
    copy = copies / ledger.name
    assert [text.replace(str(copy), str(ledger)) for _, text in said(say, copy)] == [text for _, text in before]
    assert logs(ledger) == logs(copy) == []


@pytest.mark.parametrize("status", [0, 1, 3, 4, 130])
def test_a_deletion_leaves_one_file(
    witness: Witness, people: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    options: tuple[object, ...] = ()
    if status == 1:
        witness.inject(Fault.REDIRECT)
    if status == 3:
        options = ("--max-failures", 0, "--concurrency", 1)
        witness.inject(Fault.REDIRECT)
    if status == 4:
        monkeypatch.setenv("ADAPTY_API_KEY", "another-app")
    if status == 130:
        witness.latency = 0.05
        with interrupting(lambda: witness.stats.count_responses(204) >= 3):
            assert run(*DELETE, people, "--concurrency", 2) == status
    else:
        assert run(*DELETE, people, *options) == status
    witness.latency = 0.0
    check(say, ledger_of(people), tmp_path)


def test_what_a_verification_found_is_in_a_copy(witness: Witness, people: Path, say: Say, tmp_path: Path) -> None:
    assert run(*DELETE, people) == 0
    ledger = ledger_of(people)
    assert run("verify", ledger, *AT_ONCE) == 0
    check(say, ledger, tmp_path)
    with LedgerReader(tmp_path / "copies" / ledger.name) as reader:
        assert len(list(reader.verification_results())) == PEOPLE


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_copy_is_whole_while_another_program_has_the_ledger_open(
    witness: Witness, people: Path, say: Say, tmp_path: Path, mode: str
) -> None:
    """Only the last connection to be closed truncates the log, and that one may be read-only."""
    ledger = ledger_of(people)
    with contextlib.ExitStack() as stack:

        def open_ledger() -> bool:
            if witness.stats.count_responses(204) < 3:
                return False
            other = sqlite3.connect(f"{ledger.as_uri()}?mode={mode}", uri=True, check_same_thread=False)
            stack.enter_context(contextlib.closing(other))
            return bool(other.execute("SELECT COUNT(*) FROM run").fetchone())

        witness.latency = 0.05
        with interrupting(open_ledger):
            assert run(*DELETE, people, "--concurrency", 2) == 130
        shutil.copy(ledger, tmp_path / "copy.db")
        shutil.copy(ledger.with_name(f"{ledger.name}.key"), tmp_path / "copy.db.key")
    for path in (tmp_path / "copy.db", ledger):  # reading it removes the log, which is empty
        with LedgerReader(path) as reader:
            assert reader.status().counts[Outcome.DELETED] == witness.stats.count_responses(204)


def test_every_other_command_leaves_one_file(witness: Witness, people: Path, say: Say, tmp_path: Path) -> None:
    ledger = ledger_of(people)
    witness.latency = 0.05
    with interrupting(lambda: witness.stats.count_responses(204) >= 3):
        assert run(*DELETE, people, "--concurrency", 2) == 130
    witness.latency = 0.0
    witness.inject(Fault.REDIRECT)
    assert run("resume", ledger) == 1
    assert logs(ledger) == []
    assert run("retry-failed", ledger) == 0
    assert logs(ledger) == []
    with interrupting(lambda: witness.stats.count_responses(404) >= 3):
        witness.latency = 0.05
        run("verify", ledger, "--pace", 40, "--concurrency", 2)
    assert logs(ledger) == []
    assert run("anonymize", ledger, "--yes") == 0
    assert logs(ledger) == []
    assert [status for status, _ in said(say, ledger)] == [0, 0, 0]
    assert logs(ledger) == []


def test_a_ledger_is_read_in_a_folder_in_which_nothing_can_be_written(
    witness: Witness, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monkeypatch.chdir(folder)
        people = folder / "people.csv"
        people.write_text("\n".join(ids(PEOPLE)))
        assert run(*DELETE, people) == 0
        before = said(say, ledger_of(people))
        names = sorted(file.name for file in folder.iterdir())
        with permissions_holding():
            folder.chmod(0o500)
            assert said(say, ledger_of(people)) == before
            folder.chmod(0o000)
            status, _, err = say("status", ledger_of(people))
            assert (status, "check the permissions" in err) == (5, True)
            folder.chmod(0o700)
        assert sorted(file.name for file in folder.iterdir()) == names


@pytest.mark.parametrize("kills", [False, True])
def test_whoever_reads_a_ledger_at_the_end_of_its_job_leaves_one_file(tmp_path: Path, *, kills: bool) -> None:
    people = ids_file(tmp_path, 600)
    ledger = ledger_of(people)
    with served(Simulator(profiles=600)) as sim:
        with started([*DELETE, "--pace", "300", str(people)], settings_for(sim)) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 100)
            with LedgerReader(ledger) as reader:
                if kills:
                    process.send_signal(signal.SIGKILL)
                _, err = process.communicate(timeout=PATIENCE)
                assert process.returncode == (-9 if kills else 0), err
                assert reader.status().known == 600
        assert logs(ledger) == []
        if kills:
            assert main(["resume", str(ledger), *AT_ONCE]) in {0, 4}


@pytest.fixture(autouse=True)
def _no_logs_are_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not [*tmp_path.rglob("*-wal")]
