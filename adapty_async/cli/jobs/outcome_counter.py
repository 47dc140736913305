"""Count the outcomes of rows."""

from collections import Counter

from ...bulk import Outcome
from ..output.progress import OutcomeCounts


class OutcomeCounter:
    """Count the outcomes of `total` rows."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[Outcome] = Counter()

    @property
    def outcome_counts(self) -> OutcomeCounts:
        """The current counts."""
        return OutcomeCounts(self._total, Counter(self._counts))

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of a row."""
        self._counts[outcome] += 1

    def count_unread(self) -> None:
        """Count all other rows as `not_attempted`, because they can no longer be read."""
        self._counts[Outcome.NOT_ATTEMPTED] += self._total - self._counts.total()
