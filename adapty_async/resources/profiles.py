"""The operations on profiles: create, get, update, delete."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar, get_args
from uuid import UUID

from ..errors import NotFoundError
from ..http.requests import Request, Response, build_unchecked_request, check_header_value
from ..models import Platform, Profile, ProfileAttributes, is_uuid_text
from ..models.codec import check_empty_body, dump_attributes, load_profile

_T = TypeVar("_T")

_CUSTOMER_USER_ID_HEADER: Final = "adapty-customer-user-id"
_PROFILE_ID_HEADER: Final = "adapty-profile-id"
_PROFILE_PATH: Final = "/api/v2/server-side-api/profile/"
_PLATFORMS: Final = frozenset(get_args(Platform))


class SendFunction(Protocol):
    """A function that sends a request and reads its 2xx response. A response that can't be read fails the call."""

    async def __call__(
        self,
        request: Request,
        read: Callable[[Response], _T],
        matches_request: Callable[[Request, _T], bool] | None = None,
        /,
    ) -> _T: ...


class Profiles:
    """The profiles of the app's users.

    Each call names a profile by `customer_user_id`, your own ID of the user, or by `profile_id`, Adapty's ID.
    """

    def __init__(self, send: SendFunction) -> None:
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
        request = build_get_request(customer_user_id=customer_user_id, profile_id=profile_id)
        return await self._send(request, read_profile, is_same_profile)

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
        request = build_create_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_same_profile)

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
        request = build_update_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_same_profile)

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
        request = build_delete_request(customer_user_id=customer_user_id, profile_id=profile_id)
        try:
            await self._send(request, check_empty_response)
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


def is_same_profile(request: Request, profile: Profile) -> bool:
    """Return True if a profile can be the one that a request names. An ID that only one of them has is ignored."""
    profile_id, customer_user_id = (
        request.headers.get(name) for name in (_PROFILE_ID_HEADER, _CUSTOMER_USER_ID_HEADER)
    )
    if profile_id is not None and profile_id.lower() != str(profile.profile_id):
        return False
    returned_id = profile.customer_user_id
    if customer_user_id is None or returned_id is None or returned_id == customer_user_id:
        return True
    # The server may decode the header as Latin-1.
    return returned_id == customer_user_id.encode().decode("latin-1")


def check_empty_response(response: Response) -> None:
    """Read the response of a deletion, which has no body.

    Raises:
        InvalidResponseError: If there is a body that isn't from the API.
    """
    if response.body:
        check_empty_body(response.body)


def build_get_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Return the request that gets a profile."""
    return build_unchecked_request("GET", _PROFILE_PATH, _build_id_header(customer_user_id, profile_id))


def build_create_request(
    attributes: ProfileAttributes | None = None,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Return the request that creates or links a profile."""
    if customer_user_id is None and profile_id is None:
        raise ValueError("pass customer_user_id, profile_id, or both to link them")
    headers = _build_id_headers(customer_user_id, profile_id)
    return build_unchecked_request(
        "POST",
        _PROFILE_PATH,
        headers | _build_platform_header(platform),
        {} if attributes is None else dump_attributes(_validate_attributes(attributes)),
        # Assumed, not documented: the customer user ID identifies the profile, so a repeated request addresses the same
        # one.
        idempotent=customer_user_id is not None,
    )


def build_update_request(
    attributes: ProfileAttributes,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Return the request that updates a profile."""
    headers = _build_id_header(customer_user_id, profile_id)
    body = dump_attributes(_validate_attributes(attributes))
    if not body:
        raise ValueError("nothing to update: no attribute is set")
    return build_unchecked_request("PATCH", _PROFILE_PATH, headers | _build_platform_header(platform), body)


def build_delete_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Return the request that deletes a profile."""
    return build_unchecked_request("DELETE", _PROFILE_PATH, _build_id_header(customer_user_id, profile_id))


def _build_id_header(customer_user_id: str | None, profile_id: str | UUID | None) -> dict[str, str]:
    if customer_user_id is not None and profile_id is None:
        check_header_value("customer_user_id", customer_user_id)
        return {_CUSTOMER_USER_ID_HEADER: customer_user_id}
    if profile_id is not None and customer_user_id is None:
        return {_PROFILE_ID_HEADER: _validate_profile_id(profile_id)}
    raise ValueError("pass exactly one of customer_user_id and profile_id")


def _build_id_headers(customer_user_id: str | None, profile_id: str | UUID | None) -> dict[str, str]:
    if customer_user_id is not None and profile_id is not None:
        return _build_id_header(customer_user_id, None) | _build_id_header(None, profile_id)
    return _build_id_header(customer_user_id, profile_id)


def _validate_profile_id(profile_id: str | UUID) -> str:
    if isinstance(profile_id, UUID):
        return str(profile_id)
    if not isinstance(profile_id, str):
        raise TypeError(f"profile_id must be a str or a UUID, not {type(profile_id).__name__}")
    if not is_uuid_text(profile_id):
        raise ValueError("profile_id isn't a UUID: pass an ID of your own system as customer_user_id")
    return profile_id


def _build_platform_header(platform: Platform | None) -> dict[str, str]:
    if platform is None:
        return {}
    if platform not in _PLATFORMS:
        raise ValueError(f"platform must be one of {', '.join(sorted(_PLATFORMS))}")
    return {"adapty-platform": platform}


def _validate_attributes(attributes: ProfileAttributes) -> ProfileAttributes:
    if not isinstance(attributes, ProfileAttributes):
        raise TypeError(f"attributes must be ProfileAttributes, not {type(attributes).__name__}")
    return attributes
