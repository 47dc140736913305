"""Bulk jobs: the effect of each response on its item and on the job."""

import asyncio
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import aiohttp
import pytest

from adapty_async import (
    UNPACED,
    AdaptyClient,
    Attempt,
    FixedPacer,
    InvalidResponseError,
    Profile,
    ProfileAttributes,
    Response,
    RetryPolicy,
    bulk,
)
from adapty_async.bulk import ItemResult, Outcome, SkippedItem, StopReason, StopRules
from adapty_async.testing import Fault, Simulator
from tests import waiting
from tests.waiting import PATIENCE

from .scripted import (
    ABSENT,
    FORBIDDEN,
    NO_BACKOFF,
    NO_CONTENT,
    PROFILE,
    UNAUTHORIZED,
    Answer,
    error,
    lost,
    never_sent,
    report_of_a_free_loop,
    scripted_client,
)

NO_RULES = StopRules(max_failure_ratio=None, max_absent_ratio=None)
JANE = ProfileAttributes(first_name="Jane")


def ids(count: int) -> Iterator[str]:
    return (f"user-{number:06d}@example.com" for number in range(1, count + 1))


async def until(condition: Callable[[], bool], *, turns: int = 1000) -> None:
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")


async def only(job: bulk.BulkJob[Any, Any]) -> ItemResult[Any, Any]:
    (result,) = [result async for result in job]
    return result


def job_of(kind: str, client: AdaptyClient, who: str = "u1") -> bulk.BulkJob[Any, Any]:
    if kind == "delete":
        return bulk.delete_profiles(client, [who], by="customer_user_id", stop=NO_RULES)
    if kind == "get":
        return bulk.get_profiles(client, [who], by="customer_user_id", stop=NO_RULES)
    if kind == "update":
        return bulk.update_profiles(client, [(who, JANE)], by="customer_user_id", stop=NO_RULES)
    return bulk.create_profiles(client, [(who, JANE)], by="customer_user_id", stop=NO_RULES)


# With the simulator


async def test_what_was_decided_beforehand_has_a_result_and_is_not_sent() -> None:
    unusable = ValueError("cut off by a spreadsheet")
    async with Simulator(profiles=2) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        first, second = ids(2)
        items: list[str | SkippedItem[str]] = [
            first,
            SkippedItem(first, Outcome.DUPLICATE),
            SkippedItem("1.2E+5", Outcome.INVALID, unusable),
            second,
            SkippedItem("u1", Outcome.EXCLUDED, exclude_list="legal.csv"),
        ]
        never = StopRules(max_failures=0, min_sample=0)
        job = bulk.delete_profiles(client, items, by="customer_user_id", concurrency=1, stop=never)
        shown = [(result.position, result.item, result.outcome, result.error) async for result in job]
        assert shown == [
            (0, first, Outcome.DELETED, None),
            (1, first, Outcome.DUPLICATE, None),
            (2, "1.2E+5", Outcome.INVALID, unusable),
            (3, second, Outcome.DELETED, None),
            (4, "u1", Outcome.EXCLUDED, None),
        ]
        assert job.report.stop_reason is None
        assert sim.stats.requests == 2


def test_only_what_needs_no_request_can_be_decided_beforehand() -> None:
    with pytest.raises(ValueError, match="outcome"):
        SkippedItem("u1", Outcome.DELETED)
    with pytest.raises(ValueError, match="exclude_list"):
        SkippedItem("u1", Outcome.INVALID, exclude_list="legal.csv")


async def test_a_job_of_excluded_items_alone_has_no_failures_and_breaks_no_rule() -> None:
    async with Simulator() as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        items = [SkippedItem(f"u{number}", Outcome.EXCLUDED) for number in range(200)]
        report = await bulk.delete_profiles(client, items, by="customer_user_id", stop=StopRules(max_failures=0))
    assert (report.counts, report.failed, report.stop_reason) == ({Outcome.EXCLUDED: 200}, 0, None)
    report.raise_for_failures()


async def test_deleting_a_list_leaves_nobody_of_it_on_the_server() -> None:
    async with Simulator(profiles=300) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        report = await bulk.delete_profiles(client, ids(200), by="customer_user_id", pacer=UNPACED, concurrency=20)
        assert report.counts == {Outcome.DELETED: 200}
        assert len(sim.profiles) == 100
        assert sim.stats.max_in_flight <= 20
        assert sim.stats.connections <= 20
        assert report.requests == 200
        assert report.latency is not None


