import copy
import json
import math
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.models import (
    UNSET,
    AccessLevel,
    AttributeValue,
    Environment,
    FrozenMapping,
    InstallationMeta,
    NonSubscription,
    Offer,
    OfferCategory,
    OfferType,
    Profile,
    ProfileAttributes,
    Store,
    Subscription,
    Unset,
)

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
LONE_SURROGATE = "a\ud800"
NOON = datetime(2025, 1, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)

NULLABLE = sorted(
    {field.name for field in attrs.fields(ProfileAttributes)} - {"custom_attributes", "installation_meta"}
)
META_NULLABLE = sorted({field.name for field in attrs.fields(InstallationMeta)} - {"device_id"})
META_TEXTS = sorted(set(META_NULLABLE) - {"platform"})

COPIERS = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]  # noqa: S301  # our own bytes


def untyped(model: Any) -> Any:
    """Return a model as Any, because type checkers would reject the values tested here."""
    return model


def full_profile() -> Profile:
    return Profile(
        app_id=UUID("14c3d623-2f3a-455a-aa86-ef83dff6913b"),
        profile_id=UUID("3286abd3-48b0-4e9c-a5f6-ac0a006804a6"),
        customer_user_id="jane.doe@example.com",
        total_revenue_usd=9.99,
        segment_hash="8f45947bad31ab0c",
        timestamp=1736425645861,
        custom_attributes=FrozenMapping({"favourite_sport": "yoga", "height": 1.8}),
        access_levels=(
            AccessLevel(
                access_level_id="premium",
                store=Store("corner shop"),
                offer=Offer(category=OfferCategory.PROMOTIONAL, type=OfferType.FREE_TRIAL, id="spring"),
                starts_at=NOON,
            ),
        ),
        subscriptions=(Subscription(store=Store.APP_STORE, environment=Environment.SANDBOX),),
        non_subscriptions=(NonSubscription(purchase_id=UUID(DEVICE), is_consumable=True),),
    )


def refusal(error: type[Exception], make: Callable[..., object], **arguments: Any) -> str:
    """Return the message of an error. Check that no other part of the error can contain a value."""
    with pytest.raises(error) as caught:
        make(**arguments)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert len(caught.value.args) == 1
    return str(caught.value)


class TestUnset:
    def test_it_is_falsy_and_shows_its_name(self) -> None:
        assert not UNSET
        assert repr(UNSET) == "UNSET"
        assert list(Unset) == [UNSET]

    @pytest.mark.parametrize("again", COPIERS)
    def test_a_copy_is_the_same_object(self, again: Callable[[Any], Any]) -> None:
        assert again(UNSET) is UNSET


class TestOpenEnum:
    def test_a_known_string_is_its_member(self) -> None:
        assert Store("app_store") is Store.APP_STORE
        assert Store("app_store") == "app_store"
        assert repr(Store.APP_STORE) == "Store('app_store')"

    @given(st.text())
    def test_an_unknown_string_is_kept_as_an_unnamed_member(self, text: str) -> None:
        store = Store(f"my {text}")
        assert isinstance(store, Store)
        assert store == f"my {text}"
        assert hash(store) == hash(f"my {text}")
        assert store.value == str(store) == f"{store}" == f"my {text}"
        assert store.name == ""
        assert repr(store) == f"Store({f'my {text}'!r})"
        assert json.loads(json.dumps(store)) == store

    @pytest.mark.parametrize("again", COPIERS)
    @pytest.mark.parametrize("value", ["app_store", "corner shop", ""])
    def test_a_copy_is_an_equal_member(self, again: Callable[[Any], Any], value: str) -> None:
        copied = again(Store(value))
        assert type(copied) is Store
        assert copied == value

    def test_unknown_strings_are_not_kept_in_memory(self) -> None:
        assert Store("corner shop") is not Store("corner shop")
        assert "corner shop" not in {str(store) for store in Store}

    def test_only_strings_are_members(self) -> None:
        for value in (None, 1, b"app_store", ["app_store"]):
            with pytest.raises(ValueError, match="not a valid Store"):
                untyped(Store)(value)


