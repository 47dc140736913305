import json
import time
from datetime import UTC, date, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapty_async.errors import InvalidResponseError
from adapty_async.models import (
    UNSET,
    AccessLevel,
    AttributeValue,
    AttStatus,
    Environment,
    FrozenMapping,
    Gender,
    InstallationMeta,
    NonSubscription,
    Offer,
    OfferCategory,
    OfferType,
    Platform,
    Profile,
    ProfileAttributes,
    Store,
    Subscription,
)
from adapty_async.models.codec import check_empty_body, dump_attributes, load_profile

DATA = Path(__file__).parents[1] / "data"
APP_ID = "14c3d623-2f3a-455a-aa86-ef83dff6913b"
PROFILE_ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
NOON = datetime(2024, 12, 24, 12, tzinfo=UTC)


def answer(**fields: Any) -> bytes:
    return json.dumps({"data": {"app_id": APP_ID, "profile_id": PROFILE_ID, **fields}}).encode()


def load_level(**fields: Any) -> AccessLevel:
    return load_profile(answer(access_levels=[fields])).access_levels[0]


def refusal(body: bytes) -> str:
    """Return the text of an error. Check that no other part of the error can contain a value."""
    with pytest.raises(InvalidResponseError) as caught:
        load_profile(body)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.args == (str(caught.value),)
    return str(caught.value)


class TestLoadExamples:
    def test_the_answer_to_create_loads(self) -> None:
        assert load_profile((DATA / "create_profile_answer.json").read_bytes()) == Profile(
            app_id=UUID(APP_ID),
            profile_id=UUID(PROFILE_ID),
            customer_user_id="jane.doe@example.com",
            total_revenue_usd=0.0,
            segment_hash="8f45947bad31ab0c",
            timestamp=1736425645861,
            custom_attributes=FrozenMapping({"favourite_sport": "yoga"}),
        )

    def test_the_answer_to_get_loads(self) -> None:
        assert load_profile((DATA / "get_profile_answer.json").read_bytes()) == Profile(
            app_id=UUID("14c3d333-2f3a-455a-aa86-ef83dff6913b"),
            profile_id=UUID("d8533a10-bcce-4e33-8c9d-88b05ac56559"),
            customer_user_id="77B14FB4-FD2A-4D38-AA3A-4C433F79863C",
            total_revenue_usd=9.99,
            segment_hash="fdaeef7f8aaa33c9",
            timestamp=1733324566777,
            custom_attributes=FrozenMapping({"favourite_sport": "yoga"}),
            access_levels=(
                AccessLevel(
                    access_level_id="premium",
                    store=Store.APP_STORE,
                    store_product_id="unlimited.9999",
                    store_transaction_id="2000000335013007",
                    store_original_transaction_id="2000000335013007",
                    purchased_at=datetime(2024, 12, 24, 10, 50, 23, tzinfo=UTC),
                    originally_purchased_at=datetime(2024, 12, 24, 10, 50, 23, tzinfo=UTC),
                    renewal_cancelled_at=datetime(2025, 1, 5, 13, 27, 47, 461425, tzinfo=UTC),
                ),
            ),
            subscriptions=(
                Subscription(
                    store=Store.APP_STORE,
                    store_product_id="unlimited.9999",
                    store_transaction_id="2000000815013007",
                    store_original_transaction_id="2000000815013007",
                    environment=Environment.SANDBOX,
                    purchased_at=datetime(2024, 12, 24, 10, 50, 23, tzinfo=UTC),
                    originally_purchased_at=datetime(2024, 12, 24, 10, 50, 23, tzinfo=UTC),
                ),
                Subscription(
                    store=Store.APP_STORE,
                    store_product_id="weekly.premium.599",
                    store_transaction_id="2000000825768152",
                    store_original_transaction_id="2000000815033245",
                    environment=Environment.SANDBOX,
                    purchased_at=datetime(2024, 12, 24, 11, 13, 4, tzinfo=UTC),
                    originally_purchased_at=datetime(2024, 12, 24, 11, 13, 4, tzinfo=UTC),
                    expires_at=datetime(2025, 1, 10, 11, 34, 40, tzinfo=UTC),
                ),
            ),
            non_subscriptions=(
                NonSubscription(
                    purchase_id=UUID("7a5f9a7d-e236-33e6-96d8-53a3c59c5562"),
                    store=Store.APP_STORE,
                    store_product_id="1year.premium",
                    store_transaction_id="30002109551456",
                    store_original_transaction_id="30002109551456",
                    purchased_at=datetime(2022, 10, 12, 9, 42, 50, tzinfo=UTC),
                    environment=Environment.PRODUCTION,
                ),
            ),
        )


