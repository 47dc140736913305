"""The four operations over HTTP."""

import asyncio
import time
from typing import Any
from uuid import UUID

import pytest

from adapty_async.testing import Simulator
from tests.testing.caller import Caller, port, raw_request
from tests.testing.facts import STATUSES

ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
OTHER_ID = "d8533a10-bcce-4e33-8c9d-88b05ac56559"
METHODS = ["GET", "POST", "PATCH", "DELETE"]
WITH_BODY = ["POST", "PATCH"]


# Authentication


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("authorization", ["", "Api-Key wrong", "Bearer {key}", "{key}", "Api-Key {key}x"])
async def test_any_other_key_is_the_documented_401(
    simulator: Simulator, call: Caller, method: str, authorization: str
) -> None:
    simulator.add_profile(customer_user_id="u1")
    reply = await call(simulator, method, "u1", headers={"Authorization": authorization.format(key=simulator.api_key)})
    assert reply.status == 401
    assert reply.json == {
        "errors": [{"source": "non_field_errors", "errors": ["Authentication credentials were not provided."]}],
        "error_code": "not_authenticated",
        "status_code": 401,
    }
    assert "u1" in simulator.profiles.customer_user_ids


async def test_the_key_is_checked_before_anything_else(simulator: Simulator, call: Caller) -> None:
    reply = await call(simulator, "PUT", path="/elsewhere", headers={"Authorization": ""}, data=b"no JSON")
    assert reply.status == 401


async def test_a_path_of_no_operation_is_404(simulator: Simulator, call: Caller) -> None:
    assert (await call(simulator, "GET", "u1", path="/api/v2/server-side-api/profile")).code == "not_found"


async def test_a_method_of_no_operation_is_405(simulator: Simulator, call: Caller) -> None:
    assert (await call(simulator, "PUT", "u1", json={})).status == 405


# The profile of a request


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("headers", [{}, {"adapty-customer-user-id": "", "adapty-profile-id": ""}])
async def test_no_id_is_400(simulator: Simulator, call: Caller, method: str, headers: dict[str, str]) -> None:
    reply = await call(simulator, method, headers=headers, json={})
    assert (reply.status, reply.code) == (400, "validation_error")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("ids", [("u1", None), (None, ID), (None, "no UUID"), ("u1", ID)])
async def test_an_unknown_profile_is_the_documented_404(
    simulator: Simulator, call: Caller, method: str, ids: tuple[str | None, str | None]
) -> None:
    reply = await call(simulator, method, *ids, json={})
    assert reply.status == 404
    assert reply.json == {
        "errors": [{"source": None, "errors": ["Profile not found"]}],
        "error_code": "profile_does_not_exist",
        "status_code": 404,
    }


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_ids_of_two_profiles_address_neither(simulator: Simulator, call: Caller, method: str) -> None:
    simulator.add_profile(customer_user_id="u1", profile_id=ID)
    simulator.add_profile(customer_user_id="u2", profile_id=OTHER_ID)
    assert (await call(simulator, method, "u2", ID, json={})).status == 404
    assert len(simulator.profiles) == 2


@pytest.mark.parametrize("customer_user_id", ["0", "jane.doe@example.com", "жанна@пример.рф", "名前 姓", "é" * 1000])
async def test_any_id_travels_as_utf_8(simulator: Simulator, call: Caller, customer_user_id: str) -> None:
    simulator.add_profile(customer_user_id=customer_user_id)
    assert (await call(simulator, "GET", customer_user_id)).data["customer_user_id"] == customer_user_id


