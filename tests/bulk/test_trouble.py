"""Bulk jobs when the server fails, stops responding, becomes slow or rate-limits, in virtual time."""

import asyncio
import itertools
import logging
import random
import re
from pathlib import Path

import attrs
import pytest

from adapty_async import (
    UNPACED,
    AdaptivePacer,
    AdaptyClient,
    AdaptyError,
    AdaptyTimeoutError,
    FixedPacer,
    Response,
    RetryPolicy,
    SharedPacer,
    bulk,
)
from adapty_async.bulk import BulkReport, Outcome, StopReason, StopRules
from adapty_async.client import get_sender
from benchmarks.rate_simulation import TokenBucket

from ..leftovers import timers_left
from ..virtual_time import run_virtual, virtual
from .scripted import NO_CONTENT, error, lost
from .served import LENIENT, Told, failing, ids, now, served_client, within


async def deleting(client: AdaptyClient, count: int, rate: float = 50, concurrency: int = 100) -> BulkReport:
    return await bulk.delete_profiles(
        client, ids(count), by="customer_user_id", pacer=FixedPacer(rate), concurrency=concurrency, stop=LENIENT
    )


class TestAnOutage:
    @pytest.mark.parametrize("answer", [error(503), lost()], ids=["503", "reset"])
    @virtual
    async def test_it_fails_nobody_costs_few_requests_and_is_over_within_five_seconds(
        self, answer: Response | AdaptyError
    ) -> None:
        client, server = served_client(failing(20, 80, 1.0, answer))
        report = await deleting(client, 4000)
        assert report.counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert report.total == 4000
        assert within(server.sent, 22, 80) <= 40
        assert min(time for time in server.succeeded if time > 80.1) <= 85
        assert within(server.succeeded, 85, 95) >= 0.9 * 50 * 10

    @pytest.mark.parametrize(("concurrency", "in_doubt"), [(1, 7), (3, 3), (10, 0)])
    @virtual
    async def test_the_trials_of_minutes_use_up_nobodys_attempts(self, concurrency: int, in_doubt: int) -> None:
        client, _ = served_client(failing(20, 620, 1.0))
        report = await deleting(client, 1500, concurrency=concurrency)
        assert report.total == 1500
        assert report.counts.get(Outcome.IN_DOUBT, 0) <= in_doubt  # from the 30 failures before the breaker opens

    @virtual
    async def test_the_patience_with_it_ends_the_job(self) -> None:
        client, server = served_client(failing(2, 1e9, 1.0))
        report = await bulk.delete_profiles(client, ids(2000), by="customer_user_id", pacer=FixedPacer(50))
        assert report.stop_reason is StopReason.MAX_OUTAGE
        assert report.counts.keys() == {Outcome.DELETED, Outcome.IN_DOUBT}
        assert 895 <= server.sent[-1] <= 903

    @pytest.mark.parametrize(
        "statuses", [[503, 429], [503] * 40 + [429], [429] * 20 + [503]], ids=["in turn", "few 429", "few 503"]
    )
    @virtual
    async def test_one_with_throttling_in_between_ends_the_job_after_the_longer_patience(
        self, statuses: list[int]
    ) -> None:
        answers = itertools.cycle(statuses)

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return NO_CONTENT if since < 2 else error(next(answers))

        client, server = served_client(serve)
        async with asyncio.timeout(10_000):
            report = await bulk.delete_profiles(client, ids(2000), by="customer_user_id", pacer=FixedPacer(50))
        assert report.stop_reason is StopReason.MAX_OUTAGE
        assert 1795 <= server.sent[-1] <= 1805

    @pytest.mark.parametrize(
        "stop",
        [attrs.evolve(LENIENT, max_outage=None), attrs.evolve(LENIENT, max_throttled=None)],
        ids=["outage", "429"],
    )
    @virtual
    async def test_endless_patience_with_one_is_so_with_both_in_turn(self, stop: StopRules) -> None:
        answers = itertools.cycle([503, 429])

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(next(answers)) if since < 5000 else NO_CONTENT

        client, _ = served_client(serve)
        report = await bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=FixedPacer(50), stop=stop)
        assert report.stop_reason is None
        assert report.total == 500

    @virtual
    async def test_answers_in_between_keep_it_going(self) -> None:
        answers = itertools.cycle([*[503, 429] * 20, 204])

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            status = next(answers) if since < 5000 else 204
            return NO_CONTENT if status == 204 else error(status)

        client, _ = served_client(serve)
        report = await deleting(client, 500)
        assert report.stop_reason is None
        assert report.total == 500

    @virtual
    async def test_who_wants_no_retries_gets_none(self) -> None:
        client, server = served_client(failing(0, 1e9, 1.0))
        unrepeated = client.with_options(retry=RetryPolicy.none())
        get_sender(unrepeated).transport = server
        report = await deleting(unrepeated, 40)
        assert report.counts == {Outcome.IN_DOUBT: 40}
        assert server.sent_again == []

    @virtual
    async def test_a_job_of_few_items_isnt_parked_but_uses_up_their_attempts(self) -> None:
        client, server = served_client(failing(0, 1e9, 1.0))
        report = await deleting(client, 7)
        assert report.counts == {Outcome.IN_DOUBT: 7}
        assert len(server.sent) == 28

    @pytest.mark.parametrize("answer", [error(503), error(500), error(408), lost()])
    @virtual
    async def test_whatever_says_that_no_server_works_parks_it(self, answer: Response | AdaptyError) -> None:
        client, server = served_client(failing(0, 1e9, 1.0, answer))
        async with bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=FixedPacer(50)) as job:
            task = asyncio.ensure_future(job)
            await asyncio.sleep(61)
        assert task.done()
        assert within(server.sent, 1, 61) <= 18

    @pytest.mark.parametrize("rate", [5, 50, 1000])
    @virtual
    async def test_what_waits_at_the_gate_when_it_is_parked_doesnt_leave(self, rate: float) -> None:
        client, server = served_client(failing(0, 1e9, 1.0))
        task = asyncio.ensure_future(deleting(client, 4000, rate=rate))
        await asyncio.sleep(30 / rate + 0.2)
        parked = len(server.sent)
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.wait([task])
        assert len(server.sent) - parked <= 3

    @virtual
    async def test_a_pacer_is_told_of_each_ticket_what_became_of_it(self) -> None:
        client, _ = served_client(failing(3, 60, 1.0))
        pacer = Told()
        await bulk.delete_profiles(client, ids(300), by="customer_user_id", pacer=pacer, stop=LENIENT)
        assert pacer.untold == set()

    @virtual
    async def test_throttled_trials_leave_one_by_one(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1 if since < 5 else 6.0)
            return error(503) if since < 5 else error(429)

        client, server = served_client(serve)
        task = asyncio.ensure_future(deleting(client, 500))
        await asyncio.sleep(125)
        task.cancel()
        await asyncio.wait([task])
        assert within(server.sent, 5, 125) <= 120 / 4 + 2

    @virtual
    async def test_it_says_that_it_is_parked_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        client, _ = served_client(failing(5, 65, 1.0))
        await deleting(client, 1000)
        assert [(name, level, message.split(";")[0]) for name, level, message in caplog.record_tuples] == [
            ("adapty_async", logging.WARNING, "the circuit breaker opened: all recent requests failed"),
            ("adapty_async", logging.INFO, "the circuit breaker closed: the server works again"),
        ]

    @virtual
    async def test_a_job_that_is_parked_can_be_stopped_at_once(self) -> None:
        client, _ = served_client(failing(0, 1e9, 1.0))
        job = bulk.delete_profiles(client, ids(4000), by="customer_user_id", pacer=FixedPacer(50), stop=LENIENT)
        task = asyncio.ensure_future(job)
        await asyncio.sleep(10)
        began = now()
        job.stop()
        report = await task
        assert now() - began <= 0.1
        assert report.counts.keys() == {Outcome.NOT_ATTEMPTED, Outcome.IN_DOUBT}
        assert timers_left() == []

    @virtual
    async def test_a_trial_that_is_throttled_is_followed_by_the_next(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(503) if since < 10 else error(429) if since < 20 else NO_CONTENT

        client, _ = served_client(serve)
        assert (await deleting(client, 500)).counts == {Outcome.DELETED: 500}

    @virtual
    async def test_a_trial_that_is_cancelled_holds_up_no_other_job_and_leaves_nothing(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1 if since < 10 else 1e9)
            return error(503)

        client, _ = served_client(serve)
        async with bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=FixedPacer(50)) as job:
            task = asyncio.ensure_future(job)
            await asyncio.sleep(100)
        assert task.done()
        assert timers_left() == []

    @virtual
    async def test_the_estimate_of_the_limit_survives_it(self) -> None:
        bucket = TokenBucket(50, 10)

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            if 60 <= since < 120:
                return error(503)
            return NO_CONTENT if bucket.accepts(now()) else error(429)

        client, server = served_client(serve)
        pacer = AdaptivePacer()
        report = await bulk.delete_profiles(client, ids(5000), by="customer_user_id", pacer=pacer, stop=LENIENT)
        assert report.counts == {Outcome.DELETED: 5000}
        assert pacer.estimate == pytest.approx(50, rel=0.05)
        assert within(server.succeeded, 125, 135) >= 450