class TestLoadLeniently:
    def test_the_two_ids_are_enough(self) -> None:
        assert load_profile(answer()) == Profile(app_id=UUID(APP_ID), profile_id=UUID(PROFILE_ID))

    @pytest.mark.parametrize("model", [Profile, AccessLevel, Subscription, NonSubscription, Offer])
    def test_null_counts_as_absent_in_every_field(self, model: Any) -> None:
        nulls = {field.name: None for field in attrs.fields(model) if field.default is not attrs.NOTHING}
        lists = {AccessLevel: "access_levels", Subscription: "subscriptions", NonSubscription: "non_subscriptions"}
        if model is Profile:
            assert load_profile(answer(**nulls)) == load_profile(answer())
        elif model is Offer:
            assert load_level(offer=nulls).offer == Offer()
        else:
            assert getattr(load_profile(answer(**{lists[model]: [nulls]})), lists[model]) == (model(),)

    def test_unknown_fields_are_ignored_everywhere(self) -> None:
        new = {"new_field": {"of": ["any", "shape"]}}
        body = json.loads(answer(access_levels=[{"offer": new, **new}], custom_attributes=[{"key": "k", **new}], **new))
        assert load_profile(json.dumps(body | new).encode()) == attrs.evolve(
            load_profile(answer()),
            access_levels=(AccessLevel(offer=Offer()),),
            custom_attributes=FrozenMapping({"k": None}),
        )

    def test_known_values_of_an_enum_are_its_members(self) -> None:
        level = load_level(
            store="stripe", environment="Production", offer={"category": "win_back", "type": "unknown", "id": "o1"}
        )
        assert level.store is Store.STRIPE
        assert level.environment is Environment.PRODUCTION
        assert level.offer
        assert level.offer.category is OfferCategory.WIN_BACK
        assert level.offer.type is OfferType.UNKNOWN
        assert level.offer.id == "o1"

    def test_a_word_of_pythons_is_an_unknown_value_too(self) -> None:
        assert load_level(store="None").store == "None"

    def test_unknown_values_of_an_enum_are_kept(self) -> None:
        level = load_level(store="corner shop", environment="Moon", offer={"category": "new", "type": ""})
        assert isinstance(level.store, Store)
        assert level.store == "corner shop"
        assert level.environment == "Moon"
        assert level.offer == Offer(category=OfferCategory("new"), type=OfferType(""))

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2024-12-24T12:00:00+00:00", NOON),
            ("2024-12-24T12:00:00Z", NOON),
            ("2024-12-24T12:00:00+0000", NOON),
            ("2024-12-24T12:00:00.000001+00:00", NOON.replace(microsecond=1)),
            ("2024-12-24T12:00:00.461425Z", NOON.replace(microsecond=461425)),
            ("2024-12-24T12:00:00.461425+0000", NOON.replace(microsecond=461425)),
            ("2024-12-24T12:00:00.461Z", NOON.replace(microsecond=461000)),
            ("2024-12-24T14:30:00+02:30", NOON),
            ("2024-12-24T04:00:00-0800", NOON),
            ("2024-12-24T12:00:00", NOON),
        ],
    )
    def test_a_time_of_any_form_is_aware_and_in_utc(self, text: str, moment: datetime) -> None:
        loaded = load_level(expires_at=text).expires_at
        assert loaded == moment
        assert loaded
        assert loaded.tzinfo is UTC

    def test_a_time_without_offset_is_utc_wherever_the_process_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "JST-9")
        time.tzset()
        try:
            assert load_level(expires_at="2024-12-24T12:00:00").expires_at == NOON
        finally:
            monkeypatch.undo()
            time.tzset()

    def test_an_integer_is_read_where_a_float_is_wanted(self) -> None:
        revenue = load_profile(answer(total_revenue_usd=10)).total_revenue_usd
        assert revenue == 10.0
        assert type(revenue) is float

    def test_custom_attributes_become_a_mapping_that_keeps_types(self) -> None:
        values: list[Any] = ["", "yoga", 1, 1.5, True, None]
        loaded = load_profile(
            answer(custom_attributes=[{"key": f"k{i}", "value": value} for i, value in enumerate(values)])
        ).custom_attributes
        assert list(loaded) == ["k0", "k1", "k2", "k3", "k4", "k5"]
        assert [(type(value), value) for value in loaded.values()] == [(type(value), value) for value in values]


