import csv
import stat
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.books import Books
from adapty_async.cli.exits import CommandError, ExitStatus
from adapty_async.cli.failures import ADDED, FailuresFile
from adapty_async.cli.inputs import Reading, Row
from tests.full_disk import full_disk

READING = Reading(["customer_user_id"], 0, has_header=True)


def test_failures_alone_are_written_down_with_outcome_reason_and_line(tmp_path: Path) -> None:
    path = tmp_path / "failures.csv"
    with FailuresFile(path, READING) as file:
        books = Books(5, file)
        books.enter(Row(2, "u1"), Outcome.DELETED)
        books.enter(Row(3, 'a,"b"', record=['a,"b"']), Outcome.FAILED, "DELETE: 500", 500)
        books.enter(Row(4, ""), Outcome.INVALID, "the row has 2 fields instead of 1")
        books.enter(Row(6, "u6", record=["u6"]), Outcome.EXCLUDED, "held.csv")
        books.enter(Row(5, "u1"), Outcome.DUPLICATE)
    with path.open(newline="") as written:
        assert list(csv.reader(written)) == [
            ["customer_user_id", *ADDED],
            ['a,"b"', "failed", "DELETE: 500", "500", "3"],
            ["", "invalid", "the row has 2 fields instead of 1", "", "4"],
        ]


def test_each_failure_stands_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "failures.csv"
    with FailuresFile(path, READING) as file:
        file.write(Row(1, "p1", record=["p1"]), Outcome.FAILED, "")
        assert path.read_text() == f"customer_user_id,{','.join(ADDED)}\np1,failed,,,1\n"


def test_only_the_owner_may_read_the_failures(tmp_path: Path) -> None:
    with FailuresFile(tmp_path / "failures.csv", READING):
        assert stat.S_IMODE((tmp_path / "failures.csv").stat().st_mode) == 0o600


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "failures.csv"
    path.write_text("of yesterday")
    with pytest.raises(CommandError, match="another name") as refusal:
        FailuresFile(path, READING)
    assert refusal.value.status is ExitStatus.USAGE
    assert path.read_text() == "of yesterday"


def test_a_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        FailuresFile(tmp_path / "missing" / "failures.csv", READING)


def test_a_disk_that_is_full_from_the_start_is_refused(tmp_path: Path) -> None:
    with full_disk(5), pytest.raises(CommandError, match="File too large"):
        FailuresFile(tmp_path / "failures.csv", READING)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_trouble_and_no_exception(tmp_path: Path) -> None:
    with full_disk(100), FailuresFile(tmp_path / "failures.csv", READING) as file:
        books = Books(9, file)
        for line in range(1, 10):
            books.enter(Row(line, "p" * 20), Outcome.FAILED)
        assert books.trouble is not None
        assert books.trouble.status is ExitStatus.LEDGER
        assert books.standing.failed == 9


def test_the_standing_tells_done_from_failed_and_stays_as_it_is() -> None:
    books = Books(5)
    books.enter(Row(1, "u1"), Outcome.DELETED)
    books.enter(Row(2, "u2"), Outcome.IN_DOUBT)
    standing = books.standing
    books.enter_unread()
    assert (standing.total, standing.done, standing.failed, standing.left) == (5, 1, 1, 3)
    assert books.standing.counts[Outcome.NOT_ATTEMPTED] == 3
    assert books.trouble is None
