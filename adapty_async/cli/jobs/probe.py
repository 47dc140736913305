"""Find the app of a key by fetching a listed profile, and count how many listed profiles exist."""

import itertools
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid4

import attrs

from ... import bulk
from ...bulk import Outcome, StopReason, StopRules
from ...bulk.api import By
from ...client import AdaptyClient
from ...errors import AdaptyError, AuthenticationError, PermissionDeniedError, ProfileNotFoundError
from ...http.retry import RetryPolicy
from ...pacing import Pacer
from ..exit_codes import CommandError, ExitStatus
from ..signals import run_event_loop

_MOST: Final = 100
_NO_RULES: Final = StopRules(failure_share=None, outage=60.0, throttled_for=300.0)
"""No limit for failed rows, because all profiles are to be checked; but shorter limits for outages and 429s."""


_UNAUTHORIZED: Final = "Adapty doesn't accept the key (401)"
_FORBIDDEN: Final = "the key may not read profiles (403)"
_KEY_REJECTED: Final = {StopReason.CREDENTIALS: _UNAUTHORIZED, StopReason.PERMISSION: _FORBIDDEN}


@attrs.frozen
class Sample:
    """The result of fetching some profiles. `apps`: the apps they belong to. `stopped`: why not all were fetched."""

    asked: int
    existing: int
    absent: int
    apps: tuple[UUID, ...]
    stopped: StopReason | None

    @property
    def answered(self) -> int:
        """The number of profiles known to exist or to be absent."""
        return self.existing + self.absent

    @property
    def is_whole(self) -> bool:
        """Whether all profiles are known to exist or to be absent."""
        return self.stopped is None and self.answered == self.asked


async def sample(client: AdaptyClient, ids: Iterable[str], *, by: By, pacer: Pacer) -> Sample:
    """Fetch some profiles. Raises CommandError if the key is rejected."""
    existing = absent = 0
    apps: dict[UUID, None] = {}
    async with client, bulk.get_profiles(client, ids, by=by, pacer=pacer, stop=_NO_RULES) as job:
        async for result in job:
            if result.value is not None:
                existing += 1
                apps[result.value.app_id] = None
            absent += result.outcome is Outcome.NOT_FOUND
        report = job.report
    if report.stopped is not None and report.stopped in _KEY_REJECTED:
        raise _key_rejected(_KEY_REJECTED[report.stopped])
    return Sample(report.total, existing, absent, tuple(apps), report.stopped)


async def check_key(client: AdaptyClient) -> bool:
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
    _raise_if_key_rejected(problem)
    return False


def verify_app(
    client: AdaptyClient, ids: Iterable[str], *, by: By, app: str, todo: str = "check the key, --by and --column"
) -> None:
    """Fetch the first profile that exists, and check that it belongs to the app.

    Args:
        client: The client with the key to check.
        ids: The IDs of the profiles. Only the first 100 are tried.
        by: The type of the IDs.
        app: The expected app.
        todo: What to do if none exists, for the message.

    Raises:
        CommandError: If the profile belongs to another app, none of the profiles exists, or a request fails.
    """
    found = run_event_loop(lambda _: _app_of(client, ids, by))
    if found is None:
        raise _refused(
            f"none of the first {_MOST} IDs to send exists in Adapty, so it can't be verified that the key is for app "
            f"{app}: {todo}"
        )
    if found != UUID(app):
        raise _refused(f"the key is for app {found}, not for {app}: set ADAPTY_API_KEY to that app's secret key")


async def _app_of(client: AdaptyClient, ids: Iterable[str], by: By) -> UUID | None:
    async with client:
        for id_ in itertools.islice(ids, _MOST):
            try:
                return await _app_of_one(client, id_, by)
            except ProfileNotFoundError:
                continue
            except AdaptyError as error:
                problem = error
            _raise_if_key_rejected(problem)
            raise _refused(f"the app can't be verified now ({type(problem).__name__}): try again later")
    return None


async def _app_of_one(client: AdaptyClient, id_: str, by: By) -> UUID:
    if by == "profile_id":
        return (await client.profiles.get(profile_id=id_)).app_id
    return (await client.profiles.get(customer_user_id=id_)).app_id


def _refused(sentence: str) -> CommandError:
    return CommandError(f"{sentence}; nothing was sent", ExitStatus.STOPPED)


def _raise_if_key_rejected(error: AdaptyError) -> None:
    if isinstance(error, AuthenticationError):
        raise _key_rejected(_UNAUTHORIZED)
    if isinstance(error, PermissionDeniedError):
        raise _key_rejected(_FORBIDDEN)


def _key_rejected(why: str) -> CommandError:
    return CommandError(
        f"{why}: set ADAPTY_API_KEY to the secret key of the app; nothing was changed", ExitStatus.CREDENTIALS
    )