class TestFrozenMapping:
    @given(st.dictionaries(st.text(), st.integers() | st.text()))
    def test_it_is_equal_to_a_mapping_with_the_same_items(self, items: dict[str, Any]) -> None:
        frozen = FrozenMapping(items)
        backwards = FrozenMapping(dict(reversed(items.items())))
        assert frozen == items == frozen
        assert dict(frozen) == items
        assert frozen == backwards
        assert hash(frozen) == hash(backwards)
        assert frozen != {**items, "one more": None}

    def test_it_is_a_copy_that_cannot_be_changed(self) -> None:
        items = {"a": 1}
        frozen: Any = FrozenMapping(items)
        items["a"] = 2
        assert frozen["a"] == 1
        changes: list[Callable[[], object]] = [
            lambda: frozen.__setitem__("a", 3),
            lambda: frozen.__delitem__("a"),
            lambda: frozen.__ior__({"a": 3}),
            lambda: frozen.update(a=3),
            lambda: frozen.setdefault("b", 3),
            lambda: frozen.pop("a"),
            frozen.popitem,
            frozen.clear,
        ]
        for change in changes:
            with pytest.raises(TypeError, match="a FrozenMapping is immutable"):
                change()
        assert frozen == frozen.copy() == {"a": 1}
        assert frozen | {"b": 2} == {"a": 1, "b": 2}

    def test_it_is_json_as_it_is_and_in_a_model(self) -> None:
        items: dict[str, AttributeValue] = {"sport": "yoga", "height": 1.8, "none": None}
        attributes = ProfileAttributes(custom_attributes=items)
        assert json.loads(json.dumps(FrozenMapping(items))) == items
        written = json.dumps(attrs.asdict(attributes), default=str)
        assert json.loads(written)["custom_attributes"] == items
        profile = Profile(
            app_id=UUID(DEVICE),
            profile_id=UUID(DEVICE),
            custom_attributes=FrozenMapping(items),
            access_levels=(AccessLevel(access_level_id="premium", store=Store("corner shop")),),
        )
        with pytest.raises(TypeError, match="UUID"):  # with an error, if JSON has no such type
            json.dumps(attrs.asdict(profile))
        read = json.loads(json.dumps(attrs.asdict(profile), default=str))
        assert read["custom_attributes"] == items
        assert (read["profile_id"], read["access_levels"][0]["store"]) == (DEVICE, "corner shop")

    @pytest.mark.parametrize("again", COPIERS)
    def test_a_copy_is_equal(self, again: Callable[[Any], Any]) -> None:
        assert again(FrozenMapping({"a": "b"})) == {"a": "b"}

    def test_its_repr_counts_the_items_and_shows_none(self) -> None:
        assert repr(FrozenMapping({"sport": "yoga", "city": "Rome"})) == "FrozenMapping(<2 items>)"


