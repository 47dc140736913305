"""The checks that the other tests rely on can fail."""

import json
from typing import Any

import pytest

from tests.testing.caller import Reply
from tests.testing.facts import request_violations, violations

PROFILE: dict[str, Any] = {
    "app_id": "14c3d333-2f3a-455a-aa86-ef83dff6913b",
    "profile_id": "d8533a10-bcce-4e33-8c9d-88b05ac56559",
    "customer_user_id": "u1",
    "total_revenue_usd": 9.99,
    "segment_hash": "fdaeef7f8aaa33c9",
    "timestamp": 1733324566777,
    "custom_attributes": [{"key": "favourite_sport", "value": "yoga"}],
    "access_levels": [
        {
            "access_level_id": "premium",
            "offer": {"category": "promotional", "type": "free_trial"},
            "purchased_at": "2024-12-24T10:50:23+00:00",
        }
    ],
    "subscriptions": None,
    "non_subscriptions": [],
}
ERROR: dict[str, Any] = {
    "errors": [{"source": None, "errors": ["Profile not found"]}],
    "error_code": "profile_does_not_exist",
    "status_code": 404,
}


def test_a_conforming_profile_has_no_violation() -> None:
    assert violations({"data": PROFILE}, "ProfileResponse") == []


@pytest.mark.parametrize("name", list(PROFILE))
def test_a_missing_field_is_found(name: str) -> None:
    rest = {field: value for field, value in PROFILE.items() if field != name}
    assert violations(rest, "Profile") == [f"Profile.{name}: missing"]


@pytest.mark.parametrize(
    "change",
    [
        {"app_id": "no UUID"},
        {"customer_user_id": 1},
        {"total_revenue_usd": True},
        {"timestamp": 1.5},
        {"custom_attributes": [{"key": "no spaces", "value": "v"}]},
        {"custom_attributes": [{"key": "k", "value": "v" * 51}]},
        {"custom_attributes": [{"key": "k", "value": "v"}] * 31},
        {"custom_attributes": None},
        {"access_levels": [{"offer": {"category": "promotional", "type": "gift"}}]},
        {"access_levels": [{"purchased_at": "2024-12-24T10:50:23"}]},
        {"non_subscriptions": {}},
    ],
)
def test_a_departure_is_found(change: dict[str, Any]) -> None:
    assert len(violations(PROFILE | change, "Profile")) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(204, {}, b""),
        Reply(204, {"Request-Id": "1"}, b"x"),
        Reply(404, {"Request-Id": "1", "Content-Type": "text/html"}, json.dumps(ERROR).encode()),
        Reply(400, {"Request-Id": "1", "Content-Type": "application/json"}, json.dumps(ERROR).encode()),
        Reply(404, {"Request-Id": "1", "Content-Type": "application/json"}, b'{"errors": []}'),
        Reply(200, {"Request-Id": "1", "Content-Type": "application/json"}, json.dumps(PROFILE).encode()),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found(reply: Reply) -> None:
    assert reply.departures() != []


PATH = "/api/v2/server-side-api/profile/"
HEADERS = {
    "Host": "api",
    "Authorization": "Api-Key secret_live_1",
    "adapty-customer-user-id": "u1",
    "Content-Type": "application/json",
    "Content-Length": "2",
}
BARE = {name: value for name, value in HEADERS.items() if not name.startswith("Content")}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_conforming_request_without_a_body_has_no_violation(method: str) -> None:
    assert request_violations(method, PATH, BARE, b"") == []


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    "body", [b"{}", b'{"installation_meta": {"device_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"}}']
)
def test_a_conforming_request_with_a_body_has_no_violation(method: str, body: bytes) -> None:
    assert request_violations(method, PATH, HEADERS | {"adapty-platform": "iOS"}, body) == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", PATH.removesuffix("/"), BARE, b""),
        ("GET", PATH, BARE | {"Authorization": "Bearer secret_live_1"}, b""),
        ("GET", PATH, {name: value for name, value in BARE.items() if name != "Authorization"}, b""),
        ("GET", PATH, {name: value for name, value in BARE.items() if not name.startswith("adapty")}, b""),
        ("GET", PATH, BARE | {"Cookie": "a=b"}, b""),
        ("GET", PATH, BARE | {"host": "another"}, b""),
        ("GET", PATH, BARE | {"adapty-platform": "iOS"}, b""),
        ("GET", PATH, BARE | {"Content-Type": "application/json"}, b""),
        ("DELETE", PATH, BARE, b"{}"),
        ("PATCH", PATH, HEADERS | {"adapty-platform": "Windows"}, b"{}"),
        ("PATCH", PATH, HEADERS | {"Content-Type": "text/plain"}, b"{}"),
        ("PATCH", PATH, HEADERS, b""),
        ("PATCH", PATH, HEADERS, b'{"gender": "x"}'),
        ("PATCH", PATH, HEADERS, b'{"shoe_size": 44}'),
        ("POST", PATH, HEADERS, b'{"custom_attributes": [{"key": "k", "value": 1, "type": "int"}]}'),
    ],
)
def test_a_departure_of_a_request_is_found(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
    assert len(request_violations(method, path, headers, body)) == 1
