"""IDs excluded by a later run: they are neither sent nor in a failed rows file, whatever their earlier outcome."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.jobs import confirmation, resume
from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def test_a_row_that_failed_and_is_put_on_hold_is_excluded_and_not_fed_back(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    witness.inject(Fault.REDIRECT, Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    first, second = ids(2)
    (tmp_path / "held.csv").write_text(first)
    asked = witness.stats.requests
    status, out, err = say("resume", ledger_of(people), "--exclude", "held.csv", "--failures", "failures.csv")
    assert status == 1
    assert "1 of the failed or in-doubt rows is now excluded" in out
    assert "To send the 1 failed or in-doubt row again" in err
    with (tmp_path / "failures.csv").open(newline="") as written:
        assert [row["customer_user_id"] for row in csv.DictReader(written)] == [second]
    assert witness.stats.requests == asked


def test_where_only_excluded_rows_failed_nothing_is_offered(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    (tmp_path / "held.csv").write_text(ids(1)[0])
    status, _, err = say("resume", ledger_of(people), "--exclude", "held.csv")
    assert status == 1
    assert "retry-failed" not in err
    assert "--failures" not in err
    status, out, _ = say("retry-failed", ledger_of(people), "--exclude", "held.csv")
    assert status == 1
    assert "1 of the failed or in-doubt rows is now excluded" in out
    assert agree(say, ledger_of(people), witness, 1) == {Outcome.DELETED: PEOPLE - 1, Outcome.FAILED: 1}
    assert len(witness.log[ids(1)[0]]) == 1


@pytest.fixture
def piped() -> Iterator[Path]:
    """Return an exclude list like a shell's <(...): a pipe, which another process finds empty or with other content."""
    reading, writing = os.pipe()
    os.write(writing, ids(1)[0].encode())
    os.close(writing)
    yield Path(f"/dev/fd/{reading}")
    os.close(reading)


def test_a_hold_that_a_later_run_cannot_read_again_is_refused_where_there_is_a_ledger(
    witness: Witness, people: Path, say: Say, piped: Path
) -> None:
    status, _, err = say(*DELETE, people, "--exclude", piped)
    assert status == 2
    assert "write them to a file" in err
    assert not ledger_of(people).exists()
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    for command in ("resume", "retry-failed"):
        assert run(command, ledger_of(people), "--exclude", piped) == 2
    assert list(witness.profiles.customer_user_ids) == ids(1)


def test_a_command_to_type_names_no_list_that_cannot_be_read_again(
    witness: Witness, people: Path, say: Say, piped: Path
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    status, _, err = say(*DELETE, people, "--no-ledger", "--exclude", piped, "--failures", "failures.csv")
    assert status == 1
    assert "delete failures.csv --by customer_user_id --exclude FILE --allow-unmatched-exclude\n" in err


def test_without_a_ledger_a_hold_may_come_by_a_pipe(witness: Witness, people: Path, piped: Path) -> None:
    assert run(*DELETE, people, "--no-ledger", "--exclude", piped) == 0
    assert list(witness.profiles.customer_user_ids) == ids(1)


def test_a_hold_lasts_also_where_the_run_that_it_came_with_was_refused(
    witness: Witness, people: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held.csv"
    held.write_text(ids(1)[0])
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    other = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"
    assert run("retry-failed", ledger_of(people), "--exclude", held, "--app", other) == 3
    assert run("retry-failed", ledger_of(people)) == 1
    assert list(witness.profiles.customer_user_ids) == ids(1)


@pytest.mark.parametrize("moment", ["question", "app", "run"])
def test_a_hold_that_comes_while_another_command_has_the_ledger_is_refused_and_can_be_given_after_it(
    witness: Witness, people: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def hold_somebody(*_given: object) -> None:
        status, _, err = say("resume", ledger, *hold)
        assert (status, "in use by another process" in err) == (5, True)
        raise KeyboardInterrupt

    ledger, who = ledger_of(people), ids(1)[0]
    held = tmp_path / "held.csv"
    held.write_text(who)
    hold = ("--exclude", held)
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--concurrency", 1) == 1
    first: tuple[object, ...] = ("retry-failed", ledger)
    with monkeypatch.context() as patch:
        if moment == "question":
            patch.setattr(resume, "require_terminal", lambda _: None)
            patch.setattr(confirmation, "ask_to_type", hold_somebody)
            with people.open("a") as file:
                file.write("n,late\n")
            first = ("resume", ledger, "--allow-appended")
        elif moment == "app":
            patch.setattr(resume, "verify_job_app", hold_somebody)
            first = (*first, "--app", witness.profiles.app_id)
        else:
            patch.setattr(recorded, "JobRun", hold_somebody)
        assert run(*first) == 130
    assert run("resume", ledger, "--allow-appended", "--yes", *hold) == 1
    assert run("retry-failed", ledger) == 1
    assert list(witness.profiles.customer_user_ids) == [who]


def test_a_hold_that_names_nobody_of_the_file_is_told(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    (tmp_path / "none.csv").write_text("USER-1\nUSER-2\n")
    hold = ("--by", "customer_user_id", "--exclude", tmp_path / "none.csv")
    for command in (("plan", people, *hold), ("delete", people, *hold, "--yes", "--pace", "100000")):
        assert "--exclude lists 2 IDs: 0 rows are excluded" in say(*command)[2]
