"""Every misuse raises ValueError, TypeError or RuntimeError before anything is sent, with a message that helps."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

import pytest

from adapty_async import AdaptyClient, ProfileAttributes, Request, RetryPolicy, bulk
from adapty_async.ledger import Ledger
from adapty_async.testing import Simulator

JANE = ProfileAttributes(first_name="Jane")
PATH = "/api/v2/server-side-api/profile/"

Misuse = Callable[[AdaptyClient], Awaitable[object]]


async def closed(client: AdaptyClient) -> None:
    await client.close()
    await client.profiles.get(customer_user_id="u1")


def get(**who: Any) -> Misuse:
    return lambda client: client.profiles.get(**who)


CALLS: list[tuple[str, Misuse, type[Exception], str]] = [
    ("no id", get(), ValueError, "exactly one of customer_user_id and profile_id"),
    ("both ids", get(customer_user_id="u1", profile_id=uuid4()), ValueError, "exactly one"),
    ("both ids to delete", lambda c: c.profiles.delete(customer_user_id="u1", profile_id=uuid4()), ValueError, "one"),
    ("no id to create", lambda c: c.profiles.create(JANE), ValueError, "pass customer_user_id, profile_id, or both"),
    ("an empty id", get(customer_user_id=""), ValueError, "customer_user_id is empty"),
    ("a control character", get(customer_user_id="u\x001"), ValueError, "control character"),
    ("a line break", get(customer_user_id="u1\r\nX: y"), ValueError, "control character"),
    ("a C1 control character", get(customer_user_id="u\x851"), ValueError, "control character"),
    ("a space before", get(customer_user_id=" u1"), ValueError, "white space"),
    ("a tab behind", get(customer_user_id="u1\t"), ValueError, "control character|white space"),
    ("a no-break space behind", get(customer_user_id="u1\xa0"), ValueError, "white space"),
    ("only spaces", get(customer_user_id="  "), ValueError, "white space"),
    ("a lone surrogate", get(customer_user_id="\ud800"), ValueError, "surrogate"),
    ("an int for an id", get(customer_user_id=7), TypeError, "customer_user_id must be a str"),
    ("a UUID for one's own id", get(customer_user_id=UUID(int=1)), TypeError, "customer_user_id must be a str"),
    ("bytes for an id", get(customer_user_id=b"u1"), TypeError, "customer_user_id must be a str"),
    (
        "one's own id for Adapty's",
        get(profile_id="u1"),
        ValueError,
        "pass an ID of your own system as customer_user_id",
    ),
    ("a UUID without dashes", get(profile_id=uuid4().hex), ValueError, "profile_id isn't a UUID"),
    ("an int for a UUID", get(profile_id=7), TypeError, "profile_id must be a str or a UUID"),
    (
        "an update of nothing",
        lambda c: c.profiles.update(ProfileAttributes(), customer_user_id="u1"),
        ValueError,
        "set",
    ),
    ("a dict to update", lambda c: c.profiles.update({"a": 1}, customer_user_id="u1"), TypeError, "ProfileAttributes"),  # type: ignore[arg-type]
    ("a platform there is not", lambda c: c.profiles.create(platform="ios", customer_user_id="u1"), ValueError, "iOS"),  # type: ignore[arg-type]
    ("a closed client", closed, RuntimeError, "create a new AdaptyClient"),
    ("a path without a slash", lambda c: c.send(Request("GET", "api")), ValueError, "start with '/'"),
    ("a query in the path", lambda c: c.send(Request("GET", PATH + "?a=b")), ValueError, "query="),
    ("a method in small letters", lambda c: c.send(Request("get", PATH)), ValueError, "capitals"),
    (
        "a key of one's own",
        lambda c: c.send(Request("GET", PATH, headers={"Authorization": "x"})),
        ValueError,
        "set by the client",
    ),
    ("a broken header", lambda c: c.send(Request("GET", PATH, headers={"X": "a\nb"})), ValueError, "control character"),
    ("a body that is no JSON", lambda c: c.send(Request("POST", PATH, body={"a": object()})), TypeError, "JSON"),  # type: ignore[dict-item,unused-ignore]
    ("a body of NaN", lambda c: c.send(Request("POST", PATH, body={"a": float("nan")})), ValueError, "JSON"),
    ("a bulk of one text", lambda c: bulk.delete_profiles(c, "u1", by="customer_user_id"), TypeError, "list"),
    ("a bulk of who knows what", lambda c: bulk.delete_profiles(c, ["u1"], by="email"), ValueError, "customer_user_id"),  # type: ignore[arg-type]
    (
        "a bulk of no concurrency",
        lambda c: bulk.delete_profiles(c, [], by="profile_id", concurrency=0),
        ValueError,
        "1",
    ),
]


@pytest.mark.parametrize(("misuse", "error", "words"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
async def test_a_call_that_is_a_mistake(misuse: Misuse, error: type[Exception], words: str) -> None:
    async with Simulator() as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with pytest.raises(error, match=words):
            await misuse(client)
        assert (sim.stats.requests, sim.stats.connections) == (0, 0)


class Hook:
    async def __call__(self, _told: object) -> None: ...

    async def method(self, _told: object) -> None: ...


async def async_hook(_told: object) -> None: ...


async def async_generator(_told: object) -> AsyncIterator[None]:
    yield


ASYNC_HOOKS: list[Callable[..., object]] = [
    async_hook,
    async_generator,
    Hook(),
    Hook().method,
    functools.partial(async_hook),
    functools.partial(functools.partial(Hook())),
    AsyncMock(),
]


SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"api_key": ""}, ValueError, "the API key is empty"),
    ({"api_key": None}, TypeError, "the API key must be a str"),
    ({"api_key": "Api-Key secret"}, ValueError, "without 'Api-Key' before it"),
    ({"api_key": "secret\n"}, ValueError, "control character|white space"),
    ({"base_url": "api.adapty.io"}, ValueError, "must look like https://"),
    ({"base_url": "ftp://api.adapty.io"}, ValueError, "must look like https://"),
    ({"base_url": "http://api.adapty.io"}, ValueError, "must be https"),
    ({"base_url": "http://93.184.216.34"}, ValueError, "must be https"),
    *(
        ({"base_url": f"http://{host}"}, ValueError, "must be https")
        for host in (
            *(
                "134744072",
                "134744072.",
                "0x08080808",
                "0X8080808",
                "010.010.010.010",
                "8.8.2056",
                "8.526344",
                "8.8.8.8.",
            ),
            *("0x8.0x8.0x8.0x8", "08.8.8.8", "09", "0x", "4294967296", "1.1.1.1.1", "256.1", "8.8.8.8", "\uff18.8.8.8"),
            *("8\u30028\u30028\u30028", "\u246034744072", "[::ffff:8.8.8.8]", "[::ffff:808:808]", "[::8.8.8.8]"),
            *("[2002:808:808::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[64:ff9b::808:808]", "[2606:4700::1111]"),
            *("api.adapty.io.", "ai.", "%38.8.8.8"),
        )
    ),
    ({"base_url": "https://user:pass@api.adapty.io"}, ValueError, "not contain a user, password"),
    ({"base_url": "https://api.adapty.io/?a=b"}, ValueError, "query"),
    ({"base_url": None}, TypeError, "base_url must be a str"),
    ({"timeout": 0}, ValueError, "timeout must be a positive"),
    ({"timeout": float("inf")}, ValueError, "timeout must be a positive"),
    ({"timeout": None}, TypeError, "timeout must be a number"),
    ({"retry": 3}, TypeError, "RetryPolicy"),
    ({"pacer": 50}, TypeError, "FixedPacer"),
    ({"session": "x"}, TypeError, "aiohttp.ClientSession"),
    ({"on_attempt": 3}, TypeError, "callable"),
    *(({"on_attempt": hook}, TypeError, "on_attempt must be a plain function") for hook in ASYNC_HOOKS),
]


@pytest.mark.parametrize(
    ("settings", "error", "words"), SETTINGS, ids=[f"{number} {row[2]}" for number, row in enumerate(SETTINGS)]
)
def test_a_setting_that_is_a_mistake(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        AdaptyClient(
            settings.get("api_key", "secret"), **{name: settings[name] for name in settings if name != "api_key"}
        )
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("who", ["0", "007", "ü@example.com", "日本", "a b", "%41", "a,b;c", "🎉"])
async def test_an_odd_id_that_can_be_sent_is_sent_as_it_is(who: str) -> None:
    async with Simulator() as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        profile = await client.profiles.create(customer_user_id=who)
        assert profile.customer_user_id == who
        assert list(sim.profiles.customer_user_ids) == [who]


async def test_a_thousand_calls_at_the_same_time_on_two_clients_are_each_answered() -> None:
    async with Simulator(profiles=1000) as sim, contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AdaptyClient(sim.api_key, base_url=sim.base_url, retry=RetryPolicy.none()))
            for _ in range(2)
        ]
        ids = list(sim.profiles.customer_user_ids)
        profiles = await asyncio.gather(
            *(clients[number % 2].profiles.get(customer_user_id=who) for number, who in enumerate(ids))
        )
        assert [profile.customer_user_id for profile in profiles] == ids
        connections = sim.stats.connections
        await asyncio.gather(*(clients[0].profiles.delete(customer_user_id=who) for who in ids[:400]))
        assert sim.stats.connections == connections  # the earlier ones are used again


@pytest.mark.parametrize("hook", ASYNC_HOOKS)
def test_an_async_hook_of_a_job_or_a_ledger(hook: Any, tmp_path: Path) -> None:
    client = AdaptyClient("secret")
    with pytest.raises(TypeError, match="on_progress must be a plain function"):
        bulk.delete_profiles(client, [], by="profile_id", on_progress=hook)
    with pytest.raises(TypeError, match="on_progress must be a plain function"):
        bulk.run(async_hook, [], on_progress=hook)
    with pytest.raises(TypeError, match="live_status must be a plain function"):
        Ledger(tmp_path / "job.db", live_status=hook)


@pytest.mark.parametrize("hook", [list, print, [].append, functools.partial(print, end=""), lambda _: None, Mock()])
def test_a_plain_hook(hook: Any, tmp_path: Path) -> None:
    client = AdaptyClient("secret", on_attempt=hook)
    bulk.delete_profiles(
        client, [], by="profile_id", on_progress=hook, ledger=Ledger(tmp_path / "job.db", live_status=hook)
    )


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "localhost.",
            "LOCALHOST",
            "simulator",
            "simulator:8080",
            "a.localhost",
            "x.internal.",
        ),
        *("2130706433", "127.1", "0x7f.1", "0177.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.1.1"),
        *("[::1]", "[::ffff:10.0.0.1]", "[fe80::1]", "[fd00::1]", "x.test", "x.local"),
    ],
)
def test_http_on_the_own_network(host: str) -> None:
    AdaptyClient("secret", base_url=f"http://{host}")