async def test_all_is_accounted_for_under_throttling_outages_and_resets() -> None:
    faults = {Fault.UNAVAILABLE: 0.05, Fault.RESET_AFTER: 0.05}
    async with Simulator(profiles=1000, rate=3000, burst=20, fault_rates=faults, seed=7) as sim:
        patient = RetryPolicy(max_attempts=20, initial_backoff=0.0)  # enough that no item fails
        async with AdaptyClient(sim.api_key, base_url=sim.base_url, retry=patient) as client:
            report = await bulk.delete_profiles(client, ids(1000), by="customer_user_id", pacer=UNPACED, concurrency=30)
        assert report.counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert report.counts[Outcome.DELETED_UNCONFIRMED] > 0
        assert report.total == 1000
        assert len(sim.profiles) == 0
        assert report.requests == sim.stats.requests == 1000 + report.retries


async def test_profiles_are_created_updated_got_and_deleted_in_bulk() -> None:
    async with Simulator() as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        created = [
            result
            async for result in bulk.create_profiles(
                client, [(who, JANE) for who in ids(50)], by="customer_user_id", pacer=UNPACED
            )
        ]
        assert {result.outcome for result in created} == {Outcome.CREATED}
        profile_ids = [result.value.profile_id for result in created if result.value]
        change = ProfileAttributes(custom_attributes={"sport": "yoga"})
        updated = await bulk.update_profiles(
            client, ((who, change) for who in profile_ids), by="profile_id", pacer=UNPACED
        )
        assert updated.counts == {Outcome.UPDATED: 50}
        got = [result async for result in bulk.get_profiles(client, profile_ids, by="profile_id", pacer=UNPACED)]
        assert {result.outcome for result in got} == {Outcome.FETCHED}
        assert all(
            isinstance(result.value, Profile) and result.value.custom_attributes == {"sport": "yoga"} for result in got
        )
        assert {result.item for result in got} == set(profile_ids)
        deleted = await bulk.delete_profiles(client, profile_ids, by="profile_id", pacer=UNPACED)
        assert deleted.counts == {Outcome.DELETED: 50}


async def test_a_report_tells_how_many_requests_are_under_way() -> None:
    async with Simulator(profiles=5, latency=0.1) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        job = bulk.delete_profiles(client, ids(5), by="customer_user_id", pacer=UNPACED, concurrency=5)
        running = asyncio.ensure_future(job)
        await waiting.until(lambda: sim.stats.in_flight == 5)
        assert job.report.in_flight == 5
        assert (await running).in_flight == 0


async def test_a_wrong_key_ends_the_job_within_what_was_under_way() -> None:
    async with Simulator(profiles=10) as sim, AdaptyClient("wrong", base_url=sim.base_url) as client:
        report = await bulk.delete_profiles(client, ids(100_000), by="customer_user_id", pacer=UNPACED, concurrency=25)
        assert report.stop_reason is StopReason.CREDENTIALS
        assert report.counts == {Outcome.FAILED: 25}
        assert sim.stats.requests == 26  # and one GET, which decided
        assert not report.input_exhausted


async def test_a_list_of_strangers_does_not_end_well() -> None:
    async with Simulator(profiles=10) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        strangers = (f"stranger-{number}" for number in range(100_000))
        report = await bulk.delete_profiles(client, strangers, by="customer_user_id", pacer=UNPACED, concurrency=10)
    assert report.stop_reason is StopReason.MAX_ABSENT_RATIO
    assert 100 <= report.total <= 110


def test_memory_stays_flat_over_100_000_ids() -> None:
    # In a process of its own, so that the system counts its memory and coverage doesn't slow it down.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bulk.memory", "5000", "100000"],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 4_000_000


async def test_the_pacer_of_a_job_paces_it() -> None:
    async with Simulator(profiles=40) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        report = await bulk.delete_profiles(client, ids(40), by="customer_user_id", pacer=FixedPacer(200))
        assert report.finished is not None
        assert report.started is not None
        assert (report.finished - report.started).total_seconds() >= 39 / 200 - 0.02  # the lateness that is made up for
        assert report.counts == {Outcome.DELETED: 40}


