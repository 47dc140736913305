"""Problems with the ledger: one clear message, exit status 5, and then the job can be finished."""

import asyncio
import contextlib
import resource
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome
from adapty_async.ledger import Ledger
from adapty_async.testing import Fault, prefilled_customer_user_id
from tests.cli.served import AT_ONCE, acting_after, interrupting_after, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run
from tests.unprivileged import permissions_holding
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
MANY = 1000


@pytest.fixture
def many(witness: Witness, tmp_path: Path) -> Path:
    """Write a file with more IDs than a ledger can store if there is little space."""
    for number in range(PEOPLE + 1, MANY + 1):
        witness.add_profile(customer_user_id=prefilled_customer_user_id(number))
    path = tmp_path / "people.csv"
    path.write_text("\n".join(ids(MANY)))
    return path


def interrupted(witness: Witness, people: Path) -> int:
    with interrupting_after(witness, 5):
        return run(*DELETE, "--concurrency", 2, people)


def finish(witness: Witness, people: Path, say: Say) -> None:
    """Run the command that was shown, and check that the job is done."""
    ledger = ledger_of(people)
    assert run("resume", ledger) == 0 if ledger.exists() else run(*DELETE, people) == 0
    agree(say, ledger, witness, 0)
    assert len(witness.profiles) == 0


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_disk_that_is_full_from_the_start(witness: Witness, people: Path, say: Say, size: int) -> None:
    with started(
        [*map(str, DELETE), str(people)], settings_for(witness), preexec_fn=lambda: limit_files(0, size)
    ) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (5, b"")
    assert b"make room" in err.splitlines()[-1]
    assert b"@" not in err
    assert witness.stats.requests == 0
    finish(witness, people, say)


def test_a_disk_that_fills_up(witness: Witness, many: Path, say: Say) -> None:
    witness.latency = 0.02
    with started([*map(str, DELETE), "--concurrency", "10", str(many)], settings_for(witness)) as process:
        wait_until(lambda: witness.stats.count_responses(204) > 300)
        limit_files(process.pid, 0)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5
    assert len([line for line in out.splitlines() if b"make room" in line]) == 1
    assert f"adapty-async resume {ledger_of(many)}" in err.decode()
    assert b"Traceback" not in err
    assert b"@" not in out + err
    assert 300 < witness.stats.requests < MANY
    counted = agree(say, ledger_of(many), witness, 5)
    assert 0 < counted[Outcome.DELETED] < MANY
    witness.latency = 0.0
    finish(witness, many, say)


