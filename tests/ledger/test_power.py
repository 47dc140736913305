"""A power failure at any moment: no commit and no item is lost, and no outcome is recorded that wasn't reached."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from adapty_async.ledger import LedgerLostError, LedgerReader, files
from adapty_async.ledger.store import Store
from tests.disk import Disk, Event, Failure
from tests.power import ITEMS, KINDS, Kind, Recording, Server, cut, run_job, violations

pytestmark = pytest.mark.no_cover  # the same lines run again and again


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_breaks_no_promise(kind: Kind) -> None:
    """`make test-power` does this for 1,000 states."""
    assert list(violations(kind, 14, 1)) == []


def test_a_copy_of_a_ledger_that_was_removed_is_safe_once_it_is_told(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    path = ledger / "job.db"
    asyncio.run(run_job("delete", path, Server(1, set(), lambda _: None)))
    disk = Disk(ledger)
    with disk.recording(), Store.open(path) as store:
        path.unlink()
        with pytest.raises(LedgerLostError, match="its data is in"):
            store.check_files()
        told = len(disk.events)
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        cut(Recording("delete", disk, seed), told, folder, random.Random(seed))  # noqa: S311 - repeatable
        with LedgerReader(folder / "job.db.rescued") as reader:
            assert sum(reader.status().counts.values()) == ITEMS


class TestTheLayerFinds:
    """Without any one of these precautions, the test above finds violations."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_database_that_waits_for_no_disk(self, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = files.connect_to_write

        def connect_in_a_hurry(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            connection.execute("PRAGMA synchronous = OFF")
            return connection

        monkeypatch.setattr(files, "connect_to_write", connect_in_a_hurry)
        assert next(violations(kind, 100, 1), None) is not None

    @pytest.mark.parametrize(
        "name", ["job.db", "job.db-wal", "job.db.new", "job.db.key.new", "job.db.spool.part", "the names"]
    )
    def test_a_file_that_is_not_synced(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def forgetful(disk: Disk, event: Event) -> Failure | None:
            is_dropped = (
                event.kind == "sync names" if name == "the names" else event == Event("sync", name, event.inode)
            )
            return None if is_dropped else do(disk, event)

        do = Disk.do
        monkeypatch.setattr(Disk, "do", forgetful)
        assert next(violations("delete spooled", 400, 1), None) is not None
