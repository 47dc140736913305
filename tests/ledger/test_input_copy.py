"""The copy of an input that can't be read twice."""

# ruff: noqa: ASYNC240 - nothing else runs while a test waits for a small file

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from adapty_async import UNPACED, AdaptyClient, ProfileAttributes, bulk
from adapty_async.bulk import BulkJob, Outcome, SkippedItem
from adapty_async.bulk.operations import ProfileId
from adapty_async.ledger import InputChangedError, Ledger, LedgerUnreadableError, LedgerWriteError, Spool
from adapty_async.testing import Fault, Simulator

from ..full_disk import full_disk
from ..waiting import until
from .helpers import NO_RULES, ids, totals


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
    with full_disk(1000), pytest.raises(LedgerWriteError, match="make room"):
        spool.fill(io.BytesIO(b"somebody@example.com\n" * 1000))
    assert not spool.is_filled
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_copy_is_no_copy(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "job.db")
    (tmp_path / "job.db.spool.part").write_bytes(b"u1\nu")
    assert not spool.is_filled
    spool.fill(io.BytesIO(b"u1\nu2\n"))
    assert [file.name for file in tmp_path.iterdir()] == ["job.db.spool"]
    (tmp_path / "job.db.spool.part").write_bytes(b"u1\nu")
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_copy_is_swept_away_and_nothing_else_is(tmp_path: Path) -> None:
    spool, part = Spool(tmp_path / "job.db"), tmp_path / "job.db.spool.part"
    spool.sweep()
    with spool.writing() as write:
        write(b"u1\n")
        Spool(tmp_path / "job.db").sweep()
        assert part.read_bytes() == b"u1\n"
    assert spool.path.read_bytes() == b"u1\n"
    part.write_bytes(b"u1\nu")
    part.chmod(0o600)
    spool.sweep()
    assert [*tmp_path.iterdir()] == [spool.path]
    part.write_bytes(b"what somebody else has left for others to read")
    part.chmod(0o644)
    spool.sweep()
    assert part.exists()
    part.unlink()
    part.symlink_to(spool.path)
    spool.sweep()
    assert part.is_symlink()
    assert spool.path.exists()
    part.unlink()
    os.mkfifo(part, 0o600)
    spool.sweep()  # it doesn't wait for a writer either
    assert part.is_fifo()


def spooled(client: AdaptyClient, items: Any, folder: Path, **terms: Any) -> BulkJob[ProfileId, None]:
    return bulk.delete_profiles(
        client,
        items,
        by="customer_user_id",
        pacer=UNPACED,
        stop=NO_RULES,
        concurrency=10,
        ledger=Ledger(folder / "job.db", spool=True, **terms),
    )


def once(count: int) -> Iterator[str | SkippedItem[str]]:
    yield from ids(count)
    yield SkippedItem("line\n2", Outcome.INVALID)


async def once_asynchronously(count: int) -> AsyncIterator[str | SkippedItem[str]]:
    for item in once(count):
        yield item


@pytest.mark.parametrize("items", [once, once_asynchronously])
async def test_what_nobody_can_give_twice_is_gone_on_with_from_its_copy(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path, items: Any
) -> None:
    spool = Spool(tmp_path / "job.db")
    for who in ids(1500):
        if simulator.profiles.find(customer_user_id=who) is None:
            simulator.add_profile(customer_user_id=who)
    simulator.latency = 0.01
    job = spooled(client, items(1500), tmp_path)
    running = asyncio.ensure_future(job)
    await until(lambda: simulator.stats.requests > 0)
    job.stop()
    await running
    assert 0 < simulator.stats.requests < 1500
    assert spool.is_filled
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    simulator.latency = 0.0
    await spooled(client, [], tmp_path)
    assert totals(tmp_path / "job.db") == {Outcome.DELETED: 1500, Outcome.INVALID: 1}
    assert not spool.is_filled


async def test_a_job_that_is_stopped_closes_the_copy_of_which_it_has_read_some(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    plain_open = Spool.open

    def open_and_keep(spool: Spool) -> BinaryIO:
        opened.append(plain_open(spool))
        return opened[-1]

    monkeypatch.setattr(Spool, "open", open_and_keep)
    job = spooled(client, once(5000), tmp_path)
    running = asyncio.ensure_future(job)
    await until(lambda: simulator.stats.requests > 0)
    job.stop()
    await running
    assert [file.closed for file in opened] == [True]


async def test_the_copy_stays_while_something_can_be_sent_again(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.inject(Fault.REDIRECT)
    await spooled(client, once(5), tmp_path)
    assert Spool(tmp_path / "job.db").is_filled
    await spooled(client, [], tmp_path, retry=[Outcome.FAILED])
    assert list(tmp_path.glob("*spool*")) == []


async def test_a_refused_input_leaves_no_copy_in_the_way_of_the_right_one(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.inject(Fault.REDIRECT)
    await bulk.delete_profiles(
        client, ids(5), by="customer_user_id", pacer=UNPACED, stop=NO_RULES, ledger=Ledger(tmp_path / "job.db")
    )
    with pytest.raises(InputChangedError):
        await spooled(client, iter(["somebody"]), tmp_path, retry=[Outcome.FAILED])
    assert not Spool(tmp_path / "job.db").is_filled
    await spooled(client, (who for who in ids(5)), tmp_path, retry=[Outcome.FAILED])
    assert totals(tmp_path / "job.db") == {Outcome.ALREADY_ABSENT: 5}


async def test_a_copy_that_another_run_has_made_outlives_a_refusal(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.inject(Fault.REDIRECT)
    await spooled(client, once(5), tmp_path)
    copy = Spool(tmp_path / "job.db").path
    lines = copy.read_bytes().splitlines(keepends=True)
    copy.write_bytes(b"".join([*lines, lines[0]]))  # damaged, but still the only copy of most items
    with pytest.raises(InputChangedError):
        await spooled(client, [], tmp_path, retry=[Outcome.FAILED])
    assert copy.exists()


async def test_an_input_that_fails_is_never_copied(client: AdaptyClient, simulator: Simulator, tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield from ids(3000)
        raise LookupError

    with pytest.raises(LookupError):
        await spooled(client, broken(), tmp_path)
    assert simulator.stats.requests == 0
    assert list(tmp_path.glob("*spool*")) == []


async def test_only_ids_are_copied(client: AdaptyClient, tmp_path: Path) -> None:
    changes = [("u1", ProfileAttributes(first_name="Jane"))]
    with pytest.raises(TypeError, match=r"^only the IDs of a deletion can be spooled: pass the changes as a list$"):
        await bulk.update_profiles(
            client, changes, by="customer_user_id", ledger=Ledger(tmp_path / "job.db", spool=True)
        )
    assert list(tmp_path.iterdir()) == []


async def test_a_copy_in_which_a_byte_has_changed_is_refused(
    client: AdaptyClient, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.inject(Fault.REDIRECT)
    await spooled(client, once(5), tmp_path)
    copy = Spool(tmp_path / "job.db").path
    copy.write_bytes(copy.read_bytes().replace(b"1@", b"9@"))
    with pytest.raises(LedgerUnreadableError, match="the copy of the input, is damaged: restore it"):
        await spooled(client, [], tmp_path, retry=[Outcome.FAILED])