async def test_a_retry_after_holds_back_every_request_of_the_key() -> None:
    async with Simulator(profiles=60, rate=20, burst=20, retry_after=0.2) as sim:
        async with AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
            report = await bulk.delete_profiles(client, ids(60), by="customer_user_id", pacer=UNPACED, concurrency=30)
        assert report.counts == {Outcome.DELETED: 60}
        assert report.throttled == sim.stats.responses["DELETE", 429]
        # Without the hold, the items would be rejected again and again, about 200 times.
        assert 0 < report.throttled <= 90


# The meaning of responses


@pytest.mark.parametrize(
    ("kind", "answers", "outcome", "attempts"),
    [
        ("delete", [NO_CONTENT], Outcome.DELETED, 1),
        ("delete", [Response(200, {}, b" ")], Outcome.DELETED, 1),
        ("delete", [Response(200, {}, b'{"data": null}')], Outcome.DELETED, 1),
        ("delete", [Response(200, {}, b"<html>")], Outcome.IN_DOUBT, 1),
        ("delete", [Response(200, {}, b"[]")], Outcome.IN_DOUBT, 1),
        ("delete", [Response(200, {}, b"\xff{}")], Outcome.IN_DOUBT, 1),
        ("delete", [ABSENT], Outcome.ALREADY_ABSENT, 1),
        ("delete", [error(400, "profile_does_not_exist")], Outcome.ALREADY_ABSENT, 1),
        ("delete", [error(404)], Outcome.ALREADY_ABSENT, 1),
        ("delete", [lost(), ABSENT], Outcome.DELETED_UNCONFIRMED, 2),
        ("delete", [error(500), ABSENT], Outcome.DELETED_UNCONFIRMED, 2),
        ("delete", [error(408), ABSENT], Outcome.DELETED_UNCONFIRMED, 2),
        ("delete", [never_sent(), ABSENT], Outcome.ALREADY_ABSENT, 2),
        ("delete", [error(503, retry_after="0.001"), ABSENT], Outcome.ALREADY_ABSENT, 2),
        ("delete", [error(429), ABSENT], Outcome.ALREADY_ABSENT, 2),
        ("delete", [lost()] * 4, Outcome.IN_DOUBT, 4),
        ("delete", [error(503)] * 4, Outcome.IN_DOUBT, 4),
        ("delete", [never_sent()] * 4, Outcome.FAILED, 4),
        ("delete", [error(503, retry_after="0.001")] * 4, Outcome.FAILED, 4),
        ("delete", [error(400, "validation_error")], Outcome.FAILED, 1),
        ("delete", [lost(), error(400)], Outcome.IN_DOUBT, 2),
        ("delete", [error(500), error(307)], Outcome.IN_DOUBT, 2),
        ("delete", [never_sent(), error(400)], Outcome.FAILED, 2),
        ("delete", [error(302)], Outcome.FAILED, 1),
        ("get", [PROFILE], Outcome.FETCHED, 1),
        ("get", [ABSENT], Outcome.NOT_FOUND, 1),
        ("get", [Response(200, {}, b"<html>")], Outcome.FAILED, 1),
        ("get", [lost(), PROFILE], Outcome.FETCHED, 2),
        ("get", [lost(), error(400)], Outcome.FAILED, 2),
        ("update", [PROFILE], Outcome.UPDATED, 1),
        ("update", [lost(), PROFILE], Outcome.UPDATED, 2),
        ("update", [ABSENT], Outcome.NOT_FOUND, 1),
        ("update", [lost(), error(400)], Outcome.IN_DOUBT, 2),
        ("update", [Response(200, {}, b"<html>")], Outcome.IN_DOUBT, 1),
        ("create", [PROFILE], Outcome.CREATED, 1),
        ("create", [lost(), PROFILE], Outcome.CREATED, 2),
        ("create", [ABSENT], Outcome.FAILED, 1),
        ("create", [lost()] * 4, Outcome.IN_DOUBT, 4),
    ],
)
async def test_answers_and_what_they_mean(kind: str, answers: list[Answer], outcome: Outcome, attempts: int) -> None:
    client, transport = scripted_client(lambda request, number: answers[number - 1])
    job = job_of(kind, client)
    result = await only(job)
    assert (result.outcome, result.attempts) == (outcome, attempts)
    assert len(transport.requests) == attempts == job.report.requests
    assert (result.error is not None) == outcome.is_failure
    has_profile = outcome in {Outcome.FETCHED, Outcome.UPDATED, Outcome.CREATED}
    assert isinstance(result.value, Profile) if has_profile else result.value is None
    assert job.report.retries == attempts - 1
    assert result.error is None or getattr(result.error, "attempts", None) == attempts


