"""A success counts only if nothing else arrives on its connection. Otherwise the item is sent again, or in doubt."""

import asyncio
import collections
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from adapty_async import UNPACED, AdaptyClient, AdaptyConnectionError, ProfileAttributes, RetryPolicy, bulk
from adapty_async.bulk import BulkJob, BulkReport, Outcome, SkippedItem, StopReason, StopRules
from adapty_async.http.extra_responses import QUIET_SECONDS
from adapty_async.ledger import Ledger, LedgerReader
from tests.desync import HostileServer, delete, profile_id_of
from tests.http.test_extra_responses import Line, client_of, profile
from tests.leftovers import timers_left
from tests.raw_server import RawServer, Reply, answer

NAMED: Final = ProfileAttributes(first_name="Ann")
GONE: Final = answer(404, {"errors": [], "error_code": "profile_does_not_exist", "status_code": 404})
LENIENT: Final = StopRules(max_failure_ratio=None, max_absent_ratio=None)


@asynccontextmanager
async def served(*script: Reply, **settings: Any) -> AsyncIterator[tuple[RawServer, AdaptyClient]]:
    async with RawServer(*script) as server, client_of(server, **settings) as client:
        yield server, client


def deletion(client: AdaptyClient, *names: str, **settings: Any) -> BulkJob[Any, None]:
    defaults: dict[str, Any] = {"by": "customer_user_id", "concurrency": 1, "pacer": UNPACED, "stop": LENIENT}
    return bulk.delete_profiles(client, names, **defaults | settings)


def started(job: BulkJob[Any, None]) -> asyncio.Task[BulkReport]:
    """Await a job in a task of its own."""

    async def report() -> BulkReport:
        return await job

    return asyncio.create_task(report())


def and_later(response: bytes, surplus: bytes) -> Reply:
    """Send surplus bytes some time after the response, but by the same clock before the response is settled."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        asyncio.get_running_loop().call_later(QUIET_SECONDS / 5, writer.write, surplus)

    return reply


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent settling by time, however slow the machine is."""
    monkeypatch.setattr("adapty_async.http.extra_responses.QUIET_SECONDS", 600.0)


patient = pytest.mark.usefixtures("_patient")


async def outcomes(job: BulkJob[Any, Any]) -> list[tuple[int, Outcome]]:
    return [(result.position, result.outcome) async for result in job]


async def until(happened: Callable[[], object]) -> None:
    """Wait for something at the other end of a socket."""
    while not happened():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


class TestADoubtfulDeletion:
    async def test_it_is_repeated_on_a_new_connection(self) -> None:
        async with served(answer(204), answer(204) * 2, answer(204)) as (server, client):
            report = await deletion(client, "a", "b")
        assert report.counts == {Outcome.DELETED: 2}
        names = [request.headers["adapty-customer-user-id"] for request in server.requests]
        assert names == [b"a", b"b", b"b"]
        assert server.connections == 2

    async def test_where_the_profile_is_gone_then_that_isnt_confirmed(self, tmp_path: Path) -> None:
        async with served(answer(204) * 2, GONE) as (_, client):
            report = await deletion(client, "a", ledger=Ledger(tmp_path / "job.db"))
        assert report.counts == {Outcome.DELETED_UNCONFIRMED: 1}
        with LedgerReader(tmp_path / "job.db") as reader:
            (row,) = reader.find_rows("a")
        assert (row.outcome, row.attempts) == (Outcome.DELETED_UNCONFIRMED, 2)

    @pytest.mark.parametrize(
        "surplus", [GONE, b"H", b"\x00\x01\x02", GONE[:30]], ids=["a response", "a letter", "noise", "a head"]
    )
    async def test_a_surplus_that_comes_later_is_noticed_as_well(self, surplus: bytes) -> None:
        async with served(and_later(answer(204), surplus), answer(204)) as (server, client):
            assert (await deletion(client, "a")).counts == {Outcome.DELETED: 1}
            assert (len(server.requests), server.connections) == (2, 2)

    @pytest.mark.parametrize("refusal", [GONE, answer(400)], ids=["absent", "failed"])
    async def test_one_that_failed_or_was_absent_is_no_less_doubtful(self, refusal: bytes) -> None:
        async with served(refusal * 2, answer(204)) as (_, client):
            report = await deletion(client, "a")
        assert report.counts == {Outcome.DELETED: 1}

    async def test_an_absence_is_a_success_that_has_to_be_settled_too(self) -> None:
        async with served(and_later(GONE, answer(400)), answer(204)) as (server, client):
            assert (await deletion(client, "a")).counts == {Outcome.DELETED: 1}
            assert (len(server.requests), server.connections) == (2, 2)

    async def test_without_retries_it_is_in_doubt(self) -> None:
        async with served(answer(204) * 2, retry=RetryPolicy.none()) as (server, client):
            report = await deletion(client, "a")
        assert report.counts == {Outcome.IN_DOUBT: 1}
        assert len(server.requests) == 1
        (failure,) = report.failures
        assert isinstance(failure.error, AdaptyConnectionError)
        assert failure.error.maybe_executed
        assert "the connection received an extra response" in str(failure.error)

    async def test_it_is_repeated_as_often_as_the_policy_says(self) -> None:
        async with served(answer(204) * 2) as (server, client):
            report = await deletion(client, "a")
        assert report.counts == {Outcome.IN_DOUBT: 1}
        assert len(server.requests) == 4

    async def test_a_borrowed_session_of_one_connection_is_enough(self) -> None:
        async with RawServer(answer(204) * 2, *[answer(204)] * 9) as server:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
            async with session, client_of(server, session=session) as client:
                report = await deletion(client, *"abcde", concurrency=5)
        assert report.counts == {Outcome.DELETED: 5}

    async def test_the_next_connections_rest_until_it_is_settled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("adapty_async.http.extra_responses.QUIET_SECONDS", 1.0)
        line = Line(answer(204) * 2, *[answer(204)] * 9)
        async with served(line) as (server, client):
            await deletion(client, *"abcd")
            # The responses for b, c and d aren't settled yet when the next request is sent.
            assert server.connections >= 4

    async def test_a_connection_that_is_out_of_step_is_noticed_while_it_is_busy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(server.requests) == 2:  # it has been sent, and gets the surplus response
                writer.write(answer(204))
            await asyncio.sleep(QUIET_SECONDS / 5)
            writer.write(answer(204))

        monkeypatch.setattr("adapty_async.http.extra_responses._MAX_BUSY_SECONDS", QUIET_SECONDS)
        names = [f"u{number}" for number in range(30)]
        async with served(reply) as (server, client):
            assert (await deletion(client, *names)).counts == {Outcome.DELETED: 30}
            sent = collections.Counter(
                request.headers["adapty-customer-user-id"].decode() for request in server.requests
            )
            # The last one, which no response follows, is detected in any case.
            assert [name for name in names[:-1] if sent[name] > 1]


