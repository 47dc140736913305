from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapty_async.testing.validation import find_profile_request_errors
from tests.testing.facts import fields, violations

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
PAGE_EXAMPLE = {
    "first_name": "Jane",
    "last_name": "Doe",
    "gender": "f",
    "email": "jane.doe@example.com",
    "phone_number": "+1234567890",
    "birthday": "2000-12-31",
    "ip_country": "FR",
    "store_country": "US",
    "store": "app_store",
    "analytics_disabled": True,
    "custom_attributes": [{"key": "favourite_sport", "value": "yoga"}],
    "installation_meta": {
        "device_id": UUID,
        "device": "string",
        "locale": "en",
        "os": "string",
        "platform": "iOS",
        "timezone": "Europe/Rome",
        "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1_1 like Mac OS X)",
        "idfa": "EA7583CD-A667-48BC-B806-42ECB2B48333",
        "idfv": "E9D48DA5-3930-4B41-8521-D953AECD2F33",
        "advertising_id": "",
        "android_id": "",
        "android_app_set_id": "",
    },
}

NULLABLE = [name for name in fields("ProfileRequest") if name not in ("custom_attributes", "installation_meta")]
TEXTS = ["first_name", "last_name", "phone_number", "ip_country", "store_country", "store"]


def test_the_example_of_the_page_is_valid() -> None:
    assert find_profile_request_errors(PAGE_EXAMPLE) == {}


def test_an_empty_request_is_valid() -> None:
    assert find_profile_request_errors({}) == {}


def test_an_unknown_field_passes() -> None:
    assert find_profile_request_errors({"shoe_size": [44]}) == {}


@pytest.mark.parametrize("name", NULLABLE)
def test_null_is_valid(name: str) -> None:
    assert find_profile_request_errors({name: None}) == {}


@pytest.mark.parametrize("name", ["custom_attributes", "installation_meta"])
def test_null_is_refused_where_it_is_not_documented(name: str) -> None:
    assert list(find_profile_request_errors({name: None})) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, "") for name in TEXTS],
        ("store", "the_name_of_our_own_store"),
        ("gender", "o"),
        ("birthday", "2024-02-29"),
        ("ip_v4_address", "203.0.113.7"),
        ("store_account_token", UUID.upper()),
        ("att_status", 0),
        ("att_status", 3),
        ("analytics_disabled", False),
    ],
)
def test_a_value_within_the_limits_is_valid(name: str, value: Any) -> None:
    assert find_profile_request_errors({name: value}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 1) for name in TEXTS],
        *[(name, ["text"]) for name in NULLABLE],
        ("gender", "female"),
        ("gender", ""),
        ("email", "jane"),
        ("email", "jane@"),
        ("email", "jane@doe@example.com"),
        ("email", "jane doe@example.com"),
        ("birthday", "2000-02-30"),
        ("birthday", "20001231"),
        ("birthday", "2000-W52-7"),
        ("birthday", "2000-12-31T00:00:00Z"),
        ("birthday", 20001231),
        ("ip_v4_address", "2001:db8::1"),
        ("ip_v4_address", "203.0.113"),
        ("store_account_token", UUID.replace("-", "")),
        ("store_account_token", f"{{{UUID}}}"),
        ("att_status", 4),
        ("att_status", -1),
        ("att_status", True),
        ("att_status", "3"),
        ("analytics_disabled", 1),
        ("analytics_disabled", "true"),
        ("custom_attributes", {"favourite_sport": "yoga"}),
        ("installation_meta", UUID),
        ("installation_meta", {}),
        ("installation_meta", {"device_id": None}),
        ("installation_meta", {"device_id": "a device"}),
        ("installation_meta", {"device_id": UUID, "platform": "Windows"}),
        ("installation_meta", {"device_id": UUID, "locale": 5}),
    ],
)
def test_a_value_outside_the_limits_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    assert list(find_profile_request_errors({name: value})) == [name]


@pytest.mark.parametrize(
    "item",
    [
        {"key": "k" * 30, "value": "v" * 50},
        {"key": "AZaz09._-", "value": "ü" * 50},
        {"key": "k", "value": ""},
        {"key": "k", "value": None},
        {"key": "k", "value": True},
        {"key": "k", "value": -7},
        {"key": "k", "value": 0.5},
    ],
)
def test_a_custom_attribute_within_the_limits_is_valid(item: Any) -> None:
    assert find_profile_request_errors({"custom_attributes": [item]}) == {}


@pytest.mark.parametrize(
    "item",
    [
        "k",
        {"value": "v"},
        {"key": "k"},
        {"key": "", "value": "v"},
        {"key": 1, "value": "v"},
        {"key": "k" * 31, "value": "v"},
        {"key": "white space", "value": "v"},
        {"key": "küche", "value": "v"},
        {"key": "k\n", "value": "v"},
        {"key": "k", "value": "v" * 51},
        {"key": "k", "value": ["v"]},
        {"key": "k", "value": float("inf")},
        {"key": "k", "value": 10**400},
    ],
)
def test_a_custom_attribute_outside_the_limits_is_refused(item: Any) -> None:
    assert list(find_profile_request_errors({"custom_attributes": [item]})) == ["custom_attributes"]


def test_thirty_custom_attributes_are_valid_and_one_more_is_refused() -> None:
    items = [{"key": f"k{number}", "value": "v"} for number in range(31)]
    assert find_profile_request_errors({"custom_attributes": items[:30]}) == {}
    assert list(find_profile_request_errors({"custom_attributes": items})) == ["custom_attributes"]


def test_every_field_at_fault_is_named() -> None:
    assert find_profile_request_errors({"gender": "x", "first_name": "Jane", "att_status": 9}).keys() == {
        "gender",
        "att_status",
    }


# Any JSON, and values near the limits.
WORDS = ["", "k\n", "küche", "a b@c", UUID, UUID[:-1], *("x" * length for length in (30, 31, 50, 51))]
WORDS += ["f", "iOS", "a.Z_9-", "a@b", "2000-12-31", "2000-13-01", "20001231", "192.0.2.1", "192.0.2.256"]
LEAVES = st.none() | st.booleans() | st.integers(-2, 5) | st.floats(-1, 1) | st.sampled_from(WORDS)
CUSTOM = st.fixed_dictionaries({}, optional={"key": LEAVES, "value": LEAVES})
MANY_CUSTOM = st.integers(29, 31).map(lambda number: [{"key": f"k{index}", "value": "v"} for index in range(number)])
META = st.dictionaries(st.sampled_from(fields("InstallationMeta")), LEAVES, max_size=4)
REQUESTS = st.dictionaries(
    st.sampled_from(fields("ProfileRequest")),
    st.one_of(LEAVES, st.lists(CUSTOM, max_size=3), MANY_CUSTOM, META),
    max_size=4,
)


@given(REQUESTS)
@example(PAGE_EXAMPLE)
def test_it_refuses_what_the_facts_refuse_and_nothing_else(body: dict[str, Any]) -> None:
    assert bool(find_profile_request_errors(body)) == bool(violations(body, "ProfileRequest"))


def test_no_text_repeats_a_value() -> None:
    value = "what Jane wrote"
    body: dict[str, Any] = {name: [value] for name in fields("ProfileRequest")}
    body["custom_attributes"] = [{"key": value, "value": value * 4}, value]
    body["installation_meta"] = {name: [value] for name in fields("InstallationMeta")}
    errors = find_profile_request_errors(body)
    assert errors.keys() == body.keys()
    assert value not in str(errors)
