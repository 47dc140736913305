"""Count the outcomes of rows."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

import attrs

from ..bulk import Outcome


@attrs.frozen
class Standing:
    """The number of rows with each outcome. `wanted`: outcomes that this job counts as success, not as failure."""

    total: int
    counts: Mapping[Outcome, int]
    wanted: Collection[Outcome] = ()

    @property
    def done(self) -> int:
        """The number of rows that succeeded."""
        return sum(count for outcome, count in self.counts.items() if self._is_done(outcome))

    def _is_done(self, outcome: Outcome) -> bool:
        return outcome in self.wanted or not (outcome.is_failure or outcome is Outcome.EXCLUDED)

    @property
    def left(self) -> int:
        """The number of rows without an outcome or with `not_attempted`."""
        return self.total - sum(self.counts.values()) + self.counts.get(Outcome.NOT_ATTEMPTED, 0)

    @property
    def settled(self) -> int:
        """The number of rows that aren't left."""
        return self.total - self.left

    @property
    def parts(self) -> dict[str, int]:
        """All rows by result, for the user. The numbers add up to `total`."""
        doubtful, excluded = (self.counts.get(outcome, 0) for outcome in (Outcome.IN_DOUBT, Outcome.EXCLUDED))
        return {
            "done": self.done,
            "failed": self.settled - self.done - doubtful - excluded,
            "in_doubt": doubtful,
            "excluded": excluded,
            "left": self.left,
        }

    @property
    def failed(self) -> int:
        """The number of rows whose outcome is a failure."""
        return sum(count for outcome, count in self.counts.items() if outcome.is_failure)


class Keeper(Protocol):
    """An object that knows the progress of a job."""

    @property
    def standing(self) -> Standing:
        """The current counts."""
        ...


class Books:
    """Count the outcomes of `total` rows."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[Outcome] = Counter()

    @property
    def standing(self) -> Standing:
        """The current counts."""
        return Standing(self._total, Counter(self._counts))

    def enter(self, outcome: Outcome) -> None:
        """Count the outcome of a row."""
        self._counts[outcome] += 1

    def enter_unread(self) -> None:
        """Count all other rows as `not_attempted`, because they can no longer be read."""
        self._counts[Outcome.NOT_ATTEMPTED] += self._total - self._counts.total()
