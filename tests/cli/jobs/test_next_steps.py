"""Messages and figures that an operator sees when a job is resumed later."""

import io
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome, StopRules
from adapty_async.cli.jobs import resume, start
from adapty_async.ledger import Ledger, LedgerReader, Spool, prepare
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, interrupting_after, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def interrupted(witness: Witness, file: object, *options: object) -> int:
    """Start a deletion and stop it with Ctrl-C after a few profiles."""
    with interrupting_after(witness, 5):
        return run(*DELETE, "--concurrency", 2, file, *options)


@pytest.fixture
def from_stdin(witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the ledger of a deletion from standard input that completed normally."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(ids(PEOPLE)).encode())))
    assert run(*DELETE, "-") == 0
    assert not Spool("stdin.adapty.db").is_filled
    return Path("stdin.adapty.db")


@pytest.mark.parametrize("name", ["resume", "retry-failed"])
def test_a_finished_job_whose_copy_is_gone_is_told_to_be_done(
    from_stdin: Path, witness: Witness, say: Say, name: str
) -> None:
    asked = witness.stats.requests
    status, out, err = say(name, from_stdin)
    assert status == 0
    assert f"deleted{PEOPLE:>25}" in out
    assert "No row is left to send" in err
    assert witness.stats.requests == asked
    with LedgerReader(from_stdin) as reader:
        assert len(reader.runs) == 1


def untimed(summary: str) -> list[str]:
    """Return the lines of a summary without times, which depend on the machine."""
    return [line for line in summary.splitlines() if not line.startswith(("seconds ", "rate "))]


def test_a_finished_job_whose_input_was_removed_ends_as_it_did_with_it(
    witness: Witness, people: Path, say: Say
) -> None:
    people.write_text(people.read_text() + "n,\n")
    assert run(*DELETE, people) == 1
    with_input = say("resume", ledger_of(people))
    people.unlink()
    status, out, err = say("resume", ledger_of(people))
    assert status == with_input[0] == 1
    assert untimed(out) == untimed(with_input[1])
    assert "No row is left to send" in err


def test_a_finished_job_that_many_were_absent_from_stays_doubtful_without_its_input(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    absent = tmp_path / "absent.csv"
    absent.write_text("\n".join(["customer_user_id", *(f"nobody-{number}" for number in range(50))]))
    assert run(*DELETE, absent) == 3
    with LedgerReader(ledger_of(absent)) as reader:
        assert reader.status().waiting == 0
    absent.unlink()
    status, out, err = say("resume", ledger_of(absent))
    assert status == 3
    assert "--max-absent" in out
    assert "No row is left to send" not in err
    assert run("resume", ledger_of(absent), "--max-absent", "100%") == 0


@pytest.mark.parametrize(
    ("options", "key", "expected"),
    [(("--expect", 99), None, 3), (("--max", 1), None, 3), ((), "another", 5), (("--expect", PEOPLE), None, 0)],
)
def test_what_is_asked_for_of_a_finished_job_is_looked_at_without_its_input_too(
    witness: Witness,
    people: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    key: str | None,
    expected: int,
) -> None:
    assert run(*DELETE, people) == 0
    if key is not None:
        monkeypatch.setenv("ADAPTY_API_KEY", key)
    there = say("resume", ledger_of(people), *options)
    people.unlink()
    gone = say("resume", ledger_of(people), *options)
    assert there[0] == gone[0] == expected
    assert expected == 0 or there[2] == gone[2]


def test_what_may_follow_when_the_input_is_gone_can(witness: Witness, people: Path, say: Say) -> None:
    assert run(*DELETE, people) == 0
    moved = people.rename(people.with_name("moved.csv"))
    err = say("resume", ledger_of(people))[2]
    assert f"verify {ledger_of(people)} --sample 5% --input FILE" in err
    assert run("verify", ledger_of(people), *AT_ONCE, "--input", moved) == 0
    assert run("anonymize", ledger_of(people), "--yes") == 0
    err = say("resume", ledger_of(people))[2]
    assert "No row is left to send" in err
    assert "verify" not in err
    assert "anonymize" not in err


@pytest.mark.parametrize(
    "options", [("--failures", "failures.csv"), ("--allow-appended", "--yes"), ("--exclude", "held")]
)
def test_what_needs_the_ids_is_refused_where_their_copy_is_gone(
    from_stdin: Path, say: Say, options: tuple[str, ...]
) -> None:
    Path("held").write_text("nobody\n")
    for command in (("resume", from_stdin, *options), ("verify", from_stdin, *AT_ONCE)):
        status, _, err = say(*command)
        assert status == 2
        assert "is gone, because it is removed once the job is done" in err
        assert "--input" in err
        assert "if it was moved" not in err


def test_a_copy_that_is_kept_for_the_rows_that_failed_is_said_where_they_are_written_down(
    witness: Witness, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = "\n".join(["customer_user_id,n", *(f"{one}," for one in ids(PEOPLE)), ",without"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    status, _, err = say(*DELETE, "-")
    assert status == 1
    lines = err.splitlines()
    after = lines.index("  adapty-async resume stdin.adapty.db --failures failures.csv") + 1
    assert lines[after].startswith("stdin.adapty.db.spool, a copy of the input, keeps the IDs until then")
    assert Spool("stdin.adapty.db").is_filled
    assert run("resume", "stdin.adapty.db", "--failures", "failures.csv") == 1
    assert not Spool("stdin.adapty.db").is_filled
    assert "without" in Path("failures.csv").read_text()


@pytest.mark.parametrize("name", ["resume", "retry-failed"])
def test_an_interrupt_while_the_input_is_compared_tells_how_to_go_on(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1, "--max-failures", 0) == 3
    people.write_text(f"{people.read_text()}\n")  # not the same bytes

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resume, "prepare", interrupted)
    status, _, err = say(name, ledger_of(people))
    assert status == 130
    assert err.endswith(f"To resume:\n  adapty-async {name} {ledger_of(people)}\nadapty-async: interrupted\n")


def test_an_interrupt_when_a_ledger_has_just_been_made_tells_how_to_go_on(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        prepare(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "prepare", interrupted)
    status, _, err = say(*DELETE, people)
    assert status == 130
    assert err.endswith(f"To resume:\n  adapty-async resume {ledger_of(people)}\nadapty-async: interrupted\n")
    assert witness.stats.requests == 0
    assert run("resume", ledger_of(people)) == 0


def test_what_was_made_anonymous_is_said_where_the_copy_is_gone_as_well(
    witness: Witness, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    witness.inject(Fault.REDIRECT, method="DELETE")
    (tmp_path / "people").write_text("\n".join(ids(PEOPLE)))
    with (tmp_path / "people").open() as source:
        monkeypatch.setattr("sys.stdin", source)
        assert run(*DELETE, "-", "--concurrency", 1, "--max-failures", 0) == 3
    assert run("anonymize", "stdin.adapty.db", "--yes") == 0
    assert not (tmp_path / "stdin.adapty.db.spool").exists()
    for options in ((), ("--input", "people")):
        status, _, err = say("resume", "stdin.adapty.db", *options)
        assert status == 5
        assert "key file" in err
        assert "--input" not in err


def test_who_was_deleted_from_standard_input_is_verified_by_the_same_rows_in_a_file(
    from_stdin: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("\n".join(ids(PEOPLE)))
    assert run("verify", from_stdin, *AT_ONCE, "--input", "list.csv") == 0


def test_a_column_that_was_renamed_is_named(witness: Witness, people: Path, say: Say) -> None:
    assert interrupted(witness, people) == 130
    people.write_text(people.read_text().replace("customer_user_id", "user"))
    status, _, err = say("resume", ledger_of(people))
    assert status == 2
    assert "name it with --column" in err
    assert run("resume", ledger_of(people), "--column", "user") == 0
    assert len(witness.profiles) == 0


@pytest.mark.parametrize("spoil", [Path.unlink, lambda people: people.unlink() or people.mkdir()], ids=["gone", "dir"])
def test_an_input_that_cannot_be_read_is_wrong_input(
    witness: Witness, people: Path, say: Say, spoil: Callable[[Path], object]
) -> None:
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    spoil(people)
    status, out, err = say("resume", ledger_of(people))
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert str(people) in err
    assert witness.stats.requests == asked


def test_of_an_input_that_has_grown_what_is_left_is_counted(witness: Witness, people: Path, say: Say) -> None:
    assert run(*DELETE, people) == 0
    witness.add_profile(customer_user_id="late")
    with people.open("a") as file:
        file.write("n,late\n")
    _, _, err = say("resume", ledger_of(people), "--allow-appended", "--yes")
    assert f"{PEOPLE + 1} rows, {PEOPLE + 1} profiles, 1 of them still to delete" in err
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE + 1}


@pytest.mark.parametrize(
    ("faults", "key", "expected"),
    [([], "another", 4), ([Fault.REDIRECT] * PEOPLE, None, 3), ([], None, 130)],
    ids=["key", "guard", "done"],
)
def test_an_interrupt_while_the_failures_are_written_hides_nothing_that_stopped_the_job(
    witness: Witness,
    people: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    faults: list[Fault],
    key: str | None,
    expected: int,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adapty_async.cli.jobs.ledger_job.write_failed_rows", interrupt)
    witness.inject(*faults)
    if key is not None:
        monkeypatch.setenv("ADAPTY_API_KEY", key)
    status, _, err = say(*DELETE, people, "--failures", "failures.csv")
    assert status == expected
    assert f"adapty-async resume {ledger_of(people)}" in err
    assert ("--new-key" in err) == (expected == 4)
    assert not Path("failures.csv").exists()


async def test_a_job_of_the_library_is_gone_on_with_by_its_program(witness: Witness, tmp_path: Path, say: Say) -> None:
    ledger = tmp_path / "job.db"
    witness.inject(*[Fault.REDIRECT] * 3, method="DELETE")
    async with AdaptyClient(witness.api_key, base_url=witness.base_url) as client:
        await bulk.delete_profiles(
            client,
            ids(PEOPLE),
            by="customer_user_id",
            concurrency=1,
            pacer=UNPACED,
            ledger=Ledger(ledger),
            stop=StopRules(max_failures=1),
        )
    for command in ("status", "anonymize"):
        _, _, err = say(command, ledger)
        assert "adapty-async resume" not in err
        assert "run the Python program of the job again" in err
    assert say("anonymize", ledger, "--yes")[0] == 0


@pytest.mark.parametrize("place", ["no/such/L", "taken"])
def test_where_a_ledger_cannot_be_made_is_said_before_the_input_is_read(
    witness: Witness, tmp_path: Path, say: Say, place: str
) -> None:
    (tmp_path / "taken.lock").write_text("of somebody else")
    status, out, err = say(*DELETE, tmp_path / "missing.csv", "--ledger", place)
    assert (status, out, len(err.splitlines())) == (5, "", 1)
    assert place in err
    assert "missing.csv" not in err


def test_a_ledger_in_use_is_said_before_the_input_is_read(witness: Witness, tmp_path: Path, say: Say) -> None:
    lock = sqlite3.connect(tmp_path / "L.lock", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        status, _, err = say(*DELETE, tmp_path / "missing.csv", "--ledger", tmp_path / "L")
    finally:
        lock.close()
    assert status == 5
    assert "in use by another process" in err


def test_of_somebody_who_was_absent_already_it_says_so_and_is_content(witness: Witness, people: Path, say: Say) -> None:
    with people.open("a") as file:
        file.write("n,nobody\n")
    assert run(*DELETE, people) == 0
    status, out, _ = say("show", ledger_of(people), "nobody")
    assert status == 0
    assert out.startswith("row 31: there was no such profile (404) at ")
    assert "If there was no such profile in the first place, the exit status is 0." in " ".join(
        say("show", "--help")[1].split()
    )


# A rejected request after an attempt that may have been executed


def test_a_refusal_does_not_hide_that_an_earlier_attempt_may_have_been_carried_out(
    witness: Witness, people: Path, say: Say
) -> None:
    people.write_text(ids(1)[0])
    witness.inject(Fault.RESET_AFTER, Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    assert len(witness.profiles) == PEOPLE - 1
    assert agree(say, ledger_of(people), witness, 1) == {Outcome.IN_DOUBT: 1}
    assert run("retry-failed", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {Outcome.DELETED_UNCONFIRMED: 1}


def test_a_refused_key_does_not_hide_what_a_killed_run_may_have_done(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.latency = 600
    app = witness.profiles.app_id
    with started([*map(str, DELETE), "--concurrency", "3", str(people)], settings_for(witness)) as process:
        wait_until(lambda: witness.stats.in_flight == 3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert len(witness.profiles) == PEOPLE - 3
    witness.latency = 0.0
    witness.api_key = "secret_live_exchanged"
    assert run("resume", ledger_of(people)) == 4
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    assert run("retry-failed", ledger_of(people), "--new-key", "--app", app) == 0
    with LedgerReader(ledger_of(people)) as reader:
        assert {row.outcome for row in [*reader.rows()][:3]} == {Outcome.DELETED_UNCONFIRMED}


def test_a_finished_job_that_is_resumed_has_no_further_runs(witness: Witness, tmp_path: Path, say: Say) -> None:
    people = tmp_path / "people.csv"  # the first run has a canary, later ones don't
    people.write_text("\n".join(["customer_user_id", *ids(PEOPLE), *(f"nobody-{number}" for number in range(1100))]))
    assert run(*DELETE, people, "--max-absent", "100%", "--operator", "Ada") == 0
    record = say("report", ledger_of(people))[1]
    for command in (("resume",), ("retry-failed",), ("resume", "--failures", "failures.csv")):
        assert run(command[0], ledger_of(people), *command[1:]) == 0
    assert say("report", ledger_of(people))[1] == record