class TestLoadRefuses:
    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"app_id": None}, "$.data.app_id"),
            ({"app_id": 5}, "$.data.app_id"),
            ({"profile_id": "no uuid"}, "$.data.profile_id"),
            ({"profile_id": ["private"]}, "$.data.profile_id"),
            ({"customer_user_id": 5}, "$.data.customer_user_id"),
            ({"total_revenue_usd": True}, "$.data.total_revenue_usd"),
            ({"total_revenue_usd": "9.99"}, "$.data.total_revenue_usd"),
            ({"total_revenue_usd": 10**400}, "$.data.total_revenue_usd"),
            ({"segment_hash": {}}, "$.data.segment_hash"),
            ({"timestamp": "1736425645861"}, "$.data.timestamp"),
            ({"timestamp": 1.0}, "$.data.timestamp"),
            ({"timestamp": True}, "$.data.timestamp"),
            ({"custom_attributes": {"private": "private"}}, "$.data.custom_attributes"),
            ({"custom_attributes": {}}, "$.data.custom_attributes"),
            ({"custom_attributes": ["private"]}, "$.data.custom_attributes"),
            ({"custom_attributes": [{"value": "private"}]}, "$.data.custom_attributes"),
            ({"custom_attributes": [{"key": 5, "value": "private"}]}, "$.data.custom_attributes"),
            ({"custom_attributes": [{"key": "private", "value": ["private"]}]}, "$.data.custom_attributes"),
            ({"access_levels": {}}, "$.data.access_levels"),
            ({"access_levels": "private"}, "$.data.access_levels"),
            ({"access_levels": [{}, None]}, "$.data.access_levels[1]"),
            ({"access_levels": [{}, "private"]}, "$.data.access_levels[1]"),
            ({"access_levels": [{"is_in_grace_period": "false"}]}, "$.data.access_levels[0].is_in_grace_period"),
            ({"access_levels": [{"is_in_grace_period": 0}]}, "$.data.access_levels[0].is_in_grace_period"),
            ({"access_levels": [{"store": 5}]}, "$.data.access_levels[0].store"),
            ({"access_levels": [{"store": ["private"]}]}, "$.data.access_levels[0].store"),
            ({"access_levels": [{"offer": []}]}, "$.data.access_levels[0].offer"),
            ({"access_levels": [{"offer": {"id": 5}}]}, "$.data.access_levels[0].offer.id"),
            ({"subscriptions": [{}, {"purchased_at": "private"}]}, "$.data.subscriptions[1].purchased_at"),
            ({"subscriptions": [{"purchased_at": 1736425645}]}, "$.data.subscriptions[0].purchased_at"),
            ({"subscriptions": [{"expires_at": "0001-01-01T00:00:00+14:00"}]}, "$.data.subscriptions[0].expires_at"),
            ({"non_subscriptions": [{"purchase_id": "private"}]}, "$.data.non_subscriptions[0].purchase_id"),
        ],
    )
    def test_a_wrong_field_is_named_by_its_path_and_its_value_not_shown(self, fields: Any, path: str) -> None:
        fault = "missing" if fields == {"app_id": None} else "wrong type or value"
        assert refusal(answer(**fields)) == f"the response can't be read: {fault} @ {path}"

    @pytest.mark.parametrize("number", ["1e999", "-1e999"])
    @pytest.mark.parametrize(
        "field", ['"total_revenue_usd": NUMBER', '"custom_attributes": [{"key": "k", "value": NUMBER}]']
    )
    def test_a_number_that_no_float_can_hold_is_refused(self, field: str, number: str) -> None:
        body = answer().replace(b"}}", f", {field.replace('NUMBER', number)}}}}}".encode())
        assert number not in refusal(body)

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_numbers_that_are_not_json_are_refused_even_in_unknown_fields(self, constant: str) -> None:
        refusal(answer().replace(b"}}", f', "new_field": {constant}}}}}'.encode()))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"null",
            b"5",
            b'"private"',
            b"[]",
            b"{}",
            b'{"data": null}',
            b'{"data": "private"}',
            b'{"data": ["private"]}',
            b'{"data": {}}',
            b"<html>private</html>",
            b'{"data": {"private',
            b"\xff\xfeprivate",
            b'{"data": "private\xff"}',
            '{"data": "private"}'.encode("utf-16"),
            answer() + b"private",
            pytest.param(answer(new_field=0).replace(b": 0}", b": " + b"1" * 5000 + b"}"), id="huge int"),
            pytest.param(b"[" * 200_000, id="deep lists"),
            pytest.param(b'{"data":' * 200_000, id="deep objects"),
        ],
    )
    def test_a_body_that_is_no_answer_of_a_profile_call_is_refused_without_a_word_of_it(self, body: bytes) -> None:
        assert "private" not in refusal(body)

    @pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>private</html>"])
    def test_what_is_no_object_at_all_is_called_so(self, body: bytes) -> None:
        assert refusal(body) == "the response can't be read: not a JSON object"

    def test_the_error_keeps_no_frame_of_the_parser(self) -> None:
        with pytest.raises(InvalidResponseError) as caught:
            load_profile(b'{"data": {"private')
        assert [entry.name for entry in caught.traceback][1:] == ["load_profile"]


