"""The client from a user's point of view: calls, retries, waits and errors."""

import asyncio
import copy
import inspect
import json
import logging
import pickle
import random
import ssl
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import attrs
import pytest

from adapty_async import (
    UNPACED,
    UNSET,
    AdaptivePacer,
    AdaptyAPIError,
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    FixedPacer,
    InvalidResponseError,
    LocalRateLimitError,
    ProfileAttributes,
    ProfileNotFoundError,
    RateLimitError,
    Request,
    Response,
    RetryPolicy,
    ServerError,
)
from adapty_async.client import get_sender
from adapty_async.http import sender
from adapty_async.http.transport import Transport
from adapty_async.testing import Fault, Simulator

from .leftovers import tasks_left, timers_left
from .raw_server import RawServer, Reply, answer, hang_up, reset, silence, then
from .virtual_time import run_virtual, virtual, virtual_loop

KEY: Final = "secret_live_abc.DEF123"
ID: Final = "anna@example.com"
PROFILE_ID: Final = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
PROFILE: Final = {"data": {"app_id": "14c3d623-2f3a-455a-aa86-ef83dff6913b", "profile_id": PROFILE_ID}}
FAST: Final = RetryPolicy(initial_backoff=0.001)
NAMED: Final = ProfileAttributes(first_name="Ann")

Call = Callable[[AdaptyClient], Awaitable[object]]


def refusal(status: int, code: str | None = None, **headers: str) -> bytes:
    """Write an error like the API."""
    body = {"errors": [{"source": "x", "errors": ["No."]}], "error_code": code, "status_code": status}
    return answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@asynccontextmanager
async def client_of(server: RawServer, **settings: Any) -> AsyncIterator[AdaptyClient]:
    defaults: dict[str, Any] = {"timeout": 5.0, "retry": FAST}
    async with AdaptyClient(KEY, base_url=server.base_url, **defaults | settings) as client:
        yield client


class ScriptedTransport(Transport):
    """Respond from a script at once. The last response is repeated."""

    def __init__(self, *script: Response | AdaptyError | Callable[[], Awaitable[Response]]) -> None:
        super().__init__("https://api.test", KEY, session=None, trust_env=False, ssl=None)
        self.script = list(script)
        self.sent_at: list[float] = []

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        self.sent_at.append(asyncio.get_running_loop().time())
        end = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(end, AdaptyError):
            raise copy.copy(end)
        return end if isinstance(end, Response) else await end()


def scripted(*script: Any, **settings: Any) -> tuple[AdaptyClient, ScriptedTransport]:
    """Create a client with a scripted server, for virtual time."""
    transport = ScriptedTransport(*script)
    client = AdaptyClient(KEY, **settings)
    get_sender(client).transport = transport
    return client, transport


class _Lowest(random.Random):
    def random(self) -> float:
        return 0.0


def taking(seconds: float, end: Response) -> Callable[[], Awaitable[Response]]:
    async def arrive() -> Response:
        await asyncio.sleep(seconds)
        return end

    return arrive


OK: Final = Response(200, body=json.dumps(PROFILE).encode())
GET: Final = Request("GET", "/x")


async def until(happened: Callable[[], object]) -> None:
    """Wait for something at the other end of a socket."""
    while not happened():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


async def get(client: AdaptyClient) -> object:
    return await client.profiles.get(customer_user_id=ID)


async def delete(client: AdaptyClient) -> object:
    return await client.profiles.delete(customer_user_id=ID)


class TestAgainstTheSimulator:
    async def test_a_profile_is_created_read_changed_and_deleted(
        self, client: AdaptyClient, simulator: Simulator
    ) -> None:
        created = await client.profiles.create(NAMED, customer_user_id="u1", platform="iOS")
        assert created.customer_user_id == "u1"

        read = await client.profiles.get(profile_id=created.profile_id)
        assert read.customer_user_id == "u1"

        await client.profiles.update(ProfileAttributes(custom_attributes={"height": 180}), customer_user_id="u1")
        changed = await client.profiles.get(customer_user_id="u1")
        assert changed.custom_attributes == {"height": 180.0}

        assert await client.profiles.delete(customer_user_id="u1") is True
        assert len(simulator.profiles) == 0

    async def test_both_ids_link_them(self, client: AdaptyClient, simulator: Simulator) -> None:
        anonymous = simulator.add_profile()
        linked = await client.profiles.create(customer_user_id="u1", profile_id=anonymous.profile_id)
        assert (str(linked.profile_id), linked.customer_user_id) == (anonymous.profile_id, "u1")

    async def test_a_profile_that_is_missing_is_told(self, client: AdaptyClient) -> None:
        for call in (
            client.profiles.get(customer_user_id="u1"),
            client.profiles.update(NAMED, customer_user_id="u1"),
            client.profiles.delete(profile_id=PROFILE_ID),
        ):
            with pytest.raises(ProfileNotFoundError) as caught:
                await call
            assert (caught.value.status, caught.value.code) == (404, "profile_does_not_exist")
            assert (caught.value.attempts, caught.value.maybe_executed) == (1, False)
        assert await client.profiles.delete(customer_user_id="u1", missing_ok=True) is False

    async def test_a_wrong_key_is_told(self, simulator: Simulator) -> None:
        async with AdaptyClient("secret_live_wrong", base_url=simulator.base_url) as client:
            with pytest.raises(AuthenticationError):
                await get(client)
        assert simulator.stats.requests == 1

    @pytest.mark.parametrize("customer_user_id", ["0", "Zoë", "日本", "🙂", "a b", "%40", "-1"])
    async def test_every_id_names_its_own_profile(self, customer_user_id: str) -> None:
        async with Simulator() as simulator:
            simulator.add_profile(customer_user_id=customer_user_id)
            async with AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
                read = await client.profiles.get(customer_user_id=customer_user_id)
        assert read.customer_user_id == customer_user_id

    async def delete_all(self, simulator: Simulator, retry: RetryPolicy) -> list[bool]:
        ids = list(simulator.profiles.customer_user_ids)
        async with AdaptyClient(simulator.api_key, base_url=simulator.base_url, retry=retry) as client:
            return await asyncio.gather(*(client.profiles.delete(customer_user_id=one) for one in ids))

    async def test_a_limit_is_overcome(self) -> None:
        async with Simulator(profiles=30, rate=200.0, burst=2, retry_after=0.01) as limited:
            deleted = await self.delete_all(limited, RetryPolicy(max_attempts=100))
        assert deleted == [True] * 30
        assert limited.stats.count_responses(429) > 0
        assert len(limited.profiles) == 0

    async def test_faults_are_overcome(self) -> None:
        async with Simulator(profiles=50, fault_rates={Fault.UNAVAILABLE: 0.3, Fault.RESET_AFTER: 0.2}) as faulty:
            deleted = await self.delete_all(faulty, RetryPolicy(max_attempts=30, initial_backoff=0.001))
        assert deleted == [True] * 50
        assert len(faulty.profiles) == 0


