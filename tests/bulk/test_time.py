"""Bulk jobs over minutes and hours, in virtual time."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapty_async import UNPACED, AdaptivePacer, AdaptyClient, AdaptyTimeoutError, FixedPacer, RetryPolicy, bulk
from adapty_async.bulk import Outcome, StopReason, StopRules
from adapty_async.client import get_sender
from adapty_async.pacing import Pacer

from ..virtual_time import run_virtual, virtual
from .scripted import ABSENT, NO_CONTENT, Answer, error, lost, scripted_client

IDS = [f"u{number}" for number in range(20)]
LENIENT = StopRules(max_failure_ratio=None, max_absent_ratio=None)


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_job_that_hears_nothing_but_429_stops_after_its_patience_and_fails_nobody() -> None:
    began = now()
    client, _ = scripted_client(lambda request, number: error(429), retry=RetryPolicy())
    report = await bulk.delete_profiles(client, (f"u{number}" for number in range(20)), by="customer_user_id")
    assert report.stop_reason is StopReason.MAX_THROTTLED
    assert report.counts.keys() == {Outcome.NOT_ATTEMPTED}
    assert now() - began == pytest.approx(1800, abs=1)


@virtual
async def test_one_accepted_request_renews_the_patience_with_throttling() -> None:
    began = now()

    def inject(request: Any, number: int) -> Answer:
        return NO_CONTENT if now() - began > 1700 and "u0" in request.headers.values() else error(429)

    client, _ = scripted_client(inject, retry=RetryPolicy())
    report = await bulk.delete_profiles(client, ["u0", "u1"], by="customer_user_id")
    assert report.stop_reason is StopReason.MAX_THROTTLED
    assert report.counts == {Outcome.DELETED: 1, Outcome.NOT_ATTEMPTED: 1}
    assert now() - began >= 1700 + 1800


@virtual
async def test_a_long_retry_after_of_a_parked_job_counts_against_its_patience() -> None:
    began = now()
    client, transport = scripted_client(lambda request, number: error(429, retry_after="7200"))
    report = await bulk.delete_profiles(client, ["u0", "u1", "u2"], by="customer_user_id", concurrency=1)
    assert report.stop_reason is StopReason.MAX_THROTTLED
    assert report.counts == {Outcome.NOT_ATTEMPTED: 2}  # u2 was never read from the input
    assert now() - began == pytest.approx(1800)
    assert len(transport.requests) == 1


@virtual
async def test_a_job_that_hears_nothing_but_failures_stops_after_the_outage() -> None:
    began = now()
    patient = RetryPolicy(max_attempts=10_000, initial_backoff=10, max_backoff=10)
    client, _ = scripted_client(lambda request, number: lost() if number % 2 else error(503), retry=patient)
    job = bulk.delete_profiles(client, ["u0"], by="customer_user_id", stop=LENIENT)
    report = await job
    assert report.stop_reason is StopReason.MAX_OUTAGE
    assert report.counts == {Outcome.IN_DOUBT: 1}
    assert now() - began == pytest.approx(900, abs=1)


@virtual
async def test_an_answer_that_is_no_failure_of_the_server_ends_the_outage() -> None:
    began = now()
    patient = RetryPolicy(max_attempts=10_000, initial_backoff=10, max_backoff=10)

    def inject(request: Any, number: int) -> Answer:
        return ABSENT if now() - began > 800 else lost()

    client, _ = scripted_client(inject, retry=patient)
    report = await bulk.delete_profiles(client, ["u0"], by="customer_user_id", stop=LENIENT)
    await asyncio.sleep(2000)  # a timer that was left over would fire
    assert report.stop_reason is None
    assert report.counts == {Outcome.DELETED_UNCONFIRMED: 1}


@virtual
async def test_a_long_silence_of_the_input_after_a_lost_item_is_no_outage() -> None:
    async def items() -> AsyncIterator[str]:
        yield "lost"
        await asyncio.sleep(5000)
        yield "u1"

    client, _ = scripted_client(lambda request, number: lost() if "lost" in request.headers.values() else NO_CONTENT)
    report = await bulk.delete_profiles(client, items(), by="customer_user_id")
    assert report.stop_reason is None
    assert report.counts == {Outcome.IN_DOUBT: 1, Outcome.DELETED: 1}


@virtual
async def test_a_fixed_pacer_sends_at_its_rate_and_no_item_waits_its_turn_twice() -> None:
    began = now()
    times: list[float] = []

    def inject(request: Any, number: int) -> Answer:
        times.append(now() - began)
        return NO_CONTENT

    client, _ = scripted_client(inject)
    items = (f"u{number}" for number in range(5000))
    await bulk.delete_profiles(client, items, by="customer_user_id", concurrency=64, pacer=FixedPacer(50))
    assert times[-1] == pytest.approx(4999 / 50, abs=0.05)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) < 0.05


class TestWhichPacer:
    """With `client_pacer` given to the client and `job_pacer` given to the job, the job sends at `rate`."""

    @pytest.mark.parametrize(
        ("client_pacer", "job_pacer", "rate"),
        [
            (FixedPacer(5), None, 5.0),
            (FixedPacer(5), FixedPacer(20), 20.0),
            (None, FixedPacer(20), 20.0),
        ],
        ids=repr,
    )
    def test_the_jobs_own_comes_first_and_then_the_clients(
        self, client_pacer: Pacer | None, job_pacer: Pacer | None, rate: float
    ) -> None:
        async def test() -> None:
            client, _ = scripted_client(lambda request, number: NO_CONTENT)
            view = client.with_options(pacer=copy.copy(client_pacer))
            began = now()
            await bulk.delete_profiles(view, IDS, by="customer_user_id", pacer=copy.copy(job_pacer))
            assert now() - began == pytest.approx((len(IDS) - 1) / rate)

        run_virtual(test())

    @virtual
    async def test_unpaced_counts_as_given(self) -> None:
        client, _ = scripted_client(lambda request, number: NO_CONTENT)
        get_sender(client).key_state.background_pacer = FixedPacer(1.0)
        began = now()
        await bulk.delete_profiles(client.with_options(pacer=UNPACED), IDS, by="customer_user_id")
        assert now() == began

    @virtual
    async def test_jobs_and_calls_of_a_client_share_the_pacer_that_it_was_given(self) -> None:
        client, _ = scripted_client(lambda request, number: NO_CONTENT)
        view = client.with_options(pacer=FixedPacer(5))
        began = now()
        calls = [view.profiles.delete(customer_user_id=who) for who in IDS]
        jobs = [bulk.delete_profiles(view, IDS, by="customer_user_id") for _ in range(2)]
        await asyncio.gather(*calls, *jobs)
        assert now() - began == pytest.approx((3 * len(IDS) - 1) / 5)

    @virtual
    async def test_where_none_was_given_all_jobs_share_one_that_leaves_room(self) -> None:
        client, _ = scripted_client(lambda request, number: NO_CONTENT)
        get_sender(client).key_state.background_pacer = FixedPacer(5)
        began = now()
        await asyncio.gather(*(bulk.delete_profiles(client, IDS, by="customer_user_id") for _ in range(2)))
        assert now() - began == pytest.approx((2 * len(IDS) - 1) / 5)

    def test_that_one_is_the_adaptive_pacer_for_the_background(self) -> None:
        made = get_sender(AdaptyClient("secret")).key_state.background_pacer
        assert isinstance(made, AdaptivePacer)
        assert repr(made) == repr(AdaptivePacer.background())


@virtual
async def test_nothing_leaves_before_a_retry_after_is_over() -> None:
    began = now()
    times: list[float] = []

    def inject(request: Any, number: int) -> Answer:
        times.append(now() - began)
        return error(429, retry_after="30") if len(times) == 3 else NO_CONTENT

    client, _ = scripted_client(inject)
    items = (f"u{number}" for number in range(200))
    report = await bulk.delete_profiles(client, items, by="customer_user_id", concurrency=5, pacer=FixedPacer(100))
    assert report.counts == {Outcome.DELETED: 200}
    assert not [time for time in times if times[2] < time < times[2] + 30]
    assert times[-1] < times[2] + 33 + 3


@virtual
async def test_elapsed_is_the_time_from_the_first_look_at_an_item_to_its_outcome() -> None:
    client, _ = scripted_client(lambda request, number: NO_CONTENT if number == 2 else error(503, retry_after="20"))
    (result,) = [result async for result in bulk.delete_profiles(client, ["u0"], by="customer_user_id")]
    assert 20 <= result.elapsed <= 22


@virtual
async def test_progress_is_told_at_most_ten_times_a_second() -> None:
    seen: list[float] = []
    client, _ = scripted_client(lambda request, number: NO_CONTENT)
    await bulk.delete_profiles(
        client,
        (f"u{number}" for number in range(1000)),
        by="customer_user_id",
        pacer=FixedPacer(100),
        on_progress=lambda report: seen.append(now()),
    )
    assert 90 <= len(seen) <= 102


@virtual
async def test_the_latency_of_calls_of_ones_own_is_that_of_those_that_succeed() -> None:
    async def call(seconds: float) -> None:
        await asyncio.sleep(seconds)
        if seconds > 5:
            raise AdaptyTimeoutError(sent=False)

    report = await bulk.run(call, [1.0, 2.0, 9.0], concurrency=1, stop=LENIENT)
    assert report.latency is not None
    assert report.latency.max == pytest.approx(2.0)
