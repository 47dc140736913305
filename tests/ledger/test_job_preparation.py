"""A job whose items are all stored before the first request."""

# ruff: noqa: ASYNC240 - nothing else runs while a test waits for a small file

import contextlib
import io
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from adapty_async import UNPACED, AdaptyClient, ProfileAttributes, bulk
from adapty_async.bulk import Outcome, SkippedItem
from adapty_async.bulk.api import job_spec
from adapty_async.ledger import (
    InputChangedError,
    Ledger,
    LedgerAnonymizedError,
    LedgerError,
    LedgerLock,
    LedgerLockedError,
    LedgerMismatchError,
    LedgerReader,
    LedgerUnreadableError,
    LedgerWriteError,
    Spool,
    anonymize,
    files,
    has_job,
    lock_ledger,
    prepare,
    reopen,
    verify,
)
from adapty_async.ledger.files import acquire_lock, is_locked
from adapty_async.ledger.id_key import IdKey
from adapty_async.ledger.job_preparation import update_job_options
from adapty_async.ledger.store import CommitData, JobRow, Store
from adapty_async.testing import Simulator

from ..full_disk import full_disk
from .helpers import NO_RULES, ids, rows, totals

ORDER = {"file": "/data/people.csv", "pace": "full", "max": 3000}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def prepared(
    client: AdaptyClient,
    path: Path,
    people: Iterable[str | SkippedItem[str]],
    *,
    file: bytes | None = None,
    order: Mapping[str, Any] = ORDER,
    new_key: bool = False,
    appended: bool = False,
) -> tuple[int, int]:
    """Prepare a job. Return the number of its items and of those that are due."""
    source = None if file is None else io.BytesIO(file)
    job = job_spec(client, "delete", "customer_user_id")
    prepare(path, job, people, job_options=order, file=source, new_key=new_key, appended=appended)
    with LedgerReader(path) as reader:
        return reader.status().known, reader.status().waiting


def is_input_file(path: Path, file: BinaryIO) -> bool:
    with LedgerReader(path) as reader:
        return reader.is_input_file(file)


def with_duplicates(count: int) -> Iterator[str | SkippedItem[str]]:
    for number, who in enumerate(ids(count)):
        yield SkippedItem(who, Outcome.DUPLICATE) if number % 3 == 0 else who