class TestProfileAttributes:
    def test_nothing_is_set_by_default(self) -> None:
        attributes = ProfileAttributes()
        assert {getattr(attributes, field.name) for field in attrs.fields(ProfileAttributes)} == {UNSET}
        assert attributes.is_empty

    @pytest.mark.parametrize("name", NULLABLE)
    def test_null_is_a_value_that_the_caller_may_set(self, name: str) -> None:
        attributes = untyped(ProfileAttributes)(**{name: None})
        assert getattr(attributes, name) is None
        assert not attributes.is_empty

    def test_an_empty_mapping_of_custom_attributes_is_set(self) -> None:
        assert not ProfileAttributes(custom_attributes={}).is_empty

    @pytest.mark.parametrize("name", ["custom_attributes", "installation_meta"])
    def test_null_is_refused_where_the_schema_has_none(self, name: str) -> None:
        assert name in refusal(TypeError, ProfileAttributes, **{name: None})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("first_name", "J"),
            ("last_name", "Doé 漢字 🎉"),
            ("gender", "f"),
            ("gender", "m"),
            ("gender", "o"),
            ("email", "jane.doe@example.com"),
            ("phone_number", "+1234567890"),
            ("birthday", date(2000, 12, 31)),
            ("birthday", "2000-12-31"),
            ("birthday", "0001-01-01"),
            ("birthday", "2024-02-29"),
            ("ip_country", "FR"),
            ("ip_country", "FR-75"),
            ("ip_v4_address", "192.0.2.1"),
            ("ip_v4_address", IPv4Address("192.0.2.1")),
            ("store_country", "US"),
            ("store", Store.PADDLE),
            ("store", "app_store"),
            ("store", "corner shop"),
            ("store_account_token", UUID(DEVICE)),
            ("store_account_token", DEVICE),
            ("store_account_token", DEVICE.upper()),
            ("att_status", 0),
            ("att_status", 3),
            ("analytics_disabled", True),
            ("analytics_disabled", False),
            ("installation_meta", InstallationMeta(device_id=DEVICE)),
        ],
    )
    def test_a_right_value_is_kept_as_given(self, name: str, value: object) -> None:
        assert getattr(untyped(ProfileAttributes)(**{name: value}), name) is value

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("first_name", ""),
            ("first_name", LONE_SURROGATE),
            ("last_name", ""),
            ("gender", "x"),
            ("gender", "F"),
            ("gender", ""),
            ("email", ""),
            ("email", "jane.doe"),
            ("email", "jane@"),
            ("email", "@example.com"),
            ("email", "jane doe@example.com"),
            ("email", f"{LONE_SURROGATE}@example.com"),
            ("phone_number", ""),
            ("birthday", ""),
            ("birthday", "20001231"),
            ("birthday", "2000-W52-7"),
            ("birthday", "2000-12-31T00:00:00"),
            ("birthday", "2001-02-29"),
            ("birthday", "31.12.2000"),
            ("birthday", LONE_SURROGATE),
            ("ip_country", ""),
            ("ip_v4_address", ""),
            ("ip_v4_address", "192.0.2.256"),
            ("ip_v4_address", "2001:db8::1"),
            ("store_country", ""),
            ("store", ""),
            ("store", LONE_SURROGATE),
            ("store_account_token", ""),
            ("store_account_token", DEVICE.replace("-", "")),
            ("store_account_token", "{" + DEVICE + "}"),
            ("store_account_token", DEVICE + "\n"),
            ("att_status", -1),
            ("att_status", 4),
        ],
    )
    def test_what_the_api_documents_as_wrong_is_a_value_error(self, name: str, value: object) -> None:
        message = refusal(ValueError, ProfileAttributes, **{name: value})
        assert message.startswith(f"{name} must ")
        assert not value or str(value) not in message

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, 17.5) for name in NULLABLE),
            *((name, b"bytes") for name in NULLABLE),
            ("first_name", 1),
            ("birthday", datetime(2000, 12, 31, tzinfo=UTC)),
            ("birthday", 978220800),
            ("ip_v4_address", 3221225985),
            ("att_status", True),
            ("att_status", False),
            ("att_status", 1.0),
            ("att_status", "denied"),
            ("analytics_disabled", 1),
            ("analytics_disabled", "true"),
            ("custom_attributes", [("key", "value")]),
            ("custom_attributes", "text"),
            ("installation_meta", {"device_id": DEVICE}),
        ],
    )
    def test_a_wrong_type_is_a_type_error_and_never_coerced(self, name: str, value: object) -> None:
        message = refusal(TypeError, ProfileAttributes, **{name: value})
        assert message.startswith(f"{name} must ")
        assert str(value) not in message

    def test_positions_are_refused(self) -> None:
        with pytest.raises(TypeError):
            untyped(ProfileAttributes)("Jane")

    def test_its_repr_names_the_fields_that_are_set_and_shows_no_value(self) -> None:
        attributes = ProfileAttributes(
            first_name="Jane",
            email=None,
            analytics_disabled=True,
            custom_attributes={"sport": "yoga"},
            installation_meta=InstallationMeta(device_id=DEVICE, os="iOS"),
        )
        assert repr(attributes) == (
            "ProfileAttributes(first_name, email, analytics_disabled, custom_attributes, installation_meta)"
        )
        assert repr(attributes.installation_meta) == "InstallationMeta(device_id, os)"

    @pytest.mark.parametrize("again", COPIERS)
    def test_a_copy_is_equal(self, again: Callable[[Any], Any]) -> None:
        attributes = ProfileAttributes(
            first_name="Jane",
            birthday=None,
            custom_attributes={"sport": "yoga"},
            installation_meta=InstallationMeta(device_id=DEVICE),
        )
        copied = again(attributes)
        assert copied == attributes
        assert hash(copied) == hash(attributes)
        assert copied.last_name is UNSET
        assert copied != ProfileAttributes(first_name="Jane")

    def test_it_cannot_be_changed_nor_grow(self) -> None:
        attributes = untyped(ProfileAttributes)(first_name="Jane")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            attributes.first_name = "Joan"
        assert not hasattr(attributes, "__dict__")


