"""The copy of an input that can't be read twice."""

import io
import stat
from pathlib import Path

import pytest

from adapty_async.ledger import LedgerWriteError, Spool

from .test_disk import no_file_larger_than


def test_a_spool_holds_the_input_until_it_is_discarded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "job.db")
    assert not spool.is_filled
    spool.fill(io.BytesIO(b"u1\nu2\n"))
    assert spool.is_filled
    with spool.open() as copy:
        assert copy.read() == b"u1\nu2\n"
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    spool.discard()
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_part_of_the_input_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "job.db")
    with no_file_larger_than(1000), pytest.raises(LedgerWriteError, match="make room"):
        spool.fill(io.BytesIO(b"somebody@example.com\n" * 1000))
    assert not spool.is_filled
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_copy_is_no_copy(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "job.db")
    (tmp_path / "job.db.spool.part").write_bytes(b"u1\nu")
    assert not spool.is_filled
    spool.fill(io.BytesIO(b"u1\nu2\n"))
    assert [file.name for file in tmp_path.iterdir()] == ["job.db.spool"]
