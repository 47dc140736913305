"""The record of a job, the evidence for one ID, and the effect of a verification on both."""

import asyncio
import hashlib
import json
import random
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from adapty_async import UNPACED, AdaptyClient, RetryPolicy, bulk
from adapty_async.bulk import BulkJob, BulkReport, Outcome, SkippedItem, StopReason
from adapty_async.bulk.operations import ProfileId
from adapty_async.ledger import (
    JobRecord,
    Ledger,
    LedgerError,
    LedgerLockedError,
    LedgerMismatchError,
    LedgerReader,
    LedgerUnreadableError,
    Presence,
    Row,
    Run,
    build_record,
    describe_item,
    verify,
)
from adapty_async.ledger.compliance_record import Verification
from adapty_async.ledger.files import is_locked
from adapty_async.ledger.reader import RowsDigest
from adapty_async.ledger.store import CommitData, Store
from adapty_async.testing import Fault, Simulator
from tests.waiting import until

from .helpers import NO_RULES, ids, rows, stopped_when, totals

NOTES = {"app_id": "14c3d623", "operator": "Ada | <b>", "request": "DSR-17", "expect": "1200"}

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
RECORD = JobRecord(
    open=1200,
    resume_command="adapty-async resume job.db",
    operation="delete",
    by="customer_user_id",
    base_url="https://api.test/v2",
    app_id=None,
    items=12_000,
    input_digest="a1",
    first=NOON,
    last=NOON + timedelta(seconds=61),
    totals={
        Outcome.DELETED: 9000,
        Outcome.UPDATED: 0,
        Outcome.ALREADY_ABSENT: 5,
        Outcome.DELETED_UNCONFIRMED: 6,
        Outcome.DUPLICATE: 7,
        Outcome.EXCLUDED: 1005,
        Outcome.INVALID: 10,
        Outcome.FAILED: 11,
        Outcome.IN_DOUBT: 12,
        Outcome.NOT_ATTEMPTED: 1200,
    },
    excluded={"minors.csv": 5, "staff|1.csv": 1000},
    rows_digest="b2",
    runs=(
        Run(
            number=1,
            started=NOON,
            ended=None,
            key_fingerprint="c3",
            library_version="1.0",
            notes={"operator": "Ada", "request": "DSR-17", "expect": "12000"},
            touched=True,
        ),
    ),
    verified=Verification(9, 2, NOON, NOON + timedelta(hours=1)),
    library_version="1.0",
)
PAGE = """\
# Record of a mass deletion

**The job isn't finished: 1,200 of 12,000 items were open when this was written.** To resume it:

    adapty-async resume job.db

**2 profiles were present when they were checked afterwards.**

Adapty detaches a deleted profile's purchase history, and may attach it to another profile.

| | |
|---|---|
| server | https://api.test/v2 |
| app | app not verified |
| IDs | customer_user_id |
| items | 12,000 |
| first outcome | 2026-12-01 12:00:00 UTC |
| last outcome | 2026-12-01 12:01:01 UTC |
| digest of the input (keyed) | a1 |
| digest of the rows | b2 |
| exclude lists | minors.csv: 5, staff\\|1.csv: 1,000 |
| verified | 9 absent, 2 present, 2026-12-01 12:00:00 UTC to 2026-12-01 13:00:00 UTC |
| adapty-async | 1.0 |

| outcome | items | meaning |
|---|---:|---|
| deleted | 9,000 | Adapty accepted the deletion |
| already_absent | 5 | there was no such profile |
| deleted_unconfirmed | 6 | no such profile; a request may have been sent before, and its response was lost |
| duplicate | 7 | the same ID is earlier in the input; not sent |
| excluded | 1,005 | on an exclude list; not sent |
| invalid | 10 | can't be sent; not sent |
| failed | 11 | rejected by Adapty, or failed at the last attempt |
| in_doubt | 12 | may have been sent; the result is unknown |
| not_attempted | 1,200 | not sent |

| run | started | ended | key | operator | request | guards |
|---|---|---|---|---|---|---|
| 1 | 2026-12-01 12:00:00 UTC | - | c3 | Ada | DSR-17 | expect 12000 |
"""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(profiles=1500) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def deletion(client: AdaptyClient, path: Path, count: int) -> BulkJob[ProfileId, None]:
    items: list[str | SkippedItem[str]] = [*ids(count), SkippedItem(next(ids(1)), Outcome.DUPLICATE), "nobody"]
    return bulk.delete_profiles(
        client,
        items,
        by="customer_user_id",
        pacer=UNPACED,
        stop=NO_RULES,
        ledger=Ledger(path, notes=NOTES),
        concurrency=20,
    )


