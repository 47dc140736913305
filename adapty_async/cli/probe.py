"""Which app a key belongs to: seen from a listed person who exists."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from ..bulk.jobs import By
from ..client import AdaptyClient
from ..errors import AdaptyError, AuthenticationError, PermissionDeniedError, ProfileNotFoundError
from .exits import CommandError, ExitStatus

_MOST: Final = 100


def verify_app(client: AdaptyClient, ids: Iterable[str], *, by: By, app: str) -> None:
    """Get the first of some profiles that exists, and refuse where it is of another app. Raises CommandError."""
    found = asyncio.run(_app_of(client, ids, by))
    if found is None:
        raise _refused(
            f"Adapty knows none of the first {_MOST} ids that are to be sent, so nothing shows that the key is of app "
            f"{app}: check the key, --by and --column"
        )
    if found != UUID(app):
        raise _refused(f"the key is of app {found}, not of {app}: set ADAPTY_API_KEY to that app's secret key")


async def _app_of(client: AdaptyClient, ids: Iterable[str], by: By) -> UUID | None:
    async with client:
        for id_ in itertools.islice(ids, _MOST):
            try:
                return await _app_of_one(client, id_, by)
            except ProfileNotFoundError:
                continue
            except AdaptyError as error:
                problem = error
            if isinstance(problem, AuthenticationError | PermissionDeniedError):
                raise CommandError(
                    "Adapty doesn't accept the key: set ADAPTY_API_KEY to the secret key of the app; nothing was sent",
                    ExitStatus.CREDENTIALS,
                )
            raise _refused(f"the app can't be seen now ({type(problem).__name__}): try again later")
    return None


async def _app_of_one(client: AdaptyClient, id_: str, by: By) -> UUID:
    if by == "profile_id":
        return (await client.profiles.get(profile_id=id_)).app_id
    return (await client.profiles.get(customer_user_id=id_)).app_id


def _refused(sentence: str) -> CommandError:
    return CommandError(f"{sentence}; nothing was sent", ExitStatus.STOPPED)
