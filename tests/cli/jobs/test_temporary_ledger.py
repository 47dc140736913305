"""With `--no-ledger`, a job works in the same way, and leaves no ledger however it ends."""

import csv
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapty_async import ledger
from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.cli.jobs.failed_rows_file import FailedRow
from adapty_async.ledger.store import CommitData, Store
from adapty_async.testing import Fault
from tests.cli.served import (
    AT_ONCE,
    Patient,
    acting_after,
    ids_file,
    interrupting_after,
    served,
    settings_for,
    started,
    wait_until,
)
from tests.cli.witness import PEOPLE, Say, Witness, ids
from tests.full_disk import full_disk
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes", "--no-ledger")
TOLD = re.compile("adapty-async (resume|retry-failed|verify|report|anonymize)|to resume:", re.IGNORECASE)


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    sim = Patient(profiles=2000)
    sim.most = 100
    places = {
        name: tmp_path / name for name in ("TMPDIR", "HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    }
    for place in (*places.values(), tmp_path / "work"):
        place.mkdir()
    people = ids_file(tmp_path / "work", 2000)
    settings = {name: str(place) for name, place in places.items()}
    with served(sim), people.open() as source:
        command = [*DELETE, "-", "--failures", "failures.csv"]
        options = {"stdin": source, "cwd": tmp_path / "work"}
        with started(command, {**settings_for(sim), **settings}, **options) as process:
            wait_until(lambda: sim.stats.count_responses(204) >= 100)
            assert not list(places["TMPDIR"].iterdir())
            process.kill()
            process.wait(PATIENCE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [people]


@pytest.mark.parametrize("is_written_down", [True, False])
def test_nobody_is_told_to_resume_it(witness: Witness, people: Path, say: Say, *, is_written_down: bool) -> None:
    witness.inject(Fault.REDIRECT, Fault.REDIRECT, method="DELETE")
    failures = ["--failures", "failures.csv"] if is_written_down else []
    with interrupting_after(witness, 10):
        status, out, err = say(*DELETE, people, "--concurrency", 2, *failures)
    assert status == 130
    assert not TOLD.search(out + err)
    assert {path.name for path in Path.cwd().iterdir()} == {"people.csv", *failures[1:]}
    if not is_written_down:
        assert "--failures FILE.csv writes the failed rows" in err
        return
    with Path("failures.csv").open(newline="") as file:
        found = Counter(row["adapty_outcome"] for row in csv.DictReader(file))
    assert found == Counter(failed=2, not_attempted=len(witness.profiles) - 2)


@pytest.mark.parametrize("rule", ["max_failures", "max_failure_ratio", "max_absent_ratio"])
def test_a_stopped_job_is_not_to_be_resumed(witness: Witness, people: Path, say: Say, rule: str) -> None:
    with people.open("a") as file:
        file.writelines(f"n,nobody-{number}\n" for number in range(200))
    faults = 0 if rule == "max_absent_ratio" else PEOPLE
    witness.inject(*[Fault.REDIRECT] * faults, method="DELETE")
    limit = ["--max-failures", 3] if rule == "max_failures" else []
    status, out, err = say(*DELETE, people, "--concurrency", 2, *limit)
    assert status == 3
    assert f"stopped: {rule}: " in out
    assert "resume" not in out + err


def test_of_what_was_all_done_nothing_more_is_said(witness: Witness, people: Path, say: Say) -> None:
    status, out, err = say(*DELETE, people)
    assert (status, len(witness.profiles)) == (0, 0)
    assert not TOLD.search(out + err)
    assert "No row is left to send" not in err


def test_a_command_that_goes_nowhere_says_no_more_than_why(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded.LedgerJob.create_run

    def changed(self: recorded.LedgerJob, *arguments: object) -> recorded.JobRun:
        with people.open("a") as file:
            file.write("n,somebody\n")
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(recorded.LedgerJob, "create_run", changed)
    status, out, err = say(*DELETE, people)
    assert (status, out) == (5, "")
    assert err.endswith(f"adapty-async: {people} has changed while it was read: run the command again\n")
    assert witness.stats.requests == 0


def test_where_there_is_no_room_for_it_nothing_is_sent(
    witness: Witness, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*arguments: Any, **options: Any) -> None:
        with full_disk(1 << 20):
            ledger.prepare(*arguments, **options)

    monkeypatch.setattr(recorded, "prepare", prepare)
    path = tmp_path / "many.csv"
    path.write_text("customer_user_id\n" + "".join(f"u{number}\n" for number in range(150_000)))
    status, out, err = say(*DELETE, path, "--expect", 150_000)
    assert (status, out, witness.stats.requests) == (5, "", 0)
    assert re.search(r"the temporary ledger in \S+ can't be written \(.*\): make room for it", err)


def test_a_ledger_that_finds_no_room_later_stops_the_job_and_tells_its_rows(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_full = Store.write, False

    def failing(self: Store, writing: CommitData) -> None:
        if is_full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        write(self, writing)

    def fill() -> None:
        nonlocal is_full
        is_full = True

    monkeypatch.setattr(Store, "write", failing)
    with acting_after(witness, 10, fill):
        status, out, _ = say(*DELETE, people, "--concurrency", 1, "--json", "--failures", "failures.csv")
    end = json.loads(out.splitlines()[-1])
    assert (status, end["status"], end["total"]) == (5, 5, PEOPLE)
    assert re.match(r"the temporary ledger in \S+ can't be written \(database or disk is full\): ", end["stopped"])
    with Path("failures.csv").open(newline="") as file:
        found = {row["customer_user_id"]: row["adapty_outcome"] for row in csv.DictReader(file)}
    assert Counter(found.values()) == Counter(end["counts"]) - Counter(deleted=PEOPLE)
    for who in ids(PEOPLE):  # an absent profile whose deletion isn't confirmed is in doubt
        assert who in witness.profiles.customer_user_ids or found.get(who) in (None, "in_doubt")
        assert who not in witness.profiles.customer_user_ids or found[who] in ("not_attempted", "in_doubt")


def test_failures_that_find_no_place_are_told(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    folder = tmp_path / "failures"
    folder.mkdir()
    witness.inject(Fault.REDIRECT, method="DELETE")
    with acting_after(witness, 5, folder.rmdir):
        status, out, err = say(*DELETE, people, "--failures", folder / "failures.csv")
    assert status == 5
    assert "failed                         1" in out
    assert f"{folder / 'failures.csv'} can't be written" in err
    assert err.endswith(f"{folder / 'failures.csv'} wasn't written.\n")


def test_an_interrupt_keeps_what_is_written_of_the_failures_and_is_told(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = recorded.iter_failed_rows

    def interrupted(*arguments: Any) -> Iterator[FailedRow]:
        yield next(read(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "iter_failed_rows", interrupted)
    witness.inject(Fault.REDIRECT, Fault.REDIRECT, method="DELETE")
    status, out, err = say(*DELETE, people, "--concurrency", 1, "--failures", "failures.csv")
    assert status == 130
    assert "failed                         2" in out
    assert "failures.csv contains only some of the 2 rows that failed." in err
    assert err.endswith("adapty-async: interrupted\n")
    with Path("failures.csv").open(newline="") as file:
        assert [row["customer_user_id"] for row in csv.DictReader(file)] == ids(1)