class TestCustomAttributes:
    def test_thirty_are_allowed(self) -> None:
        items = {f"key{number}": number for number in range(30)}
        assert untyped(ProfileAttributes)(custom_attributes=items).custom_attributes == items

    def test_thirty_one_are_refused(self) -> None:
        items = {f"key{number}": number for number in range(31)}
        assert "at most 30" in refusal(ValueError, ProfileAttributes, custom_attributes=items)

    @pytest.mark.parametrize("key", ["k", "k" * 30, "AZaz09._-", "-", "."])
    def test_a_key_within_the_limits_is_kept(self, key: str) -> None:
        assert untyped(ProfileAttributes)(custom_attributes={key: "value"}).custom_attributes == {key: "value"}

    @pytest.mark.parametrize("key", ["", "k" * 31, "a b", "a\n", "ключ", "k٣", "a/b", LONE_SURROGATE])
    def test_a_key_beyond_the_limits_is_refused_and_not_shown(self, key: str) -> None:
        message = refusal(ValueError, ProfileAttributes, custom_attributes={"ok": 1, key: "value"})
        assert message.startswith("custom_attributes, item 2: ")
        assert not key or key not in message

    @pytest.mark.parametrize("key", [1, None, b"key"])
    def test_a_key_that_is_no_string_is_a_type_error(self, key: object) -> None:
        assert "item 1" in refusal(TypeError, ProfileAttributes, custom_attributes={key: "value"})

    @pytest.mark.parametrize(
        "value", ["", "v" * 50, "🎉" * 50, 0, -1, 2**53, 2**53 + 2, int(1e300), 1e23, 1.5, True, False, None]
    )
    def test_a_value_within_the_limits_is_kept(self, value: object) -> None:
        kept = untyped(ProfileAttributes)(custom_attributes={"key": value}).custom_attributes
        assert kept["key"] is value

    @pytest.mark.parametrize("value", ["v" * 51, LONE_SURROGATE, math.inf, -math.inf, math.nan, 10**400, -(10**400)])
    def test_a_value_beyond_the_limits_is_refused_and_not_shown(self, value: object) -> None:
        message = refusal(ValueError, ProfileAttributes, custom_attributes={"key": value})
        assert message.startswith("custom_attributes, item 1: ")
        assert f" {value}" not in message

    @pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 10**23, 10**300 + 1])
    def test_a_whole_number_that_no_float_holds_exactly_is_refused_and_not_shown(self, value: int) -> None:
        message = refusal(ValueError, ProfileAttributes, custom_attributes={"key": 1, "other": value})
        assert message.startswith("custom_attributes, item 2: an integer must be exact as a float")
        assert str(value) not in message

    @given(st.integers())
    def test_what_is_taken_is_the_same_as_a_float(self, value: int) -> None:
        try:
            kept = ProfileAttributes(custom_attributes={"key": value})
        except ValueError:
            assert abs(value) > 2**53
        else:
            assert isinstance(kept.custom_attributes, FrozenMapping)
            assert int(float(value)) == value

    @pytest.mark.parametrize("value", [b"bytes", ["list"], {"a": 1}, date(2000, 12, 31), UNSET])
    def test_a_value_of_a_wrong_type_is_a_type_error(self, value: object) -> None:
        assert "item 1" in refusal(TypeError, ProfileAttributes, custom_attributes={"key": value})

    def test_later_changes_of_the_mapping_do_not_matter(self) -> None:
        items: dict[str, Any] = {"key": "value"}
        attributes = untyped(ProfileAttributes)(custom_attributes=items)
        items["key"] = object()
        assert attributes.custom_attributes == {"key": "value"}


