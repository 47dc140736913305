"""The log that a kill leaves next to a ledger, byte by byte. SQLite recognizes it by length, checksums and salt."""

import contextlib
import os
import resource
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from adapty_async.ledger import LedgerReader, LedgerUnreadableError
from adapty_async.ledger.store import CommitData, JobRow, Presence, Store
from adapty_async.ledger.wal_damage import is_log_damaged, is_log_start_damaged
from tests.unprivileged import permissions_holding

PAGE: Final = 512
HEAD: Final = 32
FRAME: Final = 24 + PAGE


def committed(path: Path, *, page: int = PAGE, commits: int = 5) -> Iterator[sqlite3.Connection]:
    """Create a database with a log, and commit one row at a time. Yield it after each commit."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE item (number INTEGER)")
        for number in range(commits):
            database.execute("INSERT INTO item VALUES (?)", (number,))
            yield database


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of six commits, each of one page except the first."""
    copy = tmp_path / "log"
    for _ in committed(tmp_path / "some.db"):
        shutil.copy(tmp_path / "some.db-wal", copy)
    return copy


def flip(file: Path, byte: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("page", [512, 4096, 65536])
def test_after_each_commit_it_is_sound(tmp_path: Path, page: int) -> None:
    for _ in committed(tmp_path / "some.db", page=page):
        assert not is_log_damaged(tmp_path / "some.db-wal")
    assert not is_log_start_damaged(tmp_path / "some.db-wal")


def test_what_is_left_of_an_earlier_round_is_no_damage(tmp_path: Path) -> None:
    for number, database in enumerate(committed(tmp_path / "some.db", commits=12)):
        if number == 8:
            database.execute("PRAGMA wal_checkpoint(RESTART)")  # the next commit overwrites the first one
        assert not is_log_damaged(tmp_path / "some.db-wal")


@pytest.mark.parametrize("byte", [0, 4, 8, 12, 16, 20, 24, 28])
def test_a_byte_of_its_head_that_has_changed_is_damage_for_all_of_it_is_lost(log: Path, byte: int) -> None:
    flip(log, byte)
    assert is_log_damaged(log)


def test_any_byte_that_has_changed_before_the_last_commit_is_damage(log: Path) -> None:
    data = log.read_bytes()
    last = len(data) - FRAME
    for byte in [*range(HEAD, last, 41), *range(last - FRAME, last - FRAME + 24), last - 1]:
        log.write_bytes(data)
        flip(log, byte)
        assert is_log_damaged(log), byte


def test_the_last_commit_may_be_torn_for_nobody_was_told_of_it(log: Path) -> None:
    data = log.read_bytes()
    for byte in range(len(data) - FRAME, len(data), 7):
        log.write_bytes(data)
        flip(log, byte)
        assert not is_log_damaged(log), byte


def test_wherever_it_is_cut_off_it_is_sound(log: Path) -> None:
    data = log.read_bytes()
    for size in [*range(0, len(data), 53), 10, HEAD - 1, HEAD, HEAD + 24, HEAD + FRAME, len(data) - 1]:
        log.write_bytes(data[:size])
        assert not is_log_damaged(log), size


def test_one_of_a_machine_that_sums_the_other_way_round_is_as_sound_and_as_damaged(tmp_path: Path, log: Path) -> None:
    _sum_the_other_way_round(log)
    shutil.copy(tmp_path / "some.db", tmp_path / "other.db")
    shutil.copy(log, tmp_path / "other.db-wal")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:  # SQLite accepts it
        assert database.execute("SELECT COUNT(*) FROM item").fetchone() == (5,)
    assert not is_log_damaged(log)
    assert not is_log_start_damaged(log)
    flip(log, HEAD + 24)
    assert is_log_damaged(log)


def _sum_the_other_way_round(log: Path) -> None:
    data = bytearray(log.read_bytes())
    (magic,) = struct.unpack(">I", data[:4])
    data[:4] = struct.pack(">I", magic ^ 1)
    order = ">" if magic & 1 == 0 else "<"
    first = second = 0
    for begin, summed in [(0, 24), *((begin, 8) for begin in range(HEAD, len(data), FRAME))]:
        parts = data[begin : begin + summed] + (data[begin + 24 : begin + FRAME] if begin else b"")
        words = struct.unpack(f"{order}{len(parts) // 4}I", parts)
        for one, other in zip(words[::2], words[1::2], strict=True):
            first = (first + one + second) % 2**32
            second = (second + other + first) % 2**32
        at = begin + (24 if begin == 0 else 16)
        data[at : at + 8] = struct.pack(">II", first, second)
    log.write_bytes(data)


def test_where_there_is_none_or_an_empty_one_its_head_is_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not is_log_start_damaged(log)
    log.touch()
    assert not is_log_start_damaged(log)
    log.write_bytes(bytes(HEAD))  # a power cut may leave a header unwritten; no frame follows it
    assert not is_log_start_damaged(log)
    log.write_bytes(b"another's" * 10)
    assert is_log_start_damaged(log)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return a ledger as left by a kill, with a log of three commits."""
    folder = tmp_path / "killed"
    folder.mkdir()

    def make(store: Store) -> None:
        store.write(CommitData(job=JobRow(0, "delete", "customer_user_id", "https://api.test", "", b"", items=None)))

    with Store.open(tmp_path / "job.db", make) as store:
        for number in range(3):
            with store.transaction():
                store.write_presences([Presence(number, 1, present=False)])
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"job.db{suffix}", folder / f"job.db{suffix}")
    return folder / "job.db"


def test_a_log_whose_header_a_power_cut_left_unwritten_stops_no_job(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    job = JobRow(0, "delete", "customer_user_id", "https://api.test", "", b"", items=None)
    with Store.open(path, lambda store: store.write(CommitData(job=job))):
        pass
    path.with_name("job.db-wal").write_bytes(bytes(HEAD))
    with Store.open(path) as store:
        store.check_files()
        assert store.read_job() == job


def test_what_is_in_the_log_alone_is_read_and_gone_on_with(killed: Path) -> None:
    with LedgerReader(killed) as reader:
        assert [found.position for found in reader.verification_results()] == [0, 1, 2]
    with Store.open(killed) as store:
        assert [found.position for found in store.iter_presences()] == [0, 1, 2]


def test_who_may_only_read_it_while_it_is_written_reads_what_is_in_the_log_alone(killed: Path) -> None:
    with permissions_holding(), Store.open(killed) as store, store.transaction():
        store.write_presences([Presence(3, 1, present=False)])
        for suffix in ("", "-wal", "-shm"):
            killed.with_name(f"job.db{suffix}").chmod(0o400)
        with LedgerReader(killed) as reader:
            assert [found.position for found in reader.verification_results()] == [0, 1, 2]


def test_a_log_that_is_damaged_is_named_by_whoever_opens_the_ledger(killed: Path) -> None:
    flip(killed.with_name("job.db-wal"), HEAD + 24)
    for use in (LedgerReader, Store.open):
        with pytest.raises(
            LedgerUnreadableError, match=r"job\.db-wal is damaged: restore it and job\.db from a backup"
        ):
            use(killed)


def test_a_process_without_a_free_descriptor_does_not_take_the_log_for_overwritten(tmp_path: Path) -> None:
    log = tmp_path / "job.db-wal"
    log.write_bytes(b"overwritten" * 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with contextlib.suppress(OSError):
            while True:
                stack.enter_context(Path(os.devnull).open("rb"))
        seen = is_log_start_damaged(log)
    assert not seen
    assert is_log_start_damaged(log)
