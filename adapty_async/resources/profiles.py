"""The profile chapter: create, get, update, delete."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar, get_args
from uuid import UUID

from ..errors import NotFoundError
from ..messages import Request, Response, check_header_value, checked_request
from ..models import Platform, Profile, ProfileAttributes, is_uuid_text
from ..serialization import dump, load_nothing, load_profile

_T = TypeVar("_T")

_CUSTOMER_USER_ID: Final = "adapty-customer-user-id"
_PROFILE_ID: Final = "adapty-profile-id"
_PATH: Final = "/api/v2/server-side-api/profile/"
_PLATFORMS: Final = frozenset(get_args(Platform))


class Send(Protocol):
    """Send a request, and read its 2xx answer; what can't be read is an error of that call."""

    async def __call__(
        self,
        request: Request,
        read: Callable[[Response], _T],
        is_answer: Callable[[Request, _T], bool] | None = None,
        /,
    ) -> _T: ...


class Profiles:
    """Profiles of an app's users.

    Each call names one: by `customer_user_id`, your own id of the user, or by `profile_id`, Adapty's.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    # https://adapty.io/docs/api-adapty/operations/getProfile
    async def get(self, *, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Profile:
        """Get a profile. Raises ProfileNotFoundError where there is none."""
        request = get_request(customer_user_id=customer_user_id, profile_id=profile_id)
        return await self._send(request, read_profile, is_about)

    # https://adapty.io/docs/api-adapty/operations/createProfile
    async def create(
        self,
        attributes: ProfileAttributes | None = None,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        platform: Platform | None = None,
    ) -> Profile:
        """Create a profile; with both ids, link the customer user id to the existing profile."""
        request = create_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_about)

    # https://adapty.io/docs/api-adapty/operations/updateProfile
    async def update(
        self,
        attributes: ProfileAttributes,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        platform: Platform | None = None,
    ) -> Profile:
        """Change the attributes that are set, and no other. Raises ProfileNotFoundError where there is no profile."""
        request = update_request(
            attributes, customer_user_id=customer_user_id, profile_id=profile_id, platform=platform
        )
        return await self._send(request, read_profile, is_about)

    # https://adapty.io/docs/api-adapty/operations/deleteProfile
    async def delete(
        self,
        *,
        customer_user_id: str | None = None,
        profile_id: str | UUID | None = None,
        missing_ok: bool = False,
    ) -> bool:
        """Delete a profile: True where the API says so, False where there was none and `missing_ok` is set.

        Also True where there is none any more after an attempt of this call without a clear answer: it was most likely
        ours. Raises ProfileNotFoundError otherwise.
        """
        request = delete_request(customer_user_id=customer_user_id, profile_id=profile_id)
        try:
            await self._send(request, read_nothing)
        except NotFoundError as error:
            if error.status >= 500:  # whatever its code says: a failure tells nothing of the profile
                raise
            if error.maybe_executed:
                return True
            if missing_ok:
                return False
            raise
        return True


def read_profile(response: Response) -> Profile:
    """Read the profile of an answer. Raises InvalidResponseError."""
    return load_profile(response.body)


def is_about(request: Request, profile: Profile) -> bool:
    """Tell whether a profile may be the one that a request names: an id that only one of the two has says nothing."""
    profile_id, customer_user_id = (request.headers.get(name) for name in (_PROFILE_ID, _CUSTOMER_USER_ID))
    if profile_id is not None and profile_id.lower() != str(profile.profile_id):
        return False
    found = profile.customer_user_id
    if customer_user_id is None or found is None or found == customer_user_id:
        return True
    # Of a server that takes the bytes of a header for Latin-1.
    return found == customer_user_id.encode().decode("latin-1")


def read_nothing(response: Response) -> None:
    """Read the answer of a deletion, which has no body. Raises InvalidResponseError where one isn't the API's."""
    if response.body:
        load_nothing(response.body)


def get_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Build the request that gets one profile."""
    return checked_request("GET", _PATH, _one_id(customer_user_id, profile_id))


def create_request(
    attributes: ProfileAttributes | None = None,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Build the request that creates one profile, or links it."""
    if customer_user_id is None and profile_id is None:
        raise ValueError("name the profile: give customer_user_id, or profile_id, or both to link them")
    headers = _ids(customer_user_id, profile_id)
    return checked_request(
        "POST",
        _PATH,
        headers | _platform(platform),
        {} if attributes is None else dump(_checked(attributes)),
        # Assumed, not documented: the customer user id is the key, so a repeat addresses the same profile again.
        idempotent=customer_user_id is not None,
    )


def update_request(
    attributes: ProfileAttributes,
    *,
    customer_user_id: str | None = None,
    profile_id: str | UUID | None = None,
    platform: Platform | None = None,
) -> Request:
    """Build the request that changes one profile."""
    headers = _one_id(customer_user_id, profile_id)
    body = dump(_checked(attributes))
    if not body:
        raise ValueError("nothing to update: no attribute is set")
    return checked_request("PATCH", _PATH, headers | _platform(platform), body)


def delete_request(*, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Request:
    """Build the request that deletes one profile."""
    return checked_request("DELETE", _PATH, _one_id(customer_user_id, profile_id))


def _one_id(customer_user_id: str | None, profile_id: str | UUID | None) -> dict[str, str]:
    if customer_user_id is not None and profile_id is None:
        check_header_value("customer_user_id", customer_user_id)
        return {_CUSTOMER_USER_ID: customer_user_id}
    if profile_id is not None and customer_user_id is None:
        return {_PROFILE_ID: _profile_id(profile_id)}
    raise ValueError("name the profile by exactly one of customer_user_id and profile_id")


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
        raise ValueError("profile_id is no UUID: an id of your own system goes into customer_user_id")
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
