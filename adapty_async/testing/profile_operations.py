"""The four operations on profiles, without I/O: they take headers and a body and return a response.

Behaviour that the API doesn't document is marked as assumed.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from .profiles import Profile, Profiles
from .responses import (
    DELETED,
    PROFILE_DOES_NOT_EXIST,
    RejectedRequestError,
    SimulatedResponse,
    build_profile_response,
    build_validation_error,
)
from .validation import MAX_CUSTOM_ATTRIBUTES, PLATFORMS, find_profile_request_errors

OperationHandler = Callable[[Profiles, Mapping[str, str], bytes], SimulatedResponse]


def handle_get(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> SimulatedResponse:
    """Handle a GET."""
    return build_profile_response(_find_profile(profiles, _read_ids(headers)), profiles.app_id)


def handle_delete(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> SimulatedResponse:
    """Handle a DELETE."""
    profiles.remove(_find_profile(profiles, _read_ids(headers)))
    return DELETED


def handle_update(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> SimulatedResponse:
    """Handle a PATCH."""
    ids, change = _read_ids(headers), _parse_change(headers, body)
    profile = _find_profile(profiles, ids)
    change.apply(profile, change.merge_custom_attributes(profile))
    return build_profile_response(profile, profiles.app_id)


def handle_create(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> SimulatedResponse:
    """Handle a POST: create a profile, or link a customer user ID to an existing one if both IDs are given.

    Assumed: if the customer user ID belongs to an existing profile, or only a profile ID is given, the request
    addresses that profile, and the body updates it like that of a PATCH.
    """
    ids, change = _read_ids(headers), _parse_change(headers, body)
    if ids.profile_id is None:
        profile = profiles.find(customer_user_id=ids.customer_user_id)
        profile = profile or profiles.add(customer_user_id=ids.customer_user_id)
    else:
        profile = _find_profile(profiles, _ProfileIds(None, ids.profile_id))
    custom_attributes = change.merge_custom_attributes(profile)  # may reject the request, so it comes before the link
    if ids.customer_user_id is not None:
        _link_profile(profiles, profile, ids.customer_user_id)
    change.apply(profile, custom_attributes)
    return build_profile_response(profile, profiles.app_id)


class _ProfileIds(NamedTuple):
    customer_user_id: str | None
    profile_id: str | None


def _read_ids(headers: Mapping[str, str]) -> _ProfileIds:
    ids = _ProfileIds(_read_id(headers, "adapty-customer-user-id"), _read_id(headers, "adapty-profile-id"))
    if ids == (None, None):
        _reject("non_field_errors", "Either adapty-customer-user-id or adapty-profile-id is required.")
    return ids


def _read_id(headers: Mapping[str, str], name: str) -> str | None:
    """Return the ID in a header, or None if it is absent. Assumed: an empty one counts as absent."""
    value = headers.get(name)
    # aiohttp decodes UTF-8 and replaces other bytes by surrogates. Assumed: such an ID is a 400.
    if value and any("\ud800" <= character <= "\udfff" for character in value):
        _reject(name, "Must be UTF-8.")
    return value or None


def _find_profile(profiles: Profiles, ids: _ProfileIds) -> Profile:
    """Return the profile that a request names. Assumed: if both IDs are given, both must be the profile's."""
    profile = profiles.find(customer_user_id=ids.customer_user_id, profile_id=ids.profile_id)
    if profile is None:
        raise RejectedRequestError(PROFILE_DOES_NOT_EXIST)
    return profile


def _link_profile(profiles: Profiles, profile: Profile, customer_user_id: str) -> None:
    """Link an ID. Assumed: a link that would take the ID of another profile is a 400, because no 409 is documented."""
    try:
        profiles.link(profile, customer_user_id)
    except ValueError:
        _reject("adapty-customer-user-id", "The profile or the customer user ID is already linked.")


class _ProfileChange(NamedTuple):
    """The changes that a valid create or update request asks for."""

    platform: str | None
    attributes: dict[str, Any]
    custom_attributes: list[dict[str, Any]]

    def merge_custom_attributes(self, profile: Profile) -> dict[str, str | float]:
        """Return the profile's custom attributes after the change. Those that aren't named stay."""
        after = dict(profile.custom_attributes)
        for item in self.custom_attributes:
            key, value = item["key"], item["value"]
            if value is None or value == "":
                after.pop(key, None)
            else:
                after[key] = value if isinstance(value, str) else float(value)
        if len(after) > MAX_CUSTOM_ATTRIBUTES:
            _reject("custom_attributes", f"A profile has at most {MAX_CUSTOM_ATTRIBUTES} custom attributes.")
        return after

    def apply(self, profile: Profile, custom_attributes: dict[str, str | float]) -> None:
        """Set the fields that were sent, including null. Others keep their values."""
        profile.platform = self.platform or profile.platform
        profile.attributes.update(self.attributes)
        profile.custom_attributes = custom_attributes


def _parse_change(headers: Mapping[str, str], body: bytes) -> _ProfileChange:
    platform = headers.get("adapty-platform")
    attributes = _parse_object(body)
    errors = find_profile_request_errors(attributes)
    if platform is not None and platform not in PLATFORMS:
        errors["adapty-platform"] = [f"Must be one of {', '.join(PLATFORMS)}."]
    if errors:
        raise RejectedRequestError(build_validation_error(errors))
    custom_attributes = attributes.pop("custom_attributes", [])
    return _ProfileChange(platform, attributes, custom_attributes)


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _reject("non_field_errors", "The body must be a JSON object.")
    return value


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _reject(source: str, text: str) -> NoReturn:
    raise RejectedRequestError(build_validation_error({source: [text]}))