async def test_a_create_by_profile_id_alone_is_not_sent_again_after_an_unknown_fate() -> None:
    client, transport = scripted_client(lambda request, number: lost())
    result = await only(bulk.create_profiles(client, [(uuid4(), JANE)], by="profile_id"))
    assert (result.outcome, len(transport.requests)) == (Outcome.IN_DOUBT, 1)


async def test_a_429_never_counts_against_an_item() -> None:
    answers: list[Answer] = [*[error(429)] * 50, lost(), error(429), lost(), lost(), NO_CONTENT]
    client, _ = scripted_client(lambda request, number: answers[number - 1])
    job = bulk.delete_profiles(client, ["u1"], by="customer_user_id")
    result = await only(job)
    assert (result.outcome, result.attempts) == (Outcome.DELETED, 55)
    assert job.report.throttled == 51


async def test_the_retry_budget_is_for_callers_and_not_for_items() -> None:
    policy = RetryPolicy(max_elapsed=0.0, initial_backoff=0.001)
    client, _ = scripted_client(lambda request, number: NO_CONTENT if number == 3 else lost(), retry=policy)
    assert (await only(bulk.delete_profiles(client, ["u1"], by="customer_user_id"))).outcome is Outcome.DELETED


async def test_an_item_that_waits_to_be_tried_again_holds_no_permit() -> None:
    def inject(request: Any, number: int) -> Answer:
        slow = request.headers["adapty-customer-user-id"] == "slow"
        return error(503, retry_after="0.05") if slow and number == 1 else NO_CONTENT

    client, transport = scripted_client(inject)
    job = bulk.delete_profiles(client, ["slow", "a", "b", "c"], by="customer_user_id", concurrency=1)
    order = [result.item async for result in job]
    assert order == ["a", "b", "c", "slow"]
    assert transport.requests[-1] == ("DELETE", "slow")


async def test_no_more_items_are_started_than_may_wait_to_be_tried_again() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"u{taken}"

    client, _ = scripted_client(
        lambda request, number: error(429), retry=RetryPolicy(initial_backoff=1000, max_backoff=1000)
    )
    async with bulk.delete_profiles(client, endless(), by="customer_user_id", concurrency=5) as job:
        task = asyncio.ensure_future(job)
        await until(lambda: taken >= 1000, turns=100_000)
        for _ in range(100):
            await asyncio.sleep(0)
        assert taken == 1000
        job.stop()
        report = await task
    assert report.counts == {Outcome.NOT_ATTEMPTED: 1000}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (error(429), Outcome.NOT_ATTEMPTED),
        (never_sent(), Outcome.NOT_ATTEMPTED),
        (lost(), Outcome.IN_DOUBT),
        (error(503, retry_after="1000"), Outcome.FAILED),
    ],
)
async def test_a_stop_gives_what_waits_the_outcome_that_is_true(answer: Answer, outcome: Outcome) -> None:
    client, transport = scripted_client(
        lambda request, number: answer, retry=RetryPolicy(initial_backoff=1e6, max_backoff=1e6)
    )
    job = bulk.delete_profiles(client, ["u1"], by="customer_user_id")
    task = asyncio.ensure_future(job)
    await until(lambda: bool(transport.requests))
    await asyncio.sleep(0)
    job.stop()
    report = await task
    assert report.counts == {outcome: 1}
    assert report.stop_reason is StopReason.REQUESTED


async def test_a_stop_does_not_wait_for_the_gate() -> None:
    client, transport = scripted_client(lambda request, number: NO_CONTENT)
    job = bulk.delete_profiles(client, ids(1000), by="customer_user_id", concurrency=10, pacer=FixedPacer(0.001))
    task = asyncio.ensure_future(job)
    await until(lambda: bool(transport.requests))
    for _ in range(5):
        await asyncio.sleep(0)
    job.stop()
    async with asyncio.timeout(PATIENCE):
        report = await task
    assert report.counts == {Outcome.DELETED: 1, Outcome.NOT_ATTEMPTED: 10}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", ["update", "create"])
async def test_a_yes_that_cannot_be_unpacked_leaves_the_item_in_doubt(kind: str) -> None:
    client, _ = scripted_client(lambda request, number: InvalidResponseError("the response can't be decompressed"))
    job = job_of(kind, client)
    assert (await only(job)).outcome is Outcome.IN_DOUBT
    assert job.report.latency is not None  # there was a response