def limit_files(pid: int, size: int) -> None:
    """Limit the size of the files that a process writes. 0 means this process."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))


def test_a_read_only_directory(witness: Witness, say: Say) -> None:
    with tempfile.TemporaryDirectory() as name, permissions_holding():
        people = Path(name) / "people.csv"
        people.write_text("\n".join(ids(PEOPLE)))
        refused_where_nothing_may_be_written(witness, say, *DELETE, people)
        assert interrupted(witness, people) == 130
        refused_where_nothing_may_be_written(witness, say, "resume", ledger_of(people))
        finish(witness, people, say)


def refused_where_nothing_may_be_written(witness: Witness, say: Say, *command: object) -> None:
    asked = witness.stats.requests
    folder = Path(str(command[-1])).parent
    folder.chmod(0o500)
    status, out, err = say(*command)
    folder.chmod(0o700)
    assert (status, out) == (5, "")
    assert "permissions" in err.splitlines()[-1]
    assert witness.stats.requests == asked


def test_failures_that_cannot_be_written_at_the_end_are_exit_5_and_written_by_the_resume(
    witness: Witness, people: Path, say: Say
) -> None:
    folder = people.parent / "results"
    folder.mkdir()
    witness.inject(Fault.REDIRECT, method="DELETE")
    with acting_after(witness, 1, folder.rmdir):
        status, out, err = say(*DELETE, people, "--failures", folder / "failures.csv")
    assert status == 5
    assert "failures.csv can't be written" in err
    assert "deleted                       29" in out
    failures = people.with_name("failures.csv")
    assert run("resume", ledger_of(people), "--failures", failures) == 1
    assert agree(say, ledger_of(people), witness, 1, failures=failures) == {"deleted": 29, "failed": 1}
    assert run("resume", ledger_of(people), "--failures", failures) == 2


def test_a_ledger_that_is_gone_at_the_end_is_exit_5(witness: Witness, people: Path, say: Say) -> None:
    ledger = ledger_of(people)
    with acting_after(witness, 4, ledger.unlink):
        status, out, _ = say(*DELETE, people, "--concurrency", 2)
    assert status == 5
    assert f"stopped: {ledger} was removed, renamed or replaced" in out
    ledger.with_name(f"{ledger.name}.rescued").rename(ledger)
    finish(witness, people, say)


@pytest.mark.parametrize("size", [0, 1, 50, 4096, -4096])
def test_a_truncated_ledger(witness: Witness, people: Path, say: Say, size: int) -> None:
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    ledger = ledger_of(people)
    for wal in ledger.parent.glob(f"{ledger.name}-*"):
        assert wal.stat().st_size == 0 or wal.name.endswith("-shm")
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:size])
    for command in (("resume", ledger), (*DELETE, people)):
        status, out, err = say(*command)
        assert (status, out) == (5, "")
        assert len(err.splitlines()) == 1
    assert witness.stats.requests == asked
    ledger.write_bytes(whole)
    finish(witness, people, say)


def test_the_ledger_of_another_job(
    witness: Witness, people: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    others = tmp_path / "others.csv"
    others.write_text("u1\nu2\n")
    ledger = ledger_of(people)
    for refused in (
        (*DELETE, others, "--ledger", ledger),
        ("resume", ledger, "--input", others),
        (*DELETE, others, "--ledger", people),
        ("resume", people),
    ):
        status, out, err = say(*refused)
        assert (status, out) == (5, ""), refused
        assert len(err.splitlines()) == 1
    with monkeypatch.context() as there:
        there.setenv("ADAPTY_BASE_URL", "http://127.0.0.1:1")
        status, _, err = say("resume", ledger)
    assert status == 5
    assert f"set ADAPTY_BASE_URL to its address: {witness.base_url}" in err
    assert witness.stats.requests == asked
    finish(witness, people, say)


def test_a_ledger_that_is_not_there(tmp_path: Path, witness: Witness, say: Say) -> None:
    for command in ("resume", "retry-failed"):
        status, _, err = say(command, tmp_path / "missing.db")
        assert status == 2
        assert "doesn't exist" in err
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_the_library_is_gone_on_with_there(tmp_path: Path, witness: Witness, say: Say) -> None:
    async def work() -> None:
        async with AdaptyClient(witness.api_key, base_url=witness.base_url) as client:
            journal = Ledger(tmp_path / "job.db")
            await bulk.delete_profiles(client, ids(3), by="customer_user_id", pacer=UNPACED, ledger=journal)

    asyncio.run(work())
    status, _, err = say("resume", tmp_path / "job.db")
    assert status == 5
    assert "library" in err


def test_a_ledger_without_its_key_file(witness: Witness, people: Path, say: Say) -> None:
    assert interrupted(witness, people) == 130
    key = ledger_of(people).with_name(f"{ledger_of(people).name}.key")
    content = key.read_bytes()
    key.unlink()
    status, _, err = say("resume", ledger_of(people))
    assert status == 5
    assert key.name in err
    key.write_bytes(content)
    finish(witness, people, say)


def test_the_files_of_a_job_are_its_owners_alone(witness: Witness, people: Path) -> None:
    assert interrupted(witness, people) == 130
    made = [path for path in people.parent.iterdir() if path != people]
    assert len(made) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}


@pytest.mark.parametrize("command", ["resume", "retry-failed"])
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outcome SET rows = x'00'",
        """UPDATE job SET job_options = '{"file": null}'""",
        "UPDATE job SET job_options = '[1]'",
        "UPDATE job SET operation = 'delate'",
        "UPDATE job SET job_options = json_set(job_options, '$.speed_options.pace', 'fast')",
        "UPDATE job SET job_options = json_set(job_options, '$.input_options.format', 'xml')",
        "UPDATE job SET job_options = json_set(job_options, '$.guard_options.unheard', 1)",
    ],
)
def test_a_damaged_ledger_is_not_gone_on_with(
    witness: Witness, people: Path, say: Say, command: str, damage: str
) -> None:
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    with contextlib.closing(sqlite3.connect(ledger_of(people))) as connection, connection:
        connection.execute(damage)
    status, out, err = say(command, ledger_of(people))
    assert (status, out) == (5, "")
    assert "bug" not in err
    assert len(err.splitlines()) == 1
    assert witness.stats.requests == asked
