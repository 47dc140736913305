"""Clocks with a time that a ledger can't store: no job starts with one, and it loses no outcome during a job."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome
from adapty_async.bulk.api import job_spec
from adapty_async.http.clocks import Moment
from adapty_async.ledger import Ledger, LedgerError, LedgerReader, build_record, ledger, prepare
from adapty_async.testing import Simulator

from .helpers import NO_RULES, ids, rows, totals

BEYOND = pytest.mark.parametrize(
    ("wall", "when"),
    [(-1.0, "before 1970"), (-1e12, "before 1970"), (2.0**32, "after February 2106"), (1e13, "after February 2106")],
)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(profiles=100) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


async def delete(client: AdaptyClient, path: Path) -> None:
    await bulk.delete_profiles(
        client, ids(100), by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=Ledger(path)
    )


@BEYOND
@pytest.mark.parametrize("is_prepared", [False, True])
async def test_no_job_begins_or_goes_on(
    simulator: Simulator,
    client: AdaptyClient,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wall: float,
    when: str,
    *,
    is_prepared: bool,
) -> None:
    if is_prepared:
        prepare(path, job_spec(client, "delete", "customer_user_id"), ids(100), job_options={}, file=None)
    monkeypatch.setattr(time, "time", lambda: wall)
    with pytest.raises(LedgerError, match=f"shows a date {when}, which a ledger can't store: set the clock"):
        await delete(client, path)
    assert simulator.stats.requests == 0


@BEYOND
async def test_nothing_is_prepared(
    client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch, wall: float, when: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: wall)
    with pytest.raises(LedgerError, match=when):
        prepare(path, job_spec(client, "delete", "customer_user_id"), ids(100), job_options={}, file=None)
    assert not list(path.parent.iterdir())


@BEYOND
async def test_a_clock_that_is_set_so_during_a_run_costs_no_outcome(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch, wall: float, when: str
) -> None:
    looks = iter([time.time()])  # correct when the ledger is opened
    monkeypatch.setattr(ledger, "read_clocks", lambda loop=0.0: Moment(next(looks, wall), 7.0, loop))
    await delete(client, path)
    assert totals(path) == {Outcome.DELETED: 100}
    assert {row.at for row in rows(path)} == {None if wall < 0 else 2**32 - 1}, when
    with LedgerReader(path) as reader:
        assert build_record(reader).as_markdown()
