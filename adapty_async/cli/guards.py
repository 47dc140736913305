"""What keeps a mass job from going wrong: what must hold before it, and the rules that stop it."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import attrs

from ..bulk import Outcome, StopReason, StopRules
from ..ledger.chunks import UNSENT
from .exits import CommandError, ExitStatus
from .operation import Operation

UNCOUNTED: Final = 10_000
"""So many profiles are sent without anybody saying how many they are."""
_CANARY: Final = 100
_CANARY_ABOVE: Final = 1000
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)%")


@attrs.frozen
class MostFailures:
    """How many rows may fail: a number, or a share of them from 0 to 1."""

    number: int | None
    share: float | None

    @classmethod
    def of(cls, text: str) -> "MostFailures":
        """Read the option. Raises CommandError."""
        if text.isdecimal():
            return cls(int(text), None)
        share = _share(text)
        if share is None:
            raise CommandError("--max-failures must be a number of rows, as in 50, or a share of them, as in 2%")
        return cls(None, share)


def _share(text: str) -> float | None:
    """Read a share of the rows, as in 2%; None where it is none."""
    match = _SHARE.fullmatch(text)
    return None if match is None or float(match[1]) > 100 else float(match[1]) / 100


@attrs.frozen
class Guards:
    """What was asked for to guard a job.

    `expect`: exactly so many profiles; `most`: at most so many; `app`: whose profiles they are. `most_failures`,
    `most_absent`: as they were written. `canary`: whether the first of many are judged before the others are sent.
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
        """Take the options. Raises CommandError."""
        if most_failures is not None:
            MostFailures.of(most_failures)
        if most_absent is not None and _share(most_absent) is None:
            raise CommandError("--max-absent must be a share of the rows, as in 80%")
        return cls(expect, most, None if app is None else str(app), most_failures, canary, most_absent)

    def check(self, profiles: int, operation: Operation, *, confirmed: bool) -> None:
        """Refuse what mustn't be sent. `confirmed`: by --yes, not by somebody who has read the number."""
        if self.expect is not None and profiles != self.expect:
            raise _refused(
                f"these are {profiles:,} profiles to {operation.name}, not the {self.expect:,} of --expect: find out "
                f"why, then say --expect {profiles}"
            )
        if self.most is not None and profiles > self.most:
            raise _refused(
                f"these are {profiles:,} profiles to {operation.name}, more than the {self.most:,} of --max: find out "
                f"why, then say --max {profiles}"
            )
        if confirmed and profiles > UNCOUNTED and self.expect is None and self.most is None:
            raise _refused(
                f"--yes alone {operation.name}s up to {UNCOUNTED:,} profiles, and these are {profiles:,}: if that is "
                f"right, add --expect {profiles}"
            )

    def rules(self, due: int) -> StopRules:
        """Give the rules for so many profiles."""
        rules = StopRules(canary=_CANARY if self.canary and due > _CANARY_ABOVE else None)
        if self.most_absent is not None:
            rules = attrs.evolve(rules, absent_share=_share(self.most_absent))
        if self.most_failures is None:
            return rules
        most = MostFailures.of(self.most_failures)
        return attrs.evolve(rules, max_failures=most.number, failure_share=most.share)

    def doubt(self, counts: Mapping[Outcome, int]) -> StopReason | None:
        """Say whether too many of all the rows were absent, whatever each run found of its own.

        Whoever was claimed when a run was killed, and is absent then, may never have existed: that says nothing beside
        people who were deleted, and as much as any absence where nobody was.
        """
        sent = Counter({outcome: count for outcome, count in counts.items() if outcome not in UNSENT})
        unconfirmed = sent.pop(Outcome.DELETED_UNCONFIRMED, 0)
        if not sent[Outcome.DELETED]:
            sent[Outcome.ALREADY_ABSENT] += unconfirmed
        return StopRules(failure_share=None, absent_share=self.rules(0).absent_share).judge(sent, at_end=True)

    def notes(self, due: int) -> dict[str, str]:
        """Say for the record which guards a run with so many profiles has."""
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
