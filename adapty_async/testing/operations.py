"""The four operations on profiles, without I/O: they take headers and a body and return a response.

Behaviour that the API doesn't document is marked as assumed.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from .profiles import Profile, Profiles
from .responses import DELETED, PROFILE_DOES_NOT_EXIST, Answer, RefusedError, profile_answer, validation_error
from .validation import MAX_CUSTOM_ATTRIBUTES, PLATFORMS, profile_request_errors

Operation = Callable[[Profiles, Mapping[str, str], bytes], Answer]


def get(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> Answer:
    """Handle a GET."""
    return profile_answer(_existing(profiles, _who(headers)), profiles.app_id)


def delete(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> Answer:
    """Handle a DELETE."""
    profiles.remove(_existing(profiles, _who(headers)))
    return DELETED


def update(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> Answer:
    """Handle a PATCH."""
    who, change = _who(headers), _change(headers, body)
    profile = _existing(profiles, who)
    change.apply(profile, change.custom_attributes_of(profile))
    return profile_answer(profile, profiles.app_id)


def create(profiles: Profiles, headers: Mapping[str, str], body: bytes) -> Answer:
    """Handle a POST: create a profile, or link a customer user ID to an existing one if both IDs are given.

    Assumed: if the customer user ID belongs to an existing profile, or only a profile ID is given, the request
    addresses that profile, and the body updates it like that of a PATCH.
    """
    who, change = _who(headers), _change(headers, body)
    if who.profile_id is None:
        profile = profiles.find(customer_user_id=who.customer_user_id)
        profile = profile or profiles.add(customer_user_id=who.customer_user_id)
    else:
        profile = _existing(profiles, _Who(None, who.profile_id))
    custom_attributes = change.custom_attributes_of(profile)  # may reject the request, so it comes before the link
    if who.customer_user_id is not None:
        _link(profiles, profile, who.customer_user_id)
    change.apply(profile, custom_attributes)
    return profile_answer(profile, profiles.app_id)


class _Who(NamedTuple):
    customer_user_id: str | None
    profile_id: str | None


def _who(headers: Mapping[str, str]) -> _Who:
    who = _Who(_id(headers, "adapty-customer-user-id"), _id(headers, "adapty-profile-id"))
    if who == (None, None):
        _refuse("non_field_errors", "Either adapty-customer-user-id or adapty-profile-id is required.")
    return who


def _id(headers: Mapping[str, str], name: str) -> str | None:
    """Return the ID in a header, or None if it is absent. Assumed: an empty one counts as absent."""
    value = headers.get(name)
    # aiohttp decodes UTF-8 and replaces other bytes by surrogates. Assumed: such an ID is a 400.
    if value and any("\ud800" <= character <= "\udfff" for character in value):
        _refuse(name, "Must be UTF-8.")
    return value or None


def _existing(profiles: Profiles, who: _Who) -> Profile:
    """Return the profile that a request names. Assumed: if both IDs are given, both must be the profile's."""
    profile = profiles.find(customer_user_id=who.customer_user_id, profile_id=who.profile_id)
    if profile is None:
        raise RefusedError(PROFILE_DOES_NOT_EXIST)
    return profile


def _link(profiles: Profiles, profile: Profile, customer_user_id: str) -> None:
    """Link an ID. Assumed: a link that would take the ID of another profile is a 400, because no 409 is documented."""
    try:
        profiles.link(profile, customer_user_id)
    except ValueError:
        _refuse("adapty-customer-user-id", "The profile or the customer user ID is already linked.")


class _Change(NamedTuple):
    """The changes that a valid create or update request asks for."""

    platform: str | None
    attributes: dict[str, Any]
    custom_attributes: list[dict[str, Any]]

    def custom_attributes_of(self, profile: Profile) -> dict[str, str | float]:
        """Return the profile's custom attributes after the change. Those that aren't named stay."""
        after = dict(profile.custom_attributes)
        for item in self.custom_attributes:
            key, value = item["key"], item["value"]
            if value is None or value == "":
                after.pop(key, None)
            else:
                after[key] = value if isinstance(value, str) else float(value)
        if len(after) > MAX_CUSTOM_ATTRIBUTES:
            _refuse("custom_attributes", f"A profile has at most {MAX_CUSTOM_ATTRIBUTES} custom attributes.")
        return after

    def apply(self, profile: Profile, custom_attributes: dict[str, str | float]) -> None:
        """Set the fields that were sent, including null. Others keep their values."""
        profile.platform = self.platform or profile.platform
        profile.attributes.update(self.attributes)
        profile.custom_attributes = custom_attributes


def _change(headers: Mapping[str, str], body: bytes) -> _Change:
    platform = headers.get("adapty-platform")
    attributes = _object(body)
    errors = profile_request_errors(attributes)
    if platform is not None and platform not in PLATFORMS:
        errors["adapty-platform"] = [f"Must be one of {', '.join(PLATFORMS)}."]
    if errors:
        raise RefusedError(validation_error(errors))
    custom_attributes = attributes.pop("custom_attributes", [])
    return _Change(platform, attributes, custom_attributes)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _refuse("non_field_errors", "The body must be a JSON object.")
    return value


def _not_json(constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _refuse(source: str, text: str) -> NoReturn:
    raise RefusedError(validation_error({source: [text]}))