class TestInstallationMeta:
    def test_the_device_id_is_required(self) -> None:
        with pytest.raises(TypeError, match="device_id"):
            untyped(InstallationMeta)()

    @pytest.mark.parametrize("value", [None, UNSET, 1, b"bytes"])
    def test_the_device_id_is_never_null_or_left_out(self, value: object) -> None:
        assert refusal(TypeError, InstallationMeta, device_id=value).startswith("device_id must ")

    @pytest.mark.parametrize("value", ["", "device", DEVICE[:-1]])
    def test_the_device_id_is_a_uuid(self, value: str) -> None:
        assert refusal(ValueError, InstallationMeta, device_id=value).startswith("device_id must ")

    @pytest.mark.parametrize("value", [DEVICE, DEVICE.upper(), UUID(DEVICE)])
    def test_the_device_id_is_kept_as_given(self, value: UUID | str) -> None:
        assert InstallationMeta(device_id=value).device_id is value

    @pytest.mark.parametrize("name", META_NULLABLE)
    def test_the_rest_may_be_left_out_or_null(self, name: str) -> None:
        assert getattr(InstallationMeta(device_id=DEVICE), name) is UNSET
        assert getattr(untyped(InstallationMeta)(device_id=DEVICE, **{name: None}), name) is None

    @pytest.mark.parametrize("name", META_TEXTS)
    def test_a_text_may_be_empty_as_in_the_example_of_the_api(self, name: str) -> None:
        assert getattr(untyped(InstallationMeta)(device_id=DEVICE, **{name: ""}), name) == ""

    @pytest.mark.parametrize("name", META_NULLABLE)
    def test_a_wrong_text_is_refused_by_name(self, name: str) -> None:
        for error, value in ((TypeError, 5), (ValueError, LONE_SURROGATE)):
            message = refusal(error, InstallationMeta, device_id=DEVICE, **{name: value})
            assert message.startswith(f"{name} must ")

    @pytest.mark.parametrize("platform", ["iOS", "macOS", "iPadOS", "visionOS", "Android", "web"])
    def test_the_platforms_of_the_schema_are_allowed(self, platform: Any) -> None:
        assert InstallationMeta(device_id=DEVICE, platform=platform).platform == platform

    @pytest.mark.parametrize("platform", ["", "ios", "Windows"])
    def test_another_platform_is_refused(self, platform: str) -> None:
        assert "iPadOS" in refusal(ValueError, InstallationMeta, device_id=DEVICE, platform=platform)


class TestProfile:
    @pytest.mark.parametrize("again", COPIERS)
    def test_a_copy_is_equal(self, again: Callable[[Any], Any]) -> None:
        copied = again(full_profile())
        assert copied == full_profile()
        assert hash(copied) == hash(full_profile())
        assert copied.custom_attributes == {"favourite_sport": "yoga", "height": 1.8}

    def test_it_differs_where_a_part_differs(self) -> None:
        assert full_profile() != attrs.evolve(full_profile(), subscriptions=())

    def test_it_becomes_a_dict_of_its_fields(self) -> None:
        assert attrs.asdict(full_profile())["custom_attributes"] == {"favourite_sport": "yoga", "height": 1.8}

    def test_only_the_two_ids_are_required(self) -> None:
        profile = Profile(app_id=UUID(DEVICE), profile_id=UUID(DEVICE))
        assert profile.customer_user_id is None
        assert profile.custom_attributes == {}
        assert profile.access_levels == ()
        assert profile.subscriptions == ()
        assert profile.non_subscriptions == ()

    def test_neither_it_nor_its_parts_show_a_value(self) -> None:
        profile = full_profile()
        level = profile.access_levels[0]
        assert repr(profile) == f"Profile({', '.join(field.name for field in attrs.fields(Profile))})"
        assert repr(level.offer) == "Offer(category, type, id)"
        shown = repr([profile, level, *profile.subscriptions, *profile.non_subscriptions])
        for value in (
            "jane",
            "9.99",
            "yoga",
            "favourite",
            "17364",
            "premium",
            "corner",
            "3286",
            "2025",
            "True",
            "None",
        ):
            assert value not in shown

    @pytest.mark.parametrize("part", [full_profile(), *full_profile().access_levels, *full_profile().subscriptions])
    def test_it_and_its_parts_cannot_be_changed_nor_grow(self, part: Any) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            part.store = "other"
        assert not hasattr(part, "__dict__")