KEYS = st.text("abcXYZ0189._-", min_size=1, max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.text(max_size=50) | FLOATS | st.integers(-(10**30), 10**30).map(lambda number: int(float(number)))
UUIDS = st.uuids() | st.uuids().map(str) | st.uuids().map(lambda value: str(value).upper())
TEXTS = st.text(min_size=1)


def fields_of(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


META_FIELDS = fields_of(
    {"device_id": UUIDS},
    {
        field.name: st.none() | (st.sampled_from(get_args(Platform)) if field.name == "platform" else st.text())
        for field in attrs.fields(InstallationMeta)
        if field.name != "device_id"
    },
)
ATTRIBUTE_FIELDS = fields_of(
    {},
    {
        **{
            name: st.none() | TEXTS
            for name in ("first_name", "last_name", "phone_number", "ip_country", "store_country")
        },
        "gender": st.none() | st.sampled_from(get_args(Gender)),
        "email": st.none() | st.emails(),
        "birthday": st.none() | st.dates() | st.dates().map(date.isoformat),
        "ip_v4_address": st.none() | st.ip_addresses(v=4) | st.ip_addresses(v=4).map(str),
        "store": st.none() | st.sampled_from(Store) | TEXTS,
        "store_account_token": st.none() | UUIDS,
        "att_status": st.none() | st.sampled_from(get_args(AttStatus)),
        "analytics_disabled": st.none() | st.booleans(),
        "custom_attributes": st.dictionaries(KEYS, st.none() | st.booleans() | VALUES, max_size=30),
        "installation_meta": META_FIELDS.map(lambda fields: InstallationMeta(**fields)),
    },
)


class TestLoadNothing:
    @pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b'{"data": null}'])
    def test_what_is_blank_or_an_object_is_the_apis(self, body: bytes) -> None:
        check_empty_body(body)

    @pytest.mark.parametrize("body", [b"<html>ada@example.com</html>", b"[]", b"null", b'"ok"', b"\xff{}", b"[" * 9999])
    def test_anything_else_is_refused_without_a_word_of_it(self, body: bytes) -> None:
        with pytest.raises(InvalidResponseError) as caught:
            check_empty_body(body)
        assert str(caught.value) == "the response can't be read: neither a JSON object nor empty"
        assert caught.value.__context__ is None


