"""A disk on which the n-th operation fails, for every n: one message, no item is lost, and the job can be finished."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli import main
from adapty_async.ledger import LedgerError, LedgerReader
from adapty_async.testing import Simulator, prefilled_customer_user_id
from tests import power
from tests.cli.served import served, settings_for
from tests.disk import Disk, Event, Failure
from tests.power import DONE, Kind, Server, run_job
from tests.waiting import PATIENCE

pytestmark = pytest.mark.no_cover  # the same lines run again and again

ITEMS: Final = 25
FAILURES: Final[tuple[Failure, ...]] = ("EIO", "ENOSPC", "short")
DELETE: Final = ("delete", "people.csv", "--by", "customer_user_id", "--yes", "--pace", "100000")


class Nth:
    """Make the n-th operation fail, or all from then on. `done`: whether there was an n-th operation."""

    def __init__(self, number: int, failure: Failure, *, for_good: bool) -> None:
        self._number = number
        self._failure: Failure = failure
        self._for_good = for_good
        self.count = 0

    def __call__(self, event: Event) -> Failure | None:
        if event.kind == "mark" and event.mark[0] != "create":
            return None
        self.count += 1
        fails = self.count >= self._number if self._for_good else self.count == self._number
        return self._failure if fails else None

    @property
    def came(self) -> bool:
        return self.count >= self._number


@pytest.fixture(autouse=True)
def _few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "ITEMS", ITEMS)


def folders(tmp_path: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        yield folder


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("kind", ["delete spooled", "update"])
def test_a_job_whose_nth_operation_fails(tmp_path: Path, kind: Kind, failure: Failure, *, for_good: bool) -> None:
    for number, folder in enumerate(folders(tmp_path), 1):
        nth = Nth(number, failure, for_good=for_good)
        executed: set[str] = set()
        server = Server(1, executed, lambda _: None)
        try:
            with Disk(folder, nth).recording():
                asyncio.run(asyncio.wait_for(run_job(kind, folder / "job.db", server), PATIENCE))
        except LedgerError as error:
            check_sentence(error)
        check_rows(folder / "job.db", kind, executed, number)
        finish(kind, folder / "job.db", executed)
        if not nth.came:
            return
    raise AssertionError("there is no end")


def check_sentence(error: LedgerError) -> None:
    assert ": " in str(error)  # cause: remedy


def check_rows(path: Path, kind: Kind, executed: set[str], number: int) -> None:
    try:
        with LedgerReader(path) as reader:
            rows = list(reader.rows())
    except LedgerError:
        assert not executed, number
        return
    known = {f"u{row.position}": row for row in rows}
    for who in executed:
        assert known[who].claimed or known[who].outcome is not None, number
    for who, row in known.items():
        if row.outcome in DONE[kind.split()[0]]:
            assert who in executed, number


def finish(kind: Kind, path: Path, executed: set[str]) -> None:
    server = Server(2, executed, lambda _: None)
    asyncio.run(asyncio.wait_for(run_job(kind, path, server), PATIENCE))
    with LedgerReader(path) as reader:
        rows = list(reader.rows())
    assert len(rows) == ITEMS
    assert {row.standing for row in rows} <= DONE[kind.split()[0]]
    assert len(executed) == ITEMS


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("read", [LedgerReader.status, LedgerReader.digest, lambda reader: reader.find_rows("u1")])
def test_a_reader_whose_nth_operation_fails(
    tmp_path: Path, failure: Failure, read: Callable[[LedgerReader], object]
) -> None:
    asyncio.run(run_job("delete", tmp_path / "job.db", Server(1, set(), lambda _: None)))
    with LedgerReader(tmp_path / "job.db") as reader:
        expected = read(reader)
    for number in range(1, 1000):
        nth = Nth(number, failure, for_good=False)
        try:
            with Disk(tmp_path, nth).recording(), LedgerReader(tmp_path / "job.db") as reader:
                assert read(reader) == expected, number
        except LedgerError as error:
            check_sentence(error)
        if not nth.came:
            return
    raise AssertionError("there is no end")


@pytest.mark.parametrize(("failure", "first"), [("EIO", 1), ("ENOSPC", 4), ("short", 7)])
def test_a_command_whose_nth_operation_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    failure: Failure,
    first: int,
) -> None:
    with served(Simulator()) as sim:
        for name, value in settings_for(sim).items():
            monkeypatch.setenv(name, value)
        for number, folder in zip(range(first, 10_000, 9), folders(tmp_path), strict=False):
            monkeypatch.chdir(folder)
            ids = [prefilled_customer_user_id(1000 * number + each) for each in range(ITEMS)]
            for who in ids:
                sim.add_profile(customer_user_id=who)
            people = folder / "people.csv"
            people.write_text("\n".join(ids))
            nth = Nth(number, failure, for_good=False)
            with Disk(folder, nth).recording():
                status = main(list(DELETE))
            err = capfd.readouterr().err
            assert status in {0, 2, 5}, (number, status, err)
            assert "a bug" not in err
            assert "Traceback" not in err
            ledger = folder / "people.csv.adapty.db"
            again = ["resume", str(ledger)] if ledger.exists() else list(DELETE)
            # If the last commit failed after everything was deleted, all profiles are absent: status 3, with a hint.
            assert main(again) in ({0, 3} if status == 5 else {0}), (number, err, capfd.readouterr().err)
            with LedgerReader(ledger) as reader:
                totals = {outcome for outcome, count in reader.status().totals.items() if count}
            assert totals <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
            assert not set(ids) & set(sim.profiles.customer_user_ids)
            if not nth.came:
                return
    raise AssertionError("there is no end")
