"""A power cut at any moment: no commit is lost, nobody is lost, and nothing that wasn't done is recorded."""

import sqlite3
from pathlib import Path

import pytest

from adapty_async.ledger import files
from tests.disk import Disk, Event, Failure
from tests.power import KINDS, Kind, violations

pytestmark = pytest.mark.no_cover  # it runs the same lines again and again


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_breaks_no_promise(kind: Kind) -> None:
    """`make test-power` does this for 1,000 states."""
    assert list(violations(kind, 14, 1)) == []


class TestTheLayerFinds:
    """Were it not for each of these, the test above would have something to say."""

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