class TestDump:
    def test_the_example_of_the_api_is_what_is_sent(self) -> None:
        attributes = ProfileAttributes(
            first_name="Jane",
            last_name="Doe",
            gender="f",
            email="jane.doe@example.com",
            phone_number="+1234567890",
            birthday=date(2000, 12, 31),
            ip_country="FR",
            store_country="US",
            store=Store.APP_STORE,
            analytics_disabled=True,
            custom_attributes={"favourite_sport": "yoga"},
            installation_meta=InstallationMeta(
                device_id=UUID(DEVICE),
                device="string",
                locale="en",
                os="string",
                platform="iOS",
                timezone="Europe/Rome",
                user_agent="Mozilla/5.0",
                idfa="EA7583CD-A667-48BC-B806-42ECB2B48333",
                advertising_id="",
                android_id=None,
            ),
        )
        assert json.loads(json.dumps(dump_attributes(attributes))) == {
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
                "device_id": DEVICE,
                "device": "string",
                "locale": "en",
                "os": "string",
                "platform": "iOS",
                "timezone": "Europe/Rome",
                "user_agent": "Mozilla/5.0",
                "idfa": "EA7583CD-A667-48BC-B806-42ECB2B48333",
                "advertising_id": "",
                "android_id": None,
            },
        }

    def test_nothing_set_is_an_empty_object(self) -> None:
        assert dump_attributes(ProfileAttributes()) == {}

    def test_an_empty_mapping_is_an_empty_list(self) -> None:
        assert dump_attributes(ProfileAttributes(custom_attributes={})) == {"custom_attributes": []}

    @given(ATTRIBUTE_FIELDS)
    def test_exactly_the_fields_that_are_set_are_sent(self, fields: dict[str, Any]) -> None:
        attributes = ProfileAttributes(**fields)
        body = dump_attributes(attributes)
        assert body.keys() == fields.keys()
        assert attributes.is_empty is (body == {})
        for name, value in fields.items():
            if value is None:
                assert body[name] is None

    @given(META_FIELDS)
    def test_exactly_the_fields_of_an_installation_that_are_set_are_sent(self, fields: dict[str, Any]) -> None:
        body = dump_attributes(ProfileAttributes(installation_meta=InstallationMeta(**fields)))
        assert body == {"installation_meta": fields | {"device_id": str(fields["device_id"])}}

    @given(ATTRIBUTE_FIELDS)
    def test_what_is_sent_is_json_of_plain_values(self, fields: dict[str, Any]) -> None:
        body = dump_attributes(ProfileAttributes(**fields))
        assert json.loads(json.dumps(body, allow_nan=False).encode()) == body
        assert plain(body)

    @given(st.dictionaries(KEYS, st.none() | VALUES, max_size=30))
    def test_custom_attributes_come_back_as_they_were_sent(self, items: dict[str, AttributeValue]) -> None:
        body = dump_attributes(ProfileAttributes(custom_attributes=items))
        assert load_profile(answer(**body)).custom_attributes == items

    @pytest.mark.parametrize(("value", "sent"), [(True, 1), (False, 0), (1, 1), (1.0, 1.0)])
    def test_a_boolean_custom_attribute_is_sent_as_a_number(self, value: float, sent: float) -> None:
        items: Any = dump_attributes(ProfileAttributes(custom_attributes={"k": value}))["custom_attributes"]
        assert items == [{"key": "k", "value": sent}]
        assert type(items[0]["value"]) is type(sent)

    @pytest.mark.parametrize(
        ("name", "value", "sent"),
        [
            ("birthday", date(2000, 12, 31), "2000-12-31"),
            ("birthday", date(1, 1, 1), "0001-01-01"),
            ("birthday", "2000-12-31", "2000-12-31"),
            ("ip_v4_address", IPv4Address("192.0.2.1"), "192.0.2.1"),
            ("ip_v4_address", "192.0.2.1", "192.0.2.1"),
            ("store_account_token", UUID(DEVICE), DEVICE),
            ("store_account_token", DEVICE.upper(), DEVICE.upper()),
            ("store", Store.STRIPE, "stripe"),
            ("store", Store("corner shop"), "corner shop"),
            ("att_status", 0, 0),
            ("analytics_disabled", False, False),
        ],
    )
    def test_a_value_is_sent_in_the_form_of_the_api(self, name: str, value: object, sent: object) -> None:
        body = dump_attributes(ProfileAttributes(**{name: value}))  # type: ignore[arg-type]  # any of the fields
        assert body == {name: sent}
        assert plain(body)

    def test_an_unset_field_given_by_hand_is_left_out(self) -> None:
        assert dump_attributes(ProfileAttributes(first_name=UNSET, last_name="Doe")) == {"last_name": "Doe"}


