"""Detection of 429s that don't come from the rate limit.

A proxy, a restart or the requests of other users may cause a few 429s at any rate. A single 429 can't be distinguished
from such a stray, but the responses after it can. An exceeded limit keeps rejecting 1 - limit/rate of the requests, and
strays stay as rare as before. A cumulative sum distinguishes the two (CUSUM, Page 1954). Each 429 adds its weight as
evidence: the logarithm of how much likelier it is if the limit is exceeded. Each accepted request subtracts its weight
as counter-evidence. At zero the suspicion is dropped.

The share of strays must not be learned near the limit, where jitter and the requests of other users sometimes empty a
small bucket. Only 429s that don't become rarer at a lower rate are strays.
"""

import math
from typing import Final

from .estimator import Interval

# The initial share of strays: low enough that the first 429 is believed.
FEWEST: Final = 1e-9
_SUPPOSED_REQUESTS: Final = 100.0
# Requests after which old strays are forgotten.
_LOW_MEMORY: Final = 5000.0
_NEAR_MEMORY: Final = 5000.0
# This many 429s near the limit are a reason to slow down, until this many strays would have been seen at the lower
# rate.
_NOTABLE: Final = 4.0
_NOTABLE_SHARE: Final = 0.006
_NOTABLE_RATE: Final = 0.3
_TELLING: Final = 3.0
# If there are at least this many far below the limit, at about the share of those near it, the ones near the limit are
# strays too.
_FEW: Final = 2.0
_ABOUT_AS_MANY: Final = 1 / 3
# Later 429s in a row count less than the first, because strays come in clusters.
_IN_A_ROW: Final = 0.5
# The minimum share of 429s if the limit is exceeded. It grows with the share of strays.
_EXCESS: Final = 0.02
_TIMES: Final = 3.7


class Count:
    """The share of rejected requests among about the last `memory` requests."""

    def __init__(self, memory: float) -> None:
        self.requests = 0.0
        self.rejected = 0.0
        self._memory = memory

    @property
    def share(self) -> float:
        """The share that was rejected."""
        return self.rejected / max(1.0, self.requests)

    def clear(self) -> None:
        """Reset the counts."""
        self.requests = self.rejected = 0.0

    def count(self, accepted: int, rejected: int) -> None:
        """Add requests."""
        self.requests += accepted + rejected
        self.rejected += rejected
        if self.requests > self._memory:
            self.requests /= 2
            self.rejected /= 2


class Strays:
    """The share of requests that get a 429 at any rate, counted near the limit and far below it."""

    def __init__(self) -> None:
        self.low = Count(_LOW_MEMORY)
        self.near = Count(_NEAR_MEMORY)

    @property
    def share(self) -> float:
        """The share of strays, as far as it is certain."""
        low, near = self.low, self.near
        if low.rejected >= max(_FEW, _ABOUT_AS_MANY * low.requests * near.share):
            return max(FEWEST, _least(low.rejected + near.rejected, low.requests + near.requests))
        most = (near.rejected + math.sqrt(near.rejected) + 1) / (near.requests + 1)
        return max(FEWEST, min(_least(low.rejected, low.requests), most))

    def are_unclear(self, rate: float) -> bool:
        """Return True if more requests far below the limit are needed to decide whether the 429s near it are strays."""
        share = self.near.share
        is_notable = self.near.rejected >= _NOTABLE and share >= min(_NOTABLE_SHARE, _NOTABLE_RATE / rate)
        return is_notable and self.low.requests * share < _TELLING


class Suspicion:
    """The suspicion that the limit is exceeded, which begins with a 429.

    `interval` contains the requests sent since that 429, or is None without a suspicion.
    """

    def __init__(self) -> None:
        self.score = 0.0
        self._in_a_row = False
        self.interval: Interval | None = None

    def accept(self, number: int, strays: float) -> int:
        """Record an accepted request, given the share of `strays`.

        Return the number of 429s that are now known to be strays.
        """
        if self.interval is None or number < self.interval.first:
            return 0
        self._in_a_row = False
        self.score -= math.log((1 - strays) / (1 - _exceeded(strays)))
        if self.score > 0:
            return 0
        found = 1 + self.interval.refused
        self.clear()
        return found

    def reject(self, sent_at: float, number: int, strays: float) -> None:
        """Record a 429."""
        if self.interval is None:
            self.interval = Interval(sent_at, number, empty=True)
        self.score += math.log(_exceeded(strays) / strays) * (_IN_A_ROW if self._in_a_row else 1.0)
        self._in_a_row = True

    def clear(self) -> None:
        """Drop the suspicion."""
        self.score = 0.0
        self._in_a_row = False
        self.interval = None


def _exceeded(strays: float) -> float:
    """Return the share of 429s if the limit is exceeded."""
    return _EXCESS + _TIMES * strays


def _least(rejected: float, requests: float) -> float:
    """Return a lower bound of the share of 429s."""
    return (rejected - math.sqrt(rejected)) / (requests + _SUPPOSED_REQUESTS)
