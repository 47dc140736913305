"""The client is closed while calls and jobs run: each ends at once and reports whether it may have been executed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import uvloop

from adapty_async import (
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyTimeoutError,
    Attempt,
    FixedPacer,
    Response,
    RetryPolicy,
    bulk,
)
from adapty_async.bulk import Outcome, StopReason
from adapty_async.ledger import Ledger, LedgerReader
from adapty_async.testing import Fault, Simulator, prefilled_customer_user_id

from .leftovers import tasks_left, timers_left
from .raw_server import RawServer, Reply, answer, silence, then
from .test_client import KEY, NAMED, PROFILE, scripted
from .virtual_time import virtual, virtual_loop

REFUSED: Final = answer(429, b"{}", {"Retry-After": "20"})
FAILED: Final = answer(503, b"{}")

Test = Callable[..., Coroutine[Any, Any, None]]


async def executed_and_answered_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond after the client has closed the connection."""
    await reader.read()
    writer.write(answer(204))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a test on each of the event loops. Nothing may be left on the loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    async def leaving_nothing(test: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(30.0):
            await test
        assert tasks_left() == []

    def runner(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as on_it:
            on_it.run(leaving_nothing(test))

    return runner


@pytest.fixture(params=["own", "borrowed"])
def connected(request: pytest.FixtureRequest) -> Any:
    """Return a function that creates a client of a server, with connections of its own or borrowed ones."""

    @asynccontextmanager
    async def client_of(server: RawServer | Simulator, **settings: Any) -> AsyncIterator[AdaptyClient]:
        key = server.api_key if isinstance(server, Simulator) else KEY
        if request.param == "own":
            yield AdaptyClient(key, base_url=server.base_url, **settings)
            return
        async with aiohttp.ClientSession() as session:
            yield AdaptyClient(key, base_url=server.base_url, session=session, **settings)
            assert not session.closed

    return client_of


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


def delete(client: AdaptyClient, name: str = "u1") -> asyncio.Task[bool]:
    return asyncio.create_task(client.profiles.delete(customer_user_id=name))


async def ended(call: asyncio.Task[Any]) -> tuple[int, bool, bool]:
    """Wait until a call is ended by the closing. Return attempts, sent and maybe_executed."""
    with pytest.raises(AdaptyConnectionError, match=r"^the client was closed$") as caught:
        await call
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return caught.value.attempts, caught.value.sent, caught.value.maybe_executed


@pytest.mark.parametrize(
    ("replies", "requests", "says"),
    [
        ((silence,), 1, (1, True, True)),
        ((executed_and_answered_late,), 1, (1, True, True)),
        ((then(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[", silence),), 1, (1, True, True)),
        ((REFUSED,), 1, (1, True, False)),  # waits for a retry
        ((answer(503, b"{}", {"Retry-After": "20"}),), 1, (1, True, False)),
        ((answer(500, b"{}", {"Retry-After": "20"}),), 1, (1, True, False)),
        ((FAILED, silence), 2, (2, True, True)),
        ((answer(429, b"{}", {"Retry-After": "0.01"}), silence), 2, (2, True, True)),
    ],
    ids=["silent", "executed", "half an answer", "429", "503", "500", "again after 503", "again after 429"],
)
def test_a_call_ends_and_says_what_may_have_been_executed(
    run: Any, connected: Any, replies: tuple[Reply, ...], requests: int, says: tuple[int, bool, bool]
) -> None:
    async def test() -> None:
        retry = RetryPolicy(initial_backoff=0.001)
        async with RawServer(*replies) as server, connected(server, retry=retry) as client:
            call = delete(client)
            await until(lambda: len(server.requests) == requests)
            await asyncio.sleep(0.05)
            await client.aclose()
            assert call.done()
            assert await ended(call) == says
            with pytest.raises(RuntimeError, match="the client is closed"):
                await client.profiles.get(customer_user_id="u1")
            assert len(server.requests) == requests
            await client.close()

    run(test())


def test_calls_that_queue_end_unsent(run: Any, connected: Any) -> None:
    async def test() -> None:
        async with RawServer(answer(204)) as server, connected(server, pacer=FixedPacer(0.1)) as client:
            assert await delete(client)
            calls = [delete(client) for _ in range(2)]
            await asyncio.sleep(0.01)
            await client.aclose()
            assert [await ended(call) for call in calls] == [(0, False, False)] * 2
            assert len(server.requests) == 1

    run(test())


def test_calls_that_are_held_by_a_retry_after_end_those_of_views_too(run: Any, connected: Any) -> None:
    async def test() -> None:
        async with RawServer(REFUSED) as server, connected(server) as client:
            view = client.with_options(timeout=5.0, pacer=FixedPacer(100.0))
            calls = [delete(client)]
            await until(lambda: server.requests)
            await asyncio.sleep(0.02)
            calls += [delete(client), delete(view)]
            await asyncio.sleep(0.02)
            await view.aclose()  # which closes nothing
            assert not any(call.done() for call in calls)
            await client.aclose()
            assert [await ended(call) for call in calls] == [(1, True, False), (0, False, False), (0, False, False)]
            with pytest.raises(RuntimeError, match="the client is closed"):
                await view.profiles.get(customer_user_id="u1")

    run(test())


def test_a_hundred_calls_end_while_another_task_closes(run: Any, connected: Any) -> None:
    async def test() -> None:
        attempts: list[Attempt] = []
        async with RawServer(silence) as server, connected(server, on_attempt=attempts.append) as client:
            calls = [delete(client, f"u{number}") for number in range(100)]
            await until(lambda: len(server.requests) == 100)
            await asyncio.gather(client.aclose(), client.close(), asyncio.create_task(client.aclose()))
            assert [await ended(call) for call in calls] == [(1, True, True)] * 100
            assert [attempt.error for attempt in attempts] == ["AdaptyConnectionError"] * 100

    run(test())


def test_a_cancellation_by_the_caller_wins(run: Any, connected: Any) -> None:
    async def test() -> None:
        async with RawServer(silence) as server, connected(server) as client:
            calls = [delete(client) for _ in range(3)]
            await until(lambda: len(server.requests) == 3)
            closing = asyncio.create_task(client.aclose())
            calls[0].cancel()
            await asyncio.sleep(0)
            calls[1].cancel()
            await asyncio.wait(calls)
            assert [call.cancelled() for call in calls] == [True, True, False]
            assert await ended(calls[2]) == (1, True, True)
            await closing

    run(test())


def test_a_call_that_looks_whether_its_answer_is_its_own_ends(run: Any, connected: Any) -> None:
    async def test() -> None:
        another = {"data": {**PROFILE["data"], "customer_user_id": "another"}}
        async with RawServer(answer(200, another)) as server, connected(server) as client:
            call = asyncio.create_task(client.profiles.update(NAMED, customer_user_id="u1"))
            await until(lambda: server.requests)
            for _ in range(20):  # rounds in which the response arrives; the call then waits for 0.1 s
                await asyncio.sleep(0)
            await client.aclose()
            assert await ended(call) == (1, True, True)

    run(test())


def test_a_call_that_has_its_answer_keeps_it(run: Any, connected: Any) -> None:
    async def test() -> None:
        async with RawServer(answer(204)) as server, connected(server) as client:
            call = delete(client)
            await call
            await client.aclose()
            assert call.result() is True

    run(test())


@virtual
async def test_a_call_ends_that_the_closing_finds_between_its_pause_and_its_next_attempt() -> None:
    client, transport = scripted(Response(503, {"Retry-After": "10"}), Response(204))
    call = delete(client)
    await asyncio.sleep(0)
    (due,) = {timer.when() for timer in timers_left()}
    woken_just_before = virtual_loop().create_future()
    virtual_loop().call_at(due - 5e-10, woken_just_before.set_result, None)  # both in one round of the loop
    await woken_just_before
    assert virtual_loop().time() < due
    await client.aclose()
    assert await ended(call) == (1, True, False)
    assert len(transport.sent_at) == 1


async def test_a_lender_who_closes_his_session_is_told_from_the_client() -> None:
    async with RawServer(silence) as server:
        session = aiohttp.ClientSession()
        client = AdaptyClient(KEY, base_url=server.base_url, session=session, retry=RetryPolicy(initial_backoff=0.001))
        call = delete(client)
        await until(lambda: server.requests)
        await session.close()
        with pytest.raises(AdaptyConnectionError) as caught:
            await call
        assert (caught.value.sent, caught.value.maybe_executed) == (True, True)
        assert len(server.requests) == 1


async def test_the_timeout_of_what_the_closing_cant_end_stays() -> None:
    """The call itself closes the client, so it can't be cancelled."""
    async with RawServer(silence) as server:
        tracing = aiohttp.TraceConfig()
        client: AdaptyClient

        async def close(*_: object) -> None:
            await client.aclose()

        tracing.on_request_headers_sent.append(close)
        async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
            client = AdaptyClient(KEY, base_url=server.base_url, session=session, timeout=0.2)
            with pytest.raises((AdaptyTimeoutError, AdaptyConnectionError)) as caught:
                await delete(client)
            assert caught.value.maybe_executed is True
    assert tasks_left() == []


class TestAJob:
    def test_it_stops_and_what_was_sent_is_in_doubt(self, run: Any, connected: Any) -> None:
        async def test() -> None:
            attempts: list[Attempt] = []
            async with RawServer(silence) as server, connected(server, on_attempt=attempts.append) as client:
                job = bulk.delete_profiles(
                    client,
                    (f"u{n}" for n in range(1000)),
                    by="customer_user_id",
                    pacer=FixedPacer(1000.0),
                )
                outcomes: dict[object, Outcome] = {}

                async def collect() -> None:
                    async for result in job:
                        outcomes[result.item] = result.outcome

                running = asyncio.ensure_future(collect())
                await until(lambda: len(server.requests) >= 8)
                await client.aclose()
                await running
                report = await job
                assert report.stop_reason is StopReason.CLOSED
                assert set(report.counts) <= {Outcome.IN_DOUBT, Outcome.NOT_ATTEMPTED}
                received = [request.headers["adapty-customer-user-id"].decode() for request in server.requests]
                assert {outcomes[id_] for id_ in received} == {Outcome.IN_DOUBT}
                # Some of the requests that were sent may not have reached the server.
                assert len(received) <= report.counts[Outcome.IN_DOUBT] <= len(attempts)
                with pytest.raises(RuntimeError, match="the client is closed"):
                    await bulk.delete_profiles(client, ["u"], by="customer_user_id")

        run(test())

    def test_one_that_is_held_or_paused_stops(self, run: Any, connected: Any) -> None:
        async def test() -> None:
            async with RawServer(REFUSED) as server, connected(server) as client:
                held = bulk.delete_profiles(client, (f"u{n}" for n in range(50)), by="customer_user_id")
                paused = bulk.delete_profiles(client, (f"v{n}" for n in range(50)), by="customer_user_id")
                running = [asyncio.ensure_future(held), asyncio.ensure_future(paused)]
                paused.pause()
                await until(lambda: server.requests)
                await asyncio.sleep(0.05)
                await client.aclose()
                for report in await asyncio.gather(*running):
                    assert report.stop_reason is StopReason.CLOSED
                    assert set(report.counts) == {Outcome.NOT_ATTEMPTED}

        run(test())

    async def test_it_stops_with_the_session_of_a_lender(self) -> None:
        async with RawServer(silence) as server:
            session = aiohttp.ClientSession()
            client = AdaptyClient(KEY, base_url=server.base_url, session=session)
            job = bulk.delete_profiles(client, (f"u{n}" for n in range(50)), by="customer_user_id")
            running = asyncio.ensure_future(job)
            await until(lambda: server.requests)
            await session.close()
            report = await running
        assert report.stop_reason is StopReason.CLOSED
        assert report.counts[Outcome.IN_DOUBT] == len(server.requests)
        assert set(report.counts) <= {Outcome.IN_DOUBT, Outcome.NOT_ATTEMPTED}

    def test_with_a_ledger_it_is_resumed(self, run: Any, connected: Any, tmp_path: Path) -> None:
        async def test() -> None:
            path = tmp_path / "job.db"
            ids = [prefilled_customer_user_id(number) for number in range(1, 301)]
            async with Simulator(profiles=300) as simulator:
                simulator.latency = 0.02
                simulator.inject(*[Fault.NONE] * 150, *[Fault.DELAY] * 50)
                simulator.faults.delay = 60.0
                async with connected(simulator) as client:
                    job = bulk.delete_profiles(
                        client, ids, by="customer_user_id", ledger=Ledger(path), pacer=FixedPacer(2000.0)
                    )
                    running = asyncio.ensure_future(job)
                    await until(lambda: len(simulator.profiles) <= 140)
                    await client.aclose()
                    report = await running
                assert report.stop_reason is StopReason.CLOSED
                assert set(report.counts) <= {Outcome.DELETED, Outcome.IN_DOUBT, Outcome.NOT_ATTEMPTED}
                assert report.counts[Outcome.IN_DOUBT] > 0
                simulator.faults.delay = 0.0
                async with connected(simulator) as client:
                    resumed = await bulk.delete_profiles(
                        client, ids, by="customer_user_id", ledger=Ledger(path), pacer=FixedPacer(2000.0)
                    )
                    await client.aclose()
                assert resumed.stop_reason is None
                assert len(simulator.profiles) == 0
            with LedgerReader(path) as reader:
                assert sum(reader.status().totals.values()) == 300
                assert set(reader.status().totals) <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED}

        run(test())
