"""A kept-alive connection with unexpected data on it: no call gets a response that was meant for another one."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import uvloop
from aioresponses import aioresponses

from adapty_async import (
    AdaptyClient,
    AdaptyConnectionError,
    Attempt,
    InvalidResponseError,
    Profile,
    ProfileAttributes,
    Request,
    RetryPolicy,
)
from adapty_async.client import get_sender
from adapty_async.http.extra_responses import QUIET_SECONDS

from ..desync import HostileServer, call, profile_id_of
from ..leftovers import timers_left
from ..raw_server import RawServer, answer

KEY: Final = "secret_live_abc.DEF123"
NAMED: Final = ProfileAttributes(first_name="Ann")


def profile(name: str | None, profile_id: str | None = None) -> bytes:
    """Return a response with one profile."""
    ids = {"profile_id": profile_id or str(profile_id_of(name or "")), "customer_user_id": name}
    return answer(200, {"data": {"app_id": "14c3d623-2f3a-455a-aa86-ef83dff6913b", **ids}})


class Line:
    """Reply to each request, and keep the connection, to write unrequested data on it."""

    def __init__(self, *script: bytes) -> None:
        self._script = list(script)
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self._script.pop(0))
        await writer.drain()


def client_of(server: RawServer, **settings: Any) -> AdaptyClient:
    defaults: dict[str, Any] = {"timeout": 5.0, "retry": RetryPolicy(initial_backoff=0.0)}
    return AdaptyClient(KEY, base_url=server.base_url, **defaults | settings)


async def name_of(client: AdaptyClient, name: str) -> str | None:
    return (await client.profiles.get(customer_user_id=name)).customer_user_id


SURPLUS: Final = {
    "a response": profile("alice"),
    "two responses": profile("alice") * 2,
    "a head": profile("alice").split(b"\r\n\r\n")[0],
    "a letter": b"H",
    "half a body": profile("alice")[:-5],
    "noise": b"\x00\x01\x02",
    "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx",
    "a response without end": b"HTTP/1.1 200 OK\r\n\r\n{",
}
ANY_SURPLUS = pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on either event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_on_it(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run_on_it


Run = Callable[[Coroutine[Any, Any, None]], None]


class TestBeforeAnAttempt:
    @ANY_SURPLUS
    @pytest.mark.parametrize("is_read", [True, False], ids=["read", "in the system's buffer"])
    @pytest.mark.parametrize("is_borrowed", [False, True], ids=["own session", "borrowed session"])
    def test_a_connection_that_holds_something_is_closed_and_the_attempt_takes_another(
        self, run: Run, surplus: bytes, is_read: bool, is_borrowed: bool
    ) -> None:
        async def main() -> None:
            attempts: list[Attempt] = []
            line = Line(profile("alice"), profile("bob"))
            async with RawServer(line) as server, contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(aiohttp.ClientSession()) if is_borrowed else None
                client = client_of(server, session=session, on_attempt=attempts.append)
                await stack.enter_async_context(client)
                assert await name_of(client, "alice") == "alice"
                line.writers[0].write(surplus)  # over loopback, it arrives at once
                if is_read:
                    await asyncio.sleep(0.02)
                assert await name_of(client, "bob") == "bob"
                assert (len(server.requests), server.connections, len(attempts)) == (2, 2, 2)

        run(main())

    @pytest.mark.parametrize("surplus", [b"HTTP/1.1 204 No Content\r\n\r\n", b""], ids=["a response", "nothing"])
    async def test_tls_needs_no_more_than_that(self, surplus: bytes) -> None:
        certificate = Path(__file__).parents[1] / "data" / "loopback.pem"
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        line = Line(*[answer(204)] * 3)
        trusted = ssl.create_default_context(cafile=certificate)
        async with RawServer(line, tls=tls) as server, client_of(server, ssl=trusted) as client:
            await client.profiles.delete(customer_user_id="a")
            line.writers[0].write(surplus)
            await client.profiles.delete(customer_user_id="b")
            await client.profiles.delete(customer_user_id="c")
        assert (len(server.requests), server.connections) == (3, 2 if surplus else 1)

    async def test_one_that_its_server_has_closed_costs_no_attempt(self) -> None:
        line = Line(answer(204), answer(204))
        async with RawServer(line) as server, client_of(server, retry=RetryPolicy.none()) as client:
            await client.profiles.delete(customer_user_id="a")
            line.writers[0].close()
            await line.writers[0].wait_closed()
            await client.profiles.delete(customer_user_id="b")
        assert (len(server.requests), server.connections) == (2, 2)

    async def test_all_that_hold_something_are_passed_over(self) -> None:
        line = Line(*[answer(204)] * 11)
        async with RawServer(line) as server, client_of(server) as client:
            await asyncio.gather(*(client.profiles.delete(customer_user_id=f"u{number}") for number in range(10)))
            for writer in line.writers:
                writer.write(answer(204))
            await client.profiles.delete(customer_user_id="a")
            assert server.connections == 11

    async def test_a_clean_one_is_used_again(self) -> None:
        line = Line(*[answer(204)] * 3)
        async with RawServer(line) as server, client_of(server) as client:
            for _ in range(3):
                await client.profiles.delete(customer_user_id="a")
        assert server.connections == 1

    async def test_a_server_that_speaks_first_is_sent_nothing(self) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(profile("alice"))
            with contextlib.suppress(ConnectionResetError):
                sent.append(await reader.read())
            writer.close()
            gone.set()

        sent: list[bytes] = []
        gone = asyncio.Event()
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            # Half of the time, the data would come after the request was sent, and would then be its response.
            connector = aiohttp.TCPConnector()
            connected = connector._create_connection  # noqa: SLF001 - a delay like that of a network

            async def connect(*args: Any) -> Any:
                protocol = await connected(*args)
                await asyncio.sleep(0.02)
                return protocol

            connector._create_connection = connect  # type: ignore[assignment,method-assign] # noqa: SLF001
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                AdaptyClient(KEY, base_url=url, session=session, retry=RetryPolicy.none()) as client,
            ):
                with pytest.raises(AdaptyConnectionError) as caught:
                    await client.profiles.get(customer_user_id="bob")
            await gone.wait()
        assert (caught.value.sent, caught.value.maybe_executed) == (False, False)
        assert set(sent) <= {b""}

    async def test_one_whose_reading_is_paused_is_not_idle(self) -> None:
        line = Line(answer(204), answer(204))
        async with RawServer(line) as server, client_of(server) as client:
            await client.profiles.delete(customer_user_id="a")
            (pooled,) = get_sender(client).transport._session.connector._conns.values()  # type: ignore[union-attr] # noqa: SLF001
            pooled[0][0]._reading_paused = True  # noqa: SLF001 - as a large body does
            await client.profiles.delete(customer_user_id="b")
            assert server.connections == 2

    async def test_a_cancellation_while_it_is_looked_at_leaves_nothing(self) -> None:
        line = Line(answer(204), answer(204))
        async with RawServer(line) as server, client_of(server) as client:
            await client.profiles.delete(customer_user_id="a")
            line.writers[0].write(b"x")
            deletion = asyncio.create_task(client.profiles.delete(customer_user_id="b"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            deletion.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deletion
            connector = get_sender(client).transport._session.connector  # type: ignore[union-attr] # noqa: SLF001
            assert (connector._acquired, dict(connector._conns)) == (set(), {})  # type: ignore[union-attr] # noqa: SLF001
            assert len(server.requests) == 1


class TestTheIdsOfAResponse:
    """Each call uses a connection that a previous call has used."""

    async def ask(self, call: Callable[[AdaptyClient], Awaitable[Any]], *script: bytes, **settings: Any) -> Any:
        self.attempts: list[Attempt] = []
        self.line = Line(answer(204), *script)
        self.server = RawServer(self.line)
        async with self.server, client_of(self.server, on_attempt=self.attempts.append, **settings) as client:
            await client.profiles.delete(customer_user_id="first")
            return await call(client)

    async def test_a_get_that_is_given_another_profile_is_repeated_on_a_new_connection(self) -> None:
        found = await self.ask(
            lambda client: client.profiles.get(customer_user_id="bob"), profile("alice"), profile("bob")
        )
        assert found.customer_user_id == "bob"
        assert [(seen.number, seen.status, seen.error, seen.retry_in) for seen in self.attempts[1:]] == [
            (1, 200, "InvalidResponseError", 0.0),
            (2, 200, None, None),
        ]
        assert self.line.writers[0] is self.line.writers[1] is not self.line.writers[2]

    async def test_what_the_new_connection_says_counts(self) -> None:
        found = await self.ask(lambda client: client.profiles.get(customer_user_id="bob"), *[profile("robert")] * 2)
        assert found.customer_user_id == "robert"

    async def test_by_a_connection_opened_for_it_and_by_none_of_the_pool(self) -> None:
        line = Line(*[answer(204)] * 5, profile("alice"), profile("bob"))
        async with RawServer(line) as server, client_of(server) as client:
            await asyncio.gather(*(client.profiles.delete(customer_user_id=f"u{number}") for number in range(5)))
            assert await name_of(client, "bob") == "bob"
            assert server.connections == 6

    async def test_without_retries_it_is_an_error(self) -> None:
        with pytest.raises(InvalidResponseError) as caught:
            await self.ask(
                lambda client: client.profiles.get(customer_user_id="bob"), profile("alice"), retry=RetryPolicy.none()
            )
        assert (caught.value.maybe_executed, caught.value.attempts) == (False, 1)
        assert str(caught.value) == "GET /api/v2/server-side-api/profile/: the response is about another profile"

    @pytest.mark.parametrize(
        "write",
        [
            lambda client: client.profiles.update(NAMED, customer_user_id="bob"),
            lambda client: client.profiles.create(customer_user_id="bob"),
            lambda client: client.profiles.create(profile_id=str(profile_id_of("bob"))),
            lambda client: client.profiles.update(NAMED, profile_id=profile_id_of("bob")),
        ],
    )
    async def test_a_write_is_not_repeated(self, write: Callable[[AdaptyClient], Awaitable[Profile]]) -> None:
        with pytest.raises(InvalidResponseError) as caught:
            await self.ask(write, profile("alice"))
        assert (caught.value.maybe_executed, caught.value.attempts) == (True, 1)
        assert len(self.server.requests) == 2

    async def test_the_connection_is_closed(self) -> None:
        line = Line(answer(204), profile("alice"), answer(204))
        async with RawServer(line) as server, client_of(server) as client:
            await client.profiles.delete(customer_user_id="first")
            with pytest.raises(InvalidResponseError):
                await client.profiles.update(NAMED, customer_user_id="bob")
            await client.profiles.delete(customer_user_id="last")
            assert server.connections == 2

    @pytest.mark.parametrize(
        ("call", "response"),
        [
            (lambda client: client.profiles.get(customer_user_id="bob"), profile(None)),
            (lambda client: client.profiles.get(profile_id=str(profile_id_of("bob")).upper()), profile("bob")),
            (
                lambda client: client.profiles.get(profile_id=profile_id_of("bob")),
                profile("alice", str(profile_id_of("bob"))),
            ),
            (lambda client: client.profiles.get(customer_user_id="Zoë"), profile("Zoë")),
            (lambda client: client.profiles.get(customer_user_id="Zoë"), profile("ZoÃ«")),
        ],
        ids=["null", "another case", "only the one asked for", "beyond ASCII", "taken for Latin-1"],
    )
    async def test_what_says_the_same_or_nothing_is_no_difference(
        self, call: Callable[[AdaptyClient], Awaitable[Profile]], response: bytes
    ) -> None:
        await self.ask(call, response)
        assert len(self.server.requests) == 2

    async def test_a_customer_user_id_in_another_case_is_another(self) -> None:
        await self.ask(lambda client: client.profiles.get(customer_user_id="bob"), profile("Bob"), profile("bob"))
        assert len(self.server.requests) == 3

    async def test_on_a_new_connection_the_response_counts(self) -> None:
        line = Line(profile("robert"))
        async with RawServer(line) as server, client_of(server) as client:
            assert await name_of(client, "bob") == "robert"
            assert len(server.requests) == 1

    async def test_but_where_more_comes_on_it_it_is_another_connections_turn(self) -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(profile("alice"))
            asyncio.get_running_loop().call_later(QUIET_SECONDS / 5, writer.write, profile("bob"))

        async with RawServer(reply, profile("bob")) as server, client_of(server) as client:
            assert await name_of(client, "bob") == "bob"
            assert (len(server.requests), server.connections) == (2, 2)

    async def test_what_is_mocked_is_not_compared(self, mocked: aioresponses) -> None:
        body = json.loads(profile("alice").split(b"\r\n\r\n")[1])
        url = "https://api.adapty.io/api/v2/server-side-api/profile/"
        mocked.get(url, payload=body, repeat=True)
        mocked.patch(url, payload=body)
        async with AdaptyClient(KEY) as client:
            for _ in range(2):
                assert await name_of(client, "bob") == "alice"
            assert (await client.profiles.update(NAMED, customer_user_id="bob")).customer_user_id == "alice"

    async def test_a_request_of_ones_own_is_not_compared(self) -> None:
        request = Request("GET", "/api/v2/server-side-api/profile/", headers={"adapty-customer-user-id": "bob"})
        response = await self.ask(lambda client: client.send(request), profile("alice"))
        assert response.status == 200


async def test_what_a_lender_does_with_its_connections_is_its_own_affair() -> None:
    line = Line(profile("alice"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", profile("bob"))
    server = RawServer(line)
    async with server, aiohttp.ClientSession() as session, client_of(server, session=session) as client:
        await name_of(client, "alice")
        async with session.get(server.base_url) as response:
            assert await name_of(client, "bob") == "bob"
            line.writers[0].write(b"456789")
            assert await response.read() == b"123456789"


async def test_a_close_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapty_async.http.extra_responses.QUIET_SECONDS", 600.0)
    line = Line(profile("robert"))
    async with RawServer(line) as server:
        async with client_of(server) as client:
            call = asyncio.create_task(name_of(client, "bob"))
            while not timers_left():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
        with pytest.raises(AdaptyConnectionError, match="the client was closed"):
            await call
    assert timers_left() == []


@pytest.mark.no_cover  # the same lines run again and again
async def test_no_call_is_given_what_another_asked_for() -> None:
    async with HostileServer(1) as server:
        found = await call(server, 1000)
    assert found.wrong == []
    assert found.results["Profile"] >= 950
    assert len(server.played) > 8
