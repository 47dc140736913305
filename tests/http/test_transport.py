"""One attempt: the request, the response, and the error for each kind of failure."""

import asyncio
import copy
import gzip
import logging
import os
import pickle
import socket
import ssl
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import aiohttp.abc
import pytest
from aioresponses import aioresponses

from adapty_async import (
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    InvalidResponseError,
    Request,
    Response,
)
from adapty_async.http.transport import MAX_BODY_BYTES, Transport
from tests.waiting import PATIENCE

from ..leftovers import tasks_left, timers_left
from ..raw_server import RawServer, Reply, answer, hang_up, reset, silence, then

KEY: Final = "secret_live_abc.DEF123"
ID: Final = "anna@example.com"
GET: Final = Request("GET", "/x", headers={"adapty-customer-user-id": ID})
ANY_METHOD = pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "POST"])
LOST = pytest.mark.parametrize("loss", [reset, hang_up], ids=["reset", "closed"])


async def until(happened: Callable[[], object]) -> None:
    """Wait for something at the other end of a socket."""
    while not happened():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


@asynccontextmanager
async def transport_to(
    base_url: str, *, session: aiohttp.ClientSession | None = None, trust_env: bool = False
) -> AsyncIterator[Transport]:
    transport = Transport(base_url, KEY, session=session, trust_env=trust_env, ssl=None)
    try:
        yield transport
    finally:
        await transport.close()


async def attempt(*script: Reply, request: Request = GET, timeout: float = 5.0) -> Response:  # noqa: ASYNC109 - same signature as the original
    """Make one attempt with a scripted server."""
    async with RawServer(*script) as server, transport_to(server.base_url) as transport:
        return await transport.attempt(request, timeout)


async def failure(*script: Reply, request: Request = GET, timeout: float = 5.0) -> AdaptyError:  # noqa: ASYNC109 - same signature as the original
    with pytest.raises(AdaptyError) as caught:
        await attempt(*script, request=request, timeout=timeout)
    return caught.value


class TestTheRequest:
    async def sent(self, request: Request) -> Any:
        async with RawServer(answer()) as server, transport_to(server.base_url) as transport:
            await transport.attempt(request, 5.0)
        (found,) = server.requests
        return found

    async def test_the_key_goes_with_it(self) -> None:
        assert (await self.sent(GET)).headers["authorization"] == f"Api-Key {KEY}".encode()

    async def test_a_body_goes_as_json_of_its_length(self) -> None:
        found = await self.sent(Request("PATCH", "/x", body={"name": "Zoë"}))
        assert found.body == '{"name":"Zoë"}'.encode()
        assert found.headers["content-type"] == b"application/json"
        assert found.headers["content-length"] == b"15"

    async def test_the_type_of_a_body_may_be_said(self) -> None:
        found = await self.sent(Request("POST", "/x", body=b"<a/>", headers={"Content-type": "text/xml"}))
        assert found.headers["content-type"] == b"text/xml"

    async def test_without_a_body_nothing_is_said_of_one(self) -> None:
        assert not {"content-type", "content-length"} & (await self.sent(GET)).headers.keys()

    async def test_it_carries_no_header_that_nobody_asked_for(self) -> None:
        found = await self.sent(GET)
        assert found.headers.keys() - {"user-agent"} == {
            "host",
            "authorization",
            "adapty-customer-user-id",
            "accept",
            "accept-encoding",
        }

    @pytest.mark.parametrize("value", ["0", "Zoë", "日本", "a b", "🙂@example.com", "a,b;c=d%20"])
    def test_a_headers_value_goes_out_as_its_utf_8(self, value: str) -> None:
        found = asyncio.run(self.sent(Request("GET", "/x", headers={"adapty-customer-user-id": value})))
        assert found.headers["adapty-customer-user-id"] == value.encode()

    async def test_a_query_is_written_into_the_target(self) -> None:
        found = await self.sent(Request("GET", "/x/", query={"a": "1&2 ë", "n": 3}))
        assert found.target == "/x/?a=1%262+%C3%AB&n=3"

    @pytest.mark.parametrize("path", ["/", "//evil.example/x", "/@evil.example", "/a:b", "/%2Fa%zz", "/[", "/ë"])
    async def test_no_path_whatever_leads_to_another_server(self, path: str) -> None:
        found = await self.sent(Request("GET", path))
        assert found.headers["host"].startswith(b"127.0.0.1:")
        assert found.target.startswith("/")

    async def test_a_path_of_the_base_url_comes_first(self) -> None:
        async with RawServer(answer()) as server, transport_to(f"{server.base_url}/proxy") as transport:
            await transport.attempt(GET, 5.0)
        assert server.requests[0].target == "/proxy/x"


