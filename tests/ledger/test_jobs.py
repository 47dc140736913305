"""Bulk jobs with a ledger: resumed where they ended, only with the same input, with an outcome for every item."""

# ruff: noqa: ASYNC240 - nothing else runs while a test waits for a small file

import asyncio
import io
import os
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapty_async import UNPACED, AdaptyClient, FixedPacer, ProfileAttributes, RetryPolicy, bulk
from adapty_async.bulk import BulkJob, Outcome, SkippedItem, StopReason, StopRules
from adapty_async.bulk.api import job_spec
from adapty_async.bulk.operations import ProfileChange, ProfileId
from adapty_async.client import get_sender
from adapty_async.http.clocks import read_clocks
from adapty_async.ledger import (
    InputChangedError,
    Ledger,
    LedgerAnonymizedError,
    LedgerError,
    LedgerLockedError,
    LedgerMismatchError,
    LedgerReader,
    LedgerUnreadableError,
    LedgerWriteError,
    Spool,
    anonymize,
    session,
)
from adapty_async.ledger.files import get_lock_path
from adapty_async.ledger.session import _ClaimSizer
from adapty_async.ledger.store import Store
from adapty_async.testing import Fault, Simulator
from tests.unprivileged import permissions_holding
from tests.waiting import until

from .helpers import NO_RULES, ids, rows, stopped_when, totals

# Thousands of items. Coverage makes this three times slower, and smaller jobs run the same lines.
many_times_the_same = pytest.mark.no_cover

JANE = ProfileAttributes(first_name="Jane")
JOHN = ProfileAttributes(first_name="John")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def deletion(
    client: AdaptyClient, items: Any, path: Path, *, concurrency: int = 20, stop: StopRules = NO_RULES, **terms: Any
) -> BulkJob[ProfileId, None]:
    journal = Ledger(path, **terms)
    return bulk.delete_profiles(
        client, items, by="customer_user_id", pacer=UNPACED, concurrency=concurrency, stop=stop, ledger=journal
    )


def update(client: AdaptyClient, items: Any, path: Path, **terms: Any) -> BulkJob[ProfileChange, Any]:
    return bulk.update_profiles(
        client, items, by="customer_user_id", pacer=UNPACED, concurrency=5, stop=NO_RULES, ledger=Ledger(path, **terms)
    )


async def first_results(job: BulkJob[Any, Any], count: int) -> None:
    """Run a job until it has this many results, then abandon it while the next requests are in flight."""
    async with job:
        async for _ in job:
            count -= 1
            if not count:
                break
        await asyncio.sleep(0.01)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(profiles=3000) as running:
        yield running


