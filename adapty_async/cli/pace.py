"""The options --pace and --max-rate: which pacer they stand for."""

import math
from typing import Final

import attrs

from ..pacing import AdaptivePacer, FixedPacer, Pacer
from .exits import CommandError

FULL: Final = "full"
BACKGROUND: Final = "background"


@attrs.frozen
class Pace:
    """How fast a job may go. `wanted`: "full", "background", or requests a second. `most`: never more a second."""

    wanted: str | float
    most: float | None

    @classmethod
    def of(cls, pace: str, max_rate: float | None) -> "Pace":
        """Read the two options. Raises CommandError."""
        if max_rate is not None and not 0 < max_rate < math.inf:
            raise CommandError("--max-rate must be a positive number of requests a second")
        if pace in (FULL, BACKGROUND):
            return cls(pace, max_rate)
        try:
            rate = float(pace)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            raise CommandError(f"--pace must be {FULL}, {BACKGROUND}, or a positive number of requests a second")
        return cls(rate, max_rate)

    def pacer(self) -> Pacer:
        """Make the pacer."""
        if isinstance(self.wanted, float):
            return FixedPacer(min(self.wanted, self.most or self.wanted))
        if self.wanted == FULL:
            return AdaptivePacer(max_rate=self.most)
        return AdaptivePacer.background(max_rate=self.most)