class TestTheAnswer:
    async def test_it_is_given_as_it_came(self) -> None:
        response = await attempt(answer(201, b'{"a":1}', {"X-Y": "z"}))
        assert (response.status, response.headers["x-y"], response.body) == (201, "z", b'{"a":1}')

    @pytest.mark.parametrize("status", [204, 400, 404, 429, 500, 503])
    async def test_a_refusal_is_an_answer_too(self, status: int) -> None:
        assert (await attempt(answer(status))).status == status

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @ANY_METHOD
    async def test_a_redirect_is_not_followed(self, status: int, method: str) -> None:
        async with RawServer(answer()) as elsewhere:
            response = await attempt(
                answer(status, headers={"Location": f"{elsewhere.base_url}/y"}), request=Request(method, "/x")
            )
        assert response.status == status
        assert elsewhere.connections == 0

    async def test_a_compressed_body_is_unpacked(self) -> None:
        packed = gzip.compress(b'{"a":1}', mtime=0)
        assert (await attempt(answer(200, packed, {"Content-Encoding": "gzip"}))).body == b'{"a":1}'

    async def test_interim_answers_are_passed_over(self) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        assert (await attempt(then(early, answer(200, b"x")))).body == b"x"

    @pytest.mark.parametrize("lent", [False, True])
    async def test_a_cookie_is_not_kept(self, lent: bool) -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(RawServer(answer(headers={"Set-Cookie": "a=b; Path=/"})))
            lender = await stack.enter_async_context(aiohttp.ClientSession()) if lent else None
            # By host name, because aiohttp doesn't keep cookies of IP addresses.
            base_url = f"http://localhost:{server.port}"
            transport = await stack.enter_async_context(transport_to(base_url, session=lender))
            await transport.attempt(GET, 5.0)
            await transport.attempt(GET, 5.0)
        assert ["cookie" in request.headers for request in server.requests] == [False, False]

    async def test_the_connection_is_used_again(self) -> None:
        script = answer(200, b"x"), answer(404, b"y"), answer(204)
        async with RawServer(*script) as server, transport_to(server.base_url) as transport:
            for _ in range(3):
                await transport.attempt(GET, 5.0)
        assert (len(server.requests), server.connections) == (3, 1)


class TestOneRequestAnAttempt:
    @LOST
    async def test_without_us_aiohttp_sends_a_get_twice(self, loss: Reply) -> None:
        """The reason for the other tests. If this one fails, aiohttp has changed."""
        async with RawServer(loss) as server, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(server.base_url)
        assert len(server.requests) == 2

    @ANY_METHOD
    @LOST
    async def test_a_fresh_connection_that_is_lost(self, method: str, loss: Reply) -> None:
        async with RawServer(loss) as server, transport_to(server.base_url) as transport:
            with pytest.raises(AdaptyConnectionError) as caught:
                await transport.attempt(Request(method, "/x"), 5.0)
        assert caught.value.sent is True
        assert len(server.requests) == 1

    @ANY_METHOD
    @LOST
    async def test_a_kept_connection_that_is_lost(self, method: str, loss: Reply) -> None:
        async with RawServer(answer(200, b"x"), loss) as server, transport_to(server.base_url) as transport:
            await transport.attempt(GET, 5.0)
            with pytest.raises(AdaptyConnectionError) as caught:
                await transport.attempt(Request(method, "/x"), 5.0)
        assert caught.value.sent is True
        assert (len(server.requests), server.connections) == (2, 1)

    @ANY_METHOD
    async def test_a_body_that_was_lost(self, method: str) -> None:
        async with RawServer(reset) as server, transport_to(server.base_url) as transport:
            with pytest.raises(AdaptyConnectionError):
                await transport.attempt(Request(method, "/x", body={"a": "b" * 10_000}), 5.0)
        assert len(server.requests) == 1


