"""The client against the simulator: what a user sees."""

from adapty_async import AdaptyClient, ProfileAttributes
from adapty_async.testing import Simulator


async def test_a_profile_is_created_read_changed_and_deleted(client: AdaptyClient, simulator: Simulator) -> None:
    created = await client.profiles.create(ProfileAttributes(first_name="Ann"), customer_user_id="u1", platform="iOS")
    assert created.customer_user_id == "u1"

    read = await client.profiles.get(profile_id=created.profile_id)
    assert read.customer_user_id == "u1"

    await client.profiles.update(ProfileAttributes(custom_attributes={"height": 180}), customer_user_id="u1")
    changed = await client.profiles.get(customer_user_id="u1")
    assert changed.custom_attributes == {"height": 180.0}

    assert await client.profiles.delete(customer_user_id="u1") is True
    assert len(simulator.profiles) == 0
