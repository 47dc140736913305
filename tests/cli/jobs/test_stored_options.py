"""Options of a resumed job are stored: the command that is shown doesn't need to repeat them."""

import re
import shlex
from pathlib import Path

import pytest

from adapty_async.cli.jobs.job_options import JobOptions
from adapty_async.cli.jobs.ledger_access import read_job_options
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, interrupting_after
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def interrupt(witness: Witness, *command: object) -> int:
    """Run a command and stop it with Ctrl-C after two more deletions."""
    with interrupting_after(witness, 2):
        return run(*command, "--concurrency", 2)


def printed_in(err: str) -> list[str]:
    """Return the last command that was shown, except the one that writes the failed rows."""
    *_, typed = re.findall(r"^  adapty-async ((?:resume|retry-failed) (?:(?!--failures).)*)$", err, re.MULTILINE)
    return shlex.split(typed)


def order_in(ledger: Path) -> JobOptions:
    with LedgerReader(ledger) as reader:
        return read_job_options(reader)


def test_whoever_is_put_on_hold_by_a_resume_stays_on_hold(
    witness: Witness, people: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], say: Say
) -> None:
    first, last = tmp_path / "first.csv", tmp_path / "last.csv"
    first.write_text(ids(PEOPLE)[-1])
    last.write_text(ids(PEOPLE)[-2])
    assert interrupt(witness, *DELETE, people, "--exclude", first) == 130
    assert interrupt(witness, "resume", ledger_of(people), "--exclude", last) == 130
    typed = printed_in(capfd.readouterr().err)
    assert run(*typed) == 0
    assert set(witness.profiles.customer_user_ids) == {*ids(PEOPLE)[-2:]}
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE - 2, "excluded": 2}


def test_a_retry_that_is_interrupted_keeps_its_hold(
    witness: Witness, people: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    witness.inject(*[Fault.REDIRECT] * PEOPLE, method="DELETE")
    assert run(*DELETE, people, "--max-failures", "100%") == 1
    held = tmp_path / "held.csv"
    held.write_text(ids(PEOPLE)[-1])
    assert interrupt(witness, "retry-failed", ledger_of(people), "--exclude", held) == 130
    capfd.readouterr()
    assert run("resume", ledger_of(people)) == 1
    assert run(*printed_in(capfd.readouterr().err)) == 1
    assert list(witness.profiles.customer_user_ids) == [ids(PEOPLE)[-1]]


def test_every_other_option_lasts_too(witness: Witness, people: Path, tmp_path: Path) -> None:
    assert interrupt(witness, *DELETE, people) == 130
    moved = people.rename(tmp_path / "moved.csv")
    moved.write_text(moved.read_text().replace("customer_user_id", "user"))
    options = ("--input", moved, "--column", "user", "--max-failures", 7, "--no-canary", "--pace", 5000)
    asked = ("--max-rate", 4000, "--timeout", 20, "--operator", "Ann", "--request", "DSR-7")
    assert interrupt(witness, "resume", ledger_of(people), *options, *asked) == 130
    kept = order_in(ledger_of(people))
    assert (kept.file, kept.input_options.column) == (moved, "user")
    assert (kept.speed_options.timeout, kept.speed_options.concurrency) == (20.0, 2)
    assert (kept.record_options.operator, kept.record_options.request) == ("Ann", "DSR-7")
    assert (kept.pace.wanted, kept.pace.most) == (5000.0, 4000.0)
    assert (kept.guard_options.max_failures, kept.guard_options.no_canary) == ("7", True)
    assert run("resume", ledger_of(people)) == 0


def test_what_was_refused_does_not_last(witness: Witness, people: Path) -> None:
    assert interrupt(witness, *DELETE, people) == 130
    before = order_in(ledger_of(people))
    people.write_text(people.read_text().replace(ids(1)[0], "somebody"))
    assert run("resume", ledger_of(people), "--pace", 7) == 5
    assert order_in(ledger_of(people)) == before


def test_a_hold_is_read_by_the_column_that_it_was_given_with(witness: Witness, people: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.csv"
    held.write_text(f"customer_user_id\n{ids(PEOPLE)[-1]}\n")
    assert interrupt(witness, *DELETE, people, "--exclude", held) == 130
    people.write_text(people.read_text().replace("customer_user_id", "user"))
    assert interrupt(witness, "resume", ledger_of(people), "--column", "user") == 130
    assert run("resume", ledger_of(people)) == 0
    assert list(witness.profiles.customer_user_ids) == [ids(PEOPLE)[-1]]


def test_another_column_of_the_same_file_is_compared_to_its_end_before_anything_is_sent(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    people, ledger = tmp_path / "people.csv", ledger_of(tmp_path / "people.csv")
    known = [f"u{number}" for number in range(1100)]
    older = [*known[:1000], *(f"old {id_}" for id_ in known[1000:])]
    people.write_text("customer_user_id,legacy\n" + "".join(f"{a},{b}\n" for a, b in zip(known, older, strict=True)))
    witness.inject(*[Fault.REDIRECT] * 1100, method="DELETE")
    assert run(*DELETE, people, "--no-canary", "--max-failures", "100%") == 1
    asked, before = witness.stats.requests, order_in(ledger)
    status, _, err = say("retry-failed", ledger, "--column", "legacy")
    assert status == 5
    assert "line 1,002" in err
    assert (witness.stats.requests, order_in(ledger)) == (asked, before)


@pytest.mark.parametrize("option", ["--expect", "--max"])
def test_how_many_they_may_be_lasts_where_rows_are_added(witness: Witness, people: Path, say: Say, option: str) -> None:
    assert interrupt(witness, *DELETE, people, option, PEOPLE) == 130
    with people.open("a") as file:
        file.write("n,late\n")
    asked = witness.stats.requests
    status, _, err = say("resume", ledger_of(people), "--allow-appended", "--yes")
    assert status == 3
    assert f"{option} {PEOPLE + 1}" in err
    assert witness.stats.requests == asked
    assert run("resume", ledger_of(people), "--allow-appended", "--yes", option, PEOPLE + 1) == 0


def test_how_many_they_were_holds_nobody_up_where_some_are_put_on_hold_since(
    witness: Witness, people: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held.csv"
    held.write_text(ids(PEOPLE)[-1])
    assert interrupt(witness, *DELETE, people, "--expect", PEOPLE) == 130
    assert run("resume", ledger_of(people), "--exclude", held) == 0
    assert run("resume", ledger_of(people)) == 0