async def test_an_id_that_is_not_utf_8_is_400(simulator: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
    writer.write(raw_request(simulator, "GET", b"caf\xe9", b"Connection: close"))
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b'"source": "adapty-customer-user-id"' in answer


# Get


async def test_get_shows_the_whole_profile(simulator: Simulator, call: Caller) -> None:
    profile = simulator.add_profile(customer_user_id="u1", profile_id=ID)
    profile.custom_attributes = {"favourite_sport": "yoga", "score": 1.5}
    profile.total_revenue_usd = 9.99
    profile.access_levels = [{"access_level_id": "premium", "store": "app_store", "expires_at": None}]
    profile.subscriptions = None
    before = time.time_ns() // 1_000_000
    data = (await call(simulator, "GET", "u1")).data
    assert before <= data.pop("timestamp") <= time.time_ns() // 1_000_000
    assert data == {
        "app_id": simulator.profiles.app_id,
        "profile_id": ID,
        "customer_user_id": "u1",
        "total_revenue_usd": 9.99,
        "segment_hash": profile.segment_hash,
        "custom_attributes": [
            {"key": "favourite_sport", "value": "yoga"},
            {"key": "score", "value": 1.5},
        ],
        "access_levels": [{"access_level_id": "premium", "store": "app_store", "expires_at": None}],
        "subscriptions": None,
        "non_subscriptions": [],
    }


async def test_get_by_profile_id_shows_an_anonymous_profile(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(profile_id=ID)
    data = (await call(simulator, "GET", profile_id=ID.upper())).data
    assert (data["profile_id"], data["customer_user_id"]) == (ID, None)


async def test_each_answer_has_a_request_id_of_its_own(simulator: Simulator, call: Caller) -> None:
    ids = {(await call(simulator, "GET", "u1")).headers["Request-Id"] for _ in range(3)}
    assert len(ids) == 3


# Create


async def test_create_makes_a_profile_with_a_fresh_profile_id(simulator: Simulator, call: Caller) -> None:
    reply = await call(simulator, "POST", "u1", json={"first_name": "Jane"}, headers={"adapty-platform": "iOS"})
    assert (reply.status, reply.data["customer_user_id"]) == (200, "u1")
    profile = simulator.profiles[reply.data["profile_id"]]
    assert UUID(profile.profile_id)
    assert (profile.attributes, profile.platform) == ({"first_name": "Jane"}, "iOS")


async def test_create_again_addresses_the_same_profile(simulator: Simulator, call: Caller) -> None:
    first = await call(simulator, "POST", "u1", json={"first_name": "Jane", "last_name": "Doe"})
    again = await call(simulator, "POST", "u1", json={"first_name": "Joan"})
    assert again.data["profile_id"] == first.data["profile_id"]
    assert simulator.profiles[again.data["profile_id"]].attributes == {"first_name": "Joan", "last_name": "Doe"}


async def test_create_with_both_ids_links_the_customer_user_id_to_the_profile(
    simulator: Simulator, call: Caller
) -> None:
    simulator.add_profile(profile_id=ID)
    for _ in range(2):
        data = (await call(simulator, "POST", "u1", ID, json={"gender": "f"})).data
        assert (data["profile_id"], data["customer_user_id"]) == (ID, "u1")
    assert (await call(simulator, "GET", "u1")).data["profile_id"] == ID
    assert simulator.profiles[ID].attributes == {"gender": "f"}


@pytest.mark.parametrize("customer_user_id", [None, "u1"])
async def test_create_with_an_unknown_profile_id_is_404(
    simulator: Simulator, call: Caller, customer_user_id: str | None
) -> None:
    assert (await call(simulator, "POST", customer_user_id, ID, json={})).status == 404
    assert len(simulator.profiles) == 0


async def test_create_with_a_profile_id_alone_addresses_that_profile(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1", profile_id=ID)
    data = (await call(simulator, "POST", profile_id=ID, json={"gender": "f"})).data
    assert (data["customer_user_id"], simulator.profiles[ID].attributes) == ("u1", {"gender": "f"})


async def test_a_link_never_takes_an_id_from_a_profile(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1", profile_id=ID)
    simulator.add_profile(customer_user_id="u2", profile_id=OTHER_ID)
    anonymous = simulator.add_profile().profile_id
    for customer_user_id, profile_id in [("u2", ID), ("u3", ID), ("u1", anonymous)]:
        reply = await call(simulator, "POST", customer_user_id, profile_id, json={"gender": "f"})
        assert (reply.status, reply.sources) == (400, ["adapty-customer-user-id"])
    assert {who.profile_id: who.customer_user_id for who in simulator.profiles.values()} == {
        ID: "u1",
        OTHER_ID: "u2",
        anonymous: None,
    }
    assert set(simulator.profiles.customer_user_ids) == {"u1", "u2"}
    assert [who.attributes for who in simulator.profiles.values()] == [{}, {}, {}]


# Update


async def test_update_tells_absent_null_and_value_apart(simulator: Simulator, call: Caller) -> None:
    profile = simulator.add_profile(customer_user_id="u1")
    profile.attributes = {"first_name": "Jane", "last_name": "Doe", "gender": "f"}
    assert (await call(simulator, "PATCH", "u1", json={"first_name": None, "last_name": "Roe"})).status == 200
    assert profile.attributes == {"first_name": None, "last_name": "Roe", "gender": "f"}


async def test_update_keeps_the_platform_where_none_is_sent(simulator: Simulator, call: Caller) -> None:
    profile = simulator.add_profile(customer_user_id="u1")
    await call(simulator, "PATCH", "u1", json={}, headers={"adapty-platform": "web"})
    await call(simulator, "PATCH", "u1", json={})
    assert profile.platform == "web"


@pytest.mark.parametrize("method", WITH_BODY)
async def test_custom_attributes_are_set_changed_and_deleted(simulator: Simulator, call: Caller, method: str) -> None:
    profile = simulator.add_profile(customer_user_id="u1")
    profile.custom_attributes = {"kept": "k", "changed": "old", "nulled": "x", "emptied": "x"}
    sent = {"changed": "new", "nulled": None, "emptied": "", "absent": None, "yes": True, "seven": 7, "half": 0.5}
    items = [{"key": key, "value": value} for key, value in sent.items()]
    data = (await call(simulator, method, "u1", json={"custom_attributes": items})).data
    after = {"kept": "k", "changed": "new", "yes": 1.0, "seven": 7.0, "half": 0.5}
    assert data["custom_attributes"] == [{"key": key, "value": value} for key, value in after.items()]
    assert {type(after[key]) for key in ("yes", "seven")} == {float}
    assert "custom_attributes" not in profile.attributes


async def test_booleans_and_integers_come_back_as_floats(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1")
    items = [{"key": "yes", "value": True}, {"key": "seven", "value": 7}]
    reply = await call(simulator, "PATCH", "u1", json={"custom_attributes": items})
    assert [item["value"] for item in reply.data["custom_attributes"]] == [1.0, 7.0]
    assert b'"value": 1.0' in reply.body
    assert b'"value": 7.0' in reply.body


@pytest.mark.parametrize("method", WITH_BODY)
async def test_a_profile_never_has_more_than_thirty_custom_attributes(
    simulator: Simulator, call: Caller, method: str
) -> None:
    profile = simulator.add_profile(profile_id=ID)
    profile.custom_attributes = {f"k{number}": "v" for number in range(30)}
    body = {"gender": "f", "custom_attributes": [{"key": "one_more", "value": "v"}]}
    reply = await call(simulator, method, None, ID, json=body)
    assert (reply.status, reply.sources) == (400, ["custom_attributes"])
    assert (len(profile.custom_attributes), profile.attributes) == (30, {})
    body["custom_attributes"] = [{"key": "one_more", "value": "v"}, {"key": "k0", "value": None}]
    assert (await call(simulator, method, None, ID, json=body)).status == 200


async def test_a_refused_link_is_not_half_made(simulator: Simulator, call: Caller) -> None:
    profile = simulator.add_profile(profile_id=ID)
    profile.custom_attributes = {f"k{number}": "v" for number in range(30)}
    body = {"custom_attributes": [{"key": "one_more", "value": "v"}]}
    assert (await call(simulator, "POST", "u1", ID, json=body)).status == 400
    assert (profile.customer_user_id, set(simulator.profiles.customer_user_ids)) == (None, set())


# Bodies


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize(
    ("body", "sources"),
    [
        ({"gender": "x"}, ["gender"]),
        ({"first_name": 1, "att_status": True}, ["first_name", "att_status"]),
        ({"installation_meta": {}}, ["installation_meta"]),
        ({"custom_attributes": [{"key": "no spaces", "value": "v"}]}, ["custom_attributes"]),
    ],
)
async def test_an_invalid_body_is_a_400_that_names_the_fields(
    simulator: Simulator, call: Caller, method: str, body: Any, sources: list[str]
) -> None:
    profile = simulator.add_profile(customer_user_id="u1")
    reply = await call(simulator, method, "u1", json=body)
    assert (reply.status, reply.code, reply.sources) == (400, "validation_error", sources)
    assert profile.attributes == {}


@pytest.mark.parametrize("method", WITH_BODY)
async def test_an_invalid_platform_is_a_400(simulator: Simulator, call: Caller, method: str) -> None:
    reply = await call(simulator, method, "u1", json={}, headers={"adapty-platform": "ios"})
    assert (reply.status, reply.sources) == (400, ["adapty-platform"])


@pytest.mark.parametrize("platform", ["iOS", "macOS", "iPadOS", "visionOS", "Android", "web"])
async def test_every_documented_platform_is_taken(simulator: Simulator, call: Caller, platform: str) -> None:
    assert (await call(simulator, "POST", "u1", json={}, headers={"adapty-platform": platform})).status == 200


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"first_name": "caf\xe9"}',
        '{"first_name": "Jane"}'.encode("utf-16"),
        b'{"custom_attributes": [{"key": "k", "value": NaN}]}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_json_object_is_400(
    simulator: Simulator, call: Caller, method: str, body: bytes
) -> None:
    reply = await call(simulator, method, "u1", data=body)
    assert (reply.status, reply.code, len(simulator.profiles)) == (400, "validation_error", 0)


# Delete


@pytest.mark.parametrize("ids", [("u1", None), (None, ID), ("u1", ID)])
async def test_delete_is_204_without_a_body_and_404_afterwards_under_both_ids(
    simulator: Simulator, call: Caller, ids: tuple[str | None, str | None]
) -> None:
    simulator.add_profile(customer_user_id="u1", profile_id=ID)
    reply = await call(simulator, "DELETE", *ids)
    assert (reply.status, reply.body, len(simulator.profiles)) == (204, b"", 0)
    assert "Content-Type" not in reply.headers
    for method in ("GET", "DELETE"):
        assert (await call(simulator, method, "u1")).status == 404
        assert (await call(simulator, method, profile_id=ID)).status == 404


async def test_a_deleted_customer_user_id_can_be_created_anew(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1", profile_id=ID)
    await call(simulator, "DELETE", "u1")
    assert (await call(simulator, "POST", "u1", json={})).data["profile_id"] != ID


async def test_delete_ignores_a_body(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1")
    assert (await call(simulator, "DELETE", "u1", data=b"no JSON")).status == 204


# All operations


@pytest.mark.parametrize("method", METHODS)
async def test_every_status_of_a_request_that_names_a_profile_is_documented(call: Caller, method: str) -> None:
    async with Simulator(profiles=1, rate=0.001, burst=3) as simulator:
        calls: list[dict[str, Any]] = [
            {"headers": {"Authorization": ""}},
            {"customer_user_id": "unknown", "profile_id": ID, "json": {}},
            {"customer_user_id": "user-000001@example.com", "json": {"gender": "x"}},
            {"customer_user_id": "user-000001@example.com", "json": {}},
            {"customer_user_id": "user-000001@example.com", "json": {}},
            {"customer_user_id": "user-000001@example.com", "json": {}},
        ]
        seen = {(await call(simulator, method, **arguments)).status for arguments in calls}
    assert seen <= set(STATUSES[method])
    assert {401, 404, 429} <= seen