class TestAccessLevelIsActive:
    @pytest.mark.parametrize(
        ("starts_at", "expires_at", "in_grace_period", "active"),
        [
            (None, None, False, True),
            (NOON - TICK, None, False, True),
            (NOON, None, False, True),
            (NOON + TICK, None, False, False),
            (None, NOON - TICK, False, False),
            (None, NOON, False, False),
            (None, NOON + TICK, False, True),
            (NOON, NOON + TICK, False, True),
            (NOON - TICK, NOON, False, False),
            (None, NOON - TICK, True, True),
            (None, NOON, True, True),
            (NOON - TICK, NOON, True, True),
            (NOON + TICK, None, True, False),
            (NOON + TICK, NOON - TICK, True, False),
        ],
    )
    def test_it_counts_from_its_start_until_before_its_end_and_in_a_grace_period(
        self, starts_at: datetime | None, expires_at: datetime | None, in_grace_period: bool, active: bool
    ) -> None:
        level = AccessLevel(starts_at=starts_at, expires_at=expires_at, is_in_grace_period=in_grace_period)
        assert level.is_active(NOON) is active
        assert level.is_active(NOON.astimezone(timezone(timedelta(hours=9)))) is active

    def test_it_is_asked_for_now_by_default(self) -> None:
        now = datetime.now(UTC)
        hour = timedelta(hours=1)
        assert AccessLevel(starts_at=now - hour, expires_at=now + hour).is_active()
        assert not AccessLevel(starts_at=now - 2 * hour, expires_at=now - hour).is_active()
        assert not AccessLevel(starts_at=now + hour).is_active()

    def test_a_naive_time_is_refused(self) -> None:
        with pytest.raises(ValueError, match="time zone"):
            AccessLevel().is_active(datetime(2025, 1, 1))  # noqa: DTZ001  # this is tested

    def test_a_date_is_no_time(self) -> None:
        with pytest.raises(TypeError, match="datetime"):
            untyped(AccessLevel()).is_active(date(2025, 1, 1))


class TestProfileHasAccess:
    def test_it_asks_the_access_level_of_that_name(self) -> None:
        profile = attrs.evolve(
            full_profile(),
            access_levels=(
                AccessLevel(access_level_id="past", expires_at=NOON),
                AccessLevel(access_level_id="premium", expires_at=NOON + TICK),
                AccessLevel(),
            ),
        )
        assert profile.has_access("premium", NOON)
        assert not profile.has_access("premium", NOON + TICK)
        assert not profile.has_access("past", NOON)
        assert not profile.has_access("other", NOON)

    def test_one_of_several_levels_of_the_name_is_enough(self) -> None:
        levels = (AccessLevel(access_level_id="premium", expires_at=NOON), AccessLevel(access_level_id="premium"))
        assert attrs.evolve(full_profile(), access_levels=levels).has_access("premium")

    def test_a_naive_time_is_refused_even_where_there_is_no_access_level(self) -> None:
        profile = Profile(app_id=UUID(DEVICE), profile_id=UUID(DEVICE))
        with pytest.raises(ValueError, match="time zone"):
            profile.has_access("premium", datetime(2025, 1, 1))  # noqa: DTZ001  # this is tested
