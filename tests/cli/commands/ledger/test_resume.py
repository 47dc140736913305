"""Resuming a deletion: with the same input and the same key, and nothing is sent twice unless requested."""

import csv
import io
import re
import shlex
import signal
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli import main
from adapty_async.cli.inputs.input_types import ADDED_COLUMNS
from adapty_async.cli.jobs import confirmation, start
from adapty_async.ledger import LedgerReader, Run, Spool
from adapty_async.testing import Fault, prefilled_customer_user_id
from tests.cli.served import AT_ONCE, interrupting_after, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def interrupted(witness: Witness, file: object, *options: object) -> int:
    """Start a deletion and stop it with Ctrl-C after a few profiles."""
    with interrupting_after(witness, 5):
        return run(*DELETE, "--concurrency", 2, file, *options)


# Resuming


def test_a_killed_deletion_goes_on_where_it_was(witness: Witness, tmp_path: Path, say: Say) -> None:
    for number in range(PEOPLE + 1, 1201):
        witness.add_profile(customer_user_id=prefilled_customer_user_id(number))
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["customer_user_id", *ids(1200)]))
    witness.latency = 0.005
    arguments: list[object] = ["delete", people, "--by", "customer_user_id", "--yes", "--pace", "1000"]
    kills = 0
    while not ended_before_its_kill(witness, arguments, tmp_path):
        kills += 1
        arguments = ["resume", ledger_of(people)]
    assert kills >= 2
    counted = agree(say, ledger_of(people), witness, 0)
    assert counted.total() == 1200
    # After a kill, the requests that were in flight or not committed yet are repeated.
    assert counted[Outcome.DELETED] + counted[Outcome.DELETED_UNCONFIRMED] == 1200
    assert witness.stats.requests < 1200 + kills * 600


def ended_before_its_kill(witness: Witness, arguments: Sequence[object], folder: Path) -> bool:
    """Run a command until it has deleted 350 profiles, and kill it. Return True if it had already ended."""
    wanted = witness.stats.count_responses(204) + 350
    with started([*map(str, arguments)], settings_for(witness), cwd=folder) as process:
        wait_until(lambda: witness.stats.count_responses(204) > wanted or process.poll() is not None)
        process.kill()
        process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -signal.SIGKILL)
        return process.returncode == 0


def test_an_interrupt_prints_the_command_that_goes_on_and_that_finishes(
    witness: Witness, tmp_path: Path, say: Say, capfd: pytest.CaptureFixture[str]
) -> None:
    people = tmp_path / "the people's.csv"
    people.write_text("\n".join(ids(PEOPLE)))
    assert interrupted(witness, people) == 130
    shown = capfd.readouterr()
    assert "rows left" in shown.err
    agree(say, ledger_of(people), witness, 130)
    (typed,) = re.findall(r"^  adapty-async (resume .*db')$", shown.err, re.MULTILINE)
    asked = witness.stats.requests
    assert main(shlex.split(typed)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}
    assert witness.stats.requests == PEOPLE
    assert asked < PEOPLE
    assert "adapty-async" not in capfd.readouterr().err


def test_a_second_deletion_of_the_same_file_is_sent_to_resume_before_anything_is_read(
    witness: Witness, people: Path, say: Say
) -> None:
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    people.unlink()
    status, out, err = say(*DELETE, people)
    assert (status, out) == (5, "")
    assert f"adapty-async resume {ledger_of(people)}\n" in err
    assert len(err.splitlines()) == 1
    assert witness.stats.requests == asked


def test_what_is_done_is_done_and_a_resume_of_it_sends_nothing(witness: Witness, people: Path, say: Say) -> None:
    assert run(*DELETE, people) == 0
    assert run("resume", ledger_of(people)) == 0
    assert witness.stats.requests == PEOPLE
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


def test_an_input_that_was_moved_is_named(witness: Witness, people: Path, say: Say) -> None:
    assert interrupted(witness, people) == 130
    moved = people.rename(people.with_name("moved.csv"))
    status, _, err = say("resume", ledger_of(people))
    assert status == 2
    assert "--input" in err
    assert run("resume", ledger_of(people), "--input", moved) == 0
    assert agree(say, ledger_of(people), witness, 0, moved=moved) == {"deleted": PEOPLE}


