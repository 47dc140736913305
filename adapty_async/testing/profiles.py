"""The profiles of one app, in memory."""

import random
from collections.abc import Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


def prefilled_customer_user_id(number: int) -> str:
    """Return the customer user ID of a prefilled profile. Numbers start at 1."""
    return f"user-{number:06}@example.com"


@dataclass(slots=True, eq=False, repr=False)
class Profile:
    """One profile of the simulator.

    Tests may assign the fields that no request can set.

    Attributes:
        profile_id: Adapty's ID.
        customer_user_id: The ID of the app's own system. None if there is none.
        platform: The platform, as last sent.
        attributes: Each field of ProfileRequest as last sent, except the custom attributes. A field that was sent as
            null is None; a field that was never sent is absent.
        custom_attributes: Values by key.
        total_revenue_usd: The revenue in US dollars.
        segment_hash: A hash of the segments.
        access_levels: The access levels, as JSON.
        subscriptions: The subscriptions, as JSON.
        non_subscriptions: The purchases that don't renew, as JSON.
    """

    profile_id: str
    customer_user_id: str | None
    platform: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    custom_attributes: dict[str, str | float] = field(default_factory=dict)
    total_revenue_usd: float = 0.0
    segment_hash: str = "8f45947bad31ab0c"
    access_levels: Sequence[dict[str, Any]] | None = ()
    subscriptions: Sequence[dict[str, Any]] | None = ()
    non_subscriptions: Sequence[dict[str, Any]] | None = ()


class Profiles(Mapping[str, Profile]):
    """The profiles by profile ID. `find` accepts either ID."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable profile IDs, no secrets
        self.app_id = self._generate_id()
        self._by_profile_id: dict[str, Profile] = {}
        self._by_customer_user_id: dict[str, Profile] = {}

    def __getitem__(self, profile_id: str) -> Profile:
        return self._by_profile_id[profile_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_profile_id)

    def __len__(self) -> int:
        return len(self._by_profile_id)

    @property
    def customer_user_ids(self) -> KeysView[str]:
        """The customer user IDs of all profiles that have one."""
        return self._by_customer_user_id.keys()

    def find(self, *, customer_user_id: str | None = None, profile_id: str | None = None) -> Profile | None:
        """Return the profile that has the ID, or both IDs if both are given. Return None if there is none.

        Args:
            customer_user_id: The ID of the app's own system.
            profile_id: Adapty's ID.
        """
        if profile_id is None:
            return None if customer_user_id is None else self._by_customer_user_id.get(customer_user_id)
        profile = self._by_profile_id.get(profile_id.lower())
        if profile and customer_user_id is not None and profile.customer_user_id != customer_user_id:
            return None
        return profile

    def add(self, *, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Profile:
        """Add a profile.

        Args:
            customer_user_id: The ID of the app's own system.
            profile_id: Adapty's ID. By default a new one is generated.

        Returns:
            The profile.

        Raises:
            ValueError: If the profile ID isn't a UUID, or a profile with one of the IDs exists.
        """
        new_id = self._generate_id() if profile_id is None else _canonicalize_id(profile_id)
        if new_id in self._by_profile_id:
            raise ValueError("a profile with this profile_id exists")
        profile = Profile(new_id, None)
        if customer_user_id is not None:
            self.link(profile, customer_user_id)
        self._by_profile_id[new_id] = profile
        return profile

    def link(self, profile: Profile, customer_user_id: str) -> None:
        """Link a customer user ID to a profile.

        Args:
            profile: The profile.
            customer_user_id: The ID of the app's own system.

        Raises:
            ValueError: If the profile has another one, or another profile has this one.
        """
        if profile.customer_user_id not in (None, customer_user_id):
            raise ValueError("the profile already has another customer_user_id")
        if self._by_customer_user_id.setdefault(customer_user_id, profile) is not profile:
            raise ValueError("another profile already has this customer_user_id")
        profile.customer_user_id = customer_user_id

    def remove(self, profile: Profile) -> None:
        """Remove a profile.

        Args:
            profile: The profile.
        """
        del self._by_profile_id[profile.profile_id]
        if profile.customer_user_id is not None:
            del self._by_customer_user_id[profile.customer_user_id]

    def _generate_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


def _canonicalize_id(profile_id: str | UUID) -> str:
    try:
        return str(UUID(str(profile_id)))
    except ValueError:
        raise ValueError("profile_id must be a UUID") from None