class TestFailingMostOfTheTime:
    @virtual
    async def test_retries_are_rationed_and_nobody_fails_for_it(self) -> None:
        client, server = served_client(failing(20, 40, 0.8))
        report = await deleting(client, 4000)
        assert report.counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert report.total == 4000
        most = 20 + 0.1 * within(server.succeeded, 10, 40) + 2 * 20
        assert 0.5 * most <= within(server.sent_again, 20, 40) <= most
        assert within(server.succeeded, 45, 55) >= 0.9 * 50 * 10

    @virtual
    async def test_where_only_retries_are_left_there_are_two_a_second(self) -> None:
        client, server = served_client(failing(0, 8, 1.0))
        report = await deleting(client, 25)
        assert report.counts == {Outcome.DELETED: 25}
        assert 25 <= len(server.sent_again) <= 20 + 2 * server.sent[-1] + 2.5


@pytest.mark.no_cover  # coverage doubles the time, and other tests run the same lines
class TestASilentServer:
    @virtual
    async def test_no_more_is_under_way_than_rate_and_latency_explain(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1 if since < 20 or since >= 40 else 60 - since)
            return NO_CONTENT

        client, server = served_client(serve)
        report = await deleting(client, 2000)
        assert server.most_under_way <= 8 + 2 * 50 * 0.1 + 1
        assert report.counts == {Outcome.DELETED: 2000}

    @pytest.mark.parametrize(("patience", "ends"), [(5, 80), (5, 261), (30, 140), (30, 263)])
    @virtual
    async def test_it_goes_on_within_five_seconds_of_its_recovery(self, patience: float, ends: float) -> None:
        async def serve(since: float) -> Response | AdaptyError:
            if 20 <= since < ends:
                await asyncio.sleep(patience)
                return AdaptyTimeoutError("no response in time", sent=True)
            await asyncio.sleep(0.1)
            return NO_CONTENT

        client, server = served_client(serve)
        report = await deleting(client, 3000)
        assert report.counts == {Outcome.DELETED: 3000}
        assert min(time for time in server.succeeded if time > ends) <= ends + 5

    @virtual
    async def test_a_slow_server_gets_as_many_as_it_takes(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(2.0 if 20 <= since < 40 else 0.1)
            return NO_CONTENT

        client, server = served_client(serve)
        await deleting(client, 3000, concurrency=100)
        assert server.most_under_way <= 100
        assert within(server.sent, 20, 40) >= 0.9 * 20 * 50 - 50
        assert within(server.sent, 25, 40) >= 0.98 * 15 * 50

    @pytest.mark.parametrize(("rate", "latency"), [(5, 0.01), (50, 0.1), (50, 1.5), (300, 0.2), (1000, 0.05)])
    def test_the_bound_costs_no_rate(self, rate: float, latency: float) -> None:
        rng = random.Random(2)  # noqa: S311 - repeatable

        async def serve(since: float) -> Response:
            await asyncio.sleep(latency * rng.lognormvariate(0.0, 0.5))
            return NO_CONTENT

        async def test() -> None:
            client, server = served_client(serve)
            await deleting(client, int(20 * rate), rate=rate, concurrency=200)
            assert server.sent[-1] == pytest.approx(20, rel=0.02)

        run_virtual(test())

    @pytest.mark.parametrize(
        ("share", "slow", "rate"), [(0.02, 5.0, 50), (0.1, 1.0, 50), (0.05, 2.0, 300), (0.002, 20.0, 50)]
    )
    @virtual
    async def test_a_few_slow_answers_among_many_cost_no_rate(self, share: float, slow: float, rate: float) -> None:
        rng = random.Random(3)  # noqa: S311 - repeatable

        async def serve(since: float) -> Response:
            await asyncio.sleep(slow if rng.random() < share else 0.05)
            return NO_CONTENT

        client, server = served_client(serve)
        await deleting(client, int(60 * rate), rate=rate, concurrency=500)
        assert server.sent[-1] <= 60 * 1.03

    @virtual
    async def test_a_server_that_stalls_for_half_a_second_now_and_then_costs_no_rate(self) -> None:
        async def serve(since: float) -> Response:
            stalled = since % 2.0
            await asyncio.sleep(max(0.1, 0.5 - stalled))
            return NO_CONTENT

        client, server = served_client(serve)
        await deleting(client, 3000)
        assert server.sent[-1] <= 60 * 1.02


class TestThrottling:
    @virtual
    async def test_retries_after_it_are_not_rationed(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429) if since < 4 else NO_CONTENT

        client, server = served_client(serve)
        assert (await deleting(client, 200)).counts == {Outcome.DELETED: 200}
        assert len(server.sent_again) >= 150
        assert server.sent[-1] <= 20

    @virtual
    async def test_it_fails_nobody(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429) if since < 300 else NO_CONTENT

        client, server = served_client(serve)
        report = await bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=AdaptivePacer())
        assert report.counts == {Outcome.DELETED: 500}
        assert within(server.sent, 0, 300) <= 40

    @virtual
    async def test_a_long_retry_after_parks_the_job_which_says_so_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429, retry_after="600") if 5 <= since < 300 else NO_CONTENT

        client, server = served_client(serve)
        report = await deleting(client, 500)
        assert report.counts == {Outcome.DELETED: 500}
        assert within(server.sent, 5.2, 605) == 0
        (said,) = caplog.messages
        assert said.startswith("no requests are sent for 6")

    @virtual
    async def test_one_that_asks_for_a_minute_or_less_says_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(since: float) -> Response:
            return error(429, retry_after="50") if since < 1 else NO_CONTENT

        client, _ = served_client(serve)
        await deleting(client, 5)
        assert caplog.messages == []

    @virtual
    async def test_one_that_others_were_told_parks_it_too_which_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.05)
            return error(429, retry_after="600") if 5 <= since < 5.06 else NO_CONTENT

        client, server = served_client(serve)
        reports = await asyncio.gather(deleting(client, 8, rate=0.5), deleting(client, 200, rate=20))
        assert [report.total for report in reports] == [8, 200]
        assert within(server.sent, 5.2, 605) == 0
        assert [message.split(" for")[0] for message in caplog.messages] == ["no requests are sent"] * 2

    @virtual
    async def test_one_that_another_pacer_of_the_file_was_told_too(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def serve(since: float) -> Response:
            return error(429, retry_after="600") if since < 0.05 else NO_CONTENT

        client, server = served_client(serve)
        for pacer in (SharedPacer(tmp_path / "pace"), SharedPacer(tmp_path / "pace")):
            view = client.with_options(pacer=pacer)
            get_sender(view).transport = server
            job = bulk.delete_profiles(view, ids(3), by="customer_user_id", pacer=pacer, stop=LENIENT)
            task = asyncio.ensure_future(job)
            await asyncio.sleep(1)
            assert not task.done()
            job.stop()
            await task
            pacer.close()
        told = "no requests are sent for 600 s, because the API sent a Retry-After"
        assert [re.sub(r"\d+ s", "600 s", message) for message in caplog.messages] == [told] * 2

    @virtual
    async def test_where_it_lasts_longer_than_the_patience_it_says_when_the_job_stops(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def serve(since: float) -> Response:
            return error(429, retry_after="7200")

        client, _ = served_client(serve)
        began = now()
        with pytest.raises(AdaptyError):
            await client.with_options(retry=RetryPolicy.none()).profiles.delete(customer_user_id="u0")
        report = await bulk.delete_profiles(client, ids(5), by="customer_user_id", pacer=UNPACED)
        assert report.stop_reason is StopReason.MAX_THROTTLED
        assert report.counts == {Outcome.NOT_ATTEMPTED: 5}
        assert now() - began == pytest.approx(1800)
        (said,) = caplog.messages
        assert said.endswith("; the job stops after 1800 s of that (max_throttled)")

    @virtual
    async def test_a_job_that_has_ended_says_nothing_more(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(since: float) -> Response:
            return error(429, retry_after="600") if 10 <= since < 11 else NO_CONTENT

        client, server = served_client(serve)
        pacer = FixedPacer(50)
        await bulk.delete_profiles(client, ids(5), by="customer_user_id", pacer=pacer)
        view = client.with_options(retry=RetryPolicy(max_elapsed=1000), pacer=pacer)
        get_sender(view).transport = server
        await asyncio.sleep(10)
        await view.profiles.delete(customer_user_id="u1")
        assert within(server.sent, 600, 700) == 1
        assert caplog.messages == []

    @virtual
    async def test_a_429_among_failures_is_no_sign_of_health(self) -> None:
        turns = itertools.cycle([error(503), error(503), error(429)])

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return next(turns)

        client, server = served_client(serve)
        task = asyncio.ensure_future(deleting(client, 2000))
        await asyncio.sleep(60)
        task.cancel()
        await asyncio.wait([task])
        assert within(server.sent, 5, 60) <= 40

    @virtual
    async def test_a_slow_rate_is_no_pause(self, caplog: pytest.LogCaptureFixture) -> None:
        client, _ = served_client(failing(0, 0, 0))
        await deleting(client, 5, rate=0.01)
        assert caplog.messages == []


class TestTheDefaultPacer:
    @virtual
    async def test_it_stays_at_seven_tenths_of_the_limit(self) -> None:
        bucket = TokenBucket(50, 10)

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return NO_CONTENT if bucket.accepts(now()) else error(429)

        client, server = served_client(serve)
        report = await bulk.delete_profiles(client, ids(3000), by="customer_user_id")
        assert report.counts == {Outcome.DELETED: 3000}
        assert within(server.sent, 20, 60) / 40 == pytest.approx(0.7 * 50, rel=0.07)
        assert report.throttled <= 0.005 * report.requests

    @virtual
    async def test_the_jobs_of_a_client_and_its_views_share_one(self) -> None:
        client, server = served_client(failing(0, 0, 0))
        view = client.with_options(timeout=5)
        get_sender(view).transport = server
        jobs = [
            bulk.delete_profiles(one, ids(200), by="customer_user_id", stop=LENIENT) for one in (client, client, view)
        ]
        await asyncio.gather(*jobs)
        gaps = [later - earlier for earlier, later in itertools.pairwise(server.sent[:5])]
        assert gaps == pytest.approx([0.2] * 4, abs=0.021)  # START is at 5 per second, for all jobs together

    @virtual
    async def test_it_gives_way_to_the_one_that_the_client_was_given(self) -> None:
        client, server = served_client(failing(0, 0, 0))
        slow = client.with_options(pacer=FixedPacer(0.1))
        get_sender(slow).transport = server
        await bulk.delete_profiles(slow, ids(10), by="customer_user_id")
        assert server.sent == pytest.approx([10.0 * number for number in range(10)])


@virtual
async def test_a_view_or_a_job_that_comes_later_waits_out_the_retry_after_too() -> None:
    async def serve(since: float) -> Response:
        return error(429, retry_after="20") if since < 10 else NO_CONTENT

    client, server = served_client(serve)
    with pytest.raises(AdaptyError):
        await client.with_options(retry=RetryPolicy.none()).profiles.delete(customer_user_id="u0")
    await bulk.delete_profiles(client, ids(3), by="customer_user_id", pacer=FixedPacer(50), stop=LENIENT)
    assert len(server.sent) == 4
    assert server.sent[1] >= server.sent[0] + 20