def test_another_way_to_write_the_same_rows_is_the_same_input(witness: Witness, people: Path, say: Say) -> None:
    assert interrupted(witness, people) == 130
    rows = [[*reversed(row)] for row in csv.reader(people.read_text().splitlines())]
    with people.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert run("resume", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


# Another input


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: [*rows[:7], "somebody", *rows[8:]], "it first differs at line 8"),
        (lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]], "it first differs at line 4"),
        (lambda rows: rows[:-2], "it ends before row 29"),
        (lambda rows: [*rows, "somebody"], "the new rows start at line 31"),
        (lambda rows: [f"{number}" for number, _ in enumerate(rows)], "it first differs at line 1"),
    ],
    ids=["edited", "reordered", "shorter", "longer", "exchanged"],
)
def test_another_input_is_refused_at_its_line_before_anything_is_sent(
    witness: Witness, tmp_path: Path, say: Say, change: Callable[[list[str]], list[str]], sentence: str
) -> None:
    people = tmp_path / "people.txt"
    people.write_text("\n".join(ids(PEOPLE)))
    assert interrupted(witness, people) == 130
    asked = witness.stats.requests
    people.write_text("\n".join(change(ids(PEOPLE))))
    status, out, err = say("resume", ledger_of(people))
    assert (status, out) == (5, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "@" not in err
    assert witness.stats.requests == asked
    people.write_text("\n".join(ids(PEOPLE)))
    assert run("resume", ledger_of(people)) == 0
    agree(say, ledger_of(people), witness, 0)


def test_an_input_that_changes_meanwhile_ends_the_run_and_is_refused_afterwards(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    for number in range(PEOPLE + 1, 1101):
        witness.add_profile(customer_user_id=prefilled_customer_user_id(number))
    people = tmp_path / "people.csv"
    people.write_text("\n".join([*ids(1100), ""]))
    witness.latency = 0.01
    with started([*map(str, DELETE), str(people)], settings_for(witness)) as process:
        wait_until(lambda: witness.stats.count_responses(204) > 50)
        with people.open("a") as file:
            file.write("somebody\n")
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5, err
    assert b"has changed" in out
    assert f"adapty-async resume {ledger_of(people)}\n" in err.decode()
    assert agree(say, ledger_of(people), witness, 5, moved=people_as_they_were(people))[Outcome.NOT_ATTEMPTED] > 0
    status, _, refused = say("resume", ledger_of(people))
    assert status == 5
    assert "the new rows start at line 1,101" in refused
    people.write_text("\n".join(ids(1100)))
    assert run("resume", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": 1100}


def people_as_they_were(people: Path) -> Path:
    before = people.with_name("before.csv")
    before.write_text("\n".join(ids(1100)))
    return before


def test_rows_at_the_end_are_taken_where_that_is_said_and_confirmed(witness: Witness, people: Path, say: Say) -> None:
    assert interrupted(witness, people) == 130
    witness.add_profile(customer_user_id="late")
    with people.open("a") as file:
        file.write("n,late\nn,late\n")
    asked = witness.stats.requests
    assert run("resume", ledger_of(people)) == 5
    assert run("resume", ledger_of(people), "--allow-appended") == 2
    assert run("resume", ledger_of(people), "--allow-appended", "--yes", "--expect", PEOPLE) == 3
    assert witness.stats.requests == asked
    assert run("resume", ledger_of(people), "--allow-appended", "--yes", "--expect", PEOPLE + 1) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE + 1, "duplicate": 1}
    assert run("resume", ledger_of(people)) == 0


# Standard input


def test_standard_input_is_kept_for_the_resume_and_gone_after_it(
    witness: Witness, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(ids(PEOPLE)).encode())))
    assert interrupted(witness, "-") == 130
    assert "  adapty-async resume stdin.adapty.db\n" in capfd.readouterr().err
    ledger = Path("stdin.adapty.db")
    spool = Spool(ledger).path
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600
    agree(say, ledger, witness, 130)
    assert run("resume", ledger) == 0
    assert not spool.exists()
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert ids(1)[0].encode() not in found
    assert len(witness.profiles) == 0


def test_standard_input_that_is_refused_is_not_kept(
    witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"u1\n1.23E+15\n")))
    assert run(*DELETE, "-") == 2
    assert [path.name for path in tmp_path.iterdir()] == []


class Slow(io.BytesIO):
    """Standard input that calls a function when it ends."""

    def __init__(self, content: bytes, act: Callable[[], object]) -> None:
        super().__init__(content)
        self._act = act

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if not content:
            self._act()
        return content


