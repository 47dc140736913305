"""What a mass job does when the server fails, falls silent, gets slow or throttles, in virtual time."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator

import pytest

from adapty_async import AdaptivePacer, AdaptyClient, AdaptyError, FixedPacer, Request, Response, RetryPolicy, bulk
from adapty_async.bulk import BulkReport, Outcome, StopRules
from adapty_async.client import sender_of
from adapty_async.transport import Transport
from benchmarks.rate_simulation import TokenBucket

from ..leftovers import timers_left
from ..virtual_time import run_virtual, virtual
from .scripted import NO_CONTENT, error, lost

LENIENT = StopRules(failure_share=None, absent_share=None)
Serve = Callable[[float], Awaitable[Response | AdaptyError]]


def ids(count: int) -> Iterator[str]:
    return (f"u{number}" for number in range(count))


def now() -> float:
    return asyncio.get_running_loop().time()


class Server(Transport):
    """Let `serve` answer each request, told the seconds since the first moment; keep when each was sent."""

    def __init__(self, serve: Serve) -> None:
        super().__init__("https://api.test", "Api-Key secret", session=None, trust_env=False, ssl=None)
        self._serve = serve
        self._began = now()
        self.sent: list[float] = []
        self.sent_again: list[float] = []
        self.succeeded: list[float] = []
        self._seen: set[str] = set()
        self.under_way = self.most_under_way = 0

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - as in the original
        self.sent.append(now() - self._began)
        who = request.headers["adapty-customer-user-id"]
        if who in self._seen:
            self.sent_again.append(now() - self._began)
        self._seen.add(who)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = await self._serve(now() - self._began)
        finally:
            self.under_way -= 1
        if isinstance(answer, AdaptyError):
            raise answer
        if answer is NO_CONTENT:
            self.succeeded.append(now() - self._began)
        return answer


def client_of(serve: Serve) -> tuple[AdaptyClient, Server]:
    client, server = AdaptyClient("secret", retry=RetryPolicy()), Server(serve)
    sender_of(client).transport = server
    return client, server


def within(times: list[float], first: float, last: float) -> int:
    return sum(first <= time < last for time in times)


def failing(begins: float, ends: float, share: float, answer: Response | AdaptyError | None = None) -> Serve:
    """Answer after 0.1 s; in between, a share of the requests fails."""
    rng = random.Random(1)  # noqa: S311 - repeatable

    async def serve(since: float) -> Response | AdaptyError:
        fails = begins <= since < ends and rng.random() < share
        await asyncio.sleep(0.1)
        return (answer or error(503)) if fails else NO_CONTENT

    return serve


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
        client, server = client_of(failing(20, 80, 1.0, answer))
        report = await deleting(client, 4000)
        assert report.counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert report.total == 4000
        assert within(server.sent, 22, 80) <= 40
        assert min(time for time in server.succeeded if time > 80.1) <= 85
        assert within(server.succeeded, 85, 95) >= 0.9 * 50 * 10

    @virtual
    async def test_it_says_that_it_is_parked_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        client, _ = client_of(failing(5, 65, 1.0))
        await deleting(client, 1000)
        assert [(record.levelname, record.getMessage().split(",")[0]) for record in caplog.records] == [
            ("WARNING", "the job is parked"),
            ("INFO", "the job goes on: a request has been answered"),
        ]

    @virtual
    async def test_a_job_that_is_parked_can_be_stopped_at_once(self) -> None:
        client, _ = client_of(failing(0, 1e9, 1.0))
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

        client, _ = client_of(serve)
        assert (await deleting(client, 500)).counts == {Outcome.DELETED: 500}

    @virtual
    async def test_a_trial_that_is_cancelled_holds_up_no_other_job_and_leaves_nothing(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1 if since < 10 else 1e9)
            return error(503)

        client, _ = client_of(serve)
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

        client, server = client_of(serve)
        pacer = AdaptivePacer()
        report = await bulk.delete_profiles(client, ids(5000), by="customer_user_id", pacer=pacer, stop=LENIENT)
        assert report.counts == {Outcome.DELETED: 5000}
        assert pacer.estimate == pytest.approx(50, rel=0.05)
        assert within(server.succeeded, 125, 135) >= 450


class TestFailingMostOfTheTime:
    @virtual
    async def test_retries_are_rationed_and_nobody_fails_for_it(self) -> None:
        client, server = client_of(failing(20, 40, 0.8))
        report = await deleting(client, 4000)
        assert report.counts.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}
        assert report.total == 4000
        most = 20 + 0.1 * within(server.succeeded, 10, 40) + 2 * 20
        assert 0.5 * most <= within(server.sent_again, 20, 40) <= most
        assert within(server.succeeded, 45, 55) >= 0.9 * 50 * 10

    @virtual
    async def test_where_only_retries_are_left_there_are_two_a_second(self) -> None:
        client, server = client_of(failing(0, 8, 1.0))
        report = await deleting(client, 25)
        assert report.counts == {Outcome.DELETED: 25}
        assert 25 <= len(server.sent_again) <= 20 + 2 * server.sent[-1] + 2.5


class TestASilentServer:
    @virtual
    async def test_no_more_is_under_way_than_rate_and_latency_explain(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1 if since < 20 or since >= 40 else 60 - since)
            return NO_CONTENT

        client, server = client_of(serve)
        report = await deleting(client, 2000)
        assert server.most_under_way <= 8 + 2 * 50 * 0.1 + 1
        assert report.counts == {Outcome.DELETED: 2000}

    @virtual
    async def test_a_slow_server_gets_as_many_as_it_takes(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(2.0 if 20 <= since < 40 else 0.1)
            return NO_CONTENT

        client, server = client_of(serve)
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
            client, server = client_of(serve)
            await deleting(client, int(20 * rate), rate=rate, concurrency=200)
            assert server.sent[-1] == pytest.approx(20, rel=0.02)

        run_virtual(test())


class TestThrottling:
    @virtual
    async def test_retries_after_it_are_not_rationed(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429) if since < 4 else NO_CONTENT

        client, server = client_of(serve)
        assert (await deleting(client, 200)).counts == {Outcome.DELETED: 200}
        assert len(server.sent_again) >= 150
        assert server.sent[-1] <= 20

    @virtual
    async def test_it_fails_nobody(self) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429) if since < 300 else NO_CONTENT

        client, server = client_of(serve)
        report = await bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=AdaptivePacer())
        assert report.counts == {Outcome.DELETED: 500}
        assert within(server.sent, 0, 300) <= 40

    @virtual
    async def test_a_long_retry_after_parks_the_job_which_says_so_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return error(429, retry_after="600") if 5 <= since < 300 else NO_CONTENT

        client, server = client_of(serve)
        report = await deleting(client, 500)
        assert report.counts == {Outcome.DELETED: 500}
        assert within(server.sent, 5.2, 605) == 0
        (said,) = caplog.messages
        assert said.startswith("the job is parked for 6")


class TestTheDefaultPacer:
    @virtual
    async def test_it_stays_at_seven_tenths_of_the_limit(self) -> None:
        bucket = TokenBucket(50, 10)

        async def serve(since: float) -> Response:
            await asyncio.sleep(0.1)
            return NO_CONTENT if bucket.accepts(now()) else error(429)

        client, server = client_of(serve)
        report = await bulk.delete_profiles(client, ids(3000), by="customer_user_id")
        assert report.counts == {Outcome.DELETED: 3000}
        assert within(server.sent, 20, 60) / 40 == pytest.approx(0.7 * 50, rel=0.07)
        assert report.throttled <= 0.005 * report.requests

    @virtual
    async def test_the_jobs_of_a_client_and_its_views_share_one(self) -> None:
        client, server = client_of(failing(0, 0, 0))
        view = client.with_options(timeout=5)
        sender_of(view).transport = server
        jobs = [
            bulk.delete_profiles(one, ids(200), by="customer_user_id", stop=LENIENT) for one in (client, client, view)
        ]
        await asyncio.gather(*jobs)
        gaps = [later - earlier for earlier, later in itertools.pairwise(server.sent[:5])]
        assert gaps == pytest.approx([0.2] * 4, abs=0.021)  # START is at 5 a second, for all of them together

    @virtual
    async def test_it_replaces_the_clients_own(self) -> None:
        client, server = client_of(failing(0, 0, 0))
        slow = client.with_options(pacer=FixedPacer(0.1))
        sender_of(slow).transport = server
        await bulk.delete_profiles(slow, ids(10), by="customer_user_id")
        assert server.sent[-1] <= 2


@virtual
async def test_a_view_or_a_job_that_comes_later_waits_out_the_retry_after_too() -> None:
    async def serve(since: float) -> Response:
        return error(429, retry_after="20") if since < 10 else NO_CONTENT

    client, server = client_of(serve)
    with pytest.raises(AdaptyError):
        await client.with_options(retry=RetryPolicy.none()).profiles.delete(customer_user_id="u0")
    await bulk.delete_profiles(client, ids(3), by="customer_user_id", pacer=FixedPacer(50), stop=LENIENT)
    assert len(server.sent) == 4
    assert server.sent[1] >= server.sent[0] + 20
