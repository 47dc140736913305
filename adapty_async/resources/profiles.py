"""The operations on profiles: create, get, update, delete."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar, get_args
from uuid import UUID

from ..errors import NotFoundError
from ..http.requests import Request, Response, check_header_value, checked_request
from ..models import Platform, Profile, ProfileAttributes, is_uuid_text
from ..models.codec import dump, load_nothing, load_profile

_T = TypeVar("_T")

_CUSTOMER_USER_ID: Final = "adapty-customer-user-id"
_PROFILE_ID: Final = "adapty-profile-id"
_PATH: Final = "/api/v2/server-side-api/profile/"
_PLATFORMS: Final = frozenset(get_args(Platform))


class Send(Protocol):
    """A function that sends a request and reads its 2xx response. A response that can't be read fails the call."""

    async def __call__(
        self,
        request: Request,
        read: Callable[[Response], _T],
        is_answer: Callable[[Request, _T], bool] | None = None,
        /,
    ) -> _T: ...


class Profiles:
    """The profiles of the app's users.

    Each call names a profile by `customer_user_id`, your own ID of the user, or by `profile_id`, Adapty's ID.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    async def get(self, *, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Profile:
        """Get a profile.

        https://adapty.io/docs/api-adapty/operations/getProfile

        Args:
            customer_user_id: Your own ID of the user.
            profile_id: Adapty's ID. Pass exactly one of the two.

        Returns:
            The profile.

        Raises:
            ProfileNotFoundError: If it doesn't exist.
            AdaptyError: If the call failed.
            ValueError, TypeError: If an argument is invalid.
        """
        request = get_request(customer_user_id=customer_user_id, profile_id=profile_id)
        return await self._send(request, read_profile, is_about)

    async def create(
        self,
        attributes: ProfileAttributes | None = None,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        platform: Platform | None = None,
    ) -> Profile:
        """Create a profile, or link a customer user ID to an existing profile if both IDs are given.

        https://adapty.io/docs/api-adapty/operations/createProfile

        Args:
            attributes: The attributes to set.
            customer_user_id: Your own ID of the user.
            profile_id: Adapty's ID.
            platform: The platform of the user.

        Returns:
            The profile.

        Raises:
            AdaptyError: If the call failed.
            ValueError, TypeError: If an argument is invalid.
        """
        request = create_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_about)

    async def update(
        self,
        attributes: ProfileAttributes,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        platform: Platform | None = None,
    ) -> Profile:
        """Update a profile. Attributes that aren't given keep their values.

        https://adapty.io/docs/api-adapty/operations/updateProfile

        Args:
            attributes: The attributes to set.
            customer_user_id: Your own ID of the user.
            profile_id: Adapty's ID. Pass exactly one of the two.
            platform: The platform of the user.

        Returns:
            The updated profile.

        Raises:
            ProfileNotFoundError: If it doesn't exist.
            AdaptyError: If the call failed.
            ValueError, TypeError: If an argument is invalid.
        """
        request = update_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_about)

    async def delete(
        self,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        missing_ok: bool = False,
    ) -> bool:
        """Delete a profile.

        https://adapty.io/docs/api-adapty/operations/deleteProfile

        Args:
            customer_user_id: Your own ID of the user.
            profile_id: Adapty's ID. Pass exactly one of the two.
            missing_ok: Return False if the profile doesn't exist, instead of raising an error.

        Returns:
            True if the profile was deleted. This includes a profile that no longer exists after an earlier attempt of
            this call without a clear response, because that attempt most likely deleted it.

        Raises:
            ProfileNotFoundError: If it doesn't exist.
            AdaptyError: If the call failed.
            ValueError, TypeError: If an argument is invalid.
        """
        request = delete_request(customer_user_id=customer_user_id, profile_id=profile_id)
        try:
            await self._send(request, read_nothing)
        except NotFoundError as error:
            if error.status >= 500:  # a server failure gives no information about the profile, even with this code
                raise
            if error.maybe_executed:
                return True
            if missing_ok:
                return False
            raise
        return True


def read_profile(response: Response) -> Profile:
    """Read the profile of a response.

    Raises:
        InvalidResponseError: If it can't be read.
    """
    return load_profile(response.body)


def is_about(request: Request, profile: Profile) -> bool:
    """Return True if a profile can be the one that a request names. An ID that only one of them has is ignored."""
    profile_id, customer_user_id = (request.headers.get(name) for name in (_PROFILE_ID, _CUSTOMER_USER_ID))
    if profile_id is not None and profile_id.lower() != str(profile.profile_id):
        return False
    found = profile.customer_user_id
    if customer_user_id is None or found is None or found == customer_user_id:
        return True
    # The server may decode the header as Latin-1.
    return found == customer_user_id.encode().decode("latin-1")


def read_nothing(response: Response) -> None:
    """Read the response of a deletion, which has no body.

    Raises:
        InvalidResponseError: If there is a body that isn't from the API.
    """
    if response.body:
        load_nothing(response.body)


def get_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Return the request that gets a profile."""
    return checked_request("GET", _PATH, _one_id(customer_user_id, profile_id))