@pytest.mark.parametrize("other", ["-", "people.csv"])
def test_while_standard_input_is_copied_no_other_job_begins_there(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    def begin_other() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ids(2)[1].encode())))
        begun.append(run(*DELETE, other, "--ledger", "stdin.adapty.db"))

    begun: list[int] = []
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Slow(ids(1)[0].encode(), begin_other)))
    assert run(*DELETE, "-") == 0
    assert begun == [5]
    assert witness.log == {ids(1)[0]: [204]}


def test_a_job_that_is_about_to_begin_is_not_overtaken(
    witness: Witness, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def type_slowly(*_: str) -> bool:
        begun.append(run(*DELETE, people))
        return True

    begun: list[int] = []
    monkeypatch.setattr(confirmation, "require_terminal", lambda _: None)
    monkeypatch.setattr(confirmation, "ask_to_type", type_slowly)
    monkeypatch.setattr(start, "require_terminal", lambda _: None)
    (tmp_path / "held.csv").write_text(ids(1)[0])
    assert run(*DELETE[:-1], people, "--exclude", tmp_path / "held.csv") == 0
    assert begun == [5]
    assert witness.log.keys() == set(ids(PEOPLE)[1:])


def test_a_job_that_does_not_begin_keeps_nobody_out(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "ask_to_type", lambda *_: False)
    monkeypatch.setattr(start, "require_terminal", lambda _: None)
    before = sorted(people.parent.iterdir())
    assert run(*DELETE[:-1], people) == 2
    assert sorted(people.parent.iterdir()) == before
    assert run(*DELETE, people) == 0


def test_standard_input_is_kept_as_long_as_something_failed(
    witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(ids(PEOPLE)).encode())))
    assert run(*DELETE, "-") == 1
    spool = Spool("stdin.adapty.db").path
    assert spool.exists()
    assert run("retry-failed", "stdin.adapty.db") == 0
    assert not spool.exists()


@pytest.mark.parametrize("command", ["delete", "update"])
def test_standard_input_is_kept_until_the_rows_that_failed_for_good_are_written_down(
    witness: Witness, say: Say, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    bad = "" if command == "delete" else "nobody,1"  # invalid, or not found
    rows = ["customer_user_id,custom.n", f"{ids(1)[0]},1", bad or ",1"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(rows).encode())))
    status, _, err = say(command, *DELETE[1:], "-")
    assert status == 1
    assert Spool("stdin.adapty.db").is_filled
    (typed,) = re.findall(r"^  adapty-async (resume .* --failures failures.csv)$", err, re.MULTILINE)
    assert run(*shlex.split(typed)) == 1
    assert Path("failures.csv").read_text().splitlines()[1].startswith((bad or ",1") + ",")
    assert not Spool("stdin.adapty.db").is_filled


