"""What became of each row: counted, and where it failed written down."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

import attrs

from ..bulk import Outcome


@attrs.frozen
class Standing:
    """How many rows have which outcome, of `total`. `wanted`: failures elsewhere, but here what was asked for."""

    total: int
    counts: Mapping[Outcome, int]
    wanted: Collection[Outcome] = ()

    @property
    def done(self) -> int:
        """The number of rows that are done as ordered."""
        return sum(count for outcome, count in self.counts.items() if self._is_done(outcome))

    def _is_done(self, outcome: Outcome) -> bool:
        return outcome in self.wanted or not (outcome.is_failure or outcome is Outcome.EXCLUDED)

    @property
    def left(self) -> int:
        """The number of rows that have no outcome, or that of having been left out."""
        return self.total - sum(self.counts.values()) + self.counts.get(Outcome.NOT_ATTEMPTED, 0)

    @property
    def settled(self) -> int:
        """The number of the others."""
        return self.total - self.left

    @property
    def parts(self) -> dict[str, int]:
        """All rows by what they are to whoever ordered them: these numbers add up to `total`."""
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
    """Whoever knows where a job stands."""

    @property
    def standing(self) -> Standing:
        """Where it stands now."""
        ...


class Books:
    """The outcomes of `total` rows."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[Outcome] = Counter()

    @property
    def standing(self) -> Standing:
        """Where the books stand now."""
        return Standing(self._total, Counter(self._counts))

    def enter(self, outcome: Outcome) -> None:
        """Enter the outcome of a row."""
        self._counts[outcome] += 1

    def enter_unread(self) -> None:
        """Enter the rows that can't be read any more: never attempted."""
        self._counts[Outcome.NOT_ATTEMPTED] += self._total - self._counts.total()