def create_request(
    attributes: ProfileAttributes | None = None,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Return the request that creates or links a profile."""
    if customer_user_id is None and profile_id is None:
        raise ValueError("pass customer_user_id, profile_id, or both to link them")
    headers = _ids(customer_user_id, profile_id)
    return checked_request(
        "POST",
        _PATH,
        headers | _platform(platform),
        {} if attributes is None else dump(_checked(attributes)),
        # Assumed, not documented: the customer user ID identifies the profile, so a repeated request addresses the same
        # one.
        idempotent=customer_user_id is not None,
    )


def update_request(
    attributes: ProfileAttributes,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Return the request that updates a profile."""
    headers = _one_id(customer_user_id, profile_id)
    body = dump(_checked(attributes))
    if not body:
        raise ValueError("nothing to update: no attribute is set")
    return checked_request("PATCH", _PATH, headers | _platform(platform), body)


def delete_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Return the request that deletes a profile."""
    return checked_request("DELETE", _PATH, _one_id(customer_user_id, profile_id))


def _one_id(customer_user_id: str | None, profile_id: str | UUID | None) -> dict[str, str]:
    if customer_user_id is not None and profile_id is None:
        check_header_value("customer_user_id", customer_user_id)
        return {_CUSTOMER_USER_ID: customer_user_id}
    if profile_id is not None and customer_user_id is None:
        return {_PROFILE_ID: _profile_id(profile_id)}
    raise ValueError("pass exactly one of customer_user_id and profile_id")


def _ids(customer_user_id: str | None, profile_id: str | UUID | None) -> dict[str, str]:
    if customer_user_id is not None and profile_id is not None:
        return _one_id(customer_user_id, None) | _one_id(None, profile_id)
    return _one_id(customer_user_id, profile_id)


def _profile_id(profile_id: str | UUID) -> str:
    if isinstance(profile_id, UUID):
        return str(profile_id)
    if not isinstance(profile_id, str):
        raise TypeError(f"profile_id must be a str or a UUID, not {type(profile_id).__name__}")
    if not is_uuid_text(profile_id):
        raise ValueError("profile_id isn't a UUID: pass an ID of your own system as customer_user_id")
    return profile_id


def _platform(platform: Platform | None) -> dict[str, str]:
    if platform is None:
        return {}
    if platform not in _PLATFORMS:
        raise ValueError(f"platform must be one of {', '.join(sorted(_PLATFORMS))}")
    return {"adapty-platform": platform}


def _checked(attributes: ProfileAttributes) -> ProfileAttributes:
    if not isinstance(attributes, ProfileAttributes):
        raise TypeError(f"attributes must be ProfileAttributes, not {type(attributes).__name__}")
    return attributes
