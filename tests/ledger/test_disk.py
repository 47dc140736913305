"""Full and slow disks.

If the disk is full, there is one clear error, every claim is on the disk, and the job can be finished once there is
space.
"""

import contextlib
import random
import time
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyClient, FixedPacer, ProfileAttributes, bulk
from adapty_async.bulk import Outcome
from adapty_async.ledger import Ledger, LedgerReader, LedgerWriteError
from adapty_async.ledger.session_state import SessionState
from adapty_async.ledger.store import CommitData
from adapty_async.testing import Simulator

from ..full_disk import full_disk
from .helpers import NO_RULES, ids, totals


@pytest.mark.parametrize(
    ("size", "items"),
    [(0, 1200), (4_096, 1200), (20_000, 1200), (60_000, 1200), pytest.param(110_000, 3000, marks=pytest.mark.no_cover)],
)
async def test_a_full_disk_is_one_error_and_the_job_goes_on_when_there_is_room(
    tmp_path: Path, size: int, items: int
) -> None:
    path = tmp_path / "job.db"
    async with (
        Simulator(profiles=items) as simulator,
        AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        reports: list[bulk.BulkReport] = []
        job = bulk.delete_profiles(
            client,
            ids(items),
            by="customer_user_id",
            pacer=UNPACED,
            stop=NO_RULES,
            ledger=Ledger(path),
            on_progress=reports.append,
        )
        with full_disk(size), pytest.raises(LedgerWriteError, match=r"make room|another place") as caught:
            await job
        assert "example.com" not in str(caught.value)
        sent = simulator.stats.requests
        if sent:
            with LedgerReader(path) as reader:
                status = reader.status()
            assert status.counts.get(Outcome.DELETED, 0) + status.claimed >= sent
            assert reports[-1].counts.get(Outcome.DELETED, 0) <= status.counts.get(Outcome.DELETED, 0)
        await bulk.delete_profiles(
            client, ids(items), by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=Ledger(path)
        )
        counts = totals(path)
        assert counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert sum(counts.values()) == items
        assert len(simulator.profiles) == 0


@pytest.mark.no_cover  # thousands of items
async def test_an_update_on_a_full_disk_is_in_no_doubt_that_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    changes = [(who, ProfileAttributes(first_name="Jane")) for who in ids(4000)]
    async with (
        Simulator(profiles=4000) as simulator,
        AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        with full_disk(100_000), pytest.raises(LedgerWriteError):
            await bulk.update_profiles(client, changes, by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
        sent = simulator.stats.requests
        with LedgerReader(path) as reader:
            status = reader.status()
        assert sent
        assert status.counts.get(Outcome.UPDATED, 0) <= sent <= status.counts.get(Outcome.UPDATED, 0) + status.claimed
        await bulk.update_profiles(client, changes, by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
        assert totals(path) == {Outcome.UPDATED: 4000}


@pytest.mark.parametrize("seed", range(4))
async def test_where_writes_fail_now_and_then_each_run_goes_on_where_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path, chance, write = tmp_path / "job.db", random.Random(seed), SessionState.write  # noqa: S311 - no secret
    writes = 0

    def write_sometimes(self: SessionState, writing: CommitData) -> None:
        nonlocal writes
        writes += 1
        if writes == 3 or chance.random() < 0.3:
            raise LedgerWriteError("no room: make some")
        write(self, writing)

    monkeypatch.setattr(SessionState, "write", write_sometimes)
    changes = [(who, ProfileAttributes(first_name="Jane")) for who in ids(1200)]
    async with (
        Simulator(profiles=1200) as simulator,
        AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        while True:
            job = bulk.update_profiles(client, changes, by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
            with contextlib.suppress(LedgerWriteError):
                await job
                break
            executed = sum("first_name" in profile.attributes for profile in simulator.profiles.values())
            with LedgerReader(path) as reader:
                status = reader.status()
            updated = status.counts.get(Outcome.UPDATED, 0)
            assert updated <= executed <= updated + status.claimed
            assert job.report.counts.get(Outcome.UPDATED, 0) <= updated
    assert totals(path) == {Outcome.UPDATED: 1200}


async def test_a_slow_disk_is_asked_for_more_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = SessionState.write
    commits = 0

    def write_slowly(self: SessionState, writing: CommitData) -> None:
        nonlocal commits
        commits += 1
        time.sleep(0.5)  # more than the time in which a busy machine sends the claimed items
        write(self, writing)

    monkeypatch.setattr(SessionState, "write", write_slowly)
    async with (
        Simulator(profiles=300) as simulator,
        AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        report = await bulk.delete_profiles(
            client,
            ids(300),
            by="customer_user_id",
            pacer=FixedPacer(500),
            stop=NO_RULES,
            ledger=Ledger(tmp_path / "job.db"),
        )
    assert report.total == 300
    assert commits < 20