def plain(value: object) -> bool:
    """Return True if a value consists only of JSON types, without subclasses."""
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in {str, int, float, bool}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text()
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.datetimes().map(datetime.isoformat)
    | st.sampled_from([APP_ID, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "app_store", 10**400])
)
NAMES = st.sampled_from(
    sorted(
        {"data", "key", "value"}
        | {field.name for model in (Profile, AccessLevel, NonSubscription, Offer) for field in attrs.fields(model)}
    )
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner),
    max_leaves=20,
)


@st.composite
def nearly_right_answers(draw: st.DrawFn) -> object:
    """Return the example response with one value replaced at any depth."""
    root = json.loads((DATA / "get_profile_answer.json").read_bytes())
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for place in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, place))
            collect(node[place])

    collect(root)
    node, place = draw(st.sampled_from(places))
    node[place] = draw(ANY_JSON)
    return root


class TestLoadAnything:
    def loads_or_refuses(self, body: bytes) -> None:
        try:
            profile = load_profile(body)
        except InvalidResponseError as error:
            assert error.__cause__ is None  # noqa: PT017  # either end is right
            assert error.__context__ is None  # noqa: PT017  # likewise
        else:
            assert isinstance(profile, Profile)
            assert profile == load_profile(body)
            assert hash(profile) == hash(load_profile(body))

    @given(ANY_JSON)
    def test_any_json_is_a_profile_or_an_error_of_ours(self, value: object) -> None:
        self.loads_or_refuses(json.dumps(value).encode())

    @given(ANY_JSON)
    def test_any_json_in_the_envelope_is_a_profile_or_an_error_of_ours(self, value: object) -> None:
        self.loads_or_refuses(json.dumps({"data": value}).encode())

    @given(nearly_right_answers())
    def test_a_right_answer_with_one_value_replaced_is_a_profile_or_an_error_of_ours(self, value: object) -> None:
        self.loads_or_refuses(json.dumps(value).encode())

    @given(nearly_right_answers())
    def test_what_is_wrong_in_an_object_is_named(self, value: dict[str, Any]) -> None:
        body = json.dumps(value)
        assume(isinstance(value.get("data"), dict) and "Infinity" not in body and "NaN" not in body)  # which isn't JSON
        try:
            load_profile(body.encode())
        except InvalidResponseError as error:
            assert "not a JSON object" not in str(error)  # noqa: PT017  # either end is right

    @given(st.binary())
    def test_any_bytes_are_an_error_of_ours(self, body: bytes) -> None:
        refusal(body)

    def test_an_answer_cut_short_is_an_error_of_ours(self) -> None:
        body = (DATA / "get_profile_answer.json").read_bytes().rstrip()
        for length in range(len(body)):
            refusal(body[:length])