class HangingResolver(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


class TestWhatNeverLeft:
    async def unsent(self, base_url: str, *, seconds: float = 0.05, **settings: Any) -> AdaptyError:
        async with transport_to(base_url, **settings) as transport:
            with pytest.raises((AdaptyConnectionError, AdaptyTimeoutError)) as caught:
                await transport.attempt(GET, seconds)
        assert caught.value.sent is False
        assert caught.value.maybe_executed is False
        return caught.value

    async def test_a_connection_that_is_refused(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and doesn't listen
            error = await self.unsent(f"http://127.0.0.1:{taken.getsockname()[1]}", seconds=PATIENCE)
        assert isinstance(error, AdaptyConnectionError)
        assert str(error) == "no connection (ClientConnectorError)"

    async def test_a_host_that_has_no_address(self) -> None:
        class NoAddress(HangingResolver):
            async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
                raise OSError(None, "no such host")

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoAddress())) as session:
            error = await self.unsent("https://api.test", session=session, seconds=PATIENCE)
        assert str(error) == "no connection (ClientConnectorDNSError)"

    async def test_a_name_that_is_not_resolved_in_time(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=HangingResolver())) as session:
            error = await self.unsent("https://api.test", session=session)
        assert isinstance(error, AdaptyTimeoutError)
        assert str(error) == "no connection in time"

    async def test_a_tls_handshake_that_hangs(self) -> None:
        async with RawServer(silence) as server:
            error = await self.unsent(f"https://127.0.0.1:{server.port}")
        assert isinstance(error, AdaptyTimeoutError)

    async def test_a_server_that_speaks_no_tls(self) -> None:
        async def in_plain_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(in_plain_words, "127.0.0.1", 0) as server:
            error = await self.unsent(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert str(error) == "no connection (ClientConnectorSSLError)"

    async def test_a_pool_that_has_no_connection_free_in_time(self) -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(RawServer(silence))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)))
            transport = await stack.enter_async_context(transport_to(server.base_url, session=session))
            first = asyncio.create_task(transport.attempt(GET, 5.0))
            await until(lambda: server.requests)
            with pytest.raises(AdaptyTimeoutError) as caught:
                await transport.attempt(GET, 0.05)
            first.cancel()
        assert caught.value.sent is False
        assert len(server.requests) == 1