async def test_a_closed_client_is_told_before_anything_is_taken() -> None:
    taken: list[str] = []
    client = AdaptyClient("secret")
    await client.close()
    job = bulk.delete_profiles(client, (taken.append(who) or who for who in ids(5)), by="customer_user_id")  # type: ignore[func-returns-value]
    with pytest.raises(RuntimeError, match="closed"):
        await job
    assert (taken, job.report.total) == ([], 0)


def test_a_client_of_another_loop_is_told_in_clear_words() -> None:
    client = AdaptyClient("secret", pacer=FixedPacer(10))

    async def use() -> None:
        await bulk.delete_profiles(client, [], by="customer_user_id")

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(TypeError, match="AdaptyClient"):
        bulk.delete_profiles("secret", [], by="customer_user_id")  # type: ignore[arg-type]  # this is the test


# Before sending


@pytest.mark.parametrize("bad", ["", " u1", "u1\n", "\ud800", None, 7, UUID(int=1)])
async def test_an_id_that_cannot_be_sent_is_invalid_and_not_sent(bad: Any) -> None:
    client, transport = scripted_client(lambda request, number: NO_CONTENT)
    results = [
        result async for result in bulk.delete_profiles(client, ["a", bad, "b"], by="customer_user_id", stop=NO_RULES)
    ]
    assert Counter(result.outcome for result in results) == {Outcome.DELETED: 2, Outcome.INVALID: 1}
    (invalid,) = [result for result in results if result.outcome is Outcome.INVALID]
    assert (invalid.position, invalid.attempts) == (1, 0)
    assert isinstance(invalid.error, ValueError | TypeError)
    assert {who for _, who in transport.requests} == {"a", "b"}


@pytest.mark.parametrize("bad", ["not-a-uuid", "3286abd348b04e9ca5f6ac0a006804a6", 7])
async def test_a_profile_id_that_is_no_uuid_is_invalid(bad: Any) -> None:
    client, transport = scripted_client(lambda request, number: NO_CONTENT)
    result = await only(bulk.delete_profiles(client, [bad], by="profile_id"))
    assert result.outcome is Outcome.INVALID
    assert transport.requests == []


@pytest.mark.parametrize("bad", ["u1", ("u1",), ("u1", None), ("u1", ProfileAttributes()), None])
async def test_a_change_that_is_no_pair_or_changes_nothing_is_invalid(bad: Any) -> None:
    client, transport = scripted_client(lambda request, number: PROFILE)
    result = await only(bulk.update_profiles(client, [bad], by="customer_user_id"))
    assert result.outcome is Outcome.INVALID
    assert transport.requests == []


@pytest.mark.parametrize("bad", ["u1", ("u1",), None])
async def test_the_error_of_an_item_that_is_no_pair_says_what_an_item_is(bad: Any) -> None:
    client, _ = scripted_client(lambda request, number: PROFILE)
    result = await only(bulk.update_profiles(client, [bad], by="customer_user_id"))
    assert str(result.error) == "an item must be a pair of an ID and ProfileAttributes"


def test_by_is_never_guessed() -> None:
    client, _ = scripted_client(lambda request, number: NO_CONTENT)
    with pytest.raises(TypeError, match="by"):
        bulk.delete_profiles(client, [])  # type: ignore[call-arg]  # this is the test
    with pytest.raises(ValueError, match="by must be"):
        bulk.delete_profiles(client, [], by="email")  # type: ignore[arg-type]  # this is the test


async def test_the_library_removes_no_duplicates() -> None:
    client, transport = scripted_client(lambda request, number: NO_CONTENT if number == 1 else ABSENT)
    report = await bulk.delete_profiles(client, ["u1", "u1"], by="customer_user_id", concurrency=1)
    assert report.counts == {Outcome.DELETED: 1, Outcome.ALREADY_ABSENT: 1}
    assert len(transport.requests) == 2


async def test_a_bug_in_an_attempt_propagates_and_is_not_taken_for_an_invalid_item() -> None:
    def inject(request: Any, number: int) -> Answer:
        raise ValueError("a bug")

    client, _ = scripted_client(inject)
    with pytest.raises(ValueError, match="a bug"):
        await bulk.delete_profiles(client, ["u1"], by="customer_user_id")


# Credentials

