"""Fetch a listed profile, which shows the app of a key, and count how many listed profiles exist."""

import itertools
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid4

import attrs

from ... import bulk
from ...bulk import Outcome, StopReason, StopRules
from ...bulk.operations import IdType
from ...client import AdaptyClient
from ...errors import AdaptyError, AuthenticationError, PermissionDeniedError, ProfileNotFoundError
from ...http.retry import RetryPolicy
from ...pacing import Pacer
from ..exit_status import CommandError, ExitStatus
from ..signals import run_event_loop
from .client_from_env import format_key_advice

_MAX_TRIED_IDS: Final = 100
_STOP_RULES: Final = StopRules(max_failure_ratio=None, max_outage=60.0, max_throttled=300.0)
"""No limit for failed rows, because all profiles are to be checked; but shorter limits for outages and 429s."""


_UNAUTHORIZED: Final = "Adapty doesn't accept the key (401)"
_FORBIDDEN: Final = "the key may not read profiles (403)"
_KEY_STOP_MESSAGES: Final = {StopReason.CREDENTIALS: _UNAUTHORIZED, StopReason.PERMISSION: _FORBIDDEN}


@attrs.frozen
class ProfileSample:
    """The result of fetching some profiles.

    `apps`: the apps they belong to. `stop_reason`: why not all were fetched.
    """

    requested_count: int
    existing_count: int
    absent_count: int
    apps: tuple[UUID, ...]
    stop_reason: StopReason | None

    @property
    def known_count(self) -> int:
        """The number of profiles known to exist or to be absent."""
        return self.existing_count + self.absent_count

    @property
    def is_complete(self) -> bool:
        """Whether all profiles are known to exist or to be absent."""
        return self.stop_reason is None and self.known_count == self.requested_count


async def fetch_profile_sample(client: AdaptyClient, ids: Iterable[str], *, by: IdType, pacer: Pacer) -> ProfileSample:
    """Fetch some profiles. Raises CommandError if the key is rejected."""
    existing = absent = 0
    apps: dict[UUID, None] = {}
    async with client, bulk.get_profiles(client, ids, by=by, pacer=pacer, stop=_STOP_RULES) as job:
        async for result in job:
            if result.value is not None:
                existing += 1
                apps[result.value.app_id] = None
            absent += result.outcome is Outcome.NOT_FOUND
        report = job.report
    if report.stop_reason is not None and report.stop_reason in _KEY_STOP_MESSAGES:
        raise _build_key_error(_KEY_STOP_MESSAGES[report.stop_reason])
    return ProfileSample(report.total, existing, absent, tuple(apps), report.stop_reason)


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
        raise _build_key_error(_UNAUTHORIZED)
    if isinstance(error, PermissionDeniedError):
        raise _build_key_error(_FORBIDDEN)


def _build_key_error(reason: str) -> CommandError:
    return CommandError(
        f"{reason}: {format_key_advice('the secret key of the app')}; nothing was changed", ExitStatus.CREDENTIALS
    )
