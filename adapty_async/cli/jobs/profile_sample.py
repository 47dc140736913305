"""Fetch a sample of listed profiles: how many exist, and which apps they belong to."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import attrs

from ... import bulk
from ...bulk import Outcome, StopReason, StopRules
from ...bulk.operations import IdType
from ...client import AdaptyClient
from ...pacing import Pacer
from .app_check import FORBIDDEN, UNAUTHORIZED, build_key_error

_STOP_RULES: Final = StopRules(max_failure_ratio=None, max_outage=60.0, max_throttled=300.0)
"""No limit for failed rows, because all profiles are to be checked; but shorter limits for outages and 429s."""
_KEY_STOP_MESSAGES: Final = {StopReason.CREDENTIALS: UNAUTHORIZED, StopReason.PERMISSION: FORBIDDEN}


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
        raise build_key_error(_KEY_STOP_MESSAGES[report.stop_reason])
    return ProfileSample(report.total, existing, absent, tuple(apps), report.stop_reason)