Kind = Literal["delete", "get", "update", "create"]


@pytest.mark.parametrize("kind", ["delete", "get", "update", "create"])
async def test_a_second_401_stops_the_job(kind: Kind) -> None:
    client, _ = scripted_client(lambda request, number: UNAUTHORIZED)
    job = job_of(kind, client)
    assert (await only(job)).outcome is Outcome.FAILED
    assert job.report.stop_reason is StopReason.CREDENTIALS


@pytest.mark.parametrize(
    ("kind", "probe", "outcome"),
    [
        ("delete", ABSENT, Outcome.ALREADY_ABSENT),
        ("delete", PROFILE, Outcome.FAILED),
        ("delete", error(500), Outcome.FAILED),
        ("update", ABSENT, Outcome.NOT_FOUND),
        ("update", PROFILE, Outcome.FAILED),
        ("create", ABSENT, Outcome.FAILED),
    ],
)
async def test_after_a_401_one_get_decides_about_the_item(kind: str, probe: Answer, outcome: Outcome) -> None:
    client, transport = scripted_client(lambda request, number: probe if request.method == "GET" else UNAUTHORIZED)
    job = job_of(kind, client)
    assert (await only(job)).outcome is outcome
    assert job.report.stop_reason is None
    assert job.report.in_flight == 0
    assert [method for method, _ in transport.requests].count("GET") == 1


async def test_two_requests_an_item_that_never_wait_leave_the_loop_free() -> None:
    client, _ = scripted_client(lambda request, number: ABSENT if request.method == "GET" else UNAUTHORIZED)
    job = bulk.delete_profiles(client, ids(5000), by="customer_user_id", concurrency=1, stop=NO_RULES)
    report = await report_of_a_free_loop(job)
    assert report.counts == {Outcome.ALREADY_ABSENT: 5000}


@pytest.mark.parametrize("probe", [UNAUTHORIZED, error(403), PROFILE, error(500)], ids=["401", "403", "200", "500"])
async def test_a_401_leaves_in_doubt_what_may_have_been_carried_out_before(probe: Answer) -> None:
    def inject(request: Any, number: int) -> Answer:
        return probe if request.method == "GET" else lost() if number == 1 else UNAUTHORIZED

    client, _ = scripted_client(inject)
    assert (await only(job_of("delete", client))).outcome is Outcome.IN_DOUBT


async def test_a_get_that_was_answered_401_once_is_fetched() -> None:
    client, _ = scripted_client(lambda request, number: UNAUTHORIZED if number == 1 else PROFILE)
    result = await only(job_of("get", client))
    assert result.outcome is Outcome.FETCHED
    assert isinstance(result.value, Profile)


async def test_a_401_for_a_profile_lost_before_is_a_deletion_unconfirmed() -> None:
    def inject(request: Any, number: int) -> Answer:
        if request.method == "GET":
            return ABSENT
        return lost() if number == 1 else UNAUTHORIZED

    client, _ = scripted_client(inject)
    assert (await only(job_of("delete", client))).outcome is Outcome.DELETED_UNCONFIRMED


async def test_the_deciding_get_waits_out_a_429() -> None:
    def inject(request: Any, number: int) -> Answer:
        if request.method == "DELETE":
            return UNAUTHORIZED
        return error(429) if number < 3 else ABSENT

    client, transport = scripted_client(inject)
    job = job_of("delete", client)
    assert (await only(job)).outcome is Outcome.ALREADY_ABSENT
    assert [method for method, _ in transport.requests] == ["DELETE", "GET", "GET", "GET"]
    assert job.report.throttled == 2


@pytest.mark.parametrize("where", ["DELETE", "GET"])
async def test_a_403_stops_the_job(where: str) -> None:
    client, _ = scripted_client(lambda request, number: FORBIDDEN if request.method == where else UNAUTHORIZED)
    report = await bulk.delete_profiles(client, ids(1000), by="customer_user_id", concurrency=3)
    assert report.stop_reason is StopReason.PERMISSION
    assert report.counts == {Outcome.FAILED: report.total}
    assert report.total <= 3