class TestOtherOperations:
    async def test_a_get_is_repeated(self) -> None:
        async with served(profile("a") * 2, profile("a")) as (server, client):
            report = await bulk.get_profiles(client, ["a"], by="customer_user_id", pacer=UNPACED)
        assert report.counts == {Outcome.FETCHED: 1}
        assert len(server.requests) == 2

    async def test_a_response_about_another_profile_on_a_used_connection_is_doubtful(self) -> None:
        async with served(profile("a"), profile("a"), profile("b")) as (server, client):
            job = bulk.get_profiles(client, ["a", "b"], by="customer_user_id", pacer=UNPACED, concurrency=1)
            found = [result.value.customer_user_id async for result in job if result.value]
        assert found == ["a", "b"]
        assert server.connections == 2

    async def test_an_update_is_sent_again_as_any_of_unknown_fate(self) -> None:
        async with served(profile("a") * 2, profile("a")) as (server, client):
            report = await bulk.update_profiles(client, [("a", NAMED)], by="customer_user_id", pacer=UNPACED)
        assert report.counts == {Outcome.UPDATED: 1}
        assert len(server.requests) == 2

    async def test_a_creation_that_must_not_be_repeated_is_in_doubt(self) -> None:
        one = [(str(profile_id_of("a")), NAMED)]
        async with served(profile("a") * 2) as (server, client):
            report = await bulk.create_profiles(client, one, by="profile_id", pacer=UNPACED)
        assert report.counts == {Outcome.IN_DOUBT: 1}
        assert len(server.requests) == 1


