"""The models of profiles. Requests are validated strictly, responses leniently."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from ipaddress import IPv4Address
from typing import Any, Final, Literal, TypeAlias, get_args
from uuid import UUID

import attrs

from .common import (
    UNSET,
    FrozenMapping,
    Model,
    OpenEnum,
    Unset,
    allow_none,
    allow_unset,
    is_encodable,
    is_uuid_text,
    list_set_fields,
    make_validator,
)

Gender: TypeAlias = Literal["f", "m", "o"]
AttStatus: TypeAlias = Literal[0, 1, 2, 3]
Platform: TypeAlias = Literal["iOS", "macOS", "iPadOS", "visionOS", "Android", "web"]
AttributeValue: TypeAlias = str | float | bool | None
"""The value of a custom attribute.

The API converts booleans and integers to floats. None or "" deletes the attribute.
"""

_MAX_CUSTOM_ATTRIBUTES: Final = 30
_MAX_CUSTOM_TEXT_LENGTH: Final = 50
_CUSTOM_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,30}")
_EMAIL_PATTERN: Final = re.compile(r"[^@\s]+@[^@\s]+")


class Store(OpenEnum):
    """The store of a purchase. A store of your own is a member without a name."""

    APP_STORE = "app_store"
    PLAY_STORE = "play_store"
    STRIPE = "stripe"
    ADAPTY = "adapty"
    PADDLE = "paddle"


class Environment(OpenEnum):
    """Whether a purchase was real."""

    PRODUCTION = "Production"
    SANDBOX = "Sandbox"


class OfferCategory(OpenEnum):
    """The reason for an offer."""

    INTRODUCTORY = "introductory"
    PROMOTIONAL = "promotional"
    OFFER_CODE = "offer_code"
    WIN_BACK = "win_back"


class OfferType(OpenEnum):
    """How an offer is paid."""

    FREE_TRIAL = "free_trial"
    PAY_AS_YOU_GO = "pay_as_you_go"
    PAY_UP_FRONT = "pay_up_front"
    UNKNOWN = "unknown"


def _is_text(value: str) -> bool:
    return value != "" and is_encodable(value)


def _is_uuid(value: UUID | str) -> bool:
    return isinstance(value, UUID) or is_uuid_text(value)


def _is_email(value: str) -> bool:
    return _EMAIL_PATTERN.fullmatch(value) is not None and is_encodable(value)


def _is_date(value: date | str) -> bool:
    if isinstance(value, date):
        return True
    try:
        # Python also reads 20001231 and 2000-W52-7. The comparison excludes these.
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_ipv4(value: IPv4Address | str) -> bool:
    try:
        IPv4Address(value)
    except ValueError:
        return False
    return True


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float, to which the API converts it
        return False


# An empty name or country is most likely a mistake; None clears the field explicitly.
_validate_text = make_validator(str, "a non-empty str that UTF-8 can encode; None clears it", _is_text)
# Texts of an installation may be empty: the API's own example sends "" for the IDs of other platforms.
_validate_text_or_empty = make_validator(str, "a str that UTF-8 can encode", is_encodable)
_validate_uuid = make_validator((UUID, str), "a UUID, or its text form of 36 characters", _is_uuid)
_validate_email = make_validator(str, "a str of the form name@domain", _is_email)
_validate_date = make_validator(
    (date, str), "a date without time, or a str YYYY-MM-DD", _is_date, excluded_types=datetime
)
_validate_ipv4 = make_validator((IPv4Address, str), "an IPv4Address, or a str like 192.0.2.1", _is_ipv4)
_validate_gender = make_validator(str, "one of f, m, o", get_args(Gender).__contains__)
_validate_att_status = make_validator(int, "one of 0, 1, 2, 3", get_args(AttStatus).__contains__, excluded_types=bool)
_validate_platform = make_validator(str, f"one of {', '.join(get_args(Platform))}", get_args(Platform).__contains__)


def _validate_custom_attributes(_model: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, FrozenMapping):
        raise TypeError(f"{field.name} must be a mapping; leave it out to change none")
    if len(value) > _MAX_CUSTOM_ATTRIBUTES:
        raise ValueError(f"{field.name} must have at most {_MAX_CUSTOM_ATTRIBUTES} items; leave some out")
    # Errors name the position of an item, because its key could contain personal data by mistake.
    for number, (key, item) in enumerate(value.items(), 1):
        _check_custom_attribute(f"{field.name}, item {number}:", key, item)


def _check_custom_attribute(label: str, key: object, value: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"{label} the key must be a str")
    if not _CUSTOM_KEY_PATTERN.fullmatch(key):
        raise ValueError(f"{label} the key must be 1 to 30 of the characters A-Z a-z 0-9 . _ -")
    if isinstance(value, str):
        if len(value) > _MAX_CUSTOM_TEXT_LENGTH or not is_encodable(value):
            raise ValueError(
                f"{label} a text must have at most {_MAX_CUSTOM_TEXT_LENGTH} characters, which UTF-8 can encode"
            )
    elif isinstance(value, float | int):
        if not _is_finite(value):
            raise ValueError(f"{label} a number must be finite as a float")
        if float(value) != value:
            raise ValueError(
                f"{label} an integer must be exact as a float, because the API converts it to one: send it as text"
            )
    elif value is not None:
        raise TypeError(f"{label} the value must be a str, a number, a bool, or None to delete the attribute")


def _freeze(value: Mapping[str, AttributeValue] | Unset) -> FrozenMapping[str, AttributeValue] | Unset:
    return FrozenMapping(value) if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True, repr=False)
class InstallationMeta(Model):
    """The attributes of one installation of the app. Fields that aren't given aren't sent; None is sent as null.

    Error messages never contain a value.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If the API documents a value as invalid.
    """

    device_id: UUID | str = attrs.field(validator=_validate_uuid)
    device: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    locale: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    os: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    platform: Platform | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_platform))
    timezone: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    user_agent: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    app_build: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    app_version: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    adapty_sdk_version: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    idfa: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    idfv: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    advertising_id: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    android_id: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))
    android_app_set_id: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text_or_empty))


@attrs.frozen(kw_only=True, repr=False)
class ProfileAttributes(Model):
    """The attributes to set on a profile. Fields that aren't given aren't sent; None is sent as null.

    Error messages never contain a value.

    Attributes:
        store: A `Store`, or the name of your own store.
        att_status: 0 not determined, 1 restricted, 2 denied, 3 authorized.
        custom_attributes: A mapping of at most 30 keys to numbers and texts. It is copied. Keys have 1 to 30 characters
            out of A-Z a-z 0-9 . _ - and texts at most 50 characters. None or "" deletes an attribute. The API converts
            numbers to floats. Integers that a float can't represent exactly, such as 2**53 + 1, are refused.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If the API documents a value as invalid.
    """

    first_name: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    last_name: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    gender: Gender | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_gender))
    email: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_email))
    phone_number: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    birthday: date | str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_date))
    ip_country: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    ip_v4_address: IPv4Address | str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_ipv4))
    store_country: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    store: str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_text))
    store_account_token: UUID | str | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_uuid))
    att_status: AttStatus | Unset | None = attrs.field(default=UNSET, validator=allow_none(_validate_att_status))
    analytics_disabled: bool | Unset | None = attrs.field(
        default=UNSET, validator=allow_none(make_validator(bool, "a bool"))
    )
    custom_attributes: FrozenMapping[str, AttributeValue] | Unset = attrs.field(
        default=UNSET, converter=_freeze, validator=allow_unset(_validate_custom_attributes)
    )
    installation_meta: InstallationMeta | Unset = attrs.field(
        default=UNSET,
        validator=allow_unset(make_validator(InstallationMeta, "an InstallationMeta; leave it out to send none")),
    )

    @property
    def is_empty(self) -> bool:
        """Whether no attribute is set. An empty `custom_attributes` counts as set; its meaning is up to the API."""
        return not list_set_fields(self)


@attrs.frozen(kw_only=True, repr=False)
class Offer(Model):
    """An offer that was applied to a purchase."""

    category: OfferCategory | None = None
    type: OfferType | None = None
    id: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class _Purchase(Model):
    store: Store | None = None
    store_product_id: str | None = None
    store_base_plan_id: str | None = None
    store_transaction_id: str | None = None
    store_original_transaction_id: str | None = None
    environment: Environment | None = None
    purchased_at: datetime | None = None


@attrs.frozen(kw_only=True, repr=False)
class _RenewablePurchase(_Purchase):
    offer: Offer | None = None
    originally_purchased_at: datetime | None = None
    expires_at: datetime | None = None
    renewal_cancelled_at: datetime | None = None
    billing_issue_detected_at: datetime | None = None
    is_in_grace_period: bool = False
    cancellation_reason: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class AccessLevel(_RenewablePurchase):
    """The right of a profile to use a part of the app.

    A field that the API left out is None, or False for `is_in_grace_period`. `expires_at` is also None for lifetime
    access.
    """

    access_level_id: str | None = None
    starts_at: datetime | None = None

    def is_active(self, at: datetime | None = None) -> bool:
        """Return True if the access level is active.

        It is active from `starts_at` until just before `expires_at`, and during a grace period after that.

        Args:
            at: A datetime with a time zone. The default is now.

        Raises:
            TypeError: If `at` isn't a datetime.
            ValueError: If `at` has no time zone.
        """
        time = _resolve_time(at)
        started = self.starts_at is None or self.starts_at <= time
        expired = self.expires_at is not None and self.expires_at <= time
        return started and (not expired or self.is_in_grace_period)


@attrs.frozen(kw_only=True, repr=False)
class Subscription(_RenewablePurchase):
    """A subscription that was bought. A field that the API left out is None, or False for `is_in_grace_period`."""


@attrs.frozen(kw_only=True, repr=False)
class NonSubscription(_Purchase):
    """A purchase that doesn't renew. A field that the API left out is None, or False for a bool."""

    purchase_id: UUID | None = None
    is_refund: bool = False
    is_consumable: bool = False