async def delete(client: AdaptyClient, path: Path, count: int) -> BulkReport:
    return await deletion(client, path, count)


def record(path: Path, *, items: int | None = None) -> JobRecord:
    with LedgerReader(path) as reader:
        return build_record(reader, items=items)


async def test_the_record_covers_all_runs_and_agrees_with_the_rows(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    first = await stopped_when(lambda: simulator.stats.count_responses(204) >= 100, deletion(client, path, 1200))
    assert first.stop_reason is StopReason.REQUESTED
    await delete(client, path, 1200)
    made = record(path)
    assert made.totals == totals(path) == {Outcome.DELETED: 1200, Outcome.DUPLICATE: 1, Outcome.ALREADY_ABSENT: 1}
    assert made.items == 1202
    assert len(made.runs) == 2
    assert made.app_id == NOTES["app_id"]
    lines = (
        f"{row.position},{row.hash.hex()},{row.standing},{row.status or 0},{row.attempts},{row.at}\n"
        for row in rows(path)
    )
    assert made.rows_digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    times = [row.at for row in rows(path) if row.at]
    assert made.first is not None
    assert made.last is not None
    assert (made.first.timestamp(), made.last.timestamp()) == (min(times), max(times))
    data = json.loads(made.as_json())
    assert data["totals"] == {"deleted": 1200, "already_absent": 1, "duplicate": 1}
    assert data["runs"][0]["notes"] == NOTES
    assert data["first"].endswith("Z")
    assert data["verified"] is None


async def test_the_page_says_what_adapty_accepted_and_never_that_somebody_was_erased(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 10)
    page = record(path).as_markdown()
    assert "| deleted | 10 | Adapty accepted the deletion |" in page
    assert "| Ada \\| &lt;b> | DSR-17 | expect 1200 |" in page
    assert "erased" not in page
    assert "example.com" not in page + record(path).as_json()
    assert client._sender.transport.key_fingerprint in page  # noqa: SLF001 - no public attribute has it


async def test_an_app_that_nobody_verified_is_called_so(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    await bulk.delete_profiles(client, ids(3), by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
    assert "| app | app not verified |" in record(path).as_markdown()


async def test_an_app_stands_in_the_record_only_where_all_that_was_sent_is_of_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    async def run(sender: AdaptyClient, items: int, **notes: str) -> None:
        journal = Ledger(path, appended=True, new_key=True, notes=notes)
        await bulk.delete_profiles(sender, ids(items), by="customer_user_id", pacer=UNPACED, ledger=journal)

    await run(client, 3)
    assert record(path).app_id is None
    await run(client, 6, app_id="A")
    assert record(path).app_id == "A"  # by the same key
    async with AdaptyClient("refused", base_url=simulator.base_url) as other:
        await run(other, 9)
    with LedgerReader(path) as reader:
        assert [each.touched for each in reader.runs] == [True, True, False]
    assert record(path).app_id == "A"
    simulator.api_key = "new"
    async with AdaptyClient("new", base_url=simulator.base_url) as other:
        await run(other, 12)
        assert record(path).app_id is None
        await run(other, 12, app_id="A")
        assert record(path).app_id == "A"
        await run(other, 12, app_id="B")
        assert record(path).app_id is None


async def test_a_run_that_was_killed_while_it_sent_may_have_touched_something(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    simulator.latency = 600
    job = bulk.delete_profiles(client, ids(3), by="customer_user_id", pacer=UNPACED, ledger=Ledger(path))
    task = asyncio.ensure_future(job)
    await until(lambda: simulator.stats.in_flight == 3)
    with LedgerReader(path) as reader:  # as a kill would leave it
        assert [run.touched for run in reader.runs] == [True]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with LedgerReader(path) as reader:
        assert [run.touched for run in reader.runs] == [True]


async def test_a_job_that_was_stopped_is_recorded_where_its_size_is_known(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await stopped_when(lambda: simulator.stats.count_responses(204) >= 100, deletion(client, path, 1500))
    with pytest.raises(LedgerError, match="hasn't read its input to the end"):
        record(path)
    with pytest.raises(LedgerUnreadableError, match="contradicts itself: 1,000 of 999 rows"):
        record(path, items=999)
    made = record(path, items=1502)
    assert sum(made.totals.values()) == 1502
    assert made.totals[Outcome.NOT_ATTEMPTED] == 1502 - made.totals[Outcome.DELETED] == made.open
    assert json.loads(made.as_json())["finished"] is False


@pytest.mark.parametrize(("table", "number"), [("outcome", 1), ("chunk", 0)])
async def test_a_record_that_has_lost_rows_is_refused(
    simulator: Simulator, client: AdaptyClient, path: Path, table: str, number: int
) -> None:
    await delete(client, path, 1100)
    with sqlite3.connect(path) as database:
        database.execute(f"DELETE FROM {table} WHERE number = {number}")  # noqa: S608 - our own names
    database.close()
    with pytest.raises(LedgerUnreadableError, match="is damaged"):
        record(path)
    with pytest.raises(LedgerUnreadableError):
        await delete(client, path, 1100)


@pytest.mark.parametrize("items", [1101, 1103])
async def test_a_record_that_contradicts_the_number_of_items_is_refused(
    simulator: Simulator, client: AdaptyClient, path: Path, items: int
) -> None:
    await delete(client, path, 1100)
    with Store.open(path) as store, store.transaction():
        store.write(CommitData(job=attrs.evolve(store.read_job(), items=items)))
    with pytest.raises(LedgerUnreadableError, match=f"contradicts itself: 1,102 of {items:,} rows"):
        record(path)
    with pytest.raises(LedgerUnreadableError):
        await delete(client, path, 1100)


@pytest.mark.parametrize("column", ["hashes", "digest"])
async def test_a_byte_that_has_changed_in_what_the_items_are_is_noticed(
    simulator: Simulator, client: AdaptyClient, path: Path, column: str
) -> None:
    await delete(client, path, 1100)
    with sqlite3.connect(path) as database:
        ((before,),) = database.execute(f"SELECT {column} FROM chunk WHERE number = 1")  # noqa: S608 - our own name
        after = bytes([before[0] ^ 1]) + before[1:]
        database.execute(f"UPDATE chunk SET {column} = ? WHERE number = 1", (after,))  # noqa: S608 - our own name
    database.close()
    with pytest.raises(LedgerUnreadableError, match="is damaged"):
        record(path)
    with LedgerReader(path) as reader:
        for read in (reader.rows, lambda: reader.find_rows("nobody"), lambda: reader.rows_with_ids(ids(1100))):
            with pytest.raises(LedgerUnreadableError, match="is damaged"):
                list(read())
    sent = simulator.stats.requests
    with pytest.raises(LedgerUnreadableError, match="is damaged"):
        await delete(client, path, 1100)
    assert simulator.stats.requests == sent


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("job", "base_url", "http://127.0.0.1:1"),
        ("job", "made", 1),
        ("job", "items", None),
        ("run", "started", 1),
        ("run", "notes", '{"operator": "Eve"}'),
        ("run", "key_fingerprint", "another"),
        ("run", "touched", 0),
        ("presence", "at", 1),
        ("presence", "present", 1),
    ],
)
async def test_a_byte_that_has_changed_in_what_the_record_tells_beside_is_noticed(
    simulator: Simulator, client: AdaptyClient, path: Path, table: str, column: str, value: object
) -> None:
    await delete(client, path, 20)
    first = next(ids(1))
    await verify(client, path, [*ids(20), first, "nobody"], sample=10, pacer=UNPACED)
    record(path)
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE {table} SET {column} = ?", (value,))  # noqa: S608 - our own names
    database.close()
    with pytest.raises(LedgerUnreadableError, match="is damaged"):
        record(path)


async def test_one_id_is_evidence_enough_for_what_became_of_it(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 10)
    with LedgerReader(path) as reader:
        first, second = describe_item(reader.find_rows(next(ids(1))))
        (absent,) = describe_item(reader.find_rows("nobody"))
    assert first.startswith("row 1: Adapty accepted the deletion (204) at 20")
    assert first.endswith(" UTC")
    assert second.startswith("row 11: the same ID is earlier in the input; not sent")
    assert absent.startswith("row 12: there was no such profile (404) at ")


async def test_a_verification_finds_who_is_present_and_leaves_the_outcomes_alone(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 1200)
    before = record(path)
    for who in list(ids(3, start=7)):
        simulator.add_profile(customer_user_id=who)
    items, began = [*ids(1200), next(ids(1)), "nobody"], int(time.time())
    found = await verify(client, path, items, pacer=UNPACED)
    assert (found.absent, found.present, found.unknown, found.stop_reason) == (1198, 3, 0, None)
    after = record(path)
    assert (after.totals, after.rows_digest) == (before.totals, before.rows_digest)
    assert after.verified is not None
    assert (after.verified.absent, after.verified.present) == (1198, 3)
    assert began <= after.verified.first.timestamp() <= after.verified.last.timestamp() <= time.time()
    assert "**3 profiles were present when they were checked afterwards.**" in after.as_markdown()
    with LedgerReader(path) as reader:
        assert [presence.position for presence in reader.verification_results() if presence.present] == [6, 7, 8]


def presences(path: Path) -> list[Presence]:
    with LedgerReader(path) as reader:
        return list(reader.verification_results())


async def test_what_a_verification_finds_is_written_while_it_goes_on(
    simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[verify.__module__], "_COMMIT_DELAY", 0.05)
    await delete(client, path, 40)
    simulator.latency = 0.02
    items = [*ids(40), next(ids(1)), "nobody"]
    verification = asyncio.ensure_future(verify(client, path, items, pacer=UNPACED, concurrency=2))
    await until(lambda: bool(presences(path)))
    assert not verification.done()
    assert len(presences(path)) < 41
    await verification
    with LedgerReader(path) as reader:
        assert len(list(reader.verification_results())) == 41


async def test_a_verification_that_is_cancelled_leaves_no_thread_and_no_lock(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("adapty_async verification")]

    await delete(client, path, 5)
    simulator.latency = 60.0
    verifying = asyncio.ensure_future(verify(client, path, [*ids(5), next(ids(1)), "nobody"], pacer=UNPACED))
    await until(lambda: simulator.stats.in_flight > 0)
    assert len(threads()) == 1
    verifying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert threads() == []
    assert not is_locked(path)


async def test_a_sample_is_as_large_as_it_was_asked_for(simulator: Simulator, client: AdaptyClient, path: Path) -> None:
    await delete(client, path, 100)
    items = [*ids(100), next(ids(1)), "nobody"]
    found = await verify(client, path, items, pacer=UNPACED, sample=30, rng=random.Random(1))  # noqa: S311 - repeatable
    assert found.absent == 30
    with LedgerReader(path) as reader:
        positions = [presence.position for presence in reader.verification_results()]
    assert len(positions) == 30
    assert positions != list(range(30))


async def test_what_has_no_clear_answer_is_neither_absent_nor_present(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 5)
    simulator.inject(Fault.SERVER_ERROR, Fault.REDIRECT)
    items = [*ids(5), next(ids(1)), "nobody"]
    found = await verify(client.with_options(retry=RetryPolicy.none()), path, items, pacer=UNPACED)
    assert (found.absent, found.present, found.unknown) == (4, 0, 2)


async def test_a_verification_elsewhere_or_meanwhile_is_refused(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 5)
    sent = simulator.stats.requests
    async with AdaptyClient("secret", base_url="https://api.test") as other:
        with pytest.raises(LedgerMismatchError):
            await verify(other, path, ids(5))
    simulator.latency = 0.5
    verifying = asyncio.ensure_future(verify(client, path, [*ids(5), next(ids(1)), "nobody"], pacer=UNPACED))
    await until(lambda: is_locked(path))
    with pytest.raises(LedgerLockedError):
        await delete(client, path, 5)
    await verifying
    sent = simulator.stats.requests
    job = bulk.delete_profiles(
        client,
        [*ids(5), next(ids(1)), "nobody", "more"],
        by="customer_user_id",
        pacer=UNPACED,
        ledger=Ledger(path, appended=True),
    )
    running = asyncio.ensure_future(job)
    await until(lambda: is_locked(path))
    with pytest.raises(LedgerLockedError):
        await verify(client, path, ids(5))
    await running
    assert simulator.stats.requests == sent + 1


def test_the_page_of_a_record_word_for_word() -> None:
    assert RECORD.as_markdown() == PAGE


def test_the_page_of_a_finished_update_without_more_to_tell() -> None:
    update = attrs.evolve(
        RECORD,
        operation="update",
        open=0,
        resume_command=None,
        verified=None,
        excluded={},
        app_id="14c3",
        first=None,
        last=None,
    )
    page = update.as_markdown()
    assert page.startswith(
        "# Record of a mass update\n\n| | |\n|---|---|\n| server | https://api.test/v2 |\n| app | 14c3 |\n"
    )
    for line in ("| first outcome | - |", "| last outcome | - |", "| exclude lists | none |", "| verified | no |"):
        assert f"\n{line}\n" in page


def test_the_address_of_a_server_that_is_none_is_shown_as_what_it_is() -> None:
    assert (
        "| server | https\\://a.test/\\|&lt;b> |" in attrs.evolve(RECORD, base_url="https://a.test/|<b>").as_markdown()
    )


def test_the_page_of_a_creation_is_called_so() -> None:
    assert attrs.evolve(RECORD, operation="create").as_markdown().startswith("# Record of a mass creation\n")


def test_the_record_as_json_word_for_word() -> None:
    text = RECORD.as_json()
    time, later = "2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z"
    run = attrs.asdict(RECORD.runs[0]) | {"started": time}
    expected = {
        "finished": False,
        **attrs.asdict(RECORD),
        "first": time,
        "last": "2026-12-01T12:01:01Z",
        "runs": [run],
        "verified": {"absent": 9, "present": 2, "first": time, "last": later},
        "totals": {outcome: count for outcome, count in RECORD.totals.items() if count},
    }
    assert text == json.dumps(expected, indent=2) + "\n"


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome.UPDATED, "Adapty accepted the update (204) at 2026-12-01 12:00:00 UTC"),
        (Outcome.CREATED, "Adapty accepted the creation (204) at 2026-12-01 12:00:00 UTC"),
        (Outcome.NOT_FOUND, "there was no such profile (204) at 2026-12-01 12:00:00 UTC"),
        (Outcome.FAILED, "rejected by Adapty, or failed at the last attempt (204) at 2026-12-01 12:00:00 UTC"),
        (Outcome.INVALID, "can't be sent; not sent at 2026-12-01 12:00:00 UTC"),
        (Outcome.EXCLUDED, "on an exclude list at 2026-12-01 12:00:00 UTC; not sent"),
    ],
)
def test_what_a_row_is_evidence_of(outcome: Outcome, sentence: str) -> None:
    row = Row(1233, b"", outcome, claimed=False, status=204, attempts=1, at=int(NOON.timestamp()))
    assert describe_item([row]) == [f"row 1,234: {sentence}"]


