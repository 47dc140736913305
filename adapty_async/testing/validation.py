"""Validation of the body of a profile request by the documented limits.

A check takes a JSON value and returns error messages, which never contain the value.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

Check = Callable[[Any], list[str]]

PLATFORMS = ("iOS", "macOS", "iPadOS", "visionOS", "Android", "web")
MAX_CUSTOM_ATTRIBUTES = 30
MAX_CUSTOM_KEY_LENGTH = 30
MAX_CUSTOM_VALUE_LENGTH = 50

_CUSTOM_KEY_PATTERN = re.compile(r"[A-Za-z0-9._-]+")
_EMAIL_PATTERN = re.compile(r"[^@\s]+@[^@\s]+")
_FULL_DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def find_profile_request_errors(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the errors of each field of a create or update request. A valid request has none.

    Unknown fields pass, because the documentation doesn't exclude them.
    """
    errors = {name: check(body[name]) for name, check in _PROFILE_CHECKS.items() if name in body}
    return {name: texts for name, texts in errors.items() if texts}


def is_uuid(value: str) -> bool:
    """Return True if `value` is a UUID in its canonical form of 36 characters."""
    return _UUID_PATTERN.fullmatch(value) is not None


def _check_string(value: Any) -> list[str]:
    return [] if isinstance(value, str) else ["Not a valid string."]


def _check_boolean(value: Any) -> list[str]:
    return [] if isinstance(value, bool) else ["Must be a valid boolean."]


def _check_att_status(value: Any) -> list[str]:
    # In Python True equals 1, in JSON it doesn't.
    return [] if type(value) is int and 0 <= value <= 3 else ["Must be 0, 1, 2 or 3."]


def _make_choice_check(*choices: str) -> Check:
    return lambda value: [] if value in choices else [f"Must be one of {', '.join(choices)}."]


def _make_format_check(is_valid: Callable[[str], bool], label: str) -> Check:
    return lambda value: [] if isinstance(value, str) and is_valid(value) else [f"Must be {label}."]


def _allow_null(check: Check) -> Check:
    return lambda value: [] if value is None else check(value)


def _is_full_date(value: str) -> bool:
    # date.fromisoformat also accepts 20001231 and 2000-W52-7.
    if not _FULL_DATE_PATTERN.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_ipv4(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True


def _check_custom_attributes(value: Any) -> list[str]:
    if not isinstance(value, list):
        return ["Expected a list of items."]
    checked = ((number, _check_custom_attribute(item)) for number, item in enumerate(value))
    errors = [f"Item {number}: {text}" for number, texts in checked for text in texts]
    if len(value) > MAX_CUSTOM_ATTRIBUTES:
        errors.append(f"At most {MAX_CUSTOM_ATTRIBUTES} custom attributes are allowed.")
    return errors


def _check_custom_attribute(item: Any) -> list[str]:
    if not isinstance(item, dict):
        return ["Expected an object with key and value."]
    return [
        *_check_field("key", item, _check_custom_key),
        *_check_field("value", item, _allow_null(_check_custom_value)),
    ]


def _check_custom_key(key: Any) -> list[str]:
    if isinstance(key, str) and len(key) <= MAX_CUSTOM_KEY_LENGTH and _CUSTOM_KEY_PATTERN.fullmatch(key):
        return []
    return [f"At most {MAX_CUSTOM_KEY_LENGTH} letters, numbers, dashes, points and underscores are allowed."]


def _check_custom_value(value: Any) -> list[str]:
    if isinstance(value, str):
        short = len(value) <= MAX_CUSTOM_VALUE_LENGTH
        return [] if short else [f"At most {MAX_CUSTOM_VALUE_LENGTH} characters are allowed."]
    return [] if _is_number(value) else ["Must be a string or a number."]


def _is_number(value: Any) -> bool:
    # Booleans count as numbers: the API converts them to floats. Integers too large for a float are rejected.
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _check_installation_meta(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return ["Expected an object."]
    errors = _check_field("device_id", value, _make_format_check(is_uuid, "a UUID"))
    for name, check in _INSTALLATION_META_CHECKS.items():
        if name in value:
            errors += _check_field(name, value, check)
    return errors


def _check_field(name: str, parent: Mapping[str, Any], check: Check) -> list[str]:
    texts = check(parent[name]) if name in parent else ["This field is required."]
    return [f"{name}: {text}" for text in texts]


_PROFILE_CHECKS: dict[str, Check] = {
    "first_name": _allow_null(_check_string),
    "last_name": _allow_null(_check_string),
    "gender": _allow_null(_make_choice_check("f", "m", "o")),
    "email": _allow_null(
        _make_format_check(lambda value: _EMAIL_PATTERN.fullmatch(value) is not None, "an e-mail address")
    ),
    "phone_number": _allow_null(_check_string),
    "birthday": _allow_null(_make_format_check(_is_full_date, "a date, YYYY-MM-DD")),
    # The documentation is inconsistent about country codes and store values, so any string passes.
    "ip_country": _allow_null(_check_string),
    "ip_v4_address": _allow_null(_make_format_check(_is_ipv4, "an IPv4 address")),
    "store_country": _allow_null(_check_string),
    "store": _allow_null(_check_string),
    "store_account_token": _allow_null(_make_format_check(is_uuid, "a UUID")),
    "att_status": _allow_null(_check_att_status),
    "analytics_disabled": _allow_null(_check_boolean),
    "custom_attributes": _check_custom_attributes,
    "installation_meta": _check_installation_meta,
}

_INSTALLATION_META_CHECKS: dict[str, Check] = {
    "platform": _allow_null(_make_choice_check(*PLATFORMS)),
    **dict.fromkeys(
        (
            "device",
            "locale",
            "os",
            "timezone",
            "user_agent",
            "app_build",
            "app_version",
            "adapty_sdk_version",
            "idfa",
            "idfv",
            "advertising_id",
            "android_id",
            "android_app_set_id",
        ),
        _allow_null(_check_string),
    ),
}
