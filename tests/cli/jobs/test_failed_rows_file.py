"""The failed rows file is valid input. It has the columns of the input and the cause of each failure."""

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.exit_status import CommandError, ExitStatus
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.input_types import InputSchema, Row
from adapty_async.cli.jobs.failed_rows_file import FailedRow, check_new_file, write_failed_rows
from adapty_async.cli.output.atomic_files import create_partial_file
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, acting_after
from tests.cli.witness import Say, Witness, ledger_of

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def written(folder: Path, content: str, *, column: str | None = None) -> list[list[str]]:
    """Write a failed rows file in which each row of an input failed, and read it as CSV."""
    source, path = folder / "people.csv", folder / "failures.csv"
    source.write_text(content, encoding="utf-8")
    with open_id_input(source, by="customer_user_id", column=column) as ids:
        failures = (FailedRow(row, Outcome.FAILED, "why", 500) for row in ids.iter_raw_rows())
        write_failed_rows(path, ids.read_schema(), failures)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


ADDED = "adapty_outcome,adapty_reason,adapty_status,adapty_line"


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ("u1\n", None, [f"customer_user_id,{ADDED}", "u1,failed,why,500,1"]),
        ("id\nu1\n", None, [f"customer_user_id,{ADDED}", "u1,failed,why,500,2"]),
        (
            "line,status,customer_user_id,outcome,reason\n9,active,u1,won,none\n",
            None,
            [f"line,status,customer_user_id,outcome,reason,{ADDED}", "9,active,u1,won,none,failed,why,500,2"],
        ),
        (
            "adapty_line,status,customer_user_id,adapty_outcome\n9,active,u1,old\n",
            None,
            [f"status,customer_user_id,{ADDED}", "active,u1,failed,why,500,2"],
        ),
        (
            "adapty_line,note\nu1,n\n",
            "adapty_line",
            ["adapty_line,note,adapty_outcome,adapty_reason,adapty_status", "u1,n,failed,why,500"],
        ),
        ("customer_user_id,note\nu1,n,more\n", None, [f"customer_user_id,note,{ADDED}", ",,failed,why,500,2"]),
    ],
    ids=["no header", "another name", "its own status", "fed back", "ids under our name", "a row that can't be read"],
)
def test_the_columns_of_the_input_stay(tmp_path: Path, content: str, column: str | None, expected: list[str]) -> None:
    assert [",".join(row) for row in written(tmp_path, content, column=column)] == expected


def test_what_was_written_is_read_as_the_same_ids(tmp_path: Path) -> None:
    written(tmp_path, 'note,customer_user_id\n"a\n""b""",u 1\n,Müller\n')
    with open_id_input(tmp_path / "failures.csv", by="customer_user_id") as ids:
        assert list(ids.iter_raw_ids()) == ["u 1", "Müller"]


def test_it_is_there_whole_or_not_at_all_and_its_owners_alone(tmp_path: Path) -> None:
    path, reading = tmp_path / "failures.csv", InputSchema(["id"], 0, has_header=True)

    def failing() -> Iterator[FailedRow]:
        yield FailedRow(Row(1, "u1", fields=["u1"]), Outcome.FAILED, "", None)
        raise OSError(28, "No space left on device")

    with pytest.raises(CommandError, match=r"No space left .* free some space") as trouble:
        write_failed_rows(path, reading, failing())
    assert trouble.value.status is ExitStatus.LEDGER
    assert list(tmp_path.iterdir()) == []
    write_failed_rows(path, reading, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_place_where_it_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "failures.csv"):
        with pytest.raises(CommandError, match="give --failures another name"):
            check_new_file(path)


def test_a_file_that_somebody_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path, reading = tmp_path / "failures.csv", InputSchema(["id"], 0, has_header=True)
    path.write_text("of somebody else")
    (tmp_path / "failures-2.csv").write_text("and this")
    found, _ = write_failed_rows(path, reading, [FailedRow(Row(1, "u1", fields=["u1"]), Outcome.FAILED, "why", None)])
    assert found == tmp_path / "failures-3.csv"
    assert found.read_text().startswith("id,")
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert path.read_text() == "of somebody else"
    assert sorted(tmp_path.iterdir()) == sorted([path, found, tmp_path / "failures-2.csv"])


@pytest.mark.parametrize("suffix", ["", ".key", ".lock", "-wal", ".spool"])
def test_what_the_ledger_needs_is_no_file_of_failures(witness: Witness, people: Path, say: Say, suffix: str) -> None:
    ledger = ledger_of(people)
    status, out, err = say(*DELETE, people, "--failures", f"{ledger}{suffix}")
    assert (status, out) == (2, "")
    assert "is needed by the job itself" in err
    assert witness.stats.requests == 0
    assert not ledger.exists()


def test_a_name_taken_while_the_job_ran_is_said_with_the_one_that_was_used(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    failures = tmp_path / "failures.csv"
    witness.inject(Fault.REDIRECT, method="DELETE")
    with acting_after(witness, 1, lambda: failures.write_text("theirs")):
        status, _, err = say(*DELETE, people, "--concurrency", 2, "--failures", failures)
    assert status == 1
    assert failures.read_text() == "theirs"
    assert f"{tmp_path / 'failures-2.csv'} contains the failed rows" in err
    assert "is unchanged" in err


@pytest.mark.parametrize("command", [("status",), ("resume",), ("retry-failed",), ("anonymize", "--yes")], ids=" ".join)
def test_what_a_kill_left_of_the_failures_is_removed_by_the_next_command(
    witness: Witness, people: Path, tmp_path: Path, say: Say, command: tuple[str, ...]
) -> None:
    failures = tmp_path / "failures.csv"
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert say(*DELETE, people, "--failures", "failures.csv")[0] == 1
    left, others = tmp_path / "failures.csv.0123abcd.part", []
    for name, mode in (
        ("failures.csv.0123abcd.part", 0o600),
        ("failures.csv.89abcdef.part", 0o644),
        ("failures.csv.mine.part", 0o600),
        ("other.csv.0123abcd.part", 0o600),
    ):
        (tmp_path / name).write_text("u1")
        (tmp_path / name).chmod(mode)
        others += [tmp_path / name] * (name != left.name)
    with create_partial_file(failures, 0o600) as (written, descriptor):
        assert say(command[0], ledger_of(people), *command[1:])[0] in (0, 1)
        os.close(descriptor)
        assert not left.exists()
        assert all(other.exists() for other in [*others, written, failures])
        assert say("status", ledger_of(people))[0] == 0
        assert written.exists() == (command[0] in ("resume", "retry-failed"))  # the run had no --failures


def test_what_a_kill_left_is_removed_where_the_same_file_is_written_again(tmp_path: Path) -> None:
    left = tmp_path / "failures.csv.0123abcd.part"
    left.write_text("u1")
    left.chmod(0o600)
    write_failed_rows(tmp_path / "failures.csv", InputSchema(["id"], 0, has_header=True), [])
    assert not left.exists()