def test_a_row_without_an_outcome_is_evidence_of_no_time() -> None:
    row = Row(0, b"", None, claimed=False, status=None, attempts=0, at=None)
    assert describe_item([row]) == ["row 1: not sent"]


def test_a_row_names_the_list_that_excludes_it() -> None:
    row = Row(0, b"", Outcome.EXCLUDED, claimed=False, status=None, attempts=0, at=None, exclude_list="minors.csv")
    assert describe_item([row]) == ["row 1: on the exclude list minors.csv; not sent"]


async def test_a_verification_is_as_wide_as_it_was_asked_to_be_and_says_how_it_goes(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 30)
    simulator.latency = 0.02
    simulator.stats.max_in_flight = 0
    seen: list[BulkReport] = []
    items = [*ids(30), next(ids(1)), "nobody"]
    await verify(client, path, items, pacer=UNPACED, concurrency=3, on_progress=seen.append)
    assert simulator.stats.max_in_flight == 3
    assert seen[-1].counts == {Outcome.NOT_FOUND: 31}


async def test_a_verification_at_another_server_or_with_another_key_is_refused_in_so_many_words(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 2)
    items = [*ids(2), next(ids(1)), "nobody"]
    sent = simulator.stats.requests
    async with AdaptyClient(simulator.api_key, base_url="https://api.test") as elsewhere:
        with pytest.raises(
            LedgerMismatchError, match=f"belongs to a job at {simulator.base_url}: verify it there"
        ) as caught:
            await verify(elsewhere, path, items)
    assert caught.value.what == "server"
    async with AdaptyClient("another", base_url=simulator.base_url) as exchanged:
        with pytest.raises(LedgerMismatchError, match="with another API key: verify it with that key") as caught:
            await verify(exchanged, path, items)
        assert caught.value.what == "key"
        assert simulator.stats.requests == sent
        await verify(exchanged, path, items, new_key=True)
    assert simulator.stats.requests > sent
    assert presences(path) == []


