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
MIN_STRAY_RATIO: Final = 1e-9
_PRIOR_REQUESTS: Final = 100.0
# Requests after which old strays are forgotten.
_LOW_MEMORY_REQUESTS: Final = 5000.0
_NEAR_MEMORY_REQUESTS: Final = 5000.0
# This many 429s near the limit are a reason to slow down, until this many strays would have been seen at the lower
# rate.
_NOTABLE_STRAYS: Final = 4.0
_NOTABLE_RATIO: Final = 0.006
_NOTABLE_RATE: Final = 0.3
_MIN_EXPECTED_STRAYS: Final = 3.0
# If there are at least this many far below the limit, at about the share of those near it, the ones near the limit are
# strays too.
_MIN_LOW_STRAYS: Final = 2.0
_SIMILAR_RATIO: Final = 1 / 3
# Later 429s in a row count less than the first, because strays come in clusters.
_REPEAT_WEIGHT: Final = 0.5
# The minimum share of 429s if the limit is exceeded. It grows with the share of strays.
_MIN_EXCESS_RATIO: Final = 0.02
_EXCESS_FACTOR: Final = 3.7


class RejectionCounter:
    """The share of rejected requests among about the last `memory` requests."""

    def __init__(self, memory: float) -> None:
        self.requests = 0.0
        self.rejected = 0.0
        self._memory = memory

    @property
    def rejected_ratio(self) -> float:
        """The share that was rejected."""
        return self.rejected / max(1.0, self.requests)

    def clear(self) -> None:
        """Reset the counts."""
        self.requests = self.rejected = 0.0

    def add(self, accepted: int, rejected: int) -> None:
        """Add requests."""
        self.requests += accepted + rejected
        self.rejected += rejected
        if self.requests > self._memory:
            self.requests /= 2
            self.rejected /= 2


class StrayRateEstimator:
    """The share of requests that get a 429 at any rate, counted near the limit and far below it."""

    def __init__(self) -> None:
        self.low = RejectionCounter(_LOW_MEMORY_REQUESTS)
        self.near = RejectionCounter(_NEAR_MEMORY_REQUESTS)

    @property
    def ratio(self) -> float:
        """The share of strays, as far as it is certain."""
        low, near = self.low, self.near
        if low.rejected >= max(_MIN_LOW_STRAYS, _SIMILAR_RATIO * low.requests * near.rejected_ratio):
            return max(MIN_STRAY_RATIO, _estimate_min_ratio(low.rejected + near.rejected, low.requests + near.requests))
        max_ratio = (near.rejected + math.sqrt(near.rejected) + 1) / (near.requests + 1)
        return max(MIN_STRAY_RATIO, min(_estimate_min_ratio(low.rejected, low.requests), max_ratio))

    def is_unclear(self, rate: float) -> bool:
        """Return True if more requests far below the limit are needed to decide whether the 429s near it are strays."""
        ratio = self.near.rejected_ratio
        is_notable = self.near.rejected >= _NOTABLE_STRAYS and ratio >= min(_NOTABLE_RATIO, _NOTABLE_RATE / rate)
        return is_notable and self.low.requests * ratio < _MIN_EXPECTED_STRAYS


class ExcessDetector:
    """The suspicion that the limit is exceeded, which begins with a 429.

    `interval` contains the requests sent since that 429, or is None without a suspicion.
    """

    def __init__(self) -> None:
        self.score = 0.0
        self._is_repeat = False
        self.interval: Interval | None = None

    def record_acceptance(self, number: int, stray_ratio: float) -> int:
        """Record an accepted request, given the share of `stray_ratio`.

        Return the number of 429s that are now known to be strays.
        """
        if self.interval is None or number < self.interval.first_number:
            return 0
        self._is_repeat = False
        self.score -= math.log((1 - stray_ratio) / (1 - _estimate_excess_ratio(stray_ratio)))
        if self.score > 0:
            return 0
        stray_count = 1 + self.interval.rejected
        self.clear()
        return stray_count

    def record_rejection(self, sent_at: float, number: int, stray_ratio: float) -> None:
        """Record a 429."""
        if self.interval is None:
            self.interval = Interval(sent_at, number, is_bucket_empty=True)
        self.score += math.log(_estimate_excess_ratio(stray_ratio) / stray_ratio) * (
            _REPEAT_WEIGHT if self._is_repeat else 1.0
        )
        self._is_repeat = True

    def clear(self) -> None:
        """Drop the suspicion."""
        self.score = 0.0
        self._is_repeat = False
        self.interval = None


def _estimate_excess_ratio(stray_ratio: float) -> float:
    """Return the share of 429s if the limit is exceeded."""
    return _MIN_EXCESS_RATIO + _EXCESS_FACTOR * stray_ratio


def _estimate_min_ratio(rejected: float, requests: float) -> float:
    """Return a lower bound of the share of 429s."""
    return (rejected - math.sqrt(rejected)) / (requests + _PRIOR_REQUESTS)
