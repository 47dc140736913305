"""A bulk job that is paused and unpaused, in virtual time."""

import asyncio
import logging
from typing import Any

import pytest

from adapty_async import AdaptivePacer, FixedPacer, Response, bulk
from adapty_async.bulk import BulkJob, Outcome, StopReason, StopRules
from benchmarks.rate_simulation import TokenBucket

from ..leftovers import timers_left
from ..virtual_time import virtual
from .scripted import NO_CONTENT, UNAUTHORIZED, error
from .served import LENIENT, Server, failing, ids, now, served_client, within

KEPT = 100.0


def deleting(
    count: int = 2000, rate: float = 50, *, fails: tuple[float, float, float] = (0, 0, 0), stop: StopRules = LENIENT
) -> tuple[BulkJob[Any, Any], Server]:
    """Create a job on a server that responds after 0.1 s. `fails`: start, end and share of failures."""
    client, server = served_client(failing(*fails))
    return bulk.delete_profiles(client, ids(count), by="customer_user_id", pacer=FixedPacer(rate), stop=stop), server


async def pause_between(job: BulkJob[Any, Any], begins: float, ends: float) -> None:
    await asyncio.sleep(begins)
    job.pause()
    assert job.is_paused
    await asyncio.sleep(ends - begins)
    job.unpause()
    assert not job.is_paused


@virtual
async def test_while_it_is_paused_nothing_leaves_and_then_it_goes_on_at_its_rate_without_a_burst() -> None:
    job, server = deleting()
    report, _ = await asyncio.gather(job, pause_between(job, 10.05, 10.05 + KEPT))
    assert report.counts == {Outcome.DELETED: 2000}
    assert within(server.sent, 10.05, 10.049 + KEPT) == 0
    for second in range(11):
        since = 10.049 + KEPT + second
        assert 48 <= within(server.sent, since, since + 1) <= 51
    assert server.sent[-1] == pytest.approx(2000 / 50 + KEPT, abs=0.5)


@virtual
async def test_what_is_under_way_comes_to_its_end_and_is_counted() -> None:
    job, server = deleting(rate=100)
    running = asyncio.create_task(job._finish())  # noqa: SLF001 - a task needs an awaitable
    await asyncio.sleep(5.005)
    assert job.report.in_flight == server.under_way == 10
    job.pause()
    await asyncio.sleep(0.2)
    assert job.report.in_flight == server.under_way == 0
    assert job.report.total == len(server.sent)
    job.unpause()
    assert (await running).in_flight == 0


@virtual
async def test_who_stops_a_paused_job_stops_it_at_once() -> None:
    job, server = deleting()
    began = now()
    asyncio.get_running_loop().call_later(5, job.pause)
    asyncio.get_running_loop().call_later(50, job.stop)
    report = await job
    assert report.stop_reason is StopReason.REQUESTED
    assert now() - began == pytest.approx(50, abs=0.01)
    assert within(server.sent, 5, 50) == 0
    assert report.counts[Outcome.DELETED] == len(server.sent)
    assert report.counts.keys() == {Outcome.DELETED, Outcome.NOT_ATTEMPTED}


@virtual
async def test_a_job_that_was_stopped_is_not_paused_and_can_not_be(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adapty_async")
    job, _ = deleting()
    running = asyncio.create_task(job._finish())  # noqa: SLF001 - a task needs an awaitable
    await asyncio.sleep(5)
    job.pause()
    job.stop()
    assert not job.is_paused
    job.unpause()
    job.pause()
    assert not job.is_paused
    await running
    assert caplog.messages == ["the job is paused: no new requests are sent"]


@virtual
async def test_who_leaves_a_paused_job_leaves_nothing_behind() -> None:
    job, _ = deleting()
    asyncio.get_running_loop().call_later(5, job.pause)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60), job:
            await job
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert timers_left() == []


@virtual
async def test_a_job_may_be_paused_before_it_starts_and_again_harmlessly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adapty_async")
    job, server = deleting(10)
    job.unpause()
    job.pause()
    job.pause()
    asyncio.get_running_loop().call_later(7, job.unpause)
    await job
    assert server.sent[0] == pytest.approx(7)
    job.pause()
    job.unpause()
    assert caplog.messages == [
        "the job is paused: no new requests are sent",
        "the job is unpaused: requests are sent again",
    ]


