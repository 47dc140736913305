"""A ledger that is removed, renamed or replaced while in use: nothing more is sent, and no recorded outcome is lost."""

# ruff: noqa: ASYNC240 - nothing else runs while a test waits for a small file

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyClient, FixedPacer, bulk
from adapty_async.bulk import BulkJob, Outcome
from adapty_async.bulk.operations import ProfileId
from adapty_async.ledger import (
    Ledger,
    LedgerLockedError,
    LedgerLostError,
    LedgerReader,
    file_identity,
    lock_ledger,
    open_file_check,
    verify,
)
from adapty_async.ledger.file_identity import Identity
from adapty_async.ledger.files import get_lock_path
from adapty_async.ledger.id_key import get_key_path
from adapty_async.ledger.job_preparation import update_job_options
from adapty_async.ledger.store import CommitData, ContentsRow, Presence, Store
from adapty_async.testing import Simulator
from tests.waiting import PATIENCE, until

from .helpers import NO_RULES, ids, totals

MANY = 1500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "job.db"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(profiles=MANY) as running:
        yield running


def deletion(client: AdaptyClient, path: Path, *, rate: float | None = None) -> BulkJob[ProfileId, None]:
    pacer = UNPACED if rate is None else FixedPacer(rate)
    return bulk.delete_profiles(
        client, ids(MANY), by="customer_user_id", pacer=pacer, concurrency=20, stop=NO_RULES, ledger=Ledger(path)
    )


async def sent(simulator: Simulator, count: int) -> None:
    await until(lambda: simulator.stats.requests >= count)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def remove(file: Path) -> None:
    file.unlink()


def rename(file: Path) -> None:
    file.rename(file.with_name("moved"))


