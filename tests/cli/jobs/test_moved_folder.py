"""A folder with a job is moved, copied or mounted elsewhere, and the job is resumed there."""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.cli.jobs.job_options import JobOptions
from adapty_async.cli.jobs.ledger_access import read_job_options
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
HELD = 3


def order_in(ledger: Path) -> JobOptions:
    with LedgerReader(ledger) as reader:
        return read_job_options(reader)


@pytest.fixture
def folder(witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a job that was interrupted before its first request, its input and its exclude list."""

    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "work"
    (folder / "lists").mkdir(parents=True)
    (folder / "people.csv").write_text("\n".join(["customer_user_id", *ids(PEOPLE)]))
    (folder / "held.csv").write_text(f"{ids(1)[0]}\n")
    (folder / "lists" / "held.csv").write_text("\n".join(ids(HELD)[1:]))
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        patch.setattr(recorded, "JobRun", interrupted)
        options = ("--exclude", "held.csv", "--exclude", "lists/held.csv", "--failures", "failures.csv")
        assert run(*DELETE, "people.csv", *options) == 130
    return folder


def moved(folder: Path) -> Path:
    return folder.rename(folder.with_name("moved"))


def copied(folder: Path) -> Path:
    new = shutil.copytree(folder, folder.with_name("copied"))
    (folder / "people.csv").write_text("customer_user_id\nanother list by now\n")
    (folder / "held.csv").write_text("nobody of this job\n")
    return new


def mounted(folder: Path) -> Path:
    """Make the folder visible under another path, in addition to the old one."""
    other = folder.with_name("mount")
    other.symlink_to(folder, target_is_directory=True)
    return other


ELSEWHERE = pytest.mark.parametrize("elsewhere", [moved, copied, mounted])


@ELSEWHERE
@pytest.mark.parametrize("where", ["there", "elsewhere", "root"])
def test_a_job_is_resumed_where_its_folder_is_now(
    witness: Witness,
    folder: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Callable[[Path], Path],
    where: str,
) -> None:
    new = elsewhere(folder)
    monkeypatch.chdir({"there": new, "elsewhere": new / "lists", "root": Path("/")}[where])
    ledger = Path(os.path.relpath(new)) / "people.csv.adapty.db"
    assert run("resume", ledger) == 0
    assert set(witness.profiles.customer_user_ids) == set(ids(HELD))
    assert not set(ids(HELD)) & witness.log.keys()
    assert agree(say, ledger, witness, 0) == {"deleted": PEOPLE - HELD, "excluded": HELD}
    assert "on the exclude list held.csv" in say("show", ledger, ids(1)[0])[1]
    kept = order_in(ledger)
    assert kept.file is not None
    assert kept.file.samefile(new / "people.csv")
    assert [file.samefile(new / "held.csv") for file in kept.exclude.values()] == [True, False]
    assert run("resume", ledger) == 0
    assert run("verify", ledger) == 0


@pytest.mark.parametrize("new", ["moved", "deep/er/moved"])
def test_files_in_other_folders_are_found_where_all_of_them_were_moved(
    witness: Witness, tmp_path: Path, folder: Path, new: str
) -> None:
    (folder / "jobs").mkdir()
    options = ("--exclude", "lists/held.csv", "--ledger", "jobs/job.db")
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, "people.csv", *options, "--concurrency", 1) == 1
    place = tmp_path / new
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    assert run("retry-failed", place / "jobs" / "job.db") == 0
    assert set(witness.profiles.customer_user_ids) == set(ids(HELD)[1:])


def test_an_input_that_was_elsewhere_is_found_beside_the_ledger(
    witness: Witness, tmp_path: Path, folder: Path, say: Say
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    far = tmp_path / "far"
    far.mkdir()
    assert run(*DELETE, "people.csv", "--exclude", "held.csv", "--ledger", far / "job.db", "--concurrency", 1) == 1
    for name in ("people.csv", "held.csv"):
        shutil.move(name, far / name)
    assert run("retry-failed", far / "job.db") == 0
    assert agree(say, far / "job.db", witness, 0) == {"deleted": PEOPLE - 1, "excluded": 1}


@pytest.mark.parametrize("elsewhere", [moved, copied])
def test_another_list_of_that_name_holds_nobody_back_and_is_refused(
    witness: Witness, folder: Path, say: Say, elsewhere: Callable[[Path], Path]
) -> None:
    new = elsewhere(folder)
    (new / "held.csv").write_text("somebody else\n")
    status, _, err = say("resume", new / "people.csv.adapty.db")
    assert status == 2
    assert "isn't the exclude list held.csv that this job had: its content differs: put held.csv back as it was" in err
    assert not witness.log


def test_a_list_that_stays_where_it_is_may_be_edited(witness: Witness, folder: Path) -> None:
    (folder / "held.csv").write_text("\n".join([ids(1)[0], ids(PEOPLE)[-1]]))
    assert run("resume", folder / "people.csv.adapty.db") == 0
    assert set(witness.profiles.customer_user_ids) == {*ids(HELD), ids(PEOPLE)[-1]}
    moved(folder)
    assert run("resume", folder.with_name("moved") / "people.csv.adapty.db") == 0


def test_a_list_that_is_gone_is_replaced_by_an_unchanged_copy_alone(
    witness: Witness, folder: Path, tmp_path: Path, say: Say
) -> None:
    ledger, copy, other = folder / "people.csv.adapty.db", tmp_path / "copy.csv", tmp_path / "other.csv"
    (folder / "held.csv").rename(copy)
    other.write_text(f"{ids(1)[0]}\n\n")
    status, _, err = say("resume", ledger)
    assert status == 2
    assert "held.csv doesn't exist, and its IDs must not be sent: put held.csv back as it was, or name" in err
    status, _, err = say("resume", ledger, "--exclude", other)
    assert status == 2
    assert f"{other} isn't the exclude list held.csv that this job had: its content differs" in err
    assert not witness.log
    assert run("resume", ledger, "--exclude", other, "--exclude", copy) == 0
    assert set(witness.profiles.customer_user_ids) == set(ids(HELD))
    assert [path.name for path in order_in(ledger).exclude.values()] == ["copy.csv", "held.csv", "other.csv"]
    assert next(iter(order_in(ledger).exclude)) == "held.csv"
    assert run("resume", ledger) == 0


def test_what_a_kill_left_of_the_failures_is_removed_where_the_folder_is_now(witness: Witness, folder: Path) -> None:
    part = folder / "failures.csv.0123abcd.part"
    part.touch(0o600)
    new = moved(folder)
    folder.mkdir()
    others = folder / part.name
    others.touch(0o600)
    assert run("status", new / "people.csv.adapty.db") == 0
    assert not (new / part.name).exists()
    assert others.exists()


def test_a_command_that_was_printed_for_a_moved_job_names_the_files_where_they_are(
    witness: Witness, folder: Path, say: Say
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    new = moved(folder)
    _, _, err = say("resume", new / "people.csv.adapty.db", "--failures", new / "again.csv")
    (typed,) = [line for line in err.splitlines() if line.startswith("  adapty-async delete ")]
    for file in (new / "held.csv", new / "lists" / "held.csv"):
        assert str(file) in shlex.split(typed)
