from uuid import UUID

import pytest

from adapty_async.testing import Profiles, Simulator, prefilled_customer_user_id

ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"


@pytest.fixture
def profiles() -> Profiles:
    return Profiles(seed=0)


def test_a_profile_is_found_under_either_id_and_under_both(profiles: Profiles) -> None:
    profile = profiles.add(customer_user_id="u1", profile_id=ID)
    assert profiles.find(customer_user_id="u1") is profile
    assert profiles.find(profile_id=ID.upper()) is profile
    assert profiles.find(customer_user_id="u1", profile_id=ID) is profile


def test_ids_of_two_profiles_find_none(profiles: Profiles) -> None:
    profiles.add(customer_user_id="u1", profile_id=ID)
    profiles.add(customer_user_id="u2")
    assert profiles.find(customer_user_id="u2", profile_id=ID) is None


def test_no_id_finds_none(profiles: Profiles) -> None:
    profiles.add()
    assert profiles.find() is None


def test_it_is_a_mapping_by_profile_id(profiles: Profiles) -> None:
    profile = profiles.add(profile_id=UUID(ID))
    assert dict(profiles) == {ID: profile}


def test_a_fresh_profile_id_is_a_uuid_of_version_4(profiles: Profiles) -> None:
    assert UUID(profiles.add().profile_id).version == 4


def test_the_same_seed_gives_the_same_profile_ids() -> None:
    ids = [list(Simulator(profiles=5, seed=seed).profiles) for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_an_id_in_use_is_refused_and_nothing_is_added(profiles: Profiles) -> None:
    profiles.add(customer_user_id="u1", profile_id=ID)
    with pytest.raises(ValueError, match="a profile with this profile_id exists"):
        profiles.add(customer_user_id="u2", profile_id=ID)
    with pytest.raises(ValueError, match="another profile already has this customer_user_id"):
        profiles.add(customer_user_id="u1")
    assert (list(profiles), set(profiles.customer_user_ids)) == ([ID], {"u1"})


def test_a_profile_id_that_is_no_uuid_is_refused_without_showing_it(profiles: Profiles) -> None:
    with pytest.raises(ValueError, match="must be a UUID") as refusal:
        profiles.add(profile_id="jane@example.com")
    assert "jane" not in str(refusal.value)


def test_a_removed_profile_is_found_under_neither_id(profiles: Profiles) -> None:
    profiles.remove(profiles.add(customer_user_id="u1", profile_id=ID))
    profiles.remove(profiles.add())
    assert profiles.find(customer_user_id="u1") is profiles.find(profile_id=ID) is None
    assert len(profiles) == 0


def test_the_repr_of_a_profile_shows_no_personal_value(profiles: Profiles) -> None:
    assert "u1" not in repr(profiles.add(customer_user_id="u1"))


def test_prefilled_ids_are_predictable() -> None:
    assert set(Simulator(profiles=2).profiles.customer_user_ids) == {
        "user-000001@example.com",
        "user-000002@example.com",
    }
    assert prefilled_customer_user_id(20_000) == "user-020000@example.com"
