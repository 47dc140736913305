"""Check whether Adapty accepts a key, and whether the key is for the expected app."""

import itertools
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid4

from ...bulk.operations import IdType
from ...client import AdaptyClient
from ...errors import AdaptyError, AuthenticationError, PermissionDeniedError, ProfileNotFoundError
from ...http.retry import RetryPolicy
from ..exit_status import CommandError, ExitStatus
from ..signals import run_event_loop
from .client_from_env import format_key_advice

_MAX_TRIED_IDS: Final = 100

UNAUTHORIZED: Final = "Adapty doesn't accept the key (401)"
FORBIDDEN: Final = "the key may not read profiles (403)"


async def check_api_key(client: AdaptyClient) -> bool:
    """Fetch a nonexistent profile, once. Return True if Adapty accepts the key, False if its response doesn't show it.

    Raises CommandError if the key is rejected.
    """
    try:
        async with client:
            once = client.with_options(retry=RetryPolicy.none())
            await once.profiles.get(customer_user_id=f"adapty-async-{uuid4()}")
    except ProfileNotFoundError:
        return True
    except AdaptyError as error:
        problem = error
    else:
        return True
    _raise_for_key(problem)
    return False


def verify_app(
    client: AdaptyClient, ids: Iterable[str], *, by: IdType, app: str, advice: str = "check the key, --by and --column"
) -> None:
    """Fetch the first profile that exists, and check that it belongs to the app.

    Args:
        client: The client with the key to check.
        ids: The IDs of the profiles. Only the first 100 are tried.
        by: The type of the IDs.
        app: The expected app.
        advice: What to do if none exists, for the message.

    Raises:
        CommandError: If the profile belongs to another app, none of the profiles exists, or a request fails.
    """
    found = run_event_loop(lambda _: _find_app(client, ids, by))
    if found is None:
        raise _build_refusal(
            f"none of the first {_MAX_TRIED_IDS} IDs to send exists in Adapty, so it can't be verified that "
            f"the key is for app {app}: {advice}"
        )
    if found != UUID(app):
        raise _build_refusal(
            f"the key is for app {found}, not for {app}: {format_key_advice('the secret key of that app')}"
        )


async def _find_app(client: AdaptyClient, ids: Iterable[str], by: IdType) -> UUID | None:
    async with client:
        for id_ in itertools.islice(ids, _MAX_TRIED_IDS):
            try:
                return await _fetch_app(client, id_, by)
            except ProfileNotFoundError:
                continue
            except AdaptyError as error:
                problem = error
            _raise_for_key(problem)
            raise _build_refusal(f"the app can't be verified now ({type(problem).__name__}): try again later")
    return None


async def _fetch_app(client: AdaptyClient, id_: str, by: IdType) -> UUID:
    if by == "profile_id":
        return (await client.profiles.get(profile_id=id_)).app_id
    return (await client.profiles.get(customer_user_id=id_)).app_id


def _build_refusal(message: str) -> CommandError:
    return CommandError(f"{message}; nothing was sent", ExitStatus.STOPPED)


def _raise_for_key(error: AdaptyError) -> None:
    if isinstance(error, AuthenticationError):
        raise build_key_error(UNAUTHORIZED)
    if isinstance(error, PermissionDeniedError):
        raise build_key_error(FORBIDDEN)


def build_key_error(reason: str) -> CommandError:
    return CommandError(
        f"{reason}: {format_key_advice('the secret key of the app')}; nothing was changed", ExitStatus.CREDENTIALS
    )
