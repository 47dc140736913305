"""A flipped bit in a ledger is detected, or makes no difference."""

import shutil
from pathlib import Path

import pytest

from adapty_async.ledger import LedgerReader, LedgerUnreadableError
from adapty_async.ledger.wal_damage import is_log_damaged
from tests import power
from tests.flips import cases, flip, violations

pytestmark = pytest.mark.no_cover  # the same lines run again and again


def test_a_flipped_bit_is_noticed_or_harmless() -> None:
    """`make test-flips` does this for 3,000 bits."""
    assert list(violations(60, 1)) == []


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the ledger of a job that was killed, with its log."""
    monkeypatch.setattr(power, "ITEMS", 1300)
    return cases(tmp_path)[0].folder / "job.db"


def log_of(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}-wal")


@pytest.mark.parametrize("byte", [0, 9, 17, 25, 33, 41, 49, 100])
def test_a_log_that_has_changed_before_its_last_commits_is_refused(killed: Path, byte: int) -> None:
    flip(log_of(killed), 8 * byte)
    with pytest.raises(LedgerUnreadableError, match=r"job.db-wal is damaged: restore it and job.db from a backup"):
        LedgerReader(killed)


def test_a_log_that_a_power_cut_has_cut_off_is_sound(killed: Path, tmp_path: Path) -> None:
    log = log_of(killed)
    data = log.read_bytes()
    copy = tmp_path / "copy"
    for size in (0, 10, 32, 40, 32 + 24, 32 + 24 + 4096, len(data) - 1, len(data) - 5000, len(data)):
        copy.write_bytes(data[:size])
        assert not is_log_damaged(copy)


def test_the_last_commit_alone_may_be_torn(killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(log_of(killed), copy)
    flip(copy, 8 * (copy.stat().st_size - 10))
    assert not is_log_damaged(copy)
