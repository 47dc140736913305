"""The guards of a bulk job: the checks before the first request, and the stop rules."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs

from ...bulk import Outcome, StopReason, StopRules
from ...bulk.operations import AnyOperation
from ...ledger.chunks import UNSENT_OUTCOMES
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus
from ..options import GuardOptions

MAX_UNCOUNTED_PROFILES: Final = 10_000
"""With --yes alone, at most this number of profiles is sent. Above it, --expect or --max is required."""
_CANARY_ROWS: Final = 100
_CANARY_THRESHOLD_ROWS: Final = 1000
_COUNT: Final = re.compile(r"[0-9]{1,15}")
_PERCENTAGE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)%")


@attrs.frozen
class FailureLimit:
    """How many rows may fail: a number, or a share of all rows from 0 to 1."""

    max_count: int | None
    max_ratio: float | None

    @classmethod
    def parse(cls, text: str) -> "FailureLimit":
        """Parse the value of --max-failures. Raises CommandError if it is invalid."""
        if _COUNT.fullmatch(text):
            return cls(int(text), None)
        share = _parse_percentage(text)
        if share is None:
            raise CommandError("--max-failures must be a number of rows, as in 50, or a share of them, as in 2%")
        return cls(None, share)


def _parse_percentage(text: str) -> float | None:
    """Parse a percentage such as 2%. Return None if the text isn't one."""
    match = _PERCENTAGE.fullmatch(text)
    return None if match is None or float(match[1]) > 100 else float(match[1]) / 100


@attrs.frozen
class Guards:
    """The guards of a job. Raises CommandError if an option is invalid."""

    options: GuardOptions = attrs.field(factory=GuardOptions)

    def __attrs_post_init__(self) -> None:
        if self.options.max_failures is not None:
            FailureLimit.parse(self.options.max_failures)
        if self.options.max_absent is not None and _parse_percentage(self.options.max_absent) is None:
            raise CommandError("--max-absent must be a share of the rows, as in 80%")

    def check(self, profile_count: int, operation_spec: AnyOperation, *, is_confirmed: bool) -> None:
        """Check the number of profiles. Raises CommandError if it violates a guard.

        Args:
            profile_count: The number of profiles to send.
            operation_spec: What is done to them.
            is_confirmed: Whether --yes confirms the job. False if a person sees the number and confirms it.
        """
        found = f"there {'is' if profile_count == 1 else 'are'} {format_count(profile_count, 'profile')}"
        expect, max_profiles = self.options.expect, self.options.max_profiles
        if expect is not None and profile_count != expect:
            raise _build_refusal(
                f"{found} to {operation_spec.name}, not the {expect:,} of "
                f"--expect: find out why, then pass --expect {profile_count}"
            )
        if max_profiles is not None and profile_count > max_profiles:
            raise _build_refusal(
                f"{found} to {operation_spec.name}, more than the {max_profiles:,} "
                f"of --max: find out why, then pass --max {profile_count}"
            )
        if is_confirmed and profile_count > MAX_UNCOUNTED_PROFILES and expect is None and max_profiles is None:
            raise _build_refusal(
                f"--yes alone covers up to {MAX_UNCOUNTED_PROFILES:,} profiles, but there are "
                f"{profile_count:,} to {operation_spec.name}: if "
                f"the number is right, add --expect {profile_count}"
            )

    def build_stop_rules(self, profile_count: int) -> StopRules:
        """Return the stop rules of a run with `profile_count` profiles to send."""
        has_canary = profile_count > _CANARY_THRESHOLD_ROWS and not self.options.no_canary
        rules = StopRules(canary=_CANARY_ROWS if has_canary else None)
        if self.options.max_absent is not None:
            rules = attrs.evolve(rules, max_absent_ratio=_parse_percentage(self.options.max_absent))
        if self.options.max_failures is None:
            return rules
        limit = FailureLimit.parse(self.options.max_failures)
        return attrs.evolve(rules, max_failures=limit.max_count, max_failure_ratio=limit.max_ratio)

    def find_violated_rule(self, counts: Mapping[Outcome, int]) -> StopReason | None:
        """Check the share of absent profiles over all runs. Return MAX_ABSENT_RATIO if it is too high.

        A row that was claimed when a run was killed is DELETED_UNCONFIRMED if its profile is absent later, although the
        profile may never have existed. So these rows count as absent if no row is DELETED, and not at all otherwise.
        """
        sent = Counter({outcome: count for outcome, count in counts.items() if outcome not in UNSENT_OUTCOMES})
        unconfirmed = sent.pop(Outcome.DELETED_UNCONFIRMED, 0)
        if not sent[Outcome.DELETED]:
            sent[Outcome.ALREADY_ABSENT] += unconfirmed
        return StopRules(max_failure_ratio=None, max_absent_ratio=self.build_stop_rules(0).max_absent_ratio).check(
            sent, at_end=True
        )

    def build_notes(self, profile_count: int, operation_spec: AnyOperation) -> dict[str, str]:
        """Return the guards that apply to a run with `profile_count` profiles, for the record of the job."""
        rules = self.build_stop_rules(profile_count)
        return {
            name: str(value)
            for name, value in {
                "expect": self.options.expect,
                "max": self.options.max_profiles,
                "max_failures": self.options.max_failures,
                "max_failure_ratio": rules.max_failure_ratio,
                "max_absent_ratio": rules.max_absent_ratio if operation_spec.has_absent_limit else None,
                "canary": rules.canary,
            }.items()
            if value is not None
        }


def _build_refusal(message: str) -> CommandError:
    return CommandError(f"{message}; nothing was sent", ExitStatus.STOPPED)