def replace(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copyfile(file, copy)
    copy.replace(file)


def link(file: Path) -> None:
    """Replace the file with a link to it. Opened by the link, it has another lock and another log."""
    moved = file.rename(file.with_name("moved"))
    file.symlink_to(moved)


def make_folder(file: Path) -> None:
    """Replace the file with a folder, which may get the same inode."""
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-shm", ".key"])
@pytest.mark.parametrize("change", [remove, rename, replace])
async def test_a_job_stops_if_one_of_its_files_is_removed_renamed_or_replaced(
    simulator: Simulator, client: AdaptyClient, path: Path, suffix: str, change: Callable[[Path], None]
) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    changed = beside(path, suffix)
    if suffix == ".key" and change is replace:
        changed.write_bytes(b"another key".ljust(32))
    change(changed)
    with pytest.raises(LedgerLostError, match=f"{changed.name} was removed, renamed or replaced") as caught:
        await asyncio.wait_for(job, PATIENCE)
    assert simulator.stats.requests < MANY  # it was detected during the job
    assert "run the same job again" in str(caught.value)
    assert "example.com" not in str(caught.value)
    if changed == path:
        beside(path, ".rescued").replace(path)
    with LedgerReader(path) as reader:
        status = reader.status()
        deleted = status.counts[Outcome.DELETED]
        assert deleted <= simulator.stats.count_responses(204) <= deleted + status.claimed
    if changed == get_key_path(path):
        if change is not rename:  # it can't be restored
            return
        changed.with_name("moved").rename(changed)
    await deletion(client, path)
    assert sum(totals(path).values()) == MANY
    assert totals(path).keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
    assert len(simulator.profiles) == 0


@pytest.mark.parametrize(
    ("suffix", "change"),
    [("", link), (".lock", link), ("-wal", link), ("", make_folder), (".lock", make_folder), (".key", make_folder)],
)
async def test_what_lies_in_the_place_of_a_file_is_not_taken_for_it(
    simulator: Simulator, client: AdaptyClient, path: Path, suffix: str, change: Callable[[Path], None]
) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    change(beside(path, suffix))
    with pytest.raises(LedgerLostError, match=f"{beside(path, suffix).name} was removed, renamed or replaced"):
        await asyncio.wait_for(job, PATIENCE)
    assert simulator.stats.requests < MANY


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_ledger_or_log_that_is_overwritten_stops_the_job(
    simulator: Simulator, client: AdaptyClient, path: Path, suffix: str
) -> None:
    """As with `cp other.db job.db` or `> job.db`, which keep the file."""
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    beside(path, suffix).write_bytes(b"another's")
    with pytest.raises(LedgerLostError, match="or its log, was overwritten while it was in use") as caught:
        await asyncio.wait_for(job, PATIENCE)
    assert "restore it from a backup" in str(caught.value)
    assert simulator.stats.requests < MANY


async def test_a_key_that_is_overwritten_stops_the_job(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    get_key_path(path).write_bytes(b"another key".ljust(32))
    with pytest.raises(LedgerLostError, match="key was removed, renamed or replaced"):
        await asyncio.wait_for(job, PATIENCE)
    assert simulator.stats.requests < MANY


async def _awaited(job: BulkJob[ProfileId, None]) -> bulk.BulkReport:
    return await job


async def test_what_a_ledger_recorded_before_it_was_removed_is_in_a_copy(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    job = deletion(client, path, rate=100)
    running = asyncio.ensure_future(_awaited(job))
    await sent(simulator, 100)
    path.unlink()
    with pytest.raises(LedgerLostError, match=r"its data is in .*job.db.rescued: rename that to job.db") as caught:
        await asyncio.wait_for(running, PATIENCE)
    copy = beside(path, ".rescued")
    assert copy.stat().st_mode & 0o777 == 0o600
    with LedgerReader(copy) as reader:
        status = reader.status()
    assert status.counts[Outcome.DELETED] >= job.report.counts[Outcome.DELETED] > 0
    assert status.claimed
    assert f"which sends {status.claimed:,} rows with an unknown outcome again" in str(caught.value)
    assert {file.name for file in path.parent.iterdir()} == {"job.db.rescued", "job.db.key", "job.db.lock"}


async def test_a_ledger_that_was_renamed_holds_all_that_was_recorded(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    job = deletion(client, path, rate=100)
    running = asyncio.ensure_future(_awaited(job))
    await sent(simulator, 100)
    moved = path.rename(beside(path, ".moved"))
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(running, PATIENCE)
    assert not beside(path, "-wal").exists()
    beside(path, ".rescued").unlink()
    moved.rename(path)
    assert totals(path)[Outcome.DELETED] >= job.report.counts[Outcome.DELETED] > 0


async def test_a_log_of_another_ledger_is_left_alone(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    for file in path.parent.iterdir():
        file.unlink()
    beside(path, "-wal").write_bytes(b"of another")
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(job, PATIENCE)
    assert beside(path, "-wal").read_bytes() == b"of another"


async def test_a_folder_that_is_renamed_or_removed_stops_the_job(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=100)))
    await sent(simulator, 50)
    moved = path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(LedgerLostError, match="couldn't be copied") as caught:
        await asyncio.wait_for(job, PATIENCE)
    assert "find the ledger and put it back" in str(caught.value)
    moved.rename(path.parent)
    await deletion(client, path)
    assert sum(totals(path).values()) == MANY


async def test_a_relative_name_does_not_follow_a_working_directory_that_is_renamed(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    job = asyncio.ensure_future(_awaited(deletion(client, Path(path.name), rate=100)))
    await sent(simulator, 50)
    path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(job, PATIENCE)


@pytest.mark.parametrize("suffix", ["", ".lock"])
async def test_a_job_that_waits_notices_as_well(
    simulator: Simulator, client: AdaptyClient, path: Path, suffix: str
) -> None:
    job = deletion(client, path, rate=100)
    running = asyncio.ensure_future(_awaited(job))
    await sent(simulator, 50)
    job.pause()
    await until(lambda: job.report.counts[Outcome.DELETED] == simulator.stats.requests)
    requests = simulator.stats.requests
    beside(path, suffix).unlink()
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(running, PATIENCE)
    assert simulator.stats.requests == requests


async def test_a_second_run_that_begins_meanwhile_sends_only_what_is_in_flight_again(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.02
    first = asyncio.ensure_future(_awaited(deletion(client, path, rate=300)))
    await sent(simulator, 200)
    with pytest.raises(LedgerLockedError):
        await deletion(client, path)
    get_lock_path(path).unlink()
    second = asyncio.ensure_future(_awaited(deletion(client, path, rate=300)))
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(first, PATIENCE)
    try:
        await asyncio.wait_for(second, 4 * PATIENCE)
    except LedgerLostError:  # the first one wrote between the second one's check of the ledger and its first row
        await deletion(client, path)
    assert totals(path).keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
    assert simulator.stats.requests <= MANY + 300
    assert len(simulator.profiles) == 0


async def test_a_key_that_is_put_back_is_no_change(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=3000)))
    await sent(simulator, 50)
    replace(get_key_path(path))
    await asyncio.wait_for(job, 4 * PATIENCE)
    assert totals(path) == {Outcome.DELETED: MANY}


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", ".key"])
async def test_a_verification_stops_as_well(
    simulator: Simulator, client: AdaptyClient, path: Path, suffix: str
) -> None:
    await deletion(client, path)
    requests = simulator.stats.requests
    verifying = asyncio.ensure_future(verify(client, path, ids(MANY), pacer=FixedPacer(100)))
    await sent(simulator, requests + 50)
    beside(path, suffix).unlink()
    with pytest.raises(LedgerLostError):
        await asyncio.wait_for(verifying, PATIENCE)
    assert simulator.stats.requests < requests + MANY


async def test_the_files_are_looked_at_before_and_after_each_commit(client: AdaptyClient, path: Path) -> None:
    await bulk.delete_profiles(client, ["x"], by="customer_user_id", stop=NO_RULES, ledger=Ledger(path))
    with Store.open(path) as store, pytest.raises(LedgerLostError), store.transaction():
        get_lock_path(path).unlink()
    with Store.open(path) as store:
        get_lock_path(path).unlink()
        with pytest.raises(LedgerLostError), store.transaction():
            pytest.fail("nothing is written any more")


async def test_a_writer_that_is_not_this_process_is_noticed(client: AdaptyClient, path: Path) -> None:
    await bulk.delete_profiles(client, ["x"], by="customer_user_id", stop=NO_RULES, ledger=Ledger(path))
    with Store.open(path) as store:
        with sqlite3.connect(path) as other:
            other.execute("DELETE FROM presence")
            other.execute("UPDATE run SET touched = 0")
        with pytest.raises(LedgerLostError, match="another process wrote to"), store.transaction():
            store.delete_presences()
        with pytest.raises(LedgerLostError, match="another process wrote to"):
            store.check_files()
    other.close()


async def test_who_holds_a_lock_that_is_gone_uses_no_ledger_by_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await bulk.delete_profiles(client, ["x"], by="customer_user_id", stop=NO_RULES, ledger=Ledger(path))
    with lock_ledger(path) as held:
        get_lock_path(path).unlink()
        with lock_ledger(path):
            with pytest.raises(LedgerLostError, match=r"job.db.lock was removed"):
                update_job_options(held, {}, {})
            path.unlink()
        assert not get_lock_path(path).exists()
        get_lock_path(path).touch()
    assert get_lock_path(path).exists()  # it belongs to another process, so it isn't removed with the first one


async def test_a_ledger_that_is_read_is_not_taken_for_one_that_is_written(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    job = asyncio.ensure_future(_awaited(deletion(client, path, rate=3000)))
    await sent(simulator, 50)
    while not job.done():
        with LedgerReader(path) as reader:
            reader.status()
        await asyncio.sleep(0.02)
    assert (await job).counts == {Outcome.DELETED: MANY}
    assert not beside(path, "-wal").exists()


class Opened:
    """A ledger that is open for writing, with changes since it was opened, so that it has a log."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store

    def lost(self) -> LedgerLostError:
        """Return the error of the next check of the files. Every later check must raise it, too."""
        errors = []
        for _ in range(2):
            with pytest.raises(LedgerLostError) as caught:
                self.store.check_files()
            errors.append(caught.value)
        first, second = errors
        assert (str(first), first.kept) == (str(second), second.kept)
        return first


@pytest.fixture
async def opened(client: AdaptyClient, path: Path) -> AsyncIterator[Opened]:
    await bulk.delete_profiles(client, ["x"], by="customer_user_id", stop=NO_RULES, ledger=Ledger(path))
    with Store.open(path) as store:
        store.commit(CommitData())
        with store.transaction():
            store.write_presences([Presence(0, 1, present=False)])
        assert beside(path, "-wal").stat().st_size
        yield Opened(path, store)


@pytest.mark.parametrize("suffix", [".lock", "-wal", "-shm", ".key"])
@pytest.mark.parametrize("change", [remove, rename])
def test_where_a_file_beside_it_is_gone_what_was_recorded_is_in_the_ledger_itself(
    opened: Opened, suffix: str, change: Callable[[Path], None]
) -> None:
    change(beside(opened.path, suffix))
    assert opened.lost().kept == opened.path


def test_where_the_ledger_is_gone_what_was_recorded_is_in_the_copy_and_where_that_fails_nobody_knows(
    opened: Opened,
) -> None:
    opened.path.unlink()
    assert opened.lost().kept == beside(opened.path, ".rescued")


def test_where_its_folder_is_gone_nobody_knows_where_what_was_recorded_is(opened: Opened) -> None:
    opened.path.parent.rename(opened.path.parent.with_name("moved"))
    assert opened.lost().kept is None


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_folder_that_is_renamed_during_a_check_is_told_as_the_loss_of_the_ledger(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def get_identity(file: Path) -> Identity | None:
        if file == beside(opened.path, suffix) and file.exists():
            opened.path.parent.rename(opened.path.parent.with_name("moved"))
        return file_identity.get_identity(file)

    monkeypatch.setattr(open_file_check, "get_identity", get_identity)
    assert "find the ledger and put it back" in str(opened.lost())


def test_where_another_process_has_written_what_was_recorded_is_in_the_ledger(opened: Opened) -> None:
    with contextlib.closing(sqlite3.connect(opened.path)) as other, other:
        other.execute("DELETE FROM presence")
    with pytest.raises(LedgerLostError) as caught, opened.store.transaction():
        pytest.fail("nothing is written any more")
    assert caught.value.kept == opened.lost().kept == opened.path


@pytest.mark.parametrize(("suffix", "more"), [("", -1), ("", 1), ("-wal", -1)])
def test_a_ledger_of_another_size_or_a_shorter_log_was_overwritten(opened: Opened, suffix: str, more: int) -> None:
    file = beside(opened.path, suffix)
    os.truncate(file, file.stat().st_size + more)
    error = opened.lost()
    assert "or its log, was overwritten" in str(error)
    assert error.kept == opened.path


def test_a_longer_log_was_left_by_an_interrupted_transaction(opened: Opened) -> None:
    log = beside(opened.path, "-wal")
    os.truncate(log, log.stat().st_size + 1)
    opened.store.check_files()


def test_a_transaction_that_fails_leaves_no_ledger_that_looks_overwritten(opened: Opened) -> None:
    def some() -> Iterator[Presence]:
        for position in range(1, 100_000):
            yield Presence(position, 1, present=False)
        raise LookupError

    with pytest.raises(LookupError), opened.store.transaction():
        opened.store.write_presences(some())
    opened.store.check_files()
    assert [found.position for found in opened.store.iter_presences()] == [0]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [("", b"another's"), ("", b"another's" * 10_000), ("-wal", b""), ("-wal", b"another's")],
)
def test_what_is_overwritten_while_a_transaction_runs_is_noticed_after_it(
    opened: Opened, suffix: str, content: bytes
) -> None:
    def overwrite() -> Iterator[Presence]:
        yield Presence(1, 1, present=False)
        beside(opened.path, suffix).write_bytes(content)

    with pytest.raises(LedgerLostError, match="was overwritten"), opened.store.transaction():
        opened.store.write_presences(overwrite())
    assert opened.lost().kept == opened.path


def test_a_ledger_into_which_some_of_its_log_is_moved_was_not_overwritten(opened: Opened) -> None:
    def write(first: int) -> int:
        rows = [ContentsRow(first + number, 1000, b"", bytes(16_000)) for number in range(150)]
        opened.store.commit(CommitData(contents=rows))
        opened.store.check_files()
        return opened.path.stat().st_size

    begun = write(0)
    with contextlib.closing(sqlite3.connect(opened.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM chunk").fetchone()  # keeps later commits in the log
        some = write(150)
    whole = write(300)
    assert begun < some < whole