class TestTheRequestOfACall:
    async def sent(self, call: Call) -> Any:
        async with RawServer(answer(200, PROFILE)) as server, client_of(server) as client:
            await call(client)
        (found,) = server.requests
        return found

    async def test_get(self) -> None:
        found = await self.sent(get)
        assert (found.method, found.target, found.body) == ("GET", "/api/v2/server-side-api/profile/", b"")
        assert found.headers["adapty-customer-user-id"] == ID.encode()
        assert "adapty-profile-id" not in found.headers

    async def test_delete(self) -> None:
        found = await self.sent(delete)
        assert (found.method, found.body) == ("DELETE", b"")

    @pytest.mark.parametrize("profile_id", [PROFILE_ID, UUID(PROFILE_ID), PROFILE_ID.upper()])
    async def test_a_profile_id_may_be_a_str_or_a_uuid(self, profile_id: str | UUID) -> None:
        found = await self.sent(lambda client: client.profiles.get(profile_id=profile_id))
        assert found.headers["adapty-profile-id"] == str(profile_id).encode()
        assert "adapty-customer-user-id" not in found.headers

    async def test_create_sends_nothing_that_was_not_set(self) -> None:
        found = await self.sent(lambda client: client.profiles.create(customer_user_id=ID))
        assert (found.method, found.body) == ("POST", b"{}")
        assert "adapty-platform" not in found.headers

    async def test_create_sends_both_ids_the_platform_and_what_is_set(self) -> None:
        found = await self.sent(
            lambda client: client.profiles.create(NAMED, customer_user_id=ID, profile_id=PROFILE_ID, platform="iOS")
        )
        assert json.loads(found.body) == {"first_name": "Ann"}
        assert found.headers["adapty-customer-user-id"] == ID.encode()
        assert found.headers["adapty-profile-id"] == PROFILE_ID.encode()
        assert found.headers["adapty-platform"] == b"iOS"

    async def test_update_sends_what_is_set_and_null_for_none(self) -> None:
        attributes = ProfileAttributes(first_name="Ann", last_name=None, gender=UNSET)
        found = await self.sent(
            lambda client: client.profiles.update(attributes, customer_user_id=ID, platform="Android")
        )
        assert found.method == "PATCH"
        assert json.loads(found.body) == {"first_name": "Ann", "last_name": None}
        assert found.headers["adapty-platform"] == b"Android"

    async def test_send_sends_any_other_call_with_the_key(self) -> None:
        request = Request("PUT", "/api/v2/x/", query={"limit": 10}, headers={"x-a": "1"}, body=[1])
        async with RawServer(answer(201, {"b": 2}, {"X-B": "c"})) as server, client_of(server) as client:
            response = await client.send(request)
        assert (response.status, response.headers["x-b"], response.json()) == (201, "c", {"b": 2})
        (found,) = server.requests
        assert (found.method, found.target, found.body) == ("PUT", "/api/v2/x/?limit=10", b"[1]")
        assert found.headers["x-a"] == b"1"
        assert found.headers["authorization"] == f"Api-Key {KEY}".encode()


class TestWrongUse:
    """Invalid arguments are refused before anything is sent, with a message that doesn't contain the value."""

    @pytest.fixture
    def client(self) -> AdaptyClient:
        return scripted(AssertionError("sent"))[0]

    @pytest.mark.parametrize(
        "call",
        [
            lambda profiles, ids: profiles.get(**ids),
            lambda profiles, ids: profiles.delete(**ids),
            lambda profiles, ids: profiles.create(**ids),
            lambda profiles, ids: profiles.update(NAMED, **ids),
        ],
        ids=["get", "delete", "create", "update"],
    )
    @pytest.mark.parametrize(
        ("ids", "error", "words"),
        [
            ({}, ValueError, "pass exactly one of|pass customer_user_id, profile_id, or both"),
            ({"customer_user_id": ""}, ValueError, "customer_user_id is empty"),
            ({"customer_user_id": f"{ID}\n"}, ValueError, "customer_user_id contains a control character"),
            ({"customer_user_id": f" {ID}"}, ValueError, "customer_user_id has leading or trailing white space"),
            ({"customer_user_id": f"{ID}\ud800"}, ValueError, "customer_user_id contains a lone surrogate"),
            ({"customer_user_id": 7}, TypeError, "customer_user_id must be a str, not int"),
            ({"profile_id": ID}, ValueError, "profile_id isn't a UUID: pass an ID of your own system as customer_user"),
            ({"profile_id": ""}, ValueError, "profile_id isn't a UUID"),
            ({"profile_id": f"{PROFILE_ID}\n"}, ValueError, "profile_id isn't a UUID"),
            ({"profile_id": 7}, TypeError, "profile_id must be a str or a UUID, not int"),
        ],
    )
    async def test_an_id_that_names_nobody(
        self, client: AdaptyClient, call: Any, ids: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words) as caught:
            await call(client.profiles, ids)
        assert ID not in str(caught.value)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)

    @pytest.mark.parametrize("call", ["get", "delete"])
    async def test_two_ids_where_one_is_meant(self, client: AdaptyClient, call: str) -> None:
        with pytest.raises(ValueError, match="exactly one of customer_user_id and profile_id"):
            await getattr(client.profiles, call)(customer_user_id=ID, profile_id=PROFILE_ID)
        with pytest.raises(ValueError, match="exactly one of customer_user_id and profile_id"):
            await client.profiles.update(NAMED, customer_user_id=ID, profile_id=PROFILE_ID)

    async def test_an_update_of_nothing(self, client: AdaptyClient) -> None:
        with pytest.raises(ValueError, match="nothing to update: no attribute is set"):
            await client.profiles.update(ProfileAttributes(), customer_user_id=ID)

    async def test_attributes_that_are_none(self, client: AdaptyClient) -> None:
        attributes: Any = {"first_name": "Ann"}
        with pytest.raises(TypeError, match="attributes must be ProfileAttributes, not dict"):
            await client.profiles.update(attributes, customer_user_id=ID)
        with pytest.raises(TypeError, match="attributes must be ProfileAttributes, not dict"):
            await client.profiles.create(attributes, customer_user_id=ID)

    async def test_a_platform_that_there_is_not(self, client: AdaptyClient) -> None:
        platform: Any = "ios"
        with pytest.raises(ValueError, match="platform must be one of Android, iOS, iPadOS, macOS, visionOS, web"):
            await client.profiles.create(customer_user_id=ID, platform=platform)
        with pytest.raises(ValueError, match="platform must be one of"):
            await client.profiles.update(NAMED, customer_user_id=ID, platform=platform)

    async def test_ids_are_keyword_only(self) -> None:
        for name in ("get", "create", "update", "delete"):
            parameters = inspect.signature(getattr(AdaptyClient(KEY).profiles, name)).parameters
            assert parameters["customer_user_id"].kind is inspect.Parameter.KEYWORD_ONLY
            assert parameters["profile_id"].kind is inspect.Parameter.KEYWORD_ONLY


GET_COLUMN: Final = {"get": get}
UPDATE_AND_DELETE: Final[dict[str, Call]] = {
    "update": lambda client: client.profiles.update(NAMED, customer_user_id=ID),
    "delete": delete,
}
CREATE: Final[dict[str, Call]] = {
    "create": lambda client: client.profiles.create(customer_user_id=ID),
    "create, linking": lambda client: client.profiles.create(customer_user_id=ID, profile_id=PROFILE_ID),
    "post, idempotent": lambda client: client.send(Request("POST", "/x", idempotent=True)),
}
OTHER_POST: Final[dict[str, Call]] = {
    "create by profile id": lambda client: client.profiles.create(profile_id=PROFILE_ID),
    "post": lambda client: client.send(Request("POST", "/x", body={})),
}
SAFE: Final = GET_COLUMN | UPDATE_AND_DELETE | CREATE
EVERY: Final = SAFE | OTHER_POST