async def test_the_rest_is_whom_no_verification_has_asked_for_yet(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 30)
    items = [*ids(30), next(ids(1)), "nobody"]
    await verify(client, path, items, pacer=UNPACED, sample=12)
    found = await verify(client, path, items, pacer=UNPACED, remaining=True)
    assert (found.absent, found.unknown) == (31 - 12, 0)
    assert sorted(presence.position for presence in presences(path)) == [*range(30), 31]


async def test_a_sample_of_the_rest_is_as_large_as_it_was_asked_for(
    simulator: Simulator, client: AdaptyClient, path: Path
) -> None:
    await delete(client, path, 30)
    items = [*ids(30), next(ids(1)), "nobody"]
    for rest in (False, True):
        found = await verify(client, path, items, pacer=UNPACED, sample=12, remaining=rest, rng=random.Random(1))  # noqa: S311 - repeatable
        assert found.absent == 12
    assert len(presences(path)) == 24


def test_the_digest_of_rows_is_that_of_their_lines() -> None:
    digest = RowsDigest()
    digest.add(Row(0, b"\x01", None, claimed=False, status=None, attempts=0, at=None))
    digest.add(Row(1, b"\x02", Outcome.DELETED, claimed=False, status=204, attempts=2, at=7))
    lines = b"0,01,not_attempted,0,0,0\n1,02,deleted,204,2,7\n"
    assert digest.hexdigest() == hashlib.sha256(lines).hexdigest()
