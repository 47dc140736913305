"""The rules that stop a bulk job, and the reasons why it ended."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from .outcomes import FAILURES, Outcome

# Outcomes that can break a rule of StopRules at any time. The others only matter when a sample size is reached.
STOP_RULE_OUTCOMES: Final = FAILURES | {Outcome.ALREADY_ABSENT}
_MIN_SAMPLE_AT_END: Final = 10


class StopReason(StrEnum):
    """Why a job ended before its input did: the stop rule that was broken, or another cause."""

    MAX_FAILURES = "max_failures"
    MAX_FAILURE_RATIO = "max_failure_ratio"
    MAX_ABSENT_RATIO = "max_absent_ratio"
    MAX_OUTAGE = "max_outage"
    MAX_THROTTLED = "max_throttled"
    CREDENTIALS = "credentials"
    PERMISSION = "permission"
    REQUESTED = "requested"
    CLOSED = "closed"


def _check_ratio(_: object, field: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{field.name} must be a number from 0 to 1, or None")


def _check_not_negative(_: object, field: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value >= 0:
        raise ValueError(f"{field.name} must not be negative")


@attrs.frozen(kw_only=True)
class StopRules:
    """When a job stops by itself. None switches a rule off.

    `max_failure_ratio` and `max_absent_ratio` are checked from `min_sample` items with an outcome, and once more at the
    end of the job if there are at least 10. An outage in which some requests are answered with 429 counts as an outage
    after the longer of `max_outage` and `max_throttled`. `bulk.run` applies neither of these two rules.

    Attributes:
        max_failures: Stop if more items than this have failed.
        max_failure_ratio: Stop if more than this share of the items has failed, from 0 to 1.
        max_absent_ratio: Stop if more than this share of the profiles was absent, from 0 to 1. It is meant for
            deletions: with the wrong key or the wrong column no profile is found, and the job must not look successful.
        min_sample: The number of items from which the shares are checked.
        max_outage: Stop after this many seconds without any response other than 5xx and 408.
        max_throttled: Stop after this many seconds in which every response was a 429 or a Retry-After was in force.
        canary: Wait until this many items have an outcome and pass the rules before starting the next one.

    Raises:
        ValueError: If a number is negative, or a share isn't between 0 and 1.
    """

    max_failures: int | None = attrs.field(default=None, validator=_check_not_negative)
    max_failure_ratio: float | None = attrs.field(default=0.2, validator=_check_ratio)
    max_absent_ratio: float | None = attrs.field(default=0.5, validator=_check_ratio)
    min_sample: int = attrs.field(default=100, validator=_check_not_negative)
    max_outage: float | None = attrs.field(default=900.0, validator=_check_not_negative)
    max_throttled: float | None = attrs.field(default=1800.0, validator=_check_not_negative)
    canary: int | None = attrs.field(default=None, validator=_check_not_negative)

    def check(self, counts: Mapping[Outcome, int], *, at_end: bool = False) -> StopReason | None:
        """Return the rule that these counts break, or None. Items that were not attempted are left out.

        Args:
            counts: The number of items by outcome.
            at_end: Whether the job has ended. The shares then need only 10 items, or `min_sample` if that is smaller.
        """
        sample_size = sum(counts.values()) - counts.get(Outcome.NOT_ATTEMPTED, 0)
        failures = sum(counts.get(outcome, 0) for outcome in FAILURES) - counts.get(Outcome.NOT_ATTEMPTED, 0)
        if self.max_failures is not None and failures > self.max_failures:
            return StopReason.MAX_FAILURES
        enough = min(_MIN_SAMPLE_AT_END, self.min_sample) if at_end else max(self.min_sample, 1)
        if sample_size < enough and sample_size != self.canary:
            return None
        if self.max_failure_ratio is not None and failures > self.max_failure_ratio * sample_size:
            return StopReason.MAX_FAILURE_RATIO
        if (
            self.max_absent_ratio is not None
            and counts.get(Outcome.ALREADY_ABSENT, 0) > self.max_absent_ratio * sample_size
        ):
            return StopReason.MAX_ABSENT_RATIO
        return None