async def test_nothing_is_dispatched_while_a_401_is_looked_into() -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()
    client, transport = scripted_client(lambda request, number: NO_CONTENT)
    plain = transport.attempt

    async def attempt(request: Any, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        if request.method == "GET":
            asked.set()
            await answer.wait()
            return PROFILE
        response = await plain(request, timeout)
        return UNAUTHORIZED if request.headers["adapty-customer-user-id"].endswith("3@example.com") else response

    transport.attempt = attempt  # type: ignore[method-assign]  # a fake by substitution
    job = bulk.delete_profiles(client, ids(9), by="customer_user_id", concurrency=2)
    task = asyncio.ensure_future(job)
    await asked.wait()
    sent = len(transport.requests)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(transport.requests) == sent <= 4
    answer.set()
    report = await task
    assert report.counts == {Outcome.DELETED: 8, Outcome.FAILED: 1}


# Other information in a report


async def test_every_attempt_is_observed_with_its_number_and_wait() -> None:
    seen: list[Attempt] = []
    async with Simulator(profiles=1) as sim:
        sim.faults.fault_rates = {Fault.UNAVAILABLE: 1.0}
        async with AdaptyClient(sim.api_key, base_url=sim.base_url, retry=NO_BACKOFF, on_attempt=seen.append) as client:
            await bulk.delete_profiles(client, ids(1), by="customer_user_id", pacer=UNPACED)
    assert [(attempt.number, attempt.status, attempt.error) for attempt in seen] == [
        (number, 503, "ServerError") for number in (1, 2, 3, 4)
    ]
    assert [attempt.retry_in for attempt in seen] == [0.0, 0.0, 0.0, None]


async def test_an_attempt_that_the_end_of_the_client_cuts_off_is_observed_as_well() -> None:
    seen: list[Attempt] = []
    async with Simulator(profiles=1, latency=60.0) as sim:
        client = AdaptyClient(sim.api_key, base_url=sim.base_url, on_attempt=seen.append)
        job = bulk.delete_profiles(client, ids(1), by="customer_user_id", pacer=UNPACED)
        running = asyncio.ensure_future(job)
        await waiting.until(lambda: sim.stats.requests == 1)
        await client.close()
        report = await running
    assert (report.counts, report.stop_reason) == ({Outcome.IN_DOUBT: 1}, StopReason.CLOSED)
    assert [(attempt.method, attempt.number, attempt.status, attempt.retry_in) for attempt in seen] == [
        ("DELETE", 1, None, None)
    ]


async def test_an_attempt_that_the_end_of_the_job_cuts_off_is_observed_with_its_number() -> None:
    seen: list[Attempt] = []
    async with Simulator(profiles=1) as sim:

        def observe(attempt: Attempt) -> None:
            seen.append(attempt)
            sim.latency = 60.0  # The next attempt is in flight when the job ends.

        sim.inject(Fault.UNAVAILABLE)
        async with AdaptyClient(sim.api_key, base_url=sim.base_url, retry=NO_BACKOFF, on_attempt=observe) as client:
            job = bulk.delete_profiles(client, ids(1), by="customer_user_id", pacer=UNPACED)
            running = asyncio.ensure_future(job)
            await waiting.until(lambda: sim.stats.requests == 2)
            await job.aclose()
            await running
    assert [(attempt.number, attempt.error) for attempt in seen] == [(1, "ServerError"), (2, "CancelledError")]


async def test_concurrency_is_lowered_to_a_borrowed_sessions_connections(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Simulator(profiles=60, latency=0.002) as sim,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3)) as session,
        AdaptyClient(sim.api_key, base_url=sim.base_url, session=session) as client,
    ):
        report = await bulk.delete_profiles(client, ids(60), by="customer_user_id", pacer=UNPACED, concurrency=50)
        assert report.counts == {Outcome.DELETED: 60}
        assert sim.stats.max_in_flight <= 3
    ((name, level, message),) = [each for each in caplog.record_tuples if "concurrency" in each[2]]
    assert (name, level) == ("adapty_async", logging.WARNING)
    assert message.startswith("concurrency lowered from 50 to 3: ")


async def test_no_id_and_no_key_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Simulator(profiles=3, fault_rates={Fault.UNAVAILABLE: 0.5, Fault.RESET_AFTER: 0.2}, seed=1) as sim:
        async with AdaptyClient(sim.api_key, base_url=sim.base_url, retry=NO_BACKOFF) as client:
            report = await bulk.delete_profiles(client, ids(6), by="customer_user_id", pacer=UNPACED, stop=NO_RULES)
        ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("adapty_async"))
        assert "DELETE" in ours
        assert "example.com" not in ours
        assert sim.api_key not in ours
    assert "example.com" not in repr(report)