def test_of_those_who_are_only_excluded_no_copy_is_kept(
    witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hold.csv").write_text(ids(1)[0])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(ids(PEOPLE)).encode())))
    assert run(*DELETE, "-", "--exclude", tmp_path / "hold.csv") == 0
    assert not Spool("stdin.adapty.db").is_filled


# Another key


def test_an_exchanged_key_goes_on_once_a_listed_person_shows_the_same_app(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = witness.profiles.app_id
    assert interrupted(witness, people, "--app", app) == 130
    before = witness.api_key
    witness.api_key = "secret_live_exchanged"
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    asked = witness.stats.requests
    ledger = ledger_of(people)
    status, _, err = say("resume", ledger)
    assert status == 5
    assert "--new-key" in err
    assert witness.stats.requests == asked
    status, _, err = say("resume", ledger, "--new-key", "--app", "3286abd3-48b0-4e9c-a5f6-ac0a006333a6")
    assert status == 5
    assert app in err
    assert (witness.stats.requests, len(runs_of(ledger))) == (asked, 1)
    assert run("resume", ledger, "--new-key") == 0
    assert agree(say, ledger, witness, 0) == {"deleted": PEOPLE}
    first, second = runs_of(ledger)
    assert first.key_fingerprint != second.key_fingerprint
    assert second.notes["app_id"] == app
    assert before not in say("status", ledger)[1]


def runs_of(ledger: Path) -> list[Run]:
    with LedgerReader(ledger) as reader:
        return [*reader.runs]


def test_a_key_that_was_wrong_from_the_start_is_put_right(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_nobody")
    assert run(*DELETE, people, "--concurrency", 1) == 4
    agree(say, ledger_of(people), witness, 4)
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    assert run("retry-failed", ledger_of(people)) == 5
    assert run("retry-failed", ledger_of(people), "--new-key") == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


# Failed rows


def test_what_failed_is_sent_again_where_that_is_asked_for_and_only_that(
    witness: Witness, people: Path, tmp_path: Path, say: Say, capfd: pytest.CaptureFixture[str]
) -> None:
    witness.inject(*[Fault.REDIRECT] * 3, method="DELETE")
    failures = tmp_path / "failures.csv"
    assert run(*DELETE, people, "--failures", failures) == 1
    assert f"  adapty-async retry-failed {ledger_of(people)}\n" in capfd.readouterr().err
    assert agree(say, ledger_of(people), witness, 1, failures=failures) == {"deleted": PEOPLE - 3, "failed": 3}
    assert run("resume", ledger_of(people)) == 1
    assert witness.stats.requests == PEOPLE
    assert run("retry-failed", ledger_of(people)) == 0
    assert witness.stats.requests == PEOPLE + 3
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


def test_the_failures_keep_the_columns_of_the_input_and_can_be_fed_back_again_and_again(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    people, first, second = (tmp_path / name for name in ("people.csv", "first.csv", "second.csv"))
    people.write_text("note,customer_user_id,status\n" + "".join(f'"a\nb",{id_},x\n' for id_ in ids(PEOPLE)))
    witness.inject(Fault.REDIRECT, Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, "--concurrency", 1, people, "--failures", first) == 1
    with first.open(newline="") as file:
        assert [*csv.reader(file)] == [
            ["note", "customer_user_id", "status", *ADDED_COLUMNS],
            ["a\nb", ids(1)[0], "x", "failed", "Adapty answered 307", "307", "2"],
            ["a\nb", ids(2)[1], "x", "failed", "Adapty answered 307", "307", "4"],
        ]
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, "--concurrency", 1, first, "--failures", second, "--max-failures", "100%") == 1
    with second.open(newline="") as file:
        assert [*csv.reader(file)] == [
            ["note", "customer_user_id", "status", *ADDED_COLUMNS],
            ["a\nb", ids(1)[0], "x", "failed", "Adapty answered 307", "307", "2"],
        ]
    assert run(*DELETE, second) == 0
    agree(say, ledger_of(second), witness, 0)


# Two runs at once


def test_two_runners_at_once_are_one_and_a_sentence(witness: Witness, people: Path, say: Say) -> None:
    witness.latency = 0.05
    command = [*map(str, DELETE), "--concurrency", "1", str(people)]
    with started(command, settings_for(witness)) as process:
        wait_until(lambda: witness.stats.count_responses(204) > 2)
        for second in (("resume", ledger_of(people)), (*DELETE, people)):
            status, out, err = say(*second)
            assert (status, out) == (5, "")
            assert len(err.splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        _, err_bytes = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert b"adapty-async resume" in err_bytes
    witness.latency = 0.0
    assert run("resume", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.1])
def test_however_many_signals_come_the_way_to_go_on_is_printed(
    witness: Witness, people: Path, say: Say, pause: float
) -> None:
    witness.latency = 600
    command = [*map(str, DELETE), "--concurrency", "7", "--timeout", "600", str(people)]
    with started(command, settings_for(witness)) as process:
        wait_until(lambda: witness.stats.in_flight == 7)
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
            time.sleep(pause)

        def has_ended() -> bool:  # the system doesn't queue signals, so the five may have counted as one
            process.send_signal(signal.SIGTERM)
            return process.poll() is not None

        wait_until(has_ended)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode in (130, -signal.SIGTERM)  # itself, or by a signal after its output
    assert f"  adapty-async resume {ledger_of(people)}" in err.decode()
    witness.latency = 0.0
    assert run("resume", ledger_of(people)) == 0
    agree(say, ledger_of(people), witness, 0)


def test_the_second_signal_leaves_in_doubt_what_was_under_way_and_the_resume_settles_it(
    witness: Witness, people: Path, say: Say
) -> None:
    witness.latency = 600
    command = [*map(str, DELETE), "--concurrency", "7", "--timeout", "600", str(people)]
    with started(command, settings_for(witness)) as process:
        wait_until(lambda: witness.stats.in_flight == 7)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while b"Stopping" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert b"resume" in err
    assert agree(say, ledger_of(people), witness, 130)[Outcome.IN_DOUBT] >= 7
    witness.latency = 0.0
    assert run("resume", ledger_of(people)) == 0
    counted = agree(say, ledger_of(people), witness, 0)
    assert counted.total() == PEOPLE