@many_times_the_same
async def test_a_finished_job_has_a_row_for_every_item(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    report = await deletion(client, ids(2500), path)
    assert report.counts == totals(path) == {Outcome.DELETED: 2500}
    assert [(row.position, row.status, row.attempts) for row in rows(path)] == [(n, 204, 1) for n in range(2500)]
    with LedgerReader(path) as reader:
        assert reader.job.items == 2500
        (run,) = reader.runs
        assert run.ended is not None


@many_times_the_same
async def test_the_same_call_again_sends_nothing_twice(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    first = await stopped_when(lambda: simulator.stats.count_responses(204) >= 100, deletion(client, ids(2500), path))
    assert first.stop_reason is StopReason.REQUESTED
    second = await deletion(client, ids(2500), path)
    assert second.total == 2500 - first.counts[Outcome.DELETED] > 0
    assert totals(path) == {Outcome.DELETED: 2500}
    assert simulator.stats.requests == 2500
    assert (await deletion(client, ids(2500), path)).total == 0


async def test_what_was_under_way_when_a_job_was_left_is_sent_again(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.02
    await first_results(deletion(client, ids(300), path), 100)
    assert totals(path)[Outcome.IN_DOUBT] > 0
    await deletion(client, ids(300), path)
    counts = totals(path)
    assert counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
    assert counts[Outcome.DELETED_UNCONFIRMED] <= 20
    assert len(simulator.profiles) == 2700


async def test_only_what_may_have_been_sent_before_is_deleted_unconfirmed(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.02
    await first_results(deletion(client, ids(50), path, concurrency=10), 20)
    done = totals(path)[Outcome.DELETED]
    for who in list(ids(50)):
        profile = simulator.profiles.find(customer_user_id=who)
        if profile is not None:
            simulator.profiles.remove(profile)
    await deletion(client, ids(50), path)
    counts = totals(path)
    assert counts[Outcome.DELETED] == done
    assert 0 < counts[Outcome.DELETED_UNCONFIRMED] <= 10
    assert counts[Outcome.ALREADY_ABSENT] == 50 - done - counts[Outcome.DELETED_UNCONFIRMED]


@many_times_the_same
async def test_a_resumed_deletion_does_not_stop_for_what_it_deleted_itself(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await stopped_when(
        lambda: simulator.stats.count_responses(204) >= 100, deletion(client, ids(2000), path, stop=StopRules())
    )
    report = await deletion(client, ids(2000), path, stop=StopRules())
    assert report.stop_reason is None
    assert totals(path) == {Outcome.DELETED: 2000}


@many_times_the_same
async def test_a_job_stopped_for_its_rules_goes_on_with_others(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    report = await deletion(client, ids(1000, start=5000), path, stop=StopRules())
    assert report.stop_reason is StopReason.MAX_ABSENT_RATIO
    await deletion(client, ids(1000, start=5000), path)
    assert totals(path) == {Outcome.ALREADY_ABSENT: 1000}
    assert simulator.stats.requests == 1000


# The input


@many_times_the_same
async def test_another_input_is_refused_where_it_first_differs(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(2500), path)
    sent = simulator.stats.requests
    for change in (0, 999, 1000, 1700):
        other = list(ids(2500))
        other[change], other[change + 1] = other[change + 1], other[change]
        with pytest.raises(InputChangedError, match=f"first differs at row {change + 1:,}: ") as caught:
            await deletion(client, other, path)
        assert caught.value.position == change
        assert simulator.stats.requests == sent


async def test_of_a_chunk_that_differs_nothing_is_sent(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    simulator.latency = 0.01
    await first_results(deletion(client, ids(1000), path), 20)
    sent = simulator.stats.requests
    with pytest.raises(InputChangedError, match="row 1,000"):
        await deletion(client, [*ids(999), "somebody"], path)
    assert simulator.stats.requests == sent


async def test_a_shorter_input_is_refused(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(2500), path)
    for count in (2499, 2000, 1500, 0):
        with pytest.raises(InputChangedError, match=f"ends after row {count:,}, but the ledger has 2,500 rows"):
            await deletion(client, ids(count), path)


async def test_a_run_that_is_refused_for_its_input_leaves_no_trace(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(10), path)
    async with AdaptyClient("another", base_url=simulator.base_url) as other:
        with pytest.raises(InputChangedError):
            await deletion(other, ["x"], path, new_key=True)
        with pytest.raises(LedgerMismatchError):
            await deletion(other, ids(10), path)
    with LedgerReader(path) as reader:
        assert [run.number for run in reader.runs] == [1]


@pytest.mark.parametrize("count", [1000, 1500])
async def test_rows_at_the_end_are_taken_where_that_is_said(
    simulator: Simulator, client: AdaptyClient, path: Path, count: int
) -> None:
    await deletion(client, ids(count), path)
    with pytest.raises(InputChangedError, match=f"continues after row {count:,}"):
        await deletion(client, ids(count + 600), path)
    assert simulator.stats.requests == count
    report = await deletion(client, ids(count + 600), path, appended=True)
    assert report.counts == {Outcome.DELETED: 600}
    assert totals(path) == {Outcome.DELETED: count + 600}
    assert (await deletion(client, ids(count + 600), path)).total == 0


async def test_other_changes_for_the_same_ids_are_refused(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await update(client, [(who, JANE) for who in ids(10)], path)
    with pytest.raises(InputChangedError, match="the data to write differs somewhere in rows 1 to 10") as caught:
        await update(client, [(who, JOHN) for who in ids(10)], path)
    assert (caught.value.kind, caught.value.position, caught.value.last) == ("rewritten", 0, 9)


async def test_of_a_single_item_it_is_known_where_it_differs(client: AdaptyClient, path: Path) -> None:
    await update(client, [(who, JANE) for who in ids(1)], path)
    with pytest.raises(InputChangedError, match="the data to write differs in row 1: ") as caught:
        await update(client, [(who, JOHN) for who in ids(1)], path)
    assert (caught.value.position, caught.value.last) == (0, 0)


async def test_an_asynchronous_input_is_taken_as_well(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    async def people() -> AsyncIterator[str]:
        for who in ids(1500):
            yield who

    assert (await deletion(client, people(), path)).counts == {Outcome.DELETED: 1500}
    assert (await deletion(client, people(), path)).total == 0


@pytest.mark.parametrize("deletions", [0, 100, 866], ids=["at once", "some", "all"])
async def test_what_was_decided_beforehand_has_a_row_and_is_not_sent(
    simulator: Simulator, client: AdaptyClient, path: Path, deletions: int
) -> None:
    def people() -> Iterator[str | SkippedItem[str]]:
        for number, who in enumerate(ids(1300)):
            yield SkippedItem(who, Outcome.DUPLICATE) if number % 3 == 0 else who

    job = deletion(client, people(), path, stop=StopRules())
    await stopped_when(lambda: simulator.stats.count_responses(204) >= deletions, job)
    report = await deletion(client, people(), path, stop=StopRules(max_failures=0))
    assert report.stop_reason is None
    assert totals(path) == {Outcome.DELETED: 866, Outcome.DUPLICATE: 434}
    assert simulator.stats.requests == 866


async def test_of_the_last_minute_those_count_that_a_request_led_to(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deletion(client, [*ids(3), SkippedItem("x", Outcome.DUPLICATE), "", "nobody"], path)
    with LedgerReader(path) as reader:
        assert reader.status().recent == 4
        later = time.time() + 90
        monkeypatch.setattr(time, "time", lambda: later)
        assert reader.status().recent == 0


@pytest.mark.parametrize("spool", [False, True])
async def test_a_ledger_keeps_the_list_that_excludes_an_item(
    simulator: Simulator, client: AdaptyClient, path: Path, *, spool: bool
) -> None:
    def people() -> Iterator[str | SkippedItem[str]]:
        for number, who in enumerate(ids(1300)):
            list_ = (None, "legal.csv", "audit.csv")[number % 3]
            yield SkippedItem(who, Outcome.EXCLUDED, exclude_list=list_) if number % 4 else who

    job = deletion(client, people(), path, spool=spool)
    async for result in job:
        if result.position == 400 and not spool:
            job.stop()
    assert (await deletion(client, people(), path, stop=StopRules(max_failures=0))).stop_reason is None
    assert totals(path) == {Outcome.DELETED: 325, Outcome.EXCLUDED: 975}
    for row in rows(path):
        is_excluded = row.position % 4 != 0
        assert row.outcome is (Outcome.EXCLUDED if is_excluded else Outcome.DELETED)
        assert row.exclude_list == ((None, "legal.csv", "audit.csv")[row.position % 3] if is_excluded else None)
        assert row.status == (None if is_excluded else 204)
    assert simulator.stats.requests == 325


async def test_what_may_have_been_sent_stays_in_doubt_where_it_must_not_be_sent_any_more(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.02
    await first_results(deletion(client, ids(50), path, concurrency=10), 20)
    before = totals(path)
    assert before[Outcome.IN_DOUBT] > 0
    sent = simulator.stats.requests
    report = await deletion(client, [SkippedItem(who, Outcome.INVALID) for who in ids(50)], path, stop=StopRules())
    assert report.stop_reason is None
    assert simulator.stats.requests == sent
    waiting = before[Outcome.NOT_ATTEMPTED]
    assert report.counts == {Outcome.IN_DOUBT: before[Outcome.IN_DOUBT], Outcome.INVALID: waiting}
    assert totals(path) == {Outcome.DELETED: before[Outcome.DELETED], **report.counts}


# Updates and creations


async def test_an_update_that_was_under_way_is_sent_again_soon_after_and_in_doubt_later(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [(who, JANE) for who in ids(40)]
    simulator.latency = 0.05
    await first_results(update(client, changes, path), 5)
    with LedgerReader(path) as reader:
        under_way = reader.status().claimed
    assert 0 < under_way <= 5
    later = time.time() + 901
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        await update(client, changes, path)
    assert totals(path) == {Outcome.UPDATED: 40 - under_way, Outcome.IN_DOUBT: under_way}
    assert simulator.stats.requests == 40
    await update(client, changes, path, retry=[Outcome.IN_DOUBT])
    assert totals(path) == {Outcome.UPDATED: 40}
    assert simulator.stats.requests == 40 + under_way


async def test_a_recent_update_without_an_outcome_is_sent_again(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    changes = [(who, JANE) for who in ids(40)]
    simulator.latency = 0.05
    await first_results(update(client, changes, path), 5)
    await update(client, changes, path)
    assert totals(path) == {Outcome.UPDATED: 40}


@pytest.mark.parametrize(("retry", "is_sent"), [((), False), ((Outcome.IN_DOUBT,), True)])
async def test_an_update_of_an_earlier_run_is_looked_at_when_it_is_sent_and_not_when_it_is_read(
    simulator: Simulator, client: AdaptyClient, path: Path, retry: tuple[Outcome, ...], *, is_sent: bool
) -> None:
    changes = [(who, JANE) for who in ids(40)]
    simulator.latency = 0.05
    await first_results(update(client, changes, path), 5)
    with LedgerReader(path) as reader:
        under_way = reader.status().claimed
    assert under_way > 0
    passed = 0.0
    get_sender(client).key_state.clock = lambda loop: read_clocks(loop).subtract(-passed)
    job = update(client, changes, path, retry=retry)
    job.pause()
    running = asyncio.create_task(first_results(job, 40))
    await asyncio.sleep(0.2)  # the job reads rows during this time; if the machine is slow, the assertions hold anyway
    passed = 16 * 60.0
    job.unpause()
    await running
    assert totals(path) == (
        {Outcome.UPDATED: 40} if is_sent else {Outcome.UPDATED: 40 - under_way, Outcome.IN_DOUBT: under_way}
    )


async def test_what_was_claimed_but_never_sent_is_released(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.02
    job = update(client, [(who, JANE) for who in ids(200)], path)
    running = asyncio.create_task(first_results(job, 200))
    await until(lambda: simulator.stats.requests > 0)
    job.stop()
    await running
    report = job.report
    with LedgerReader(path) as reader:
        status = reader.status()
    assert status.claimed == 0
    assert status.counts[Outcome.UPDATED] == report.counts[Outcome.UPDATED] < 200
    assert status.waiting == 200 - status.counts[Outcome.UPDATED]


async def test_items_are_claimed_when_half_of_the_earlier_ones_are_handed_out(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 10
    monkeypatch.setattr(_ClaimSizer, "next_size", lambda *_: size)  # on a slow disk it grows
    simulator.latency = 0.05
    changes = [(who, JANE) for who in ids(1000)]
    job = bulk.update_profiles(
        client, changes, by="customer_user_id", pacer=FixedPacer(100), ledger=Ledger(path), concurrency=size
    )
    running = asyncio.create_task(first_results(job, 1000))
    unsent = 0
    for requests in range(1, 150, 5):
        await until(lambda most=requests: simulator.stats.requests >= most)  # type: ignore[misc]
        with LedgerReader(path) as reader:
            status = reader.status()
        unsent = max(unsent, status.claimed + sum(status.counts.values()) - simulator.stats.requests)
    job.stop()
    await running
    # Those of the last claim, those ready, those handed out, and those on their way to the server.
    assert 0 < unsent <= size + size // 2 + size + size


async def test_profiles_are_created_once(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    people = [(f"new-{n}", JANE) for n in range(30)]
    for expected in (30, 0):
        job = bulk.create_profiles(client, people, by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
        assert (await job).counts == ({Outcome.CREATED: expected} if expected else {})
    assert len(simulator.profiles) == 3030


async def test_failures_are_tried_again_only_where_that_is_asked(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    unlucky = client.with_options(retry=RetryPolicy.none())
    simulator.inject(*[Fault.SERVER_ERROR] * 3, *[Fault.RESET_BEFORE] * 2)
    items = [*ids(20), "bad\nid"]
    first = await deletion(unlucky, items, path, concurrency=1)
    assert first.counts[Outcome.INVALID] == 1
    assert totals(path) == first.counts
    assert (await deletion(client, items, path)).total == 0
    doubtful = first.counts[Outcome.IN_DOUBT] + first.counts[Outcome.FAILED]
    assert doubtful == 5
    report = await deletion(client, items, path, retry=[Outcome.FAILED, Outcome.IN_DOUBT])
    assert report.total == 5
    assert totals(path) == {Outcome.DELETED: 20, Outcome.INVALID: 1}


async def test_a_worse_answer_does_not_replace_a_better_one(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    unlucky = client.with_options(retry=RetryPolicy.none())
    simulator.inject(Fault.RESET_AFTER)
    await deletion(unlucky, ids(1), path)
    assert totals(path) == {Outcome.IN_DOUBT: 1}
    simulator.inject(Fault.REDIRECT)
    await deletion(unlucky, ids(1), path, retry=[Outcome.IN_DOUBT])
    assert totals(path) == {Outcome.IN_DOUBT: 1}
    await deletion(unlucky, ids(1), path, retry=[Outcome.IN_DOUBT])
    assert totals(path) == {Outcome.DELETED_UNCONFIRMED: 1}


# Refusals


async def test_two_runners_at_once_are_one_too_many(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    simulator.latency = 0.05
    async with deletion(client, ids(100), path, concurrency=5) as job:
        async for _ in job:
            with pytest.raises(LedgerLockedError, match="in use by another process"):
                await deletion(client, ids(100), path)
            with pytest.raises(LedgerLockedError):
                anonymize(path)
            break


async def test_a_ledger_by_another_name_is_the_same_ledger(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    link = path.parent / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    simulator.latency = 0.05
    async with deletion(client, ids(100), link, concurrency=5) as job:
        async for _ in job:
            with pytest.raises(LedgerLockedError):
                await deletion(client, ids(100), path)
            with LedgerReader(path) as reader, LedgerReader(link) as other:
                assert reader.is_running()
                assert other.is_running()
            break
    for name in (path, link):
        with pytest.raises(InputChangedError):
            await deletion(client, ["x"], name)
    with LedgerReader(link) as reader:
        assert len(reader.find_rows(next(ids(1)))) == 1
    Spool(link).fill(io.BytesIO(b"u1"))
    assert Spool(path).is_filled
    anonymize(link)
    assert list(link.parent.iterdir()) == [link]
    assert {file.name for file in path.parent.iterdir()} >= {"job.db", "job.db.lock"}
    assert not list(path.parent.glob("job.db.[ks]*"))


async def test_a_ledger_of_another_job_is_refused(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(10), path)
    sent = simulator.stats.requests
    profile_ids = [profile_id for profile_id, _ in zip(simulator.profiles, range(10), strict=False)]
    with pytest.raises(LedgerMismatchError, match="its operation is delete, not update"):
        await update(client, [(who, JANE) for who in ids(10)], path)
    with pytest.raises(LedgerMismatchError, match="its ID type is customer_user_id, not profile_id"):
        await bulk.delete_profiles(client, profile_ids, by="profile_id", pacer=UNPACED, ledger=Ledger(path))
    async with AdaptyClient("another", base_url=simulator.base_url) as other:
        with pytest.raises(LedgerMismatchError, match="another API key"):
            await deletion(other, ids(10), path)
        assert (await deletion(other, ids(10), path, new_key=True)).total == 0
        with pytest.raises(LedgerMismatchError, match="another API key"):  # this key changed nothing
            await deletion(other, ids(10), path)
    async with AdaptyClient(simulator.api_key, base_url="https://api.test") as other:
        with pytest.raises(LedgerMismatchError, match=r"https://api\.test") as caught:
            await deletion(other, ids(10), path)
        assert caught.value.what == "server"
    assert simulator.stats.requests == sent


async def test_both_keys_of_a_job_are_remembered_and_neither_is_kept(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(10), path)
    async with AdaptyClient("another_key", base_url=simulator.base_url) as other:
        await deletion(other, ids(11), path, new_key=True, appended=True, notes={"operator": "Ada"})
    with LedgerReader(path) as reader:
        first, second = reader.runs
    assert first.key_fingerprint != second.key_fingerprint
    assert (first.notes, second.notes) == ({}, {"operator": "Ada"})
    assert b"another_key" not in path.read_bytes()
    assert simulator.api_key.encode() not in path.read_bytes()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "foreign": lambda data: b"customer_user_id\nu1\n" * 1000,
    "empty": lambda data: b"",
    "a byte": lambda data: data[:1],
    "50 bytes": lambda data: data[:50],
    "a page": lambda data: data[:4096],
    "half": lambda data: data[: len(data) // 2],
    "all but a page": lambda data: data[:-4096],
    "older": lambda data: data[:60] + (1).to_bytes(4, "big") + data[64:],
    "newer": lambda data: data[:60] + (99).to_bytes(4, "big") + data[64:],
    "overwritten": lambda data: data[:8192] + b"\xff" * 8192 + data[16384:],
}


async def test_a_ledger_is_known_by_the_bytes_that_earlier_versions_wrote(client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(1), path)
    header = path.read_bytes()[:100]
    assert (header[68:72], header[60:64]) == (b"AdPy", b"\0\0\0\3")


async def test_what_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(DAMAGES["foreign"](b""))
    with pytest.raises(
        LedgerUnreadableError, match=r"job\.db isn't a ledger of adapty-async: choose another name for the ledger"
    ):
        LedgerReader(path)


async def test_a_schema_that_is_no_text_any_more_is_damage(client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(1), path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"NULL, present") + 1] ^= 1 << 7
    path.write_bytes(damaged)
    for use in (LedgerReader, Store.open):
        with pytest.raises(LedgerUnreadableError, match=r"job\.db is damaged: restore it from a backup"):
            use(path)


async def test_a_foreign_damaged_or_newer_file_is_refused(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(2000), path)
    sent = simulator.stats.requests
    whole = path.read_bytes()
    for what, damage in DAMAGES.items():
        damaged = damage(whole)
        path.write_bytes(damaged)
        with pytest.raises(LedgerUnreadableError, match=r"isn't a ledger|is damaged|(newer|older) version"):
            await deletion(client, ids(2000), path)
        with pytest.raises(LedgerUnreadableError), LedgerReader(path) as reader:
            list(reader.rows())
        assert simulator.stats.requests == sent, what
        assert path.read_bytes() == damaged, what
    path.write_bytes(whole)
    assert totals(path) == {Outcome.DELETED: 2000}


async def test_another_programs_database_is_left_alone(client: AdaptyClient, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    other.close()
    with pytest.raises(
        LedgerUnreadableError, match="isn't a ledger of adapty-async: choose another name for the ledger"
    ):
        await deletion(client, ids(1), path)


async def test_a_place_that_is_none_is_refused(client: AdaptyClient, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="can't be made or opened"):
        await deletion(client, ids(1), tmp_path / "missing" / "job.db")
    with pytest.raises(LedgerUnreadableError, match="doesn't exist"):
        LedgerReader(tmp_path / "job.db")


@pytest.mark.parametrize("closed", ["directory", "file"])
async def test_what_may_not_be_written_can_be_read_and_is_fit_to_go_on_with_afterwards(
    simulator: Simulator, client: AdaptyClient, closed: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, ledger = Path(name), Path(name) / "job.db"
        await deletion(client, ids(10), ledger)
        with permissions_holding():
            place = folder if closed == "directory" else ledger
            mode = place.stat().st_mode
            place.chmod(mode & ~0o222)
            assert totals(ledger) == {Outcome.DELETED: 10}
            with pytest.raises(LedgerWriteError, match=r"check (the|its) permissions"):
                await deletion(client, ids(20), ledger, appended=True)
            place.chmod(mode)
            await deletion(client, ids(20), ledger, appended=True)
        assert totals(ledger) == {Outcome.DELETED: 20}


async def test_with_an_empty_log_beside_it_it_can_be_read_where_nothing_may_be_written(client: AdaptyClient) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, ledger = Path(name), Path(name) / "job.db"
        await deletion(client, ["u1"], ledger)
        ledger.with_name("job.db-wal").touch()
        with permissions_holding():
            folder.chmod(0o500)
            assert totals(ledger) == {Outcome.ALREADY_ABSENT: 1}
            folder.chmod(0o700)


async def test_a_lock_that_may_not_be_read_is_told_by_the_name_of_its_ledger(client: AdaptyClient) -> None:
    with tempfile.TemporaryDirectory() as name, permissions_holding():
        ledger = Path(name) / "job.db"
        await deletion(client, ["u1"], ledger)
        get_lock_path(ledger).chmod(0)
        with LedgerReader(ledger) as reader, pytest.raises(LedgerWriteError, match=r"job\.db can't be opened"):
            reader.is_running()


async def test_nothing_is_begun_in_a_directory_that_may_not_be_written(
    simulator: Simulator, client: AdaptyClient
) -> None:
    with tempfile.TemporaryDirectory() as name, permissions_holding():
        Path(name).chmod(0o500)
        with pytest.raises(LedgerWriteError, match="check the permissions, or choose another place"):
            await deletion(client, ids(10), Path(name) / "job.db")
        Path(name).chmod(0o700)
        await deletion(client, ids(10), Path(name) / "job.db")
    assert simulator.stats.requests == 10


# Data that isn't shown


async def test_no_id_stands_in_the_ledger_and_only_its_owner_may_read_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 0.05
    async with deletion(client, ids(100), path) as job:
        async for result in job:
            if result.position > 50:
                break
        files = list(path.parent.iterdir())
        assert {file.name for file in files} >= {"job.db", "job.db.key", "job.db-wal"}
        for file in files:
            assert b"example.com" not in file.read_bytes()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_an_id_leads_to_its_row_until_the_key_file_is_gone(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, [*ids(1500), next(ids(1))], path)
    with LedgerReader(path) as reader:
        digest = reader.digest()
        assert [(row.position, row.outcome) for row in reader.find_rows(next(ids(1)))] == [
            (0, Outcome.DELETED),
            (1500, Outcome.ALREADY_ABSENT),
        ]
        assert reader.find_rows("nobody") == []
        joined = [(row.position, who) for row, who in reader.rows_with_ids([*ids(1500), next(ids(1))])]
        assert joined == list(enumerate([*ids(1500), next(ids(1))]))
        with pytest.raises(InputChangedError, match="row 3"):
            list(reader.rows_with_ids(["user-000001@example.com", "user-000002@example.com", "x"]))
        with pytest.raises(InputChangedError, match="ends after row 1,500"):
            list(reader.rows_with_ids(ids(1500)))
    spool = Spool(path)
    spool.fill(io.BytesIO(b"\n".join(who.encode() for who in ids(1500))))
    anonymize(path)
    assert not any(b"example.com" in file.read_bytes() for file in path.parent.iterdir())
    with LedgerReader(path) as reader:
        assert reader.digest() == digest
        with pytest.raises(LedgerAnonymizedError):
            reader.find_rows(next(ids(1)))
    with pytest.raises(
        LedgerAnonymizedError,
        match=r"job\.db was made anonymous: its key file job\.db\.key was removed, .* the job can't be resumed",
    ):
        await deletion(client, [*ids(1500), next(ids(1))], path)


async def test_an_input_that_differs_from_the_rows_is_told_where_and_how(client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(5), path)
    with LedgerReader(path) as reader:
        for people, kind, position in (
            ([*ids(2), "x", *ids(2, start=4)], "differs", 2),
            (ids(3), "shorter", 3),
            (ids(6), "longer", 5),
        ):
            with pytest.raises(InputChangedError, match="pass the job's input") as caught:
                list(reader.rows_with_ids(people))
            assert (caught.value.kind, caught.value.position) == (kind, position)


async def test_a_ledger_says_what_job_it_is_of_and_since_when(
    simulator: Simulator, client: AdaptyClient, tmp_path: Path
) -> None:
    someone = str(next(iter(simulator.profiles)))
    operations: dict[str, Callable[[Ledger], BulkJob[Any, Any]]] = {
        "update": lambda journal: bulk.update_profiles(
            client, [(someone, JANE)], by="profile_id", pacer=UNPACED, ledger=journal
        ),
        "create": lambda journal: bulk.create_profiles(
            client, [("new", JANE)], by="customer_user_id", pacer=UNPACED, ledger=journal
        ),
        "delete": lambda journal: bulk.delete_profiles(
            client, [someone], by="profile_id", pacer=UNPACED, ledger=journal
        ),
    }
    for operation, job in operations.items():
        path, began = tmp_path / f"{operation}.db", int(time.time())
        await job(Ledger(path))
        with LedgerReader(path) as reader:
            by = "customer_user_id" if operation == "create" else "profile_id"
            assert (reader.job.operation, reader.job.by, reader.job.items) == (operation, by, 1)
            assert began <= reader.job.made.timestamp() <= time.time()
            assert reader.job.made.utcoffset() == timedelta(0)
            assert [row.outcome for row in reader.find_rows("new" if operation == "create" else someone.upper())] == [
                {"update": Outcome.UPDATED, "create": Outcome.CREATED, "delete": Outcome.DELETED}[operation]
            ]


async def test_an_id_that_is_no_text_of_unicode_has_a_row(client: AdaptyClient, path: Path) -> None:
    odd = "u\udcff1"  # from a file that isn't UTF-8
    assert (await deletion(client, ["u1", odd], path)).counts == {Outcome.ALREADY_ABSENT: 1, Outcome.INVALID: 1}
    with LedgerReader(path) as reader:
        assert [(row.position, row.outcome) for row in reader.find_rows(odd)] == [(1, Outcome.INVALID)]


def test_what_is_done_cannot_be_asked_for_again(path: Path) -> None:
    with pytest.raises(ValueError, match="leave out deleted"):
        Ledger(path, retry=[Outcome.FAILED, Outcome.DELETED])


async def test_a_ledger_with_a_second_name_is_read_but_not_gone_on_with(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(5), path)
    second = path.with_name("second.db")
    second.hardlink_to(path)
    for name in (path, second):
        with pytest.raises(LedgerUnreadableError, match="a hard link"):
            await deletion(client, ids(5), name)
    assert sum(totals(path).values()) == 5
    second.unlink()
    assert (await deletion(client, ids(5), path)).total == 0


async def test_a_key_file_of_another_ledger_is_refused(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    await deletion(client, ids(5), path)
    path.with_name("job.db.key").write_bytes(os.urandom(32))
    with pytest.raises(
        LedgerMismatchError,
        match="of another ledger, or was changed: put the right one back; without it the job can't be resumed",
    ):
        await deletion(client, ids(5), path)
    with (
        LedgerReader(path) as reader,
        pytest.raises(LedgerAnonymizedError, match="put the right one back; without it no ID can be"),
    ):
        reader.find_rows("u1")


async def test_a_ledger_is_anonymized_by_removing_its_own_key_file_and_no_other(
    client: AdaptyClient, path: Path
) -> None:
    await deletion(client, ids(5), path)
    beside = path.with_name("job.db.key")
    own = beside.read_bytes()
    for other in (os.urandom(32), b"-----BEGIN PRIVATE KEY-----", own + b"\n"):  # the last one as saved by an editor
        beside.write_bytes(other)
        with pytest.raises(LedgerMismatchError, match="nothing was removed") as caught:
            anonymize(path)
        assert caught.value.what == "secret"
        assert beside.read_bytes() == other
    beside.write_bytes(own)
    anonymize(path)
    anonymize(path)
    assert not beside.exists()


async def test_another_file_of_the_key_files_name_is_left_alone(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    beside = path.with_name("job.db.key")
    beside.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(
        LedgerMismatchError, match=r"job\.db\.key already exists .*: choose another name for the ledger"
    ):
        await deletion(client, ids(5), path)
    assert beside.read_bytes() == b"-----BEGIN PRIVATE KEY-----"
    beside.write_bytes(b"")  # a key file after a kill
    await deletion(client, ids(5), path)
    assert len(beside.read_bytes()) == 32


# During a run


async def test_progress_shows_no_more_than_what_is_committed(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    shown: list[tuple[int, int]] = []

    def show(report: bulk.BulkReport) -> None:
        with LedgerReader(path) as reader:
            shown.append((report.counts.get(Outcome.DELETED, 0), reader.status().counts.get(Outcome.DELETED, 0)))

    await bulk.delete_profiles(
        client, ids(2500), by="customer_user_id", pacer=UNPACED, concurrency=10, ledger=Ledger(path), on_progress=show
    )
    assert len(shown) > 3
    assert all(told <= committed for told, committed in shown)
    assert shown[-1] == (2500, 2500)


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_job_that_is_left_at_any_moment_leaves_no_thread_and_no_lock_behind(
    simulator: Simulator, client: AdaptyClient, path: Path, moment: float, cancellations: int
) -> None:
    simulator.latency = 0.02
    task = asyncio.ensure_future(deletion(client, ids(200), path))
    await asyncio.sleep(moment)
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [thread.name for thread in threading.enumerate() if "ledger" in thread.name] == []
    await deletion(client, ids(200), path)
    assert totals(path).keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}


def test_a_ledger_is_named_as_it_was_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert repr(Ledger("job.db")) == "Ledger('job.db')"
    Path("link.db").symlink_to("job.db")
    assert Ledger("link.db").path == path.resolve()  # its other files are next to the target


@pytest.mark.parametrize("look", [4, "look"])
def test_what_cannot_be_called_to_look_is_refused_at_once(path: Path, look: Any) -> None:
    with pytest.raises(TypeError, match="live_status must be callable"):
        Ledger(path, live_status=look)


async def test_a_ledger_shows_no_more_of_itself_than_its_name(path: Path) -> None:
    assert repr(Ledger(path, notes={"operator": "Ada"})) == f"Ledger({str(path)!r})"


# What a reader sees during a run


def sight(path: Path) -> Any:
    if not path.exists():
        return None
    with LedgerReader(path) as reader:
        return reader.live_status


async def test_what_a_job_looks_like_is_told_as_long_as_it_runs_also_in_a_pause(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_STATUS_INTERVAL", 0.01)
    simulator.latency = 0.02
    job: BulkJob[ProfileId, None] = deletion(client, ids(3000), path, live_status=lambda: {"paused": job.is_paused})
    running = asyncio.create_task(first_results(job, 3000))
    await until(lambda: sight(path) == {"paused": False})
    job.pause()
    await until(lambda: sight(path) == {"paused": True} and not simulator.stats.in_flight)
    job.unpause()
    await until(lambda: sight(path) == {"paused": False})
    job.stop()
    await running
    assert sight(path) is None
    assert totals(path)[Outcome.NOT_ATTEMPTED] > 0


async def test_whoever_looks_and_fails_ends_no_job(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def look() -> dict[str, Any]:
        raise LookupError("user-1")

    monkeypatch.setattr(session, "_STATUS_INTERVAL", 0.01)
    simulator.latency = 0.02
    assert (await deletion(client, ids(100), path, concurrency=5, live_status=look)).counts == {Outcome.DELETED: 100}
    assert "the live status callback of the job raised LookupError" in caplog.text
    assert "user-1" not in caplog.text
    assert sight(path) is None


async def test_a_job_that_is_done_has_no_further_runs(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    def numbers() -> list[int]:
        with LedgerReader(path) as reader:
            return [run.number for run in reader.runs]

    await first_results(deletion(client, ids(1500), path), 20)
    assert numbers() == [1]
    await deletion(client, ids(1500), path)
    assert numbers() == [1, 2]
    await deletion(client, ids(1500), path, retry=[Outcome.FAILED])
    await deletion(client, ids(1500), path, notes={"operator": "Ada"})
    assert numbers() == [1, 2]
    await deletion(client, [*ids(1500), "more"], path, appended=True)
    assert numbers() == [1, 2, 3]


def test_only_a_deletion_is_sent_again_however_long_ago_it_was_sent(client: AdaptyClient) -> None:
    repeatable = {name: job_spec(client, name, "profile_id").is_repeatable for name in ("delete", "update", "create")}
    assert repeatable == {"delete": True, "update": False, "create": False}