class PathLike:
    """An object that represents a path, but isn't one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("kind", [Path, str, PathLike])
async def test_whatever_names_a_ledger_does_so_everywhere(
    client: AdaptyClient, path: Path, kind: Callable[[Path], Any]
) -> None:
    named = kind(path)
    assert has_job(named) is False
    prepare(named, job_spec(client, "delete", "customer_user_id"), ["u1"], job_options={}, file=None)
    assert has_job(named) is True
    report = await bulk.delete_profiles(client, ["u1"], by="customer_user_id", ledger=Ledger(named))
    assert report.counts == {Outcome.ALREADY_ABSENT: 1}
    assert (await verify(client, named, ["u1"])).absent == 1
    with lock_ledger(named) as held:
        reopen(named, lock=held)
    reopen(named)
    with LedgerReader(named) as reader:
        assert reader.status().waiting == 1
    assert not Spool(named).is_filled
    anonymize(named)


async def test_a_prepared_job_sends_what_is_due_and_reads_plain_ids(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    assert not has_job(path)
    assert prepared(client, path, with_duplicates(1300)) == (1300, 866)
    assert has_job(path)
    with LedgerReader(path) as reader:
        assert (reader.job.items, reader.job_options, reader.runs) == (1300, ORDER, [])
    assert totals(path) == {Outcome.DUPLICATE: 434, Outcome.NOT_ATTEMPTED: 866}
    assert all(row.at for row in rows(path) if row.outcome)
    report = await bulk.delete_profiles(
        client, ids(1300), by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=Ledger(path)
    )
    assert report.total == simulator.stats.requests == 866
    assert prepared(client, path, with_duplicates(1300)) == (1300, 0)


@pytest.mark.parametrize("count", [1000, 1500])
async def test_what_is_prepared_again_is_compared_and_only_grows_where_that_is_said(
    client: AdaptyClient, path: Path, count: int
) -> None:
    prepared(client, path, ids(count))
    before = rows(path)
    for people, kind, position in (
        ([*ids(700), "x", *ids(count - 701, start=702)], "differs", 700),
        (ids(count - 10), "shorter", count - 10),
        (ids(count + 600), "longer", count),
    ):
        with pytest.raises(InputChangedError) as caught:
            prepared(client, path, people)
        assert (caught.value.kind, caught.value.position) == (kind, position)
        with LedgerReader(path) as reader:
            assert (list(reader.rows()), reader.job.items) == (before, count)
    grown = prepared(client, path, [*ids(count + 599), SkippedItem("x", Outcome.INVALID)], appended=True)
    assert grown == (count + 600, count + 599)
    assert rows(path)[:count] == before


async def test_of_rows_that_are_added_within_a_chunk_each_has_what_was_decided_of_it(
    client: AdaptyClient, path: Path
) -> None:
    prepared(client, path, ids(3))
    more: list[str | SkippedItem[str]] = [SkippedItem("x", Outcome.INVALID), "u5", SkippedItem("y", Outcome.DUPLICATE)]
    assert prepared(client, path, [*ids(3), *more], appended=True) == (6, 4)
    outcomes = [None, None, None, Outcome.INVALID, None, Outcome.DUPLICATE]
    assert [(row.position, row.outcome) for row in rows(path)] == list(enumerate(outcomes))


async def test_growth_that_fails_leaves_the_ledger_as_it_was(client: AdaptyClient, path: Path) -> None:
    prepared(client, path, ids(1500))
    before = rows(path)

    def broken() -> Iterator[str]:
        yield from ids(4000)
        raise LookupError

    with pytest.raises(LookupError):
        prepared(client, path, broken(), appended=True)
    with LedgerReader(path) as reader:
        assert (list(reader.rows()), reader.job.items) == (before, 1500)


async def test_a_preparation_that_fails_leaves_no_ledger(client: AdaptyClient, path: Path) -> None:
    def broken() -> Iterator[str]:
        yield from ids(4000)
        assert not has_job(path)
        raise LookupError

    with pytest.raises(LookupError):
        prepared(client, path, broken())
    with full_disk(20_000), pytest.raises(LedgerWriteError, match="make room"):
        prepared(client, path, ids(4000))
    assert not [*path.parent.iterdir()]
    key = IdKey.create(path)
    with pytest.raises(LookupError):
        prepared(client, path, broken())
    kept = IdKey.read(path)
    assert kept is not None
    assert kept.fingerprint == key.fingerprint
    assert prepared(client, path, ids(4000)) == (4000, 4000)


def test_who_waits_for_a_ledger_that_is_never_made_has_the_next_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapty_async.ledger.files._LOCK_TIMEOUT", 60.0)
    for _ in range(20):
        with ThreadPoolExecutor(1) as other:
            with lock_ledger(path):
                waiting = other.submit(acquire_lock, path)
                time.sleep(0.02)  # until it waits; if it doesn't wait yet, the test is easier to pass
            with contextlib.closing(waiting.result(60)):
                assert is_locked(path)
            assert not is_locked(path)


async def test_what_a_kill_left_of_a_preparation_is_no_ledger(client: AdaptyClient, path: Path) -> None:
    for name in ("job.db.new", "job.db-wal"):
        path.with_name(name).write_bytes(b"SQLite format 3\0" + b"left" * 1000)
    assert not has_job(path)
    prepare(path, job_spec(client, "delete", "customer_user_id"), ids(10), job_options=ORDER, file=None)
    assert {file.name for file in path.parent.iterdir()} == {"job.db", "job.db.lock", "job.db.key"}
    assert totals(path) == {Outcome.NOT_ATTEMPTED: 10}


async def test_nothing_is_claimed_where_a_later_chunk_differs_that_was_read_with_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    prepared(client, path, [*(SkippedItem(who, Outcome.DUPLICATE) for who in ids(1000)), *ids(1500, start=1001)])
    with pytest.raises(InputChangedError, match="row 2,001"):
        await bulk.delete_profiles(
            client, [*ids(2000), "x", *ids(499)], by="customer_user_id", pacer=UNPACED, ledger=Ledger(path)
        )
    assert simulator.stats.requests == 0
    with LedgerReader(path) as reader:
        assert (reader.status().claimed, reader.status().waiting) == (0, 1500)


async def test_a_file_is_known_again_by_its_bytes(client: AdaptyClient, path: Path) -> None:
    prepared(client, path, ids(2), file=b"id,name\na,Ada\n")
    assert is_input_file(path, io.BytesIO(b"id,name\na,Ada\n"))
    assert not is_input_file(path, io.BytesIO(b"id,name\na,Eve\n"))
    prepared(client, path, ids(2), file=b"id,name\na,Eve\n")
    assert is_input_file(path, io.BytesIO(b"id,name\na,Eve\n"))
    prepared(client, path, ids(2))
    assert not is_input_file(path, io.BytesIO(b""))


async def test_a_file_is_known_again_though_others_read_it_by_the_same_descriptor(
    client: AdaptyClient, path: Path
) -> None:
    people = path.with_name("people.txt")
    people.write_text("\n".join(ids(3000)), "utf-8")

    def rows_of(file: BinaryIO) -> Iterator[str]:
        file.seek(0)
        file.read(4)
        with open(os.dup(file.fileno()), encoding="utf-8") as text:  # noqa: PTH123 - a descriptor, not a path
            text.seek(0)
            yield from map(str.strip, text)

    job = job_spec(client, "delete", "customer_user_id")
    with people.open("rb") as file:
        prepare(path, job, rows_of(file), job_options={}, file=file)
        list(rows_of(file))
        assert is_input_file(path, file)
    assert is_input_file(path, io.BytesIO(people.read_bytes()))


async def test_what_is_no_job_of_that_kind_is_refused(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    prepared(client, path, ids(2))
    await bulk.delete_profiles(client, ids(2), by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
    with pytest.raises(LedgerMismatchError, match=r"job\.db belongs to another job") as caught:
        prepare(path, job_spec(client, "update", "customer_user_id"), ids(2), job_options={}, file=None)
    assert caught.value.what == "operation"
    async with AdaptyClient("another", base_url=simulator.base_url) as other:
        with pytest.raises(LedgerMismatchError) as caught:
            prepared(other, path, ids(2))
        assert caught.value.what == "key"
        assert prepared(other, path, ids(2), new_key=True) == (2, 0)
    path.write_bytes(b"customer_user_id\nu1\n")
    with pytest.raises(LedgerUnreadableError, match="isn't a ledger"):
        has_job(path)


async def test_whether_it_runs_is_seen_without_disturbing_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    prepared(client, path, ids(30))
    with LedgerReader(path) as reader:
        assert not reader.is_running()
        async with bulk.delete_profiles(
            client, ids(30), by="customer_user_id", pacer=UNPACED, ledger=Ledger(path)
        ) as job:
            async for _ in job:
                assert reader.is_running()
                break
        assert not reader.is_running()


async def test_a_ledger_that_has_lost_rows_is_refused(client: AdaptyClient, path: Path) -> None:
    for lost in (
        "DELETE FROM outcome WHERE number = 1",
        "DELETE FROM chunk WHERE number = 2",
        "DELETE FROM chunk WHERE number = 2; DELETE FROM outcome WHERE number = 2",
        "UPDATE job SET items = 9",
    ):
        path.unlink(missing_ok=True)
        prepared(client, path, ids(2500))
        with sqlite3.connect(path) as database:
            database.executescript(lost)
        database.close()
        with pytest.raises(LedgerError, match="restore it from a backup"):
            prepared(client, path, ids(2500))
        with pytest.raises(LedgerUnreadableError, match="restore it from a backup"):
            LedgerReader(path)


async def test_a_job_whose_size_is_not_known_yet_is_refused_where_it_has_lost_rows(
    client: AdaptyClient, path: Path
) -> None:
    prepared(client, path, ids(2500))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM job")
        database.commit()
    with Store.open(path) as store, store.transaction():
        job = JobRow(0, "delete", "customer_user_id", "https://api.test", "", b"", items=None)
        store.write(CommitData(job=job))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("DELETE FROM chunk WHERE number = 1; DELETE FROM outcome WHERE number = 1")
    with pytest.raises(LedgerUnreadableError, match="is damaged: restore it from a backup"):
        LedgerReader(path)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE job SET job_options = '{\"file\"'",
        "UPDATE job SET job_options = '[]'",
        "UPDATE job SET operation = 'delate'",
        "DELETE FROM job",
    ],
)
async def test_a_ledger_whose_job_cannot_be_read_is_damaged(client: AdaptyClient, path: Path, harm: str) -> None:
    prepared(client, path, ids(2))
    with sqlite3.connect(path) as database:
        database.execute(harm)
    database.close()
    with pytest.raises(LedgerUnreadableError, match=r"job\.db is damaged"):
        LedgerReader(path)


async def test_a_run_whose_notes_cannot_be_read_is_damaged(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await bulk.delete_profiles(client, ids(2), by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE run SET notes = '{'")
    database.close()
    with LedgerReader(path) as reader, pytest.raises(LedgerUnreadableError, match="is damaged"):
        _ = reader.runs


@pytest.mark.parametrize("content", [None, b"x", b"somebody's own lock\n" * 100])
async def test_what_is_no_lock_file_is_named_and_left_alone(
    client: AdaptyClient, path: Path, content: bytes | None
) -> None:
    prepared(client, path, ids(2))
    beside = path.with_name("job.db.lock")
    beside.unlink()
    if content is None:
        beside.mkdir()
    else:
        beside.write_bytes(content)
    with pytest.raises(
        LedgerUnreadableError, match=r"job\.db\.lock exists and isn't the lock file of a ledger: choose another name"
    ):
        prepared(client, path, ids(2))
    with LedgerReader(path) as reader, pytest.raises(LedgerUnreadableError, match=r"job\.db\.lock exists"):
        reader.is_running()
    assert beside.is_dir() if content is None else beside.read_bytes() == content


async def test_a_directory_is_no_ledger(client: AdaptyClient, path: Path) -> None:
    path.mkdir()
    for use in (lambda: prepared(client, path, ids(2)), lambda: LedgerReader(path), lambda: anonymize(path)):
        with pytest.raises(LedgerUnreadableError, match=r"job\.db isn't a ledger"):
            use()
    assert list(path.parent.iterdir()) == [path]


async def test_a_key_file_that_cannot_be_read_is_named(client: AdaptyClient, path: Path) -> None:
    prepared(client, path, ids(2))
    beside = path.with_name("job.db.key")
    beside.unlink()
    beside.mkdir()
    with LedgerReader(path) as reader, pytest.raises(LedgerError, match=r"job\.db\.key isn't a regular file any more"):
        reader.find_rows("u1")
    with pytest.raises(LedgerError, match=r"job\.db\.key isn't a regular file any more"):
        anonymize(path)


async def test_a_prepared_job_goes_on_with_the_key_that_prepared_it_or_a_new_one_of_which_that_is_said(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    def deletion(sender: AdaptyClient, **terms: Any) -> bulk.BulkJob[Any, None]:
        journal = Ledger(path, **terms)
        return bulk.delete_profiles(sender, ids(2), by="customer_user_id", pacer=UNPACED, ledger=journal)

    prepared(client, path, ids(2))
    with LedgerReader(path) as reader:
        assert reader.job.key_fingerprint == job_spec(client, "delete", "customer_user_id").key_fingerprint
    async with AdaptyClient("another", base_url=simulator.base_url) as other:
        with pytest.raises(LedgerMismatchError) as caught:
            prepared(other, path, ids(2))
        assert caught.value.what == "key"
        with pytest.raises(LedgerMismatchError) as caught:
            await deletion(other)
        assert caught.value.what == "key"
        assert simulator.stats.requests == 0
        prepared(other, path, ids(2), new_key=True)
        with LedgerReader(path) as reader:
            assert reader.job.key_fingerprint == job_spec(other, "delete", "customer_user_id").key_fingerprint
    with pytest.raises(LedgerMismatchError):
        await deletion(client)
    await deletion(client, new_key=True)
    assert totals(path) == {Outcome.ALREADY_ABSENT: 2}


async def test_an_order_lasts_from_the_run_on_that_brings_it_and_is_accepted(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    async def run(people: Iterable[str], order: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        journal = Ledger(path, job_options=order)
        await bulk.delete_profiles(client, people, by="customer_user_id", pacer=UNPACED, ledger=journal)
        with LedgerReader(path) as reader:
            return reader.job_options

    prepared(client, path, ids(2), file=b"people")
    with pytest.raises(InputChangedError):
        await run(["x"], {"pace": "of another input"})
    assert await run(ids(2)) == ORDER
    assert await run(ids(2), {"pace": "10"}) == {"pace": "10"}
    assert await run(ids(2)) == {"pace": "10"}
    with LedgerReader(path) as reader:
        assert reader.is_input_file(io.BytesIO(b"people"))


async def test_a_ledger_that_is_held_is_used_by_its_holder_alone(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    async def run(held: LedgerLock | None) -> bulk.BulkReport:
        journal = Ledger(path, lock=held)
        job = bulk.delete_profiles(client, ids(20), by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=journal)
        return await job

    with lock_ledger(path) as held:
        with pytest.raises(LedgerLockedError, match="in use by another process"):
            await run(None)
        assert (await run(held)).counts == {Outcome.ALREADY_ABSENT: 20}
        assert (await run(held)).total == 0
        assert is_locked(path)
        with pytest.raises(ValueError, match="another ledger"):
            Ledger(path.with_name("other.db"), lock=held)
    assert not is_locked(path)
    assert (await run(None)).total == 0


def test_who_holds_a_ledger_that_is_never_made_leaves_nothing(path: Path) -> None:
    with lock_ledger(path):
        assert [file.name for file in path.parent.iterdir() if file.suffix == ".lock"] == ["job.db.lock"]
    assert not [*path.parent.iterdir()]


@pytest.mark.parametrize("is_locked_by_another", [True, False])
def test_an_interrupt_while_a_lock_is_waited_for_removes_none_of_another(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, is_locked_by_another: bool
) -> None:
    def interrupted(path: Path, patience: float) -> files.FileLock | None:
        if not patience:
            return locked(path, patience)
        if is_locked_by_another:
            other = locked(path, patience)
            assert other is not None
            stack.callback(other.close)
        raise KeyboardInterrupt

    locked = files._try_lock  # noqa: SLF001 - there is no other way to get this moment
    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(files, "_try_lock", interrupted)
        with pytest.raises(KeyboardInterrupt):
            acquire_lock(path)
        assert files.get_lock_path(path).exists() == is_locked(path) == is_locked_by_another


def test_what_somebody_puts_in_the_place_of_a_lock_hides_no_interrupt(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, patience: float) -> files.FileLock | None:
        if patience:
            files.get_lock_path(path).write_bytes(b"another's")
            raise KeyboardInterrupt
        return locked(path, patience)

    locked = files._try_lock  # noqa: SLF001 - there is no other way to get this moment
    monkeypatch.setattr(files, "_try_lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        acquire_lock(path)
    assert files.get_lock_path(path).read_bytes() == b"another's"


def test_a_lock_file_that_cannot_be_removed_while_it_is_open_hides_no_error(
    client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(file: Path, missing_ok: bool = False) -> None:
        if file.suffix == ".lock":
            raise PermissionError
        real(file, missing_ok=missing_ok)

    def broken() -> Iterator[str]:
        raise LookupError
        yield

    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(LookupError):
        prepared(client, path, broken())
    with lock_ledger(path):
        pass
    assert not is_locked(path)


def test_a_key_gives_the_hashes_that_earlier_ledgers_hold() -> None:
    secret = IdKey(bytes(range(32)))
    assert secret.hash("u1").hex() == "c67219c9bdfe74eb11b41d8bf48b60b2"
    assert secret.fingerprint.hex() == "18a9bfebae144620e21e683919f56900"
    assert secret.digest(["u1", "u23"]).hex() == "95bc50833b6db1c4e0fd9851f59108d767318b3fac658c05bcb6b85f9997531c"
    file = io.BytesIO(b"u1\nu23\n")
    assert secret.digest_file(file).hex() == "2a02db47456852b2c2ff35d27cc1365d00dfb5c7387eca571d9a759cb9f046b5"


def changes(count: int, name: str = "Jane") -> list[tuple[str, ProfileAttributes]]:
    return [(who, ProfileAttributes(first_name=name)) for who in ids(count)]


async def test_of_a_prepared_update_what_is_to_be_written_must_stay_the_same(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    def prepare_update(rows: list[tuple[str, ProfileAttributes]]) -> None:
        prepare(path, job_spec(client, "update", "customer_user_id"), rows, job_options={}, file=None)

    def update(rows: list[tuple[str, ProfileAttributes]]) -> bulk.BulkJob[Any, Any]:
        return bulk.update_profiles(
            client, rows, by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=Ledger(path)
        )

    others = [*changes(4), *changes(5, "John")[4:]]
    said = "the data to write differs somewhere in rows 1 to 5"
    prepare_update(changes(5))
    with pytest.raises(InputChangedError, match=said) as caught:
        prepare_update(others)
    assert (caught.value.kind, caught.value.position, caught.value.last) == ("rewritten", 0, 4)
    with pytest.raises(InputChangedError, match=said):
        await update(others)
    assert simulator.stats.requests == 0
    prepare_update(changes(5))
    assert (await update(changes(5))).counts == totals(path) == {Outcome.NOT_FOUND: 5}


async def test_a_prepared_job_knows_who_is_on_which_exclude_list_and_the_lists_again(
    client: AdaptyClient, path: Path
) -> None:
    lists = {name: path.with_name(name) for name in ("minors.csv", "staff.csv")}
    for name, file in lists.items():
        file.write_text(f"id\n{name}\n", "utf-8")
    people: list[str | SkippedItem[str]] = ["u1"]
    people += [SkippedItem(f"u{name}", Outcome.EXCLUDED, exclude_list=name) for name in ("staff.csv", "minors.csv")]
    people += [SkippedItem("u4", Outcome.EXCLUDED)]
    job = job_spec(client, "delete", "customer_user_id")
    prepare(path, job, people, job_options={}, file=None, exclude_lists=lists)
    assert [row.exclude_list for row in rows(path)] == [None, "staff.csv", "minors.csv", None]
    with LedgerReader(path) as reader:
        assert reader.is_exclude_list("staff.csv", io.BytesIO(b"id\nstaff.csv\n"))
        assert not reader.is_exclude_list("staff.csv", io.BytesIO(b"id\nminors.csv\n"))
        assert not reader.is_exclude_list("others.csv", io.BytesIO(b"id\nstaff.csv\n"))


async def test_an_order_is_noted_by_who_holds_the_ledger_and_nothing_else_changes(
    client: AdaptyClient, path: Path
) -> None:
    prepared(client, path, ids(3), file=b"people")
    before = rows(path)
    staff = path.with_name("staff.csv")
    staff.write_bytes(b"id\nu9\n")
    with lock_ledger(path) as held:
        update_job_options(held, {"pace": "slow"}, {"staff.csv": staff})
    assert is_input_file(path, io.BytesIO(b"people"))
    with LedgerReader(path) as reader:
        assert (list(reader.rows()), reader.job.items, reader.job_options) == (before, 3, {"pace": "slow"})
        assert reader.is_exclude_list("staff.csv", io.BytesIO(b"id\nu9\n"))
    path.with_name("job.db.key").unlink()
    with (
        lock_ledger(path) as held,
        pytest.raises(LedgerAnonymizedError, match=r"job\.db was made anonymous: its key file"),
    ):
        update_job_options(held, {}, {})
