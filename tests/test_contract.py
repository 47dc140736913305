"""Simulator and client, each compared with the documented facts: neither may rely on what only the other one does."""

from typing import Any

import aiohttp
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import AdaptyClient, InstallationMeta, ProfileAttributes, ProfileNotFoundError
from adapty_async.testing import Simulator
from tests.testing.caller import Caller
from tests.testing.facts import STATUSES, fields, request_violations
from tests.testing.strategies import PLATFORMS, Attributes, customer_user_ids, profile_attributes
from tests.testing.test_validation import REQUESTS

METHODS = ["GET", "POST", "PATCH", "DELETE"]
KNOWN: dict[str, Any] = {"customer_user_id": "u1", "profile_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"}
UNKNOWN: dict[str, Any] = {"customer_user_id": "u2", "profile_id": "d8533a10-bcce-4e33-8c9d-88b05ac56559"}

small = settings(max_examples=50)


class TestAnswers:
    """A Caller fails the test if a response isn't as documented."""

    @small
    @given(
        method=st.sampled_from(METHODS),
        ids=st.fixed_dictionaries(
            {},
            optional={name: st.sampled_from([KNOWN[name], UNKNOWN[name], "no UUID", "j\u00fcrgen"]) for name in KNOWN},
        ).filter(bool),
        headers=st.fixed_dictionaries({}, optional={"adapty-platform": PLATFORMS | st.just("Windows")}),
        body=REQUESTS | st.none() | st.lists(st.none(), max_size=1),
        key=st.sampled_from([None, None, None, "Api-Key wrong", ""]),
    )
    async def test_to_whatever_is_asked_the_answer_is_a_documented_one(
        self, method: str, ids: dict[str, Any], headers: dict[str, str], body: Any, key: str | None
    ) -> None:
        async with Simulator(rate=0.001, burst=1) as simulator, aiohttp.ClientSession() as session:
            simulator.add_profile(**KNOWN)
            headers = headers if key is None else headers | {"Authorization": key}
            for _ in range(3):  # the last one is above the limit, with a correct key
                reply = await Caller(session)(simulator, method, **ids, headers=headers, json=body)
                assert reply.status in STATUSES[method]


class TestRequests:
    """The requests of the client, as recorded by the simulator."""

    @staticmethod
    def sent(simulator: Simulator) -> tuple[str, dict[str, str], Any]:
        """Return the method, the API's headers and the body of the only request, which must be as documented."""
        (request,) = simulator.requests
        assert request_violations(request.method, request.path, request.headers, request.body) == []
        assert request.headers["Authorization"] == f"Api-Key {simulator.api_key}"
        named = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith("adapty-")}
        return request.method, named, request.json

    @small
    @given(
        operation=st.sampled_from(["get", "delete"]),
        ids=st.builds(lambda value: {"customer_user_id": value}, customer_user_ids)
        | st.builds(lambda value: {"profile_id": value}, st.uuids() | st.uuids().map(str)),
    )
    async def test_get_and_delete_send_an_id_and_nothing_else(self, operation: str, ids: dict[str, Any]) -> None:
        async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
            with pytest.raises(ProfileNotFoundError):
                await getattr(client.profiles, operation)(**ids)
            assert self.sent(simulator) == (operation.upper(), headers_of(ids), None)

    @small
    @given(ids=customer_user_ids, platform=st.none() | PLATFORMS, attributes=profile_attributes())
    async def test_create_and_update_send_what_is_set_and_nothing_else(
        self, ids: str, platform: Any, attributes: Attributes
    ) -> None:
        expected = {"adapty-customer-user-id": ids} | ({} if platform is None else {"adapty-platform": platform})
        async with Simulator() as simulator, AdaptyClient(simulator.api_key, base_url=simulator.base_url) as client:
            await client.profiles.create(attributes.model, customer_user_id=ids, platform=platform)
            assert self.sent(simulator) == ("POST", expected, attributes.json)
            simulator.requests.clear()
            if attributes.model.is_empty:
                with pytest.raises(ValueError, match="nothing to update"):
                    await client.profiles.update(attributes.model, customer_user_id=ids, platform=platform)
                assert not simulator.requests
            else:
                await client.profiles.update(attributes.model, customer_user_id=ids, platform=platform)
                assert self.sent(simulator) == ("PATCH", expected, attributes.json)

    async def test_linking_sends_both_ids(self, simulator: Simulator, client: AdaptyClient) -> None:
        simulator.add_profile(profile_id=KNOWN["profile_id"])
        await client.profiles.create(**KNOWN)
        assert self.sent(simulator) == ("POST", headers_of(KNOWN), {})

    @pytest.mark.parametrize(
        ("model", "schema"), [(ProfileAttributes, "ProfileRequest"), (InstallationMeta, "InstallationMeta")]
    )
    def test_every_documented_field_can_be_sent_and_no_other(self, model: type, schema: str) -> None:
        assert {field.name for field in attrs.fields(model)} == set(fields(schema))


def headers_of(ids: dict[str, Any]) -> dict[str, str]:
    return {f"adapty-{name.replace('_', '-')}": str(value) for name, value in ids.items()}