@virtual
async def test_a_retry_that_falls_due_meanwhile_waits() -> None:
    job, server = deleting(50, fails=(0, 2, 0.5))
    report, _ = await asyncio.gather(job, pause_between(job, 1.0, KEPT))
    assert within(server.sent, 1.001, KEPT - 0.001) == 0
    assert len(server.sent_again) > 0
    assert report.total == 50


@pytest.mark.parametrize(("paused_at", "goes_on_at"), [(500, 5000), (500, 899), (100, 800)])
@virtual
async def test_a_pause_is_a_break_for_the_patience_with_an_outage(paused_at: int, goes_on_at: int) -> None:
    job, server = deleting(fails=(2, 1e9, 1.0), stop=StopRules())
    report, _ = await asyncio.gather(job, pause_between(job, paused_at, goes_on_at))
    assert report.stop_reason is StopReason.MAX_OUTAGE
    assert goes_on_at + 100 <= server.sent[-1] <= goes_on_at + 1810


@virtual
async def test_an_outage_that_is_over_after_the_pause_stops_nothing() -> None:
    job, _ = deleting(fails=(2, 3000, 1.0), stop=StopRules())
    report, _ = await asyncio.gather(job, pause_between(job, 100, 3500))
    assert report.stop_reason is None
    assert report.total == 2000


@virtual
async def test_a_long_retry_after_that_runs_meanwhile_ends_nothing() -> None:
    async def serve(since: float) -> Response:
        return error(429, retry_after="5000") if since < 1 else NO_CONTENT

    client, server = served_client(serve)
    job = bulk.delete_profiles(client, ids(100), by="customer_user_id", pacer=FixedPacer(50), stop=LENIENT)
    report, _ = await asyncio.gather(job, pause_between(job, 1000, 4000))
    assert report.stop_reason is None
    assert report.counts == {Outcome.DELETED: 100}
    assert within(server.sent, 1, 5000) == 0


@virtual
async def test_a_question_of_credentials_waits_for_the_end_of_the_pause() -> None:
    async def serve(since: float) -> Response:
        await asyncio.sleep(1)
        return UNAUTHORIZED

    client, server = served_client(serve)
    job = bulk.delete_profiles(client, ["u1"], by="customer_user_id", pacer=FixedPacer(50))
    report, _ = await asyncio.gather(job, pause_between(job, 0.5, KEPT))
    assert report.stop_reason is StopReason.CREDENTIALS
    assert server.sent == pytest.approx([0, KEPT], abs=0.1)


@virtual
async def test_an_adaptive_pacer_goes_on_where_it_was() -> None:
    bucket = TokenBucket(50, 10)

    async def serve(since: float) -> Response:
        accepted = bucket.accepts(now())
        await asyncio.sleep(0.05)
        return NO_CONTENT if accepted else error(429)

    client, server = served_client(serve)
    pacer = AdaptivePacer()
    job = bulk.delete_profiles(client, ids(6000), by="customer_user_id", pacer=pacer, stop=LENIENT)
    report, _ = await asyncio.gather(job, pause_between(job, 60, 60 + KEPT))
    assert report.counts == {Outcome.DELETED: 6000}
    assert within(server.sent, 60, 59.9 + KEPT) == 0
    assert within(server.sent, 59.9 + KEPT, 60.9 + KEPT) <= 60
    assert within(server.sent, 65 + KEPT, 75 + KEPT) >= 440


@virtual
async def test_any_operation_can_be_paused() -> None:
    began, calls = now(), []

    async def operation(item: int) -> None:
        calls.append(now() - began)
        await asyncio.sleep(0.1)

    job = bulk.run(operation, range(200), concurrency=2)
    report, _ = await asyncio.gather(job, pause_between(job, 1.05, KEPT))
    assert report.counts == {Outcome.SUCCEEDED: 200}
    assert within(calls, 1.05, KEPT - 0.001) == 0
    assert within(calls, KEPT - 0.001, KEPT + 0.05) == 2


@virtual
async def test_what_was_decided_beforehand_waits_for_no_pause() -> None:
    client, server = served_client(failing(0, 0, 0))
    known = [bulk.SkippedItem(id_, Outcome.DUPLICATE) for id_ in ids(5)]
    job = bulk.delete_profiles(client, known, by="customer_user_id", pacer=FixedPacer(50))
    job.pause()
    report = await asyncio.wait_for(job._finish(), 1)  # noqa: SLF001 - a task needs an awaitable
    assert report.counts == {Outcome.DUPLICATE: 5}
    assert not server.sent