NOT_DONE: Final[dict[str, Reply]] = {
    "429": refusal(429),
    "429 with retry-after": refusal(429, "rate_limited", retry_after="0.01"),
    "503 with retry-after": refusal(503, retry_after="0.01"),
}
TRANSIENT: Final[dict[str, Reply]] = {str(status): refusal(status) for status in (408, 500, 502, 503, 504)}
UNKNOWN: Final[dict[str, Reply]] = {
    "reset": reset,
    "closed": hang_up,
    "cut body": then(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", hang_up),
    "timeout": silence,
}
FINAL: Final[dict[str, Reply]] = {
    **{str(status): refusal(status) for status in (301, 308, 400, 401, 402, 403, 404, 405, 409, 410, 422)},
    "no profile by code": refusal(400, "profile_does_not_exist"),
}


def cells(columns: dict[str, Call], rows: dict[str, Reply]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("call", "reply"),
        [
            pytest.param(call, reply, id=f"{column}-{row}")
            for column, call in columns.items()
            for row, reply in rows.items()
        ],
    )


class TestTheRetryTable:
    """The table of retries, cell by cell, over a socket, with the requests counted."""

    async def requests_of(self, call: Call, reply: Reply) -> tuple[int, AdaptyError | None]:
        seconds = 0.2 if reply is silence else 5.0
        async with RawServer(reply, answer(200, PROFILE)) as server, client_of(server, timeout=seconds) as client:
            (end,) = await asyncio.gather(call(client), return_exceptions=True)
        if not isinstance(end, BaseException):
            return len(server.requests), None
        if not isinstance(end, AdaptyError):
            raise end
        assert (end.__cause__, end.__context__) == (None, None)
        return len(server.requests), end

    @cells(EVERY, NOT_DONE)
    async def test_what_was_not_done_is_sent_again(self, call: Call, reply: Reply) -> None:
        assert await self.requests_of(call, reply) == (2, None)

    @cells(SAFE, TRANSIENT | UNKNOWN)
    async def test_what_may_have_been_done_is_sent_again_where_that_is_safe(self, call: Call, reply: Reply) -> None:
        assert await self.requests_of(call, reply) == (2, None)

    @cells(OTHER_POST, TRANSIENT | UNKNOWN)
    async def test_and_not_where_it_isnt(self, call: Call, reply: Reply) -> None:
        requests, error = await self.requests_of(call, reply)
        assert requests == 1
        assert error is not None
        assert (error.attempts, error.maybe_executed) == (1, True)

    @cells(EVERY, FINAL)
    async def test_what_is_refused_for_good_is_not_sent_again(self, call: Call, reply: Reply) -> None:
        requests, error = await self.requests_of(call, reply)
        assert requests == 1
        assert isinstance(error, AdaptyAPIError)
        assert (error.attempts, error.maybe_executed) == (1, False)

    @pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
    async def test_nor_what_the_server_doesnt_know(self, call: Call) -> None:
        requests, error = await self.requests_of(call, refusal(501))
        assert requests == 1
        assert isinstance(error, ServerError)

    @cells(
        {name: call for name, call in EVERY.items() if "post" not in name and name != "delete"},
        {"no JSON": answer(200, b"<html>"), "another shape": answer(200, {"data": []}), "nothing": answer(204)},
    )
    async def test_a_2xx_that_cant_be_read_is_not_sent_again(self, call: Call, reply: Reply) -> None:
        requests, error = await self.requests_of(call, reply)
        assert requests == 1
        assert isinstance(error, InvalidResponseError)

    @pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
    @pytest.mark.parametrize("error", [AdaptyConnectionError(sent=False), AdaptyTimeoutError(sent=False)], ids=repr)
    async def test_what_never_left_is_sent_again(self, call: Call, error: AdaptyError) -> None:
        client, transport = scripted(error, OK, retry=FAST)
        await call(client)
        assert len(transport.sent_at) == 2

    @pytest.mark.parametrize("attempts", [1, 2, 3, 4])
    async def test_the_attempts_of_a_policy_are_the_most(self, attempts: int) -> None:
        policy = attrs.evolve(FAST, max_attempts=attempts)
        async with RawServer(refusal(503)) as server, client_of(server, retry=policy) as client:
            with pytest.raises(ServerError) as caught:
                await get(client)
        assert len(server.requests) == caught.value.attempts == attempts

    async def test_without_retries_the_first_error_is_the_last(self) -> None:
        reply = refusal(429, retry_after="0.01")
        async with RawServer(reply) as server, client_of(server, retry=RetryPolicy.none()) as client:
            with pytest.raises(RateLimitError) as caught:
                await get(client)
        assert (len(server.requests), caught.value.attempts) == (1, 1)

    async def test_calls_at_the_same_time_count_their_own_attempts(self) -> None:
        async def one(number: int) -> int:
            client, transport = scripted(
                *[Response(503)] * number, OK, retry=RetryPolicy(max_attempts=20, initial_backoff=0.001)
            )
            await get(client)
            return len(transport.sent_at)

        assert await asyncio.gather(*(one(number) for number in range(10))) == list(range(1, 11))


class TestWhatAnErrorSays:
    async def test_an_error_after_several_attempts_tells_them(self) -> None:
        client, _ = scripted(Response(503), AdaptyTimeoutError(sent=False), Response(400), retry=FAST)
        with pytest.raises(BadRequestError) as caught:
            await get(client)
        assert caught.value.attempts == 3

    async def test_that_an_attempt_may_have_been_executed_is_not_forgotten(self) -> None:
        client, _ = scripted(Response(500), Response(429), Response(404), retry=FAST)
        with pytest.raises(AdaptyAPIError) as caught:
            await get(client)
        assert (caught.value.status, caught.value.maybe_executed) == (404, True)

    async def test_an_answer_that_cant_be_read_tells_the_attempts_too(self) -> None:
        client, _ = scripted(Response(500), Response(200, body=b"<html>"), retry=FAST)
        with pytest.raises(InvalidResponseError) as caught:
            await get(client)
        assert (caught.value.attempts, caught.value.maybe_executed) == (2, True)

    async def test_it_tells_what_was_called(self) -> None:
        async with RawServer(refusal(400, "validation_error", request_id="r-1")) as server, client_of(server) as client:
            with pytest.raises(BadRequestError) as caught:
                await client.profiles.update(NAMED, customer_user_id=ID)
        assert str(caught.value) == (
            "PATCH /api/v2/server-side-api/profile/: 400 validation_error; fields: x; request ID: r-1"
        )


class TestDelete:
    LOST = AdaptyConnectionError(sent=True)
    ABSENT = Response(404, body=b'{"error_code": "profile_does_not_exist"}')

    @pytest.mark.parametrize(
        ("script", "missing_ok", "deleted"),
        [
            ([Response(204)], False, True),
            ([Response(204)], True, True),
            ([Response(200, body=b"{}")], False, True),
            ([LOST, Response(204)], False, True),
            ([LOST, ABSENT], False, True),
            ([LOST, ABSENT], True, True),
            ([AdaptyTimeoutError(sent=True), ABSENT], False, True),
            ([Response(500), ABSENT], False, True),
            ([Response(408), ABSENT], False, True),
            ([LOST, Response(429), ABSENT], False, True),
            ([LOST, Response(404)], False, True),
            ([ABSENT], True, False),
            ([Response(404)], True, False),
            ([Response(400, body=ABSENT.body)], True, False),
            ([Response(429), ABSENT], True, False),
            ([Response(503, {"retry-after": "0.001"}), ABSENT], True, False),
            ([AdaptyConnectionError(sent=False), ABSENT], True, False),
        ],
    )
    async def test_it_says_whether_it_deleted(self, script: list[Any], missing_ok: bool, deleted: bool) -> None:
        client, transport = scripted(*script, retry=FAST)
        assert await client.profiles.delete(customer_user_id=ID, missing_ok=missing_ok) is deleted
        assert len(transport.sent_at) == len(script)

    @pytest.mark.parametrize("body", [b"<html>Welcome to our network</html>", b"[]", b'"ok"', b"\xff"])
    async def test_a_page_that_isnt_the_apis_is_no_yes(self, body: bytes) -> None:
        client, transport = scripted(Response(200, body=body), retry=FAST)
        with pytest.raises(InvalidResponseError, match="neither a JSON object nor empty"):
            await delete(client)
        assert len(transport.sent_at) == 1

    @pytest.mark.parametrize(
        "script",
        [
            [ABSENT],
            [Response(429), ABSENT],
            [Response(503, {"retry-after": "0.001"}), ABSENT],
            [AdaptyConnectionError(sent=False), ABSENT],
        ],
    )
    async def test_a_profile_that_was_never_there_is_an_error(self, script: list[Any]) -> None:
        client, _ = scripted(*script, retry=FAST)
        with pytest.raises(ProfileNotFoundError):
            await delete(client)

    @pytest.mark.parametrize("missing_ok", [True, False])
    async def test_a_failure_of_the_server_tells_nothing_of_the_profile(self, missing_ok: bool) -> None:
        client, _ = scripted(Response(500, body=self.ABSENT.body), retry=FAST)
        with pytest.raises(ProfileNotFoundError) as caught:
            await client.profiles.delete(customer_user_id=ID, missing_ok=missing_ok)
        assert caught.value.status == 500

    async def test_other_errors_are_errors_whatever_may_be_missing(self) -> None:
        client, _ = scripted(self.LOST, Response(403), retry=FAST)
        with pytest.raises(AdaptyAPIError):
            await client.profiles.delete(customer_user_id=ID, missing_ok=True)


class TestWaits:
    """Waits, in virtual time."""

    @virtual
    async def test_a_retry_after_is_waited_for_with_up_to_a_tenth_more(self) -> None:
        pauses = []
        for _ in range(50):
            client, transport = scripted(Response(429, {"Retry-After": "10"}), OK)
            await get(client)
            first, second = transport.sent_at
            pauses.append(second - first)
        assert 10.0 <= min(pauses) < 10.2
        assert 10.8 < max(pauses) <= 11.0 + 1e-6

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_whatever_says_retry_after_is_waited_for_as_it_says(self, status: int) -> None:
        async def test() -> None:
            client, transport = scripted(Response(status, {"Retry-After": "10"}), OK)
            await get(client)
            first, second = transport.sent_at
            assert 10.0 <= second - first <= 11.0 + 1e-6

        run_virtual(test())

    @virtual
    async def test_else_it_waits_longer_and_longer_at_random(self) -> None:
        pauses: list[list[float]] = [[], [], []]
        for _ in range(300):
            client, transport = scripted(Response(500), Response(500), Response(500), OK)
            await get(client)
            for number in range(3):
                pauses[number].append(transport.sent_at[number + 1] - transport.sent_at[number])
        for found, bound in zip(pauses, (0.5, 1.0, 2.0), strict=True):
            assert min(found) < 0.05 * bound
            assert 0.95 * bound < max(found) <= bound

    @virtual
    async def test_a_wait_that_doesnt_fit_the_budget_is_not_begun(self) -> None:
        client, transport = scripted(Response(429, {"Retry-After": "31"}), OK)
        began = virtual_loop().time()
        with pytest.raises(RateLimitError) as caught:
            await get(client)
        assert virtual_loop().time() == began
        assert (len(transport.sent_at), caught.value.attempts, caught.value.retry_after) == (1, 1, 31.0)

    @virtual
    async def test_the_waits_of_a_call_share_its_budget(self) -> None:
        client, transport = scripted(
            Response(429, {"Retry-After": "12"}), retry=RetryPolicy(max_attempts=9, max_elapsed=30.0)
        )
        with pytest.raises(RateLimitError) as caught:
            await get(client)
        assert (len(transport.sent_at), caught.value.attempts) == (3, 3)

    @virtual
    async def test_the_time_of_the_attempts_counts(self) -> None:
        slow = taking(20.0, Response(503, {"Retry-After": "5"}))
        client, transport = scripted(slow, slow, OK, retry=RetryPolicy(max_elapsed=30.0))
        with pytest.raises(ServerError) as caught:
            await get(client)
        assert caught.value.attempts == len(transport.sent_at) == 2

    @pytest.mark.parametrize(("budget", "attempts"), [(30.0, 2), (29.9, 1)])
    def test_the_budget_runs_from_the_first_send_to_the_next(self, budget: float, attempts: int) -> None:
        async def test() -> None:
            slow = taking(20.0, Response(503, {"Retry-After": "10"}))
            client, transport = scripted(slow, Response(404), retry=RetryPolicy(max_elapsed=budget))
            get_sender(client).rng = _Lowest()  # no jitter
            with pytest.raises(AdaptyAPIError):
                await get(client)
            assert len(transport.sent_at) == attempts

        run_virtual(test())

    @virtual
    async def test_waiting_at_the_gate_doesnt_count(self) -> None:
        pacer = FixedPacer(0.1)
        client, transport = scripted(Response(500), OK, pacer=pacer, retry=RetryPolicy(max_elapsed=15.0))
        pacer.acquire(virtual_loop().time())
        began = virtual_loop().time()
        await get(client)
        assert [sent_at - began for sent_at in transport.sent_at] == pytest.approx([10.0, 20.0])

    @virtual
    async def test_a_pause_between_calls_is_not_counted(self) -> None:
        client, _ = scripted(Response(500), OK, Response(500), OK)
        await get(client)
        await asyncio.sleep(3600.0)
        await get(client)

    async def test_a_first_attempt_that_ends_the_call_costs_no_retry_machinery(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr(sender, "retry_call", fail)
        client, _ = scripted(OK, Response(404), OK)
        await get(client)
        with pytest.raises(AdaptyAPIError):
            await get(client)


class TestTheGateOfAClient:
    @virtual
    async def test_the_retry_after_of_a_429_holds_every_call(self) -> None:
        client, transport = scripted(Response(429, {"Retry-After": "10"}), OK)
        began = virtual_loop().time()
        await asyncio.gather(get(client), self.later(client, 1.0), self.later(client, 2.0))
        assert transport.sent_at[0] == began
        assert all(10.0 <= sent_at - began <= 11.1 for sent_at in transport.sent_at[1:])  # one by one
        assert len(transport.sent_at) == 4

    async def later(self, client: AdaptyClient, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await get(client)

    @virtual
    async def test_that_of_a_503_holds_only_its_own_call(self) -> None:
        client, transport = scripted(Response(503, {"Retry-After": "10"}), OK)
        began = virtual_loop().time()
        await asyncio.gather(get(client), self.later(client, 1.0))
        assert transport.sent_at[:2] == [began, began + 1.0]

    @virtual
    async def test_a_call_that_would_wait_longer_than_its_budget_is_refused_at_once_and_unsent(self) -> None:
        client, transport = scripted(Response(429, {"Retry-After": "3600"}), OK)
        with pytest.raises(RateLimitError):
            await get(client)
        began = virtual_loop().time()
        with pytest.raises(LocalRateLimitError, match="not sent, the rate limit requires a wait of") as caught:
            await get(client)
        assert virtual_loop().time() == began
        assert len(transport.sent_at) == 1
        assert (caught.value.attempts, caught.value.maybe_executed) == (0, False)
        assert 3600.0 <= caught.value.retry_after <= 3960.0
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)

    @virtual
    async def test_one_that_waits_already_is_refused_as_soon_as_the_429_is_heard(self) -> None:
        client, transport = scripted(
            taking(1.0, Response(429, {"Retry-After": "3600"})),
            OK,
            pacer=FixedPacer(0.1),
            retry=RetryPolicy(max_elapsed=20.0),
        )
        began = virtual_loop().time()
        ends = await asyncio.gather(get(client), get(client), return_exceptions=True)
        assert [type(end) for end in ends] == [RateLimitError, LocalRateLimitError]
        assert virtual_loop().time() == began + 1.0
        assert len(transport.sent_at) == 1

    @virtual
    async def test_a_retry_that_may_not_wait_for_the_gate_ends_with_the_error_of_the_last_attempt(self) -> None:
        pacer = FixedPacer(0.001)
        client, transport = scripted(Response(500), OK, pacer=pacer)
        with pytest.raises(ServerError) as caught:
            await get(client)
        assert (caught.value.attempts, caught.value.maybe_executed) == (1, True)
        assert len(transport.sent_at) == 1

    @virtual
    async def test_that_error_counts_all_attempts_and_knows_that_an_earlier_one_may_have_been_executed(self) -> None:
        pacer = FixedPacer(0.1)
        client, _ = scripted(Response(500), Response(429, {"Retry-After": "1"}), OK, pacer=pacer)
        call = asyncio.ensure_future(get(client))
        await asyncio.sleep(5.0)
        others = [asyncio.ensure_future(get(client)) for _ in range(3)]  # they join the queue before its third attempt
        with pytest.raises(RateLimitError) as caught:
            await call
        assert (caught.value.attempts, caught.value.maybe_executed) == (2, True)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        await asyncio.gather(*others, return_exceptions=True)

    @virtual
    async def test_an_adaptive_pacer_refuses_no_healthy_call(self) -> None:
        client, transport = scripted(taking(0.1, OK), pacer=AdaptivePacer())
        calls = []
        for _ in range(4000):
            calls.append(asyncio.ensure_future(get(client)))
            await asyncio.sleep(0.0025)
        await asyncio.gather(*calls)
        assert len(transport.sent_at) == 4000

    @virtual
    async def test_by_default_a_429_holds_all_calls_and_then_they_leave_one_by_one(self) -> None:
        rejected = taking(0.1, Response(429, {"Retry-After": "2"}))
        client, transport = scripted(*[taking(0.1, OK)] * 10, *[rejected] * 20, OK)
        view = client.with_options(timeout=1.0)
        began = virtual_loop().time()
        await asyncio.gather(*(get(view if number % 2 else client) for number in range(30)))
        at_once, later = transport.sent_at[:30], transport.sent_at[30:]
        assert at_once == [began] * 30
        assert 2.1 <= later[0] - began <= 2.3 + 1e-6
        assert later[-1] - later[0] == pytest.approx(19 / 30, rel=0.2)
        assert max(Counter(later).values()) == 1

    @virtual
    async def test_a_view_with_a_pacer_of_its_own_is_held_by_the_retry_after_only(self) -> None:
        client, _ = scripted(*[taking(0.1, Response(429, {"Retry-After": "2"}))] * 20, OK)
        view = client.with_options(pacer=UNPACED)
        calls = [asyncio.ensure_future(get(client)) for _ in range(20)]
        await asyncio.sleep(0.15)
        began = virtual_loop().time()
        await asyncio.gather(*(get(view) for _ in range(50)))
        assert 1.9 <= virtual_loop().time() - began <= 2.2
        await asyncio.gather(*calls)

    @virtual
    async def test_a_pacer_paces_the_calls(self) -> None:
        client, transport = scripted(OK, pacer=FixedPacer(10.0))
        began = virtual_loop().time()
        await asyncio.gather(*(get(client) for _ in range(20)))
        expected = [number / 10 for number in range(20)]
        assert [sent_at - began for sent_at in transport.sent_at] == pytest.approx(expected)

    @virtual
    async def test_two_clients_dont_hold_each_other(self) -> None:
        first, _ = scripted(Response(429, {"Retry-After": "10"}), OK, pacer=UNPACED)
        second, transport = scripted(OK, pacer=UNPACED)
        call = asyncio.create_task(get(first))
        await asyncio.sleep(1.0)
        await get(second)
        assert transport.sent_at == [virtual_loop().time()]
        await call

    @virtual
    async def test_a_view_shares_the_retry_after_whatever_its_pacer(self) -> None:
        client, transport = scripted(Response(429, {"Retry-After": "10"}), OK)
        views = [
            client.with_options(timeout=1.0),
            client.with_options(pacer=None),
            client.with_options(pacer=FixedPacer(5.0)),
        ]
        for view in views:  # each has been used
            get_sender(view).send_queue.try_acquire()
        began = virtual_loop().time()
        await asyncio.gather(get(client), *(self.later(view, 1.0) for view in views))
        assert all(10.0 <= sent_at - began <= 11.1 for sent_at in transport.sent_at[1:])  # one by one

    @pytest.mark.parametrize("reply", [Response(429), Response(503, {"Retry-After": "10"})], ids=["429", "503"])
    def test_a_view_is_held_by_nothing_else(self, reply: Response) -> None:
        async def test() -> None:
            client, transport = scripted(reply, OK)
            view = client.with_options(pacer=None)
            get_sender(view).send_queue.try_acquire()
            began = virtual_loop().time()
            call = asyncio.create_task(get(client))
            await self.later(view, 1.0)
            assert began + 1.0 in transport.sent_at
            await call

        run_virtual(test())

    @pytest.mark.parametrize(
        ("end", "verdict", "pause"),
        [
            (OK, "accepted", None),
            (Response(404, {"Retry-After": "1"}), "accepted", None),
            (Response(429), "throttled", None),
            (Response(429, {"Retry-After": "1"}), "throttled", 1.0),
            (Response(403, body=b'{"error_code": "rate_limited"}'), "throttled", None),
            (Response(408), "unknown", None),
            (Response(500, {"Retry-After": "1"}), "unknown", 1.0),
            (Response(503), "unknown", None),
            (Response(503, {"Retry-After": "1"}), "unknown", 1.0),
            (AdaptyConnectionError(sent=True), "unknown", None),
            (AdaptyTimeoutError(sent=False), "unknown", None),
        ],
        ids=repr,
    )
    def test_the_pacer_is_told_what_became_of_a_request(self, end: Any, verdict: str, pause: float | None) -> None:
        async def test() -> None:
            heard: list[object] = []

            class Listening(FixedPacer):
                def record(self, now: Any, ticket: Any, verdict: Any, retry_after: Any = None) -> None:
                    heard.append((verdict.value, retry_after))

            client, _ = scripted(end, pacer=Listening(5.0), retry=RetryPolicy.none())
            get_sender(client).rng = _Lowest()  # no jitter
            await asyncio.gather(get(client), return_exceptions=True)
            assert heard == [(verdict, pause)]

        run_virtual(test())

    @virtual
    async def test_a_client_heeds_the_retry_after_that_its_view_was_told(self) -> None:
        client, transport = scripted(OK, Response(429, {"Retry-After": "10"}), OK)
        await get(client)
        began = virtual_loop().time()
        await asyncio.gather(get(client.with_options(pacer=FixedPacer(5.0))), self.later(client, 1.0))
        assert all(10.0 <= sent_at - began <= 11.0 for sent_at in transport.sent_at[2:])

    @virtual
    async def test_a_request_of_a_fate_that_nobody_learns_is_told_to_the_pacer(self) -> None:
        heard: list[object] = []

        class Listening(FixedPacer):
            def record(self, now: Any, ticket: Any, verdict: Any, retry_after: Any = None) -> None:
                heard.append((ticket.number, verdict.value))

        async def closed() -> Response:
            raise RuntimeError("closed under way")

        client, _ = scripted(taking(3600.0, OK), OK, closed, pacer=Listening(5.0))
        call = asyncio.create_task(get(client))
        await asyncio.sleep(1.0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await get(client)
        with pytest.raises(RuntimeError, match="closed under way"):
            await get(client)
        assert heard == [(1, "unknown"), (2, "accepted"), (3, "unknown")]


class TestCancelling:
    @virtual
    async def test_while_it_waits_to_try_again(self) -> None:
        client, transport = scripted(
            Response(500), OK, retry=RetryPolicy(initial_backoff=100.0, max_backoff=100.0, max_elapsed=1000.0)
        )
        await self.cancel(get(client), 0.001)
        assert len(transport.sent_at) == 1

    @virtual
    async def test_while_it_waits_for_a_retry_after(self) -> None:
        client, transport = scripted(Response(429, {"Retry-After": "20"}), OK)
        await self.cancel(get(client), 10.0)
        assert len(transport.sent_at) == 1

    @virtual
    async def test_while_it_waits_at_the_gate(self) -> None:
        client, transport = scripted(OK, pacer=FixedPacer(0.05))
        await get(client)
        await self.cancel(get(client), 10.0)
        assert len(transport.sent_at) == 1

    @virtual
    async def test_while_it_waits_for_the_answer(self) -> None:
        client, transport = scripted(taking(20.0, OK))
        await self.cancel(get(client), 10.0)
        assert len(transport.sent_at) == 1

    @virtual
    async def test_while_it_waits_for_the_answer_of_a_retry(self) -> None:
        client, transport = scripted(Response(500), taking(20.0, OK))
        await self.cancel(get(client), 10.0)
        assert len(transport.sent_at) == 2

    async def cancel(self, call: Awaitable[object], after: float) -> None:
        """Cancel a call some seconds after its start. It must end at once and leave nothing behind."""
        task = asyncio.ensure_future(call)
        await asyncio.sleep(after)
        cancelled_at = virtual_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert virtual_loop().time() == cancelled_at
        assert (tasks_left(), timers_left()) == ([], [])

    @virtual
    async def test_a_timeout_around_a_call_ends_it(self) -> None:
        client, _ = scripted(taking(20.0, OK))
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1.0):
                await get(client)
        assert not isinstance(caught.value, AdaptyError)


class TestObserving:
    @virtual
    async def test_on_attempt_is_told_of_each_attempt(self) -> None:
        told: list[Attempt] = []
        client, _ = scripted(
            taking(2.0, Response(503, {"Retry-After": "10"})), AdaptyTimeoutError(sent=True), OK, on_attempt=told.append
        )
        await get(client)
        path = "/api/v2/server-side-api/profile/"
        waits = [attempt.retry_in for attempt in told]
        assert [attrs.evolve(attempt, retry_in=None) for attempt in told] == [
            Attempt("GET", path, 1, 503, "ServerError", 2.0, None),
            Attempt("GET", path, 2, None, "AdaptyTimeoutError", 0.0, None),
            Attempt("GET", path, 3, 200, None, 0.0, None),
        ]
        assert waits[0] is not None
        assert 10.0 <= waits[0] <= 11.0
        assert waits[1] is not None
        assert waits[1] <= 1.0
        assert waits[2] is None

    async def test_the_last_attempt_of_a_failed_call_is_followed_by_none(self) -> None:
        told: list[Attempt] = []
        client, _ = scripted(Response(404), on_attempt=told.append)
        with pytest.raises(AdaptyAPIError):
            await get(client)
        assert [(attempt.status, attempt.error, attempt.retry_in) for attempt in told] == [(404, "NotFoundError", None)]

    async def test_an_answer_that_cant_be_read_is_told_as_an_error(self) -> None:
        told: list[Attempt] = []
        client, _ = scripted(Response(200, body=b"<html>"), on_attempt=told.append)
        with pytest.raises(InvalidResponseError):
            await get(client)
        assert [(attempt.status, attempt.error, attempt.retry_in) for attempt in told] == [
            (200, "InvalidResponseError", None)
        ]

    async def test_an_attempt_is_frozen(self) -> None:
        told: list[Any] = []
        client, _ = scripted(OK, on_attempt=told.append)
        await get(client)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            told[0].status = 500

    async def test_a_view_tells_the_same_observer(self) -> None:
        told: list[Attempt] = []
        client, _ = scripted(OK, on_attempt=told.append)
        await get(client.with_options(timeout=1.0))
        assert len(told) == 1

    async def test_an_observer_that_fails_doesnt_fail_the_call_and_is_told_of_without_its_words(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: Attempt) -> None:
            raise KeyError(ID)

        client, _ = scripted(Response(500), OK, on_attempt=fail, retry=FAST)
        await get(client)
        assert [record.getMessage() for record in caplog.records] == ["on_attempt raised KeyError"] * 2
        assert ID not in caplog.text

    @virtual
    async def test_the_log_says_the_same_at_debug(self) -> None:
        lines: list[str] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(record.getMessage())

        logger, handler = logging.getLogger("adapty_async"), Keep()
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            client, _ = scripted(taking(0.25, Response(500)), OK, retry=RetryPolicy(initial_backoff=0.0))
            await get(client)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        assert lines == [
            "GET /api/v2/server-side-api/profile/ attempt 1: 500 ServerError in 0.250 s, retry in 0.000 s",
            "GET /api/v2/server-side-api/profile/ attempt 2: 200 in 0.000 s",
        ]

    async def test_without_an_observer_and_a_log_nothing_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr(sender, "Attempt", fail)
        client, _ = scripted(OK)
        await get(client)


ECHO: Final = {
    "errors": [f"No {ID} for Api-Key {KEY}", {"source": ID, "errors": [KEY, ID.upper()]}],
    "error_code": f"no_{ID}_{KEY}",
}
REPLIES_WITH_SECRETS: Final[dict[str, Reply]] = {
    "400": answer(400, ECHO, {"Request-Id": f"{ID} {KEY}", "X": KEY}),
    "429": answer(429, ECHO),
    "503": answer(503, ECHO, {"Retry-After": ID}),
    "404": answer(404, f"<html>{ID} {KEY}".encode()),
    "redirect": answer(302, b"", {"Location": f"https://elsewhere.test/{ID}/{KEY}"}),
    "no JSON": answer(200, f"<html>{ID} {KEY}".encode()),
    "another shape": answer(200, {"data": {"app_id": KEY, "profile_id": ID}}),
    "no UTF-8": answer(200, ID.encode() + b"\xff"),
    "cut": then(f"HTTP/1.1 200 OK\r\nX: {KEY}\r\nContent-Length: 999\r\n\r\n{ID}".encode(), hang_up),
    "no HTTP": then(f"{KEY} {ID}\r\n\r\n".encode(), hang_up),
    "silent": silence,
    "reset": reset,
}


class TestSecrets:
    @pytest.mark.parametrize("reply", REPLIES_WITH_SECRETS.values(), ids=REPLIES_WITH_SECRETS)
    async def test_none_stands_in_what_an_error_or_a_log_shows(
        self, reply: Reply, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        told: list[Attempt] = []
        settings: dict[str, Any] = {
            "timeout": 0.05,
            "retry": attrs.evolve(FAST, max_attempts=2),
            "on_attempt": told.append,
        }
        async with RawServer(reply) as server, client_of(server, **settings) as client:
            with pytest.raises(AdaptyError) as caught:
                await client.profiles.update(ProfileAttributes(email=ID), customer_user_id=ID)
        error = caught.value
        assert (error.__cause__, error.__context__) == (None, None)
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown = [
            str(error),
            repr(error),
            repr(vars(error)),
            *traceback.format_exception(error),
            repr(told),
            caplog.text,
            *(repr(vars(record)) for record in caplog.records),
            # Error reporters show local variables, so search those of our frames, except the frame of the call itself.
            *(str(frame.locals) for frame in frames if "adapty_async" in frame.filename and frame.name != "update"),
        ]
        for secret in (KEY, ID):
            assert secret.lower() not in "".join(shown).lower()
            assert secret.encode() not in pickle.dumps(error)

    def test_the_repr_of_a_client_shows_neither_key_nor_user(self) -> None:
        client = AdaptyClient(KEY, base_url="https://api.example/x", timeout=2.5)
        assert repr(client) == "AdaptyClient(base_url='https://api.example/x', timeout=2.5)"
        assert KEY not in f"{client.profiles!r} {get_sender(client)!r} {get_sender(client).transport!r}"

    @pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy])
    def test_a_client_is_not_pickled(self, duplicate: Callable[[object], object]) -> None:
        client = AdaptyClient(KEY)
        for holder in (client, client.profiles, client.with_options(timeout=1.0)):
            with pytest.raises(TypeError, match="it holds the API key: create it where it is used"):
                duplicate(holder)


class TestSettings:
    @pytest.mark.parametrize(
        ("api_key", "error", "words"),
        [
            ("", ValueError, "the API key is empty"),
            (f"{KEY}\n", ValueError, "the API key contains a control character"),
            (f" {KEY}", ValueError, "the API key has leading or trailing white space"),
            (f"Api-Key {KEY}", ValueError, "must be only the secret key, without 'Api-Key' before it"),
            (f"{KEY}é", ValueError, "must be only the secret key"),
            (None, TypeError, "the API key must be a str, not NoneType"),
            (KEY.encode(), TypeError, "the API key must be a str, not bytes"),
        ],
    )
    def test_a_key_that_cant_be_one_is_refused_unshown(self, api_key: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words) as caught:
            AdaptyClient(api_key)
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize(
        ("base_url", "same"),
        [
            ("https://api.adapty.io", "https://api.adapty.io"),
            ("https://api.adapty.io/", "https://api.adapty.io"),
            ("HTTPS://API.adapty.io", "https://api.adapty.io"),
            ("https://proxy.example:8443/adapty/", "https://proxy.example:8443/adapty"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://10.1.2.3", "http://10.1.2.3"),
            ("http://sidecar:8080", "http://sidecar:8080"),
            ("http://adapty.svc.internal", "http://adapty.svc.internal"),
            ("https://api.adapty.io/?", "https://api.adapty.io"),
            ("https://api.adapty.io/#", "https://api.adapty.io"),
        ],
    )
    def test_a_base_url_is_taken(self, base_url: str, same: str) -> None:
        assert AdaptyClient(KEY, base_url=base_url).base_url == same

    @pytest.mark.parametrize(
        ("base_url", "error", "words"),
        [
            ("", ValueError, "must look like https://api.adapty.io"),
            ("api.adapty.io", ValueError, "must look like"),
            ("//api.adapty.io", ValueError, "must look like"),
            ("ftp://api.adapty.io", ValueError, "must look like"),
            ("https://", ValueError, "must look like"),
            ("https://:443", ValueError, "must look like"),
            ("https://api.adapty.io:99999", ValueError, "must look like"),
            ("https://api.adapty.io:0", ValueError, "must look like"),
            ("https://[::1", ValueError, "must look like"),
            ("https://user:hunter2@api.adapty.io", ValueError, "must not contain a user, password, query or fragment"),
            ("https://api.adapty.io?a=1", ValueError, "must not contain a user, password, query or fragment"),
            ("https://api.adapty.io#a", ValueError, "must not contain a user, password, query or fragment"),
            ("http://api.adapty.io", ValueError, "must be https: over http the API key could be read on the way"),
            ("http://8.8.8.8", ValueError, "must be https"),
            (None, TypeError, "base_url must be a str, not NoneType"),
        ],
    )
    def test_a_base_url_that_cant_be_one_is_refused(self, base_url: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words) as caught:
            AdaptyClient(KEY, base_url=base_url)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("timeout", "error"),
        [
            (0, ValueError),
            (-1.0, ValueError),
            (float("inf"), ValueError),
            (float("nan"), ValueError),
            (None, TypeError),
            ("5", TypeError),
            (True, TypeError),
        ],
    )
    def test_a_timeout_that_cant_be_one_is_refused(self, timeout: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="timeout must be a"):
            AdaptyClient(KEY, timeout=timeout)
        with pytest.raises(error, match="timeout must be a"):
            AdaptyClient(KEY).with_options(timeout=timeout)

    @pytest.mark.parametrize("retry", [None, 3])
    def test_a_retry_policy_that_is_none_is_refused(self, retry: Any) -> None:
        with pytest.raises(TypeError, match=r"retry must be a RetryPolicy, such as RetryPolicy.none\(\), not"):
            AdaptyClient(KEY, retry=retry)

    @pytest.mark.parametrize("setting", [{"pacer": 5}, {"session": "x"}, {"on_attempt": 3}])
    def test_a_setting_of_the_wrong_kind_is_refused_at_once(self, setting: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=next(iter(setting))):
            AdaptyClient(KEY, **setting)


class TestFromEnv:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ADAPTY_API_KEY", "ADAPTY_API_KEY_FILE", "ADAPTY_BASE_URL"):
            monkeypatch.delenv(name, raising=False)

    async def key_of(self, **settings: Any) -> bytes:
        async with RawServer(answer(204)) as server:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("ADAPTY_BASE_URL", server.base_url)
                async with AdaptyClient.from_env(**settings) as client:
                    await delete(client)
        return server.requests[0].headers["authorization"]

    async def test_the_key_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADAPTY_API_KEY", KEY)
        assert await self.key_of(timeout=2.0) == f"Api-Key {KEY}".encode()

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "a byte order mark"])
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \r\n\r\n"])
    async def test_the_key_is_read_from_a_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mark: bytes, end: bytes
    ) -> None:
        (tmp_path / "key").write_bytes(mark + KEY.encode() + end)
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key"))
        assert await self.key_of() == f"Api-Key {KEY}".encode()

    def test_without_an_address_it_is_the_vendors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADAPTY_API_KEY", KEY)
        monkeypatch.setenv("ADAPTY_BASE_URL", "")
        client = AdaptyClient.from_env(timeout=2.0)
        assert repr(client) == "AdaptyClient(base_url='https://api.adapty.io', timeout=2)"

    def test_without_a_key_it_says_what_to_set(self) -> None:
        with pytest.raises(ValueError, match="set ADAPTY_API_KEY to the secret key of the app, or ADAPTY_API_KEY_FILE"):
            AdaptyClient.from_env()

    def test_two_keys_are_one_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADAPTY_API_KEY", KEY)
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", "/nowhere")
        with pytest.raises(ValueError, match="both ADAPTY_API_KEY and ADAPTY_API_KEY_FILE are set: unset one"):
            AdaptyClient.from_env()

    @pytest.mark.parametrize("content", [None, b"\xff\xfe"])
    def test_a_file_that_cant_be_read_is_told(
        self, content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key"))
        with pytest.raises(ValueError, match="the file that ADAPTY_API_KEY_FILE names can't be read"):
            AdaptyClient.from_env()

    def test_a_file_that_is_too_large_for_a_key_is_not_read_to_its_end(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with (tmp_path / "key").open("wb") as file:
            file.truncate(1 << 40)  # a sparse file, larger than the memory
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key"))
        with pytest.raises(ValueError, match="the file that ADAPTY_API_KEY_FILE names is too large for a key"):
            AdaptyClient.from_env()

    def test_a_file_without_a_key_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("\n")
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key"))
        with pytest.raises(ValueError, match="the API key is empty"):
            AdaptyClient.from_env()


AT_IMPORT_TIME: Final = AdaptyClient(KEY)


class TestLifetime:
    def test_it_is_built_without_a_loop(self) -> None:
        assert AT_IMPORT_TIME.base_url == "https://api.adapty.io"

    async def test_it_works_without_a_with_block(self) -> None:
        async with RawServer(answer(204)) as server:
            client = AdaptyClient(KEY, base_url=server.base_url)
            await delete(client)
            await client.close()
            await client.close()
        assert len(server.requests) == 1

    async def test_after_close_it_says_so(self) -> None:
        async with RawServer(answer(204)) as server:
            async with client_of(server) as client:
                view = client.with_options(timeout=1.0)
            for closed in (client, view):
                with pytest.raises(RuntimeError, match="the client is closed: create a new AdaptyClient"):
                    await delete(closed)
                with pytest.raises(RuntimeError, match="the client is closed"):
                    async with closed:
                        pass
        assert server.requests == []

    @virtual
    async def test_after_close_it_says_so_without_a_wait_at_the_gate(self) -> None:
        client, _ = scripted(OK, pacer=FixedPacer(0.05))
        await get(client)
        await client.close()
        closed_at = virtual_loop().time()
        with pytest.raises(RuntimeError, match="the client is closed"):
            await get(client)
        assert virtual_loop().time() == closed_at

    def test_on_another_loop_it_says_so(self) -> None:
        async def use(client: AdaptyClient) -> None:
            with pytest.raises(AdaptyConnectionError):
                await delete(client)

        client = AdaptyClient(KEY, base_url="http://127.0.0.1:1", retry=RetryPolicy.none())

        async def use_and_close() -> None:
            await use(client)
            await client.close()

        other = AdaptyClient(KEY, base_url="http://127.0.0.1:1", retry=RetryPolicy.none())

        async def on_one_loop() -> None:
            await use(other)
            await asyncio.to_thread(asyncio.run, on_another())
            await other.close()

        async def on_another() -> None:
            for call in (delete(other), other.__aenter__()):
                with pytest.raises(RuntimeError, match="the client belongs to another event loop: create one"):
                    await call

        asyncio.run(use_and_close())
        asyncio.run(on_one_loop())

    async def test_a_view_shares_the_connections_and_closes_none(self) -> None:
        async with RawServer(answer(204)) as server, client_of(server) as client:
            await delete(client)
            async with client.with_options(timeout=1.0, retry=RetryPolicy.none(), pacer=FixedPacer(100.0)) as view:
                await delete(view)
            await view.close()
            await delete(client)
            assert (len(server.requests), server.connections) == (3, 1)

    async def test_a_view_keeps_what_isnt_said_anew(self) -> None:
        pacer = FixedPacer(5.0)
        client = AdaptyClient(KEY, timeout=3.0, retry=FAST, pacer=pacer)
        view = get_sender(client.with_options())
        assert (view.timeout, view.retry, view.pacer) == (3.0, FAST, pacer)
        view = get_sender(client.with_options(timeout=4.0, retry=RetryPolicy.none(), pacer=None))
        assert (view.timeout, view.retry, view.pacer.rate) == (4.0, RetryPolicy.none(), float("inf"))
        assert get_sender(client).timeout == 3.0
        assert repr(client.with_options(timeout=4.0)) == "AdaptyClient(base_url='https://api.adapty.io', timeout=4)"

    async def test_a_subclass_has_views_of_its_own_kind(self) -> None:
        class Mine(AdaptyClient):
            pass

        assert type(Mine(KEY).with_options(timeout=1.0)) is Mine

    async def test_a_borrowed_session_stays_open(self) -> None:
        async with RawServer(answer(204)) as server, aiohttp.ClientSession(headers={"X-Lender": "1"}) as session:
            async with client_of(server, session=session) as client:
                await delete(client)
            assert not session.closed
        assert "x-lender" not in server.requests[0].headers

    async def test_a_certificate_authority_of_ones_own_is_trusted_where_it_is_given(self) -> None:
        certificate = Path(__file__).parent / "data" / "loopback.pem"
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        async with RawServer(answer(204), tls=tls) as server:
            async with client_of(server, ssl=ssl.create_default_context(cafile=certificate)) as client:
                await delete(client)
            assert len(server.requests) == 1
            async with client_of(server, retry=RetryPolicy.none()) as client:
                with pytest.raises(AdaptyConnectionError, match=r"no connection \(ClientConnectorCertificateError\)"):
                    await delete(client)
        assert len(server.requests) == 1
