"""Detection of 429s that don't come from the rate limit.

A proxy, a restart or the requests of other users may cause a few 429s at any rate. A single 429 can't be distinguished
from such a stray, but the responses after it can. An exceeded limit keeps rejecting 1 - limit/rate of the requests, and
strays stay as rare as before. A cumulative sum distinguishes the two (CUSUM, Page 1954). Each 429 adds its weight as
evidence: the logarithm of how much likelier it is if the limit is exceeded. Each accepted request subtracts its weight
as counter-evidence. At zero the suspicion is dropped.

The share of strays must not be learned near the limit, where jitter and the requests of other users sometimes empty a
small bucket. Only 429s that don't become rarer at a lower rate are strays.

StrayFilter suspects two excesses at once: that of the known limit, measured against the share of strays that is known,
and that of an unknown, lower limit, measured against a share that is assumed to be higher.
"""

import math
from typing import Final

from .base import Ticket
from .estimator import Interval
from .search_phases import MIN_STEP_REQUESTS, MIN_STEP_SECONDS

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
# A 429 is believed if it is this much more likely the limit's than a stray (as a logarithm). The threshold rises with
# the rate, because more requests bring more strays. START may be wrong, because a search follows.
_MIN_EVIDENCE: Final = 3.0
_MIN_START_EVIDENCE: Final = 1.0
# Below the limit at least this share of strays is assumed.
_MIN_ASSUMED_RATIO: Final = 0.03
_MAX_RATIO: Final = 0.2
# Fewer strays per step of PROBE are ignored.
_NEGLIGIBLE_STRAYS: Final = 0.035
# Strays below this share don't hide that the limit has fallen.
_RARE_RATIO: Final = 0.001
# If the share of strays grows by this factor after the limit was measured, the limit is measured again.
_GROWTH_FACTOR: Final = 1.7
# If this multiple of a limit is passed, the limit was inferred from strays and is dropped.
_REVOKED_LIMIT_RATIO: Final = 1.2


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


class StrayFilter:
    """Decides which 429s show that a limit is exceeded, and counts the others."""

    def __init__(self) -> None:
        self.excess = ExcessDetector()
        """The suspicion that the known limit is exceeded."""
        self.lower_excess = ExcessDetector()
        """The suspicion that an unknown or a lower limit is exceeded."""
        self._ratios = StrayRateEstimator()
        self._believed_ratio = math.inf
        self._lower_limit_evidence: tuple[float, int, int] | None = None
        self._start_steps: list[tuple[int, int]] = []

    @property
    def is_suspicious(self) -> bool:
        """True if a 429 may have been that of a limit."""
        return self.lower_excess.interval is not None

    @property
    def is_rare(self) -> bool:
        """True if there are almost no strays far below the limit."""
        return self._ratios.low.rejected_ratio < _RARE_RATIO

    def is_unclear(self, rate: float) -> bool:
        """Return True if more requests far below the limit are needed to recognize strays."""
        return self._ratios.is_unclear(rate)

    def clear(self) -> None:
        """Drop both suspicions."""
        self.excess.clear()
        self.lower_excess.clear()

    def record_acceptance(self, number: int, rate: float) -> int:
        """Record an accepted request. Return the number of 429s that are now known to be strays."""
        self.excess.record_acceptance(number, self._compute_known_ratio(rate))
        return self.lower_excess.record_acceptance(number, self._assumed_ratio)

    def record_rejection(self, ticket: Ticket, rate: float) -> None:
        """Record a 429 that may be a stray."""
        self.excess.record_rejection(ticket.sent_at, ticket.number, self._compute_known_ratio(rate))
        self.lower_excess.record_rejection(ticket.sent_at, ticket.number, self._assumed_ratio)

    def is_excess_confirmed(self, rate: float) -> bool:
        """Return True if the known limit is exceeded at `rate`."""
        return self.excess.score >= _MIN_EVIDENCE + _compute_evidence_margin(rate)

    def is_lower_excess_confirmed(self, rate: float, *, is_start: bool) -> bool:
        """Return True if an unknown or a lower limit is exceeded at `rate`."""
        min_evidence = _MIN_START_EVIDENCE if is_start else _MIN_EVIDENCE
        return self.lower_excess.score >= min_evidence + _compute_evidence_margin(rate)

    # Counts, near the limit and far below it

    def count_near(self, accepted: int, rejected: int) -> None:
        """Count requests near the limit."""
        self._ratios.near.add(accepted, rejected)

    def count_low(self, accepted: int, strays: int) -> None:
        """Count requests far below the limit."""
        self._ratios.low.add(accepted, strays)

    def add_start_step(self, accepted: int, strays: int) -> None:
        """Record a step of START that was passed."""
        self._start_steps.append((accepted, strays))

    def count_start_strays(self) -> None:
        """Count the strays at the rates of START, except the last two, which may have been above the limit."""
        for accepted, strays in self._start_steps[:-1]:
            self._ratios.low.add(accepted, strays)
        self._start_steps.clear()

    def discard_start_steps(self) -> None:
        """Drop the steps of START."""
        self._start_steps.clear()

    # Limits that were inferred from 429s

    def believe_ratio(self, rate: float) -> None:
        """Record that the limit is measured, given the share of strays that is known now."""
        self._believed_ratio = self._compute_known_ratio(rate)

    def has_ratio_grown(self, rate: float) -> bool:
        """Return True if the limit was probably measured with strays."""
        return self._compute_known_ratio(rate) > _GROWTH_FACTOR * self._believed_ratio

    def add_lower_limit(self, limit: float, accepted: int, rejected: int) -> None:
        """Record that a limit was inferred from 429s that may have been strays."""
        self._lower_limit_evidence = (limit, accepted, rejected)

    def replace_limit(self, limit: float, accepted: int, rejected: int) -> None:
        """Record that the limit has fallen to `limit`."""
        self.add_lower_limit(limit, accepted, rejected)
        self._ratios.near.clear()

    def confirm_lower_limit(self) -> None:
        """Record that a measurement has confirmed the limit."""
        self._lower_limit_evidence = None

    def revoke_lower_limit(self, rate: float) -> bool:
        """If `rate`, which was accepted, is well above the inferred limit, count the 429s behind it as strays.

        Return True if so.
        """
        if self._lower_limit_evidence is None:
            return False
        limit, accepted, rejected = self._lower_limit_evidence
        if rate <= _REVOKED_LIMIT_RATIO * limit:
            return False
        self._ratios.low.add(accepted, rejected)
        self._lower_limit_evidence = None
        return True

    def _compute_known_ratio(self, rate: float) -> float:
        """Return the share of strays, if PROBE at `rate` would meet any."""
        ratio = self._ratios.ratio
        if ratio * max(MIN_STEP_REQUESTS, rate * MIN_STEP_SECONDS) <= _NEGLIGIBLE_STRAYS:
            return MIN_STRAY_RATIO
        return max(ratio, min(self._ratios.low.rejected_ratio, _MAX_RATIO))

    @property
    def _assumed_ratio(self) -> float:
        return max(_MIN_ASSUMED_RATIO, self._ratios.ratio)


def _compute_evidence_margin(rate: float) -> float:
    return math.log(max(1.0, rate))


def _estimate_excess_ratio(stray_ratio: float) -> float:
    """Return the share of 429s if the limit is exceeded."""
    return _MIN_EXCESS_RATIO + _EXCESS_FACTOR * stray_ratio


def _estimate_min_ratio(rejected: float, requests: float) -> float:
    """Return a lower bound of the share of 429s."""
    return (rejected - math.sqrt(rejected)) / (requests + _PRIOR_REQUESTS)