_NO_ATTRIBUTES: Final = FrozenMapping[str, AttributeValue]({})


@attrs.frozen(kw_only=True, repr=False)
class Profile(Model):
    """A profile as the API returned it.

    Attributes:
        app_id: The app.
        profile_id: The ID that Adapty gave the profile.
        customer_user_id: Your own ID of the user.
        total_revenue_usd: The revenue in US dollars.
        segment_hash: A hash of the segments.
        timestamp: Unix time in milliseconds. A larger value means a newer state.
        custom_attributes: Values by key.
        access_levels: The access levels.
        subscriptions: The subscriptions.
        non_subscriptions: The purchases that don't renew.
    """

    app_id: UUID
    profile_id: UUID
    customer_user_id: str | None = None
    total_revenue_usd: float = 0.0
    segment_hash: str = ""
    timestamp: int = 0
    custom_attributes: FrozenMapping[str, AttributeValue] = _NO_ATTRIBUTES
    access_levels: tuple[AccessLevel, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    non_subscriptions: tuple[NonSubscription, ...] = ()

    def has_access(self, access_level_id: str, at: datetime | None = None) -> bool:
        """Return True if an access level is active.

        Args:
            access_level_id: The ID of the access level.
            at: A datetime with a time zone. The default is now.

        Raises:
            TypeError: If `at` isn't a datetime.
            ValueError: If `at` has no time zone.
        """
        time = _resolve_time(at)
        levels = (level for level in self.access_levels if level.access_level_id == access_level_id)
        return any(level.is_active(time) for level in levels)


def _resolve_time(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    if not isinstance(at, datetime):
        raise TypeError("at must be a datetime")
    if at.utcoffset() is None:
        raise ValueError("at must be a datetime with a time zone, for example datetime.now(UTC)")
    return at
