"""The file of failures is input again: the columns of the input, and what went wrong beside them."""

import csv
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.exits import CommandError, ExitStatus
from adapty_async.cli.failures import Failure, check_free, write_failures
from adapty_async.cli.inputs import Reading, Row, open_ids


def written(folder: Path, content: str, *, column: str | None = None) -> list[list[str]]:
    """Write a file of failures in which each row of an input failed, and read it as CSV."""
    source, path = folder / "people.csv", folder / "failures.csv"
    source.write_text(content, encoding="utf-8")
    with open_ids(source, by="customer_user_id", column=column) as ids:
        failures = (Failure(row, Outcome.FAILED, "why", 500) for row in ids.as_written())
        write_failures(path, ids.reading(), failures)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


ADDED = "outcome,reason,status,line"


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ("u1\n", None, [f"customer_user_id,{ADDED}", "u1,failed,why,500,1"]),
        ("id\nu1\n", None, [f"customer_user_id,{ADDED}", "u1,failed,why,500,2"]),
        (
            "line,status,customer_user_id,outcome\n9,old,u1,old\n",
            None,
            [f"customer_user_id,{ADDED}", "u1,failed,why,500,2"],
        ),
        ("line,note\nu1,n\n", "line", ["line,note,outcome,reason,status", "u1,n,failed,why,500"]),
        ("customer_user_id,note\nu1,n,more\n", None, [f"customer_user_id,note,{ADDED}", ",,failed,why,500,2"]),
    ],
    ids=["no header", "another name", "fed back", "a column of our name", "a row that can't be read"],
)
def test_the_columns_of_the_input_stay(tmp_path: Path, content: str, column: str | None, expected: list[str]) -> None:
    assert [",".join(row) for row in written(tmp_path, content, column=column)] == expected


def test_what_was_written_is_read_as_the_same_ids(tmp_path: Path) -> None:
    written(tmp_path, 'note,customer_user_id\n"a\n""b""",u 1\n,Müller\n')
    with open_ids(tmp_path / "failures.csv", by="customer_user_id") as ids:
        assert list(ids.plain()) == ["u 1", "Müller"]


def test_it_is_there_whole_or_not_at_all_and_its_owners_alone(tmp_path: Path) -> None:
    path, reading = tmp_path / "failures.csv", Reading(["id"], 0, has_header=True)

    def failing() -> Iterator[Failure]:
        yield Failure(Row(1, "u1", record=["u1"]), Outcome.FAILED, "", None)
        raise OSError(28, "No space left on device")

    with pytest.raises(CommandError, match=r"No space left .* make room") as trouble:
        write_failures(path, reading, failing())
    assert trouble.value.status is ExitStatus.LEDGER
    assert list(tmp_path.iterdir()) == []
    write_failures(path, reading, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_place_where_it_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "failures.csv"):
        with pytest.raises(CommandError, match="give --failures another name"):
            check_free(path)
