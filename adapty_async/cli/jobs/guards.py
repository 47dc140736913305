"""The guards of a bulk job: the checks before the first request, and the stop rules."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import attrs

from ...bulk import Outcome, StopReason, StopRules
from ...ledger.chunks import UNSENT
from ..exit_codes import CommandError, ExitStatus
from .operations import Operation

UNCOUNTED: Final = 10_000
"""With --yes alone, at most this number of profiles is sent. Above it, --expect or --max is required."""
_CANARY: Final = 100
_CANARY_ABOVE: Final = 1000
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)%")


@attrs.frozen
class MostFailures:
    """How many rows may fail: a number, or a share of all rows from 0 to 1."""

    number: int | None
    share: float | None

    @classmethod
    def of(cls, text: str) -> "MostFailures":
        """Parse the value of --max-failures. Raises CommandError if it is invalid."""
        if text.isdecimal():
            return cls(int(text), None)
        share = _share(text)
        if share is None:
            raise CommandError("--max-failures must be a number of rows, as in 50, or a share of them, as in 2%")
        return cls(None, share)


def _share(text: str) -> float | None:
    """Parse a percentage such as 2%. Return None if the text isn't one."""
    match = _SHARE.fullmatch(text)
    return None if match is None or float(match[1]) > 100 else float(match[1]) / 100


@attrs.frozen
class Guards:
    """The guards of a job.

    Attributes:
        expect: The exact number of profiles.
        most: The maximum number of profiles.
        app: The ID of the app that the profiles must belong to.
        most_failures: The value of --max-failures, as typed.
        canary: Whether a large job waits for the results of its first rows before it sends the others.
        most_absent: The value of --max-absent, as typed.
    """

    expect: int | None = None
    most: int | None = None
    app: str | None = None
    most_failures: str | None = None
    canary: bool = True
    most_absent: str | None = None

    @classmethod
    def of(
        cls,
        *,
        expect: int | None,
        most: int | None,
        app: UUID | None,
        most_failures: str | None,
        canary: bool,
        most_absent: str | None,
    ) -> "Guards":
        """Build the guards from the options. Raises CommandError if one is invalid."""
        if most_failures is not None:
            MostFailures.of(most_failures)
        if most_absent is not None and _share(most_absent) is None:
            raise CommandError("--max-absent must be a share of the rows, as in 80%")
        return cls(expect, most, None if app is None else str(app), most_failures, canary, most_absent)

    def check(self, profiles: int, operation: Operation, *, confirmed: bool) -> None:
        """Check the number of profiles. Raises CommandError if it violates a guard.

        Args:
            profiles: The number of profiles to send.
            operation: What is done to them.
            confirmed: Whether --yes confirms the job. False if a person sees the number and confirms it.
        """
        if self.expect is not None and profiles != self.expect:
            raise _refused(
                f"there are {profiles:,} profiles to {operation.name}, not the {self.expect:,} of --expect: find out "
                f"why, then pass --expect {profiles}"
            )
        if self.most is not None and profiles > self.most:
            raise _refused(
                f"there are {profiles:,} profiles to {operation.name}, more than the {self.most:,} of --max: find out "
                f"why, then pass --max {profiles}"
            )
        if confirmed and profiles > UNCOUNTED and self.expect is None and self.most is None:
            raise _refused(
                f"--yes alone covers up to {UNCOUNTED:,} profiles, but there are {profiles:,} to {operation.name}: if "
                f"the number is right, add --expect {profiles}"
            )

    def rules(self, due: int) -> StopRules:
        """Return the stop rules of a run with `due` profiles to send."""
        rules = StopRules(canary=_CANARY if self.canary and due > _CANARY_ABOVE else None)
        if self.most_absent is not None:
            rules = attrs.evolve(rules, absent_share=_share(self.most_absent))
        if self.most_failures is None:
            return rules
        most = MostFailures.of(self.most_failures)
        return attrs.evolve(rules, max_failures=most.number, failure_share=most.share)

    def doubt(self, counts: Mapping[Outcome, int]) -> StopReason | None:
        """Check the share of absent profiles over all runs. Return ABSENT_SHARE if it is too high.

        A row that was claimed when a run was killed is DELETED_UNCONFIRMED if its profile is absent later, although the
        profile may never have existed. So these rows count as absent if no row is DELETED, and not at all otherwise.
        """
        sent = Counter({outcome: count for outcome, count in counts.items() if outcome not in UNSENT})
        unconfirmed = sent.pop(Outcome.DELETED_UNCONFIRMED, 0)
        if not sent[Outcome.DELETED]:
            sent[Outcome.ALREADY_ABSENT] += unconfirmed
        return StopRules(failure_share=None, absent_share=self.rules(0).absent_share).judge(sent, at_end=True)

    def notes(self, due: int) -> dict[str, str]:
        """Return the guards of a run with `due` profiles, for the record of the job."""
        rules = self.rules(due)
        return {
            name: str(value)
            for name, value in {
                "expect": self.expect,
                "max": self.most,
                "max_failures": self.most_failures,
                "failure_share": rules.failure_share,
                "absent_share": rules.absent_share,
                "canary": rules.canary,
            }.items()
            if value is not None
        }


def _refused(sentence: str) -> CommandError:
    return CommandError(f"{sentence}; nothing was sent", ExitStatus.STOPPED)
