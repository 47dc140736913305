"""Values written by the client are returned by the simulator, in every field."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import UNSET, AdaptyClient, InstallationMeta, ProfileAttributes
from adapty_async.testing import Profile, Simulator
from tests.testing.strategies import FIELDS, META_FIELDS, Attributes, Pairs, custom_attributes, profile_attributes

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

small = settings(max_examples=50)
few = settings(max_examples=10)  # for each field


def with_fields(**fields: Any) -> ProfileAttributes:
    return ProfileAttributes(**fields)


def of_meta(**fields: Any) -> ProfileAttributes:
    return ProfileAttributes(installation_meta=InstallationMeta(device_id=DEVICE, **fields))


def plain(attributes: Attributes) -> dict[str, Any]:
    """Return the fields that are returned unchanged, which are all but one."""
    return {name: value for name, value in attributes.json.items() if name != "custom_attributes"}


def custom(attributes: Attributes) -> Mapping[str, Any]:
    """Return the custom attributes that were set."""
    found = attributes.model.custom_attributes
    return {} if found is UNSET else found


def kept(*changes: Mapping[str, Any]) -> dict[str, str | float]:
    """Return the custom attributes that remain after changes, as the API stores them."""
    after: dict[str, Any] = {}
    for change in changes:
        after |= change
    present = {key: value for key, value in after.items() if value is not None and value != ""}
    return {key: value if isinstance(value, str) else float(value) for key, value in present.items()}


def typed(values: Mapping[str, Any]) -> dict[str, tuple[type, Any]]:
    """Distinguish 1 from 1.0 and True, which are equal in Python."""
    return {key: (type(value), value) for key, value in values.items()}


def only(simulator: Simulator) -> Profile:
    (profile,) = simulator.profiles.values()
    return profile


def test_every_field_is_covered() -> None:
    assert FIELDS.keys() | {"custom_attributes", "installation_meta"} == {
        field.name for field in attrs.fields(ProfileAttributes)
    }
    assert META_FIELDS.keys() | {"device_id"} == {field.name for field in attrs.fields(InstallationMeta)}


@small
@given(profile_attributes(), profile_attributes())
async def test_what_is_created_and_updated_is_held_and_the_rest_left_alone(
    first: Attributes, second: Attributes
) -> None:
    async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
        await client.profiles.create(first.model, customer_user_id="u1")
        assert only(simulator).attributes == plain(first)
        if not second.model.is_empty:
            await client.profiles.update(second.model, customer_user_id="u1")
        assert only(simulator).attributes == plain(first) | plain(second)
        assert only(simulator).custom_attributes == kept(custom(first), custom(second))


@few
@pytest.mark.parametrize(("name", "pairs"), FIELDS.items(), ids=list(FIELDS))
@given(st.data())
async def test_a_field_is_set_left_alone_and_cleared(name: str, pairs: Pairs, data: st.DataObject) -> None:
    value, in_json = data.draw(pairs)
    other = "last_name" if name == "first_name" else "first_name"
    async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:

        async def held_after(**fields: Any) -> tuple[Any, Any]:
            await client.profiles.update(with_fields(**fields), customer_user_id="u1")
            attributes = only(simulator).attributes
            return type(attributes.get(name, UNSET)), attributes.get(name, UNSET)

        simulator.add_profile(customer_user_id="u1")
        assert await held_after(**{other: "Jane", name: UNSET}) == (type(UNSET), UNSET)
        assert await held_after(**{name: value}) == (type(in_json), in_json)
        assert await held_after(**{other: None, name: UNSET}) == (type(in_json), in_json)
        assert await held_after(**{name: None}) == (type(None), None)


@few
@pytest.mark.parametrize(("name", "pairs"), META_FIELDS.items(), ids=list(META_FIELDS))
@given(st.data())
async def test_a_field_of_an_installation_is_set_left_out_and_null(
    name: str, pairs: Pairs, data: st.DataObject
) -> None:
    value, in_json = data.draw(pairs)
    async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
        simulator.add_profile(customer_user_id="u1")
        for field, expected in [(value, {name: in_json}), (UNSET, {}), (None, {name: None})]:
            await client.profiles.update(of_meta(**{name: field}), customer_user_id="u1")
            assert only(simulator).attributes == {"installation_meta": {"device_id": DEVICE, **expected}}


class TestCustomAttributes:
    @small
    @given(custom_attributes, custom_attributes)
    async def test_what_is_set_changed_and_deleted_comes_out_of_get(
        self, first: dict[str, Any], second: dict[str, Any]
    ) -> None:
        # Half of the second's keys are also in the first: changed there, or deleted with None or "".
        second = dict(zip(list(first)[::2], second.values(), strict=False)) | second
        async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
            created = await client.profiles.create(with_fields(custom_attributes=first), customer_user_id="u1")
            assert typed(created.custom_attributes) == typed(kept(first))
            updated = await client.profiles.update(with_fields(custom_attributes=second), customer_user_id="u1")
            got = await client.profiles.get(customer_user_id="u1")
        assert typed(got.custom_attributes) == typed(kept(first, second))
        assert updated.custom_attributes == got.custom_attributes

    @pytest.mark.parametrize(("value", "comes_out"), [(True, 1.0), (False, 0.0), (7, 7.0), (-0.5, -0.5), ("7", "7")])
    async def test_booleans_and_integers_come_back_as_floats(
        self, simulator: Simulator, client: AdaptyClient, value: Any, comes_out: Any
    ) -> None:
        await client.profiles.create(with_fields(custom_attributes={"k": value}), customer_user_id="u1")
        got = await client.profiles.get(customer_user_id="u1")
        assert typed(got.custom_attributes) == typed({"k": comes_out})

    @pytest.mark.parametrize("nothing", [None, ""])
    async def test_none_and_an_empty_text_delete_one_and_leave_the_others(
        self, simulator: Simulator, client: AdaptyClient, nothing: Any
    ) -> None:
        both = {"team": "blue", "level": 3.0}
        await client.profiles.create(with_fields(custom_attributes=both), customer_user_id="u1")
        updated = await client.profiles.update(with_fields(custom_attributes={"team": nothing}), customer_user_id="u1")
        assert updated.custom_attributes == {"level": 3.0}

    async def test_an_update_without_them_leaves_all(self, simulator: Simulator, client: AdaptyClient) -> None:
        await client.profiles.create(with_fields(custom_attributes={"team": "blue"}), customer_user_id="u1")
        updated = await client.profiles.update(with_fields(first_name="Jane"), customer_user_id="u1")
        assert updated.custom_attributes == {"team": "blue"}
