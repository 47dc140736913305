"""Profile attributes as callers of the client write them, each with its JSON."""

import string
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from hypothesis import strategies as st

from adapty_async import InstallationMeta, ProfileAttributes
from adapty_async.models import Store

Pairs = st.SearchStrategy[tuple[Any, Any]]
"""A value in Python and in JSON."""

PLATFORMS = st.sampled_from(["iOS", "macOS", "iPadOS", "visionOS", "Android", "web"])
_CHARACTERS = st.characters(exclude_categories=["Cs"])

customer_user_ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda text: text == text.strip()
)


class Attributes(NamedTuple):
    """Attributes, and the JSON object that they must become."""

    model: ProfileAttributes
    json: dict[str, Any]


def _same(values: st.SearchStrategy[Any]) -> Pairs:
    return values.map(lambda value: (value, value))


def _text(values: st.SearchStrategy[Any]) -> Pairs:
    """Yield a value as it is and as text. Both become text in JSON."""
    return values.flatmap(lambda value: st.sampled_from([(value, str(value)), (str(value), str(value))]))


_texts = _same(st.text(_CHARACTERS, min_size=1, max_size=20))
_texts_or_empty = _same(st.text(_CHARACTERS, max_size=20))
_uuids = _text(st.uuids())
_words = st.text(string.ascii_letters + string.digits + "._+-äß", min_size=1, max_size=10)
_custom_keys = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=30)
_custom_values = st.one_of(
    st.none(),
    st.text(_CHARACTERS, max_size=50),
    st.booleans(),
    st.integers(-(10**300), 10**300).map(lambda number: int(float(number))),
    st.floats(allow_nan=False, allow_infinity=False),
)
custom_attributes = st.dictionaries(_custom_keys, _custom_values, max_size=15)

META_FIELDS: dict[str, Pairs] = {
    "platform": _same(PLATFORMS),
    **dict.fromkeys(
        (
            *("device", "locale", "os", "timezone", "user_agent", "app_build", "app_version", "adapty_sdk_version"),
            *("idfa", "idfv", "advertising_id", "android_id", "android_app_set_id"),
        ),
        _texts_or_empty,
    ),
}
"""The fields of InstallationMeta except the device ID. They can also be null."""

FIELDS: dict[str, Pairs] = {
    "first_name": _texts,
    "last_name": _texts,
    "gender": _same(st.sampled_from(["f", "m", "o"])),
    "email": _same(st.builds("{}@{}".format, _words, _words)),
    "phone_number": _texts,
    "birthday": _text(st.dates(date(1, 1, 1))),
    "ip_country": _texts,
    "ip_v4_address": _text(st.ip_addresses(v=4)),
    "store_country": _texts,
    "store": _texts | st.sampled_from(Store).map(lambda store: (store, store.value)),
    "store_account_token": _uuids,
    "att_status": _same(st.integers(0, 3)),
    "analytics_disabled": _same(st.booleans()),
}
"""The fields of ProfileAttributes that can also be null."""


def _some(fields: dict[str, Pairs]) -> st.SearchStrategy[dict[str, tuple[Any, Any]]]:
    """Choose some fields, and a value or null for each."""
    return st.fixed_dictionaries({}, optional={name: st.just((None, None)) | pairs for name, pairs in fields.items()})


@st.composite
def metas(draw: st.DrawFn) -> tuple[InstallationMeta, dict[str, Any]]:
    """Describe an installation."""
    return _model(InstallationMeta, {"device_id": draw(_uuids), **draw(_some(META_FIELDS))})


def custom_json(custom: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Create custom attributes that are valid for the API."""
    return [{"key": key, "value": value} for key, value in custom.items()]


@st.composite
def profile_attributes(draw: st.DrawFn) -> Attributes:
    """Set any number of attributes to a value or, if allowed, to null."""
    chosen = draw(_some(FIELDS))
    custom = draw(st.none() | custom_attributes)
    if custom is not None:
        chosen["custom_attributes"] = custom, custom_json(custom)
    meta = draw(st.none() | metas())
    if meta is not None:
        chosen["installation_meta"] = meta
    return Attributes(*_model(ProfileAttributes, chosen))


def _model(kind: Any, chosen: dict[str, tuple[Any, Any]]) -> tuple[Any, dict[str, Any]]:
    model = kind(**{name: value for name, (value, _) in chosen.items()})
    return model, {name: in_json for name, (_, in_json) in chosen.items()}
