"""Files that a job needs, or that don't belong to the command, are neither overwritten nor removed."""

import json
import os
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.ledger.id_key import get_key_path
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, settings_for, started
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def test_the_record_of_a_ledger_that_is_named_by_a_link_is_not_written_over_its_key(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    assert run(*DELETE, people) == 0
    link = tmp_path / "elsewhere" / "job.db"
    link.parent.mkdir()
    link.symlink_to(ledger_of(people))
    key = get_key_path(ledger_of(people))
    before = key.read_bytes()
    status, _, err = say("report", link, "--format", "json", "-o", key, "--force")
    assert status == 2
    assert "needed by the job" in err
    assert key.read_bytes() == before


def test_the_record_is_not_written_over_a_hold(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = tmp_path / "held.csv"
    held.write_text(ids(1)[0])
    assert run(*DELETE, people, "--exclude", held) == 0
    assert run("report", ledger_of(people), "-o", held, "--force") == 2
    assert held.read_text() == ids(1)[0]


@pytest.mark.parametrize("name", ["jobs", "jobs.new", "jobs.new-wal", "jobs-journal", "jobs.spool", "jobs.key"])
@pytest.mark.parametrize("is_input", [True, False], ids=["input", "hold"])
def test_what_a_ledger_would_remove_is_not_read_as_an_input(
    witness: Witness, people: Path, say: Say, name: str, is_input: bool
) -> None:
    other = people.with_name("other.csv")
    other.write_text(ids(1)[0])
    own = (people if is_input else other).rename(people.with_name(name))
    before = own.read_bytes()
    files = (own,) if is_input else (people, "--exclude", own)
    status, _, err = say(*DELETE, *files, "--format", "csv", "--ledger", "jobs")
    assert status == 2
    assert "another ledger" in err
    assert own.read_bytes() == before
    assert witness.stats.requests == 0


def test_failures_take_no_others_place_while_they_are_written(witness: Witness, people: Path, say: Say) -> None:
    part = people.rename(people.with_name("people.csv.part"))
    before = part.read_text()
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, part, "--format", "csv", "--failures", "people.csv") == 1
    assert part.read_text() == before
    assert agree(say, ledger_of(part), witness, 1)[Outcome.DELETED] == PEOPLE - 1
    assert not [*people.parent.glob("people.csv.?*.part")]


def test_a_record_takes_no_others_place_while_it_is_written(witness: Witness, people: Path) -> None:
    (other := people.with_name("record.json.part")).write_text("of somebody else")
    assert run(*DELETE, people) == 0
    assert run("report", ledger_of(people), "--format", "json", "-o", "record.json") == 0
    assert other.read_text() == "of somebody else"


def test_names_that_are_not_utf8_are_recorded_all_the_same(witness: Witness, people: Path, tmp_path: Path) -> None:
    held = Path(os.fsdecode(os.fsencode(tmp_path) + b"/h\xff.csv"))
    held.write_text("nobody")
    settings = settings_for(witness)
    for command in (
        [
            *map(str, DELETE),
            "--exclude",
            str(held),
            "--allow-unmatched-exclude",
            "--operator",
            os.fsdecode(b"A\xff"),
            str(people),
        ],
        ["report", str(ledger_of(people)), "--format", "json", "-o", "record.json"],
        ["report", str(ledger_of(people))],
    ):
        with started(command, settings, cwd=tmp_path) as process:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
    (record_run,) = json.loads((tmp_path / "record.json").read_text())["runs"]
    assert record_run["notes"]["operator"] == "A\udcff"


@pytest.mark.parametrize("path", ["", ".", "/"])
@pytest.mark.parametrize("command", ["resume", "status", "export", "report", "anonymize", "delete"])
def test_a_ledger_without_a_file_name_is_refused(
    witness: Witness, people: Path, say: Say, command: str, path: str
) -> None:
    arguments = (*DELETE, people, "--ledger", path) if command == "delete" else (command, path)
    assert say(*arguments)[::2] == (
        5,
        f"adapty-async: {path or '.'} can't be a ledger, because it is a folder: name a file\n",
    )
    assert witness.stats.requests == 0