class TestWhatMayHaveBeenExecuted:
    async def test_an_answer_that_doesnt_come_in_time(self) -> None:
        error = await failure(silence, timeout=1.0)
        assert isinstance(error, AdaptyTimeoutError)
        assert (error.sent, error.maybe_executed) == (True, True)
        assert str(error) == "no response in time"

    async def test_a_body_that_doesnt_come_in_time(self) -> None:
        error = await failure(then(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", silence), timeout=1.0)
        assert isinstance(error, AdaptyTimeoutError)
        assert error.sent is True

    @LOST
    @pytest.mark.parametrize(
        "part",
        [
            b"HTTP/1.1 200 OK\r\nContent-Len",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n"
            + gzip.compress(b"abc" * 50, mtime=0)[:20],
        ],
    )
    async def test_an_answer_that_is_cut(self, part: bytes, loss: Reply) -> None:
        error = await failure(then(part, loss))
        assert isinstance(error, AdaptyConnectionError)
        assert error.sent is True
        assert str(error) == "the connection was lost before the response was complete"

    @pytest.mark.parametrize(
        "words",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"\r\n\r\n",
        ],
    )
    async def test_an_answer_that_is_no_http(self, words: bytes) -> None:
        error = await failure(then(words, hang_up))
        assert isinstance(error, AdaptyConnectionError)
        assert error.sent is True
        assert str(error) in {"the response isn't HTTP", "the connection was lost before the response was complete"}

    async def test_an_answer_that_is_another_protocols_is_called_so(self) -> None:
        assert str(await failure(then(b"SSH-2.0-OpenSSH_9.6\r\n", hang_up))) == "the response isn't HTTP"


class TestUnreadableAnswers:
    async def test_one_as_large_as_the_bound_is_read(self) -> None:
        assert len((await attempt(answer(200, bytes(MAX_BODY_BYTES)))).body) == MAX_BODY_BYTES

    async def test_one_larger_than_the_bound_is_an_error(self) -> None:
        error = await failure(answer(200, bytes(MAX_BODY_BYTES + 1)))
        assert isinstance(error, InvalidResponseError)
        assert str(error) == "the response is larger than 8388608 bytes"

    async def test_one_without_an_end_is_an_error_as_soon_as_it_is_too_large(self) -> None:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()

        error = await failure(then(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", flood))
        assert isinstance(error, InvalidResponseError)

    async def test_a_bomb_is_an_error_that_costs_little_memory(self) -> None:
        packer = zlib.compressobj(wbits=31)
        megabyte = bytes(1 << 20)
        bomb = b"".join([*(packer.compress(megabyte) for _ in range(128)), packer.flush()])
        tracemalloc.start()
        error = await failure(answer(200, bomb, {"Content-Encoding": "gzip"}))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(error, InvalidResponseError)
        assert peak < 4 * MAX_BODY_BYTES  # of 128 MiB

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_one_that_cant_be_unpacked_is_an_error(self, encoding: str) -> None:
        error = await failure(answer(200, b"this is not packed", {"Content-Encoding": encoding}))
        assert isinstance(error, InvalidResponseError)
        assert str(error) == "the response can't be decompressed"
        assert error.maybe_executed is False

    async def test_after_one_the_next_is_read(self) -> None:
        script = answer(200, bytes(MAX_BODY_BYTES + 1)), answer(200, b"x")
        async with RawServer(*script) as server, transport_to(server.base_url) as transport:
            with pytest.raises(InvalidResponseError):
                await transport.attempt(GET, 5.0)
            assert (await transport.attempt(GET, 5.0)).body == b"x"


class TestARefusalWhoseBodyFails:
    """The status is enough."""

    @pytest.mark.parametrize(
        "reply",
        [
            then(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nabc", hang_up),
            then(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nabc", reset),
            answer(503, b"this is not packed", {"Retry-After": "7", "Content-Encoding": "gzip"}),
            answer(503, bytes(MAX_BODY_BYTES + 1), {"Retry-After": "7"}),
        ],
        ids=["closed", "reset", "not packed", "too large"],
    )
    async def test_is_told_by_its_status_and_headers(self, reply: Reply) -> None:
        response = await attempt(reply)
        assert (response.status, response.headers["retry-after"], response.body) == (503, "7", b"")

    async def test_without_an_end_it_keeps_the_caller_no_longer_than_the_timeout(self) -> None:
        async with asyncio.timeout(PATIENCE):
            response = await attempt(then(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nabc", silence), timeout=1.0)
        assert response.status == 404


class TestTimeouts:
    @pytest.mark.parametrize("seconds", [0.02, 0.1])
    async def test_a_short_one_is_kept(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        async with RawServer(silence) as server, transport_to(server.base_url) as transport:
            began = loop.time()
            with pytest.raises(AdaptyTimeoutError):
                await transport.attempt(GET, seconds)
            assert seconds <= loop.time() - began < PATIENCE  # tests in virtual time check the exact time

    @pytest.mark.parametrize("seconds", [4.7, 5.3, 30.4])
    @pytest.mark.parametrize("reply", [silence, then(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", silence)])
    async def test_a_long_one_is_not_rounded(self, seconds: float, reply: Reply) -> None:
        loop = asyncio.get_running_loop()
        async with RawServer(reply) as server, transport_to(server.base_url) as transport:
            began = loop.time()
            call = asyncio.create_task(transport.attempt(GET, seconds))
            await until(lambda: server.requests)
            await asyncio.sleep(0.005)
            (end,) = {timer.when() - began for timer in timers_left()}
            started_by = loop.time() - began
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert seconds <= end <= started_by + seconds + 0.05


class TestCancelling:
    async def cancel(self, transport: Transport, started: Callable[[], bool], request: Request = GET) -> None:
        """Cancel an attempt when it has come this far. It must end at once and leave nothing behind."""
        call = asyncio.create_task(transport.attempt(request, 30.0))
        await until(started)
        await asyncio.sleep(0.005)
        call.cancel()
        await asyncio.wait([call], timeout=PATIENCE)
        assert call.cancelled()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (tasks_left(), timers_left()) == ([], [])

    async def test_while_it_connects(self) -> None:
        async with RawServer(silence) as server, transport_to(f"https://127.0.0.1:{server.port}") as transport:
            await self.cancel(transport, lambda: server.connections == 1)

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    async def test_while_it_sends(self) -> None:
        request = Request("POST", "/x", body=bytes(64 << 20))
        connected: list[asyncio.StreamWriter] = []

        async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.append(writer)
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - it belongs to a socket

        async with await asyncio.start_server(read_nothing, "127.0.0.1", 0) as server:
            async with transport_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
                await self.cancel(transport, lambda: bool(connected), request)
            for writer in connected:
                writer.transport.abort()

    async def test_while_it_waits_for_the_answer(self) -> None:
        async with RawServer(silence) as server, transport_to(server.base_url) as transport:
            await self.cancel(transport, lambda: bool(server.requests))

    async def test_while_it_reads_the_body(self) -> None:
        reply = then(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", silence)
        async with RawServer(reply) as server, transport_to(server.base_url) as transport:
            await self.cancel(transport, lambda: bool(server.requests))

    async def test_afterwards_others_are_answered(self) -> None:
        async with RawServer(silence, answer(200, b"x")) as server, transport_to(server.base_url) as transport:
            await self.cancel(transport, lambda: bool(server.requests))
            assert (await transport.attempt(GET, 5.0)).body == b"x"


class TestABorrowedSession:
    async def test_nothing_of_it_reaches_the_request_but_its_connections_and_traces(self) -> None:
        seen: list[str] = []

        async def spy(_session: object, _context: object, params: aiohttp.TraceRequestStartParams) -> None:
            seen.append(params.method)

        async def meddle(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            request.headers["X-Meddled"] = "1"
            return await handler(request)

        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(spy)
        lender = aiohttp.ClientSession(
            "http://elsewhere.test",
            headers={"Authorization": "Basic abc", "X-Lender": "1", "Accept": "text/html"},
            cookies={"a": "b"},
            middlewares=[meddle],
            raise_for_status=True,
            trace_configs=[trace],
            timeout=aiohttp.ClientTimeout(total=1e-9),
            auto_decompress=False,
        )
        async with (
            RawServer(answer(404, gzip.compress(b"no"), {"Content-Encoding": "gzip", "Set-Cookie": "c=d"})) as server,
            lender,
        ):
            async with transport_to(server.base_url, session=lender) as transport:
                response = await transport.attempt(GET, 5.0)
                await transport.attempt(GET, 5.0)
            assert not lender.closed
            assert [cookie.key for cookie in lender.cookie_jar] == ["a"]
        assert (response.status, response.body) == (404, b"no")
        for request in server.requests:
            assert request.headers["authorization"] == f"Api-Key {KEY}".encode()
            assert request.headers["accept"] == b"*/*"
            assert not request.headers.keys() & {"x-lender", "x-meddled", "cookie"}
        assert seen == ["GET", "GET"]
        assert server.connections == 1

    async def test_it_stays_open_and_usable(self) -> None:
        async with RawServer(answer(200, b"x")) as server, aiohttp.ClientSession() as lender:
            async with transport_to(server.base_url, session=lender) as transport:
                await transport.attempt(GET, 5.0)
            async with lender.get(server.base_url) as response:
                assert await response.read() == b"x"
        assert server.connections == 1

    async def test_one_with_an_auth_of_its_own_doesnt_break_the_call(self) -> None:
        with pytest.warns(DeprecationWarning, match="auth"):
            lender = aiohttp.ClientSession(auth=aiohttp.BasicAuth("a", "b"))
        async with RawServer(answer()) as server, lender, transport_to(server.base_url, session=lender) as transport:
            await transport.attempt(GET, 5.0)
        assert server.requests[0].headers["authorization"] == f"Api-Key {KEY}".encode()

    async def test_one_that_is_closed_already_is_told(self) -> None:
        lender = aiohttp.ClientSession()
        await lender.close()
        client = AdaptyClient(KEY, base_url="http://127.0.0.1:1", session=lender)
        with pytest.raises(RuntimeError, match="the session given to the client is closed"):
            await client.send(GET)

    async def test_one_that_is_closed_under_way_is_told(self) -> None:
        lender = aiohttp.ClientSession()
        async with RawServer(answer()) as server, AdaptyClient(KEY, base_url=server.base_url, session=lender) as client:
            await client.send(GET)
            await lender.close()
            with pytest.raises(RuntimeError, match="the session given to the client is closed"):
                await client.send(GET)

    def test_one_of_another_loop_is_told(self) -> None:
        async def use(lender: aiohttp.ClientSession) -> None:
            async with transport_to("http://127.0.0.1:1", session=lender) as transport:
                with pytest.raises(RuntimeError, match="the session given to the client belongs to another event loop"):
                    await transport.attempt(GET, 5.0)

        async def lend() -> None:
            async with aiohttp.ClientSession() as lender:
                await asyncio.to_thread(asyncio.run, use(lender))

        asyncio.run(lend())

    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            ({}, 100),
            ({"limit": 7}, 7),
            ({"limit": 0}, float("inf")),
            ({"limit": 0, "limit_per_host": 3}, 3),
            ({"limit": 2, "limit_per_host": 3}, 2),
        ],
    )
    async def test_its_limit_of_connections_is_told(self, limits: dict[str, Any], limit: float) -> None:
        lender = aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits))
        async with lender, transport_to("http://127.0.0.1:1", session=lender) as transport:
            assert transport.connection_limit == limit

    async def test_the_own_pool_has_no_limit(self) -> None:
        async with transport_to("http://127.0.0.1:1") as transport:
            assert transport.connection_limit == float("inf")
        async with RawServer(silence) as server, transport_to(server.base_url) as transport:
            calls = [asyncio.create_task(transport.attempt(GET, 30.0)) for _ in range(150)]
            await until(lambda: len(server.requests) == 150)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


class TestTheEnvironment:
    @pytest.fixture(autouse=True)
    def netrc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "netrc").write_text(
            "machine 127.0.0.1 login ann password secret\ndefault login bob password secret\n"
        )
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)

    @pytest.mark.parametrize("trust_env", [True, False])
    async def test_a_netrc_for_the_host_doesnt_replace_the_key(self, trust_env: bool) -> None:
        async with RawServer(answer()) as server, transport_to(server.base_url, trust_env=trust_env) as transport:
            await transport.attempt(GET, 5.0)
        assert server.requests[0].headers["authorization"] == f"Api-Key {KEY}".encode()

    async def test_nor_where_a_borrowed_session_trusts_it(self) -> None:
        lender = aiohttp.ClientSession(trust_env=True)
        async with RawServer(answer()) as server, lender, transport_to(server.base_url, session=lender) as transport:
            await transport.attempt(GET, 5.0)
        assert server.requests[0].headers["authorization"] == f"Api-Key {KEY}".encode()

    @pytest.mark.parametrize(("trust_env", "asked"), [(True, 1), (False, 0)])
    async def test_a_proxy_is_used_only_where_it_is_trusted(
        self, trust_env: bool, asked: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with RawServer(answer()) as proxy, RawServer(answer()) as server:
            monkeypatch.setenv("http_proxy", proxy.base_url)
            async with transport_to(server.base_url, trust_env=trust_env) as transport:
                await transport.attempt(GET, 5.0)
            assert len(proxy.requests) == asked
            assert len(server.requests) == 1 - asked

    async def test_a_proxy_that_refuses_means_that_nothing_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with RawServer(answer(407)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.base_url)
            async with transport_to("https://127.0.0.1:1", trust_env=True) as transport:
                with pytest.raises(AdaptyConnectionError) as caught:
                    await transport.attempt(GET, 5.0)
        assert caught.value.sent is False
        assert str(caught.value) == "no connection (ClientHttpProxyError)"


class TestLifetime:
    async def test_after_close_it_says_so(self) -> None:
        async with RawServer(answer()) as server:
            async with transport_to(server.base_url) as transport:
                await transport.attempt(GET, 5.0)
            with pytest.raises(RuntimeError, match="the client is closed: create a new AdaptyClient"):
                transport.check_usable()
            with pytest.raises(
                AdaptyConnectionError, match="the client was closed"
            ) as caught:  # in a call that is still running
                await transport.attempt(GET, 5.0)
            assert caught.value.sent is False
            await transport.close()
        assert len(server.requests) == 1

    async def test_one_that_was_never_used_is_closed_harmlessly(self) -> None:
        transport = Transport("http://127.0.0.1:1", KEY, session=None, trust_env=False, ssl=None)
        await transport.close()
        await transport.close()

    def test_on_another_loop_it_says_so(self) -> None:
        transport = Transport("http://127.0.0.1:1", KEY, session=None, trust_env=False, ssl=None)

        async def use() -> None:
            transport.check_usable()

        asyncio.run(use())
        with pytest.raises(RuntimeError, match="belongs to another event loop: create one AdaptyClient per loop"):
            asyncio.run(use())
        asyncio.run(transport.close())

    async def test_it_closes_its_connections(self) -> None:
        async with RawServer(then(answer(), silence)) as server, transport_to(server.base_url) as transport:
            await transport.attempt(GET, 5.0)
            await transport.close()
            for _ in range(100):
                await asyncio.sleep(0.001)
        assert (tasks_left(), timers_left()) == ([], [])

    @pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy])
    def test_it_is_not_pickled_for_it_holds_the_key(self, duplicate: Callable[[object], object]) -> None:
        transport = Transport("http://127.0.0.1:1", KEY, session=None, trust_env=False, ssl=None)
        with pytest.raises(TypeError, match="create it where it is used"):
            duplicate(transport)

    def test_its_repr_doesnt_show_the_key(self) -> None:
        assert KEY not in repr(Transport("http://127.0.0.1:1", KEY, session=None, trust_env=False, ssl=None))


ECHO = f"HTTP/1.1 {KEY} {ID}\r\nX: {KEY} {ID}\r\n\r\n".encode()


class TestSecrets:
    @pytest.mark.parametrize(
        "reply",
        [
            reset,
            hang_up,
            silence,
            then(ECHO, hang_up),
            then(f"{KEY} {ID}".encode(), hang_up),
            then(f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{KEY} {ID}".encode(), reset),
            answer(200, f"{KEY} {ID}".encode(), {"Content-Encoding": "gzip", "X": f"{KEY} {ID}"}),
            answer(200, ID.encode() * (MAX_BODY_BYTES // 10), {"X": f"{KEY} {ID}"}),
        ],
        ids=["reset", "closed", "silent", "no status", "no HTTP", "cut", "not packed", "too large"],
    )
    async def test_none_stands_in_a_failure_or_a_log(self, reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        asyncio.get_running_loop().set_debug(True)
        error = await failure(reply, request=Request("DELETE", "/x", headers={"id": ID}, body={"id": ID}), timeout=0.05)
        assert (error.__cause__, error.__context__) == (None, None)
        shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error), caplog.text]
        shown += [repr(vars(record)) for record in caplog.records]
        # Error reporters show local variables, so search those of our frames.
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown += [str(frame.locals) for frame in frames if "adapty_async" in frame.filename]
        for secret in (KEY, ID):
            assert secret not in "".join(shown)
            assert secret.encode() not in pickle.dumps(error)


class TestWithoutASocket:
    """The table of errors, with responses in place of aiohttp."""

    @pytest.fixture
    async def transport(self) -> AsyncIterator[Transport]:
        async with transport_to("https://api.test") as transport:
            yield transport

    async def test_the_shim_for_aioresponses_is_still_needed(self) -> None:
        """If this fails, aioresponses passes the stream writer: remove the shim from conftest.py."""
        with aioresponses() as answers:
            answers.get("https://api.test/x")
            async with aiohttp.ClientSession() as session:
                with pytest.raises(TypeError, match="stream_writer"):
                    await session.get("https://api.test/x")

    @pytest.mark.parametrize(
        ("caught", "kind", "sent"),
        [
            (aiohttp.ClientConnectorError(None, OSError(111, KEY)), AdaptyConnectionError, False),  # type: ignore[arg-type]
            (aiohttp.ClientConnectorDNSError(None, OSError(111, KEY)), AdaptyConnectionError, False),  # type: ignore[arg-type]
            (aiohttp.ClientConnectorSSLError(None, OSError(111, KEY)), AdaptyConnectionError, False),
            (aiohttp.ClientProxyConnectionError(None, OSError(111, KEY)), AdaptyConnectionError, False),  # type: ignore[arg-type]
            (aiohttp.ConnectionTimeoutError(KEY), AdaptyTimeoutError, False),
            (aiohttp.SocketTimeoutError(KEY), AdaptyTimeoutError, True),
            (aiohttp.ServerTimeoutError(KEY), AdaptyTimeoutError, True),
            (TimeoutError(KEY), AdaptyTimeoutError, True),
            (aiohttp.ServerDisconnectedError(KEY), AdaptyConnectionError, True),
            (aiohttp.ClientOSError(104, KEY), AdaptyConnectionError, True),
            (aiohttp.ClientConnectionResetError(KEY), AdaptyConnectionError, True),
            (aiohttp.ClientPayloadError(KEY), AdaptyConnectionError, True),
            (aiohttp.ClientResponseError(None, (), status=400, message=KEY), AdaptyConnectionError, True),  # type: ignore[arg-type]
            (ConnectionResetError(104, KEY), AdaptyConnectionError, True),
            (ssl.SSLError(1, KEY), AdaptyConnectionError, True),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    async def test_a_failure_is_called_by_what_it_means(
        self, caught: Exception, kind: type[AdaptyError], sent: bool, mocked: aioresponses, transport: Transport
    ) -> None:
        mocked.get("https://api.test/x", exception=caught)
        with pytest.raises(kind) as found:
            await transport.attempt(GET, 5.0)
        assert found.value.sent is sent  # type: ignore[attr-defined]
        assert (found.value.__cause__, found.value.__context__) == (None, None)
        assert KEY not in f"{found.value} {found.value!r}"

    async def test_an_answer_is_given(self, mocked: aioresponses, transport: Transport) -> None:
        mocked.get("https://api.test/x", status=404, body=b"no", headers={"X-Y": "z"})
        response = await transport.attempt(GET, 5.0)
        assert (response.status, response.body, response.headers["x-y"]) == (404, b"no", "z")

    async def test_what_is_no_failure_of_the_attempt_passes(self, mocked: aioresponses, transport: Transport) -> None:
        mocked.get("https://api.test/x", exception=ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await transport.attempt(GET, 5.0)