class TestBeforeItIsSettled:
    @patient
    async def test_nothing_is_recorded(self, tmp_path: Path) -> None:
        line = Line(answer(204))
        async with served(line) as (_, client):
            job = deletion(client, "a", ledger=Ledger(tmp_path / "job.db"))
            running = started(job)
            await until(lambda: job.report.requests)
            assert job.report.total == 0
            job.stop()
            await job.aclose()
            await asyncio.wait([running])
            assert job.report.counts == {Outcome.DELETED: 1}

    @patient
    async def test_it_is_as_soon_as_its_connection_is_taken_or_closed(self) -> None:
        closing = answer(204, headers={"Connection": "close"})
        async with served(answer(204), closing, answer(204)) as (server, client):
            job = deletion(client, *"abc")
            running = started(job)
            await until(lambda: len(server.requests) == 3)
            assert job.report.total == 2
            await job.aclose()
            await asyncio.wait([running])

    async def test_a_canary_goes_on_afterwards(self) -> None:
        async with served(answer(204)) as (_, client):
            report = await deletion(client, *"abcdefgh", concurrency=4, stop=StopRules(canary=2))
        assert report.counts == {Outcome.DELETED: 8}

    async def test_a_pause_doesnt_hold_it_up(self) -> None:
        async with served(answer(204), on_attempt=lambda _: job.pause()) as (server, client):
            job: BulkJob[Any, None] = deletion(client, "a", "b", stop=StopRules(canary=1))
            running = started(job)
            await until(lambda: job.report.total)
            assert len(server.requests) == 1
            job.unpause()
            await until(lambda: job.report.total == 2)
            assert (await running).counts == {Outcome.DELETED: 2}

    @pytest.mark.parametrize(
        ("reply", "outcome"),
        [(answer(204), Outcome.DELETED), (and_later(answer(204), b"x"), Outcome.IN_DOUBT)],
        ids=["settled", "doubtful"],
    )
    async def test_a_stop_waits_for_it(self, reply: Reply, outcome: Outcome) -> None:
        async with served(reply, on_attempt=lambda _: job.stop()) as (server, client):
            job: BulkJob[Any, None] = deletion(client, "a", *"bcdef")
            report = await job
        assert report.counts == {outcome: 1}
        assert len(server.requests) == 1

    @patient
    @pytest.mark.parametrize(("surplus", "outcome"), [(b"", Outcome.DELETED), (b"x", Outcome.IN_DOUBT)])
    async def test_the_end_of_the_job_counts_it_by_what_is_known_then(self, surplus: bytes, outcome: Outcome) -> None:
        line = Line(answer(204))
        async with served(line) as (_, client):
            job = deletion(client, "a", "b", stop=StopRules(canary=1))
            running = started(job)
            await until(lambda: job.report.requests)
            line.writers[0].write(surplus)
            await asyncio.sleep(0.01)
            await job.aclose()
            await asyncio.wait([running])
        assert job.report.counts == {outcome: 1}

    @patient
    async def test_the_end_of_the_client_does_so_as_well(self) -> None:
        async with served(answer(204)) as (_, client):
            job = deletion(client, "a", "b", stop=StopRules(canary=1))
            running = started(job)
            await until(lambda: job.report.requests)
            await client.close()
            report = await running
            assert (report.counts, report.stop_reason) == ({Outcome.DELETED: 1}, StopReason.CLOSED)
            assert timers_left() == []

    async def test_from_one_runner_results_come_in_order(self) -> None:
        items: list[str | SkippedItem[str]] = [
            "a",
            SkippedItem("a", Outcome.DUPLICATE),
            "",
            "b",
            SkippedItem("x", Outcome.INVALID),
            "c",
        ]
        async with served(answer(204)) as (_, client):
            job = bulk.delete_profiles(client, items, by="customer_user_id", concurrency=1, pacer=UNPACED, stop=LENIENT)
            assert await outcomes(job) == [
                (0, Outcome.DELETED),
                (1, Outcome.DUPLICATE),
                (2, Outcome.INVALID),
                (3, Outcome.DELETED),
                (4, Outcome.INVALID),
                (5, Outcome.DELETED),
            ]

    async def test_who_takes_no_results_holds_the_job_back(self) -> None:
        async with served(answer(204)) as (server, client):
            job = deletion(client, *map(str, range(1000)), concurrency=5)
            async for _ in job:
                await asyncio.sleep(0.3)
                break
            assert len(server.requests) <= 20
            await job.aclose()


async def test_a_rule_stops_a_job_at_once_where_the_server_is_in_step() -> None:
    async with served(answer(204), answer(400)) as (server, client):
        report = await deletion(client, *"abcdef", stop=StopRules(max_failures=1))
    assert report.counts == {Outcome.DELETED: 1, Outcome.FAILED: 2}
    assert len(server.requests) == 3


async def test_the_deletions_after_a_surplus_response_are_recorded_as_they_were_answered() -> None:
    line = Line(profile("alive"), *[answer(204), GONE, answer(400)] * 10)
    async with served(line) as (server, client):
        await client.profiles.get(customer_user_id="alive")
        line.writers[0].write(answer(204))
        found = await outcomes(deletion(client, *map(str, range(30))))
    wanted = [Outcome.DELETED, Outcome.ALREADY_ABSENT, Outcome.FAILED] * 10
    assert found == list(enumerate(wanted))
    assert len(server.requests) == 31


@pytest.mark.no_cover  # the same lines run again and again
async def test_hardly_an_outcome_is_wrong_where_the_server_is_out_of_step() -> None:
    async with HostileServer(1) as server:
        found = await delete(server, 1000)
    assert len(found.wrong) <= 1, found
    assert found.results[Outcome.DELETED] >= 800
