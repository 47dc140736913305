"""Estimation of the rate limit from 429s.

The limiter is modeled as a token bucket. `limit` tokens per second flow into the bucket, which holds at most `burst`
tokens. Each accepted request takes one token, and a request that finds none is rejected. So a 429 shows that the bucket
is empty now.

Between two 429s the bucket gave out the tokens that flowed in, so accepted / elapsed is the limit, to within one
request. The exception is a bucket that was full for a while in between. Tokens that flowed in then were lost, and the
limit is higher. A bucket that was full at some point gave out `burst` tokens more than flowed in since. The highest
rate over all possible histories is the true one:

    limit = max(accepted / elapsed since the last 429, (sent since a point - burst) / elapsed since that point)

The maximum is over the points at which the bucket may have been full: those after which the rate rose. Only the burst
is unknown. The right burst is the one whose limits agree from interval to interval.

If a 429 costs a pause (Retry-After), the bucket is full again after each pause, few 429s may come, and the mean of an
interval isn't the limit. Two or three intervals are then often explained as well by a low limit with a large burst as
by a high limit with a small burst. So all bursts are weighted by how well they explain the intervals. The estimate is
the weighted mean of their limits, and the spread of these limits is its uncertainty.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

_BURST_RATIO: Final = 1.25
_CANDIDATE_BURSTS: Final = tuple(_BURST_RATIO**power for power in range(36))
_MAX_POINTS: Final = 64
_MAX_INTERVALS: Final = 3
_MAX_UNKNOWN_RATIO: Final = 0.05

# A different burst must explain the intervals better by at least this much.
_MIN_IMPROVEMENT: Final = 0.01
# Similar intervals can't distinguish a high limit with a small burst from a low limit with a large burst. With too
# large a burst, the pacer would measure its own mean rate forever. So the burst is reduced if the rate rose this far
# above the known limit before a 429, and a smaller burst explains the intervals about as well. It isn't reduced if no
# burst explains them: then other users of the key are the cause.
_LATE_RATE_RATIO: Final = 1.07
_MAX_WORSENING: Final = 0.005
_MAX_DISAGREEMENT: Final = 0.02
# Intervals whose limits differ by more than this share, or this many requests, have seen different limits.
_TOLERATED_RATIO: Final = 0.15
_TOLERATED_REQUESTS: Final = 6.0

# For the weighting of bursts: a 429 shows to within this many requests when the bucket was empty, and the true burst is
# within this share of a candidate. A bucket that takes longer than this many seconds to fill would be a quota with a
# limit near zero.
_NOISE_REQUESTS: Final = 2.0
_BURST_ERROR_RATIO: Final = (_BURST_RATIO - 1) / 2
_MAX_BURST_SECONDS: Final = 20.0


class Interval:
    """The requests sent from one 429 to the next.

    The interval starts with ticket number `first_number`, sent at `started_at`. That request was rejected or, with
    `is_bucket_empty=False`, is the first request of all.
    """

    def __init__(self, started_at: float, first_number: int, *, is_bucket_empty: bool) -> None:
        self._started_at = started_at
        self.first_number = first_number
        self._is_bucket_empty = is_bucket_empty
        self._points: list[tuple[float, int]] = []
        self.rejected = 0
        self.cancelled = 0
        self._unknown = 0
        self._ended_at = started_at
        self._last_number = first_number
        self.rejected_rate = 0.0
        self.has_hold = False
        """Whether the 429 at the end asked for a pause."""
        self._noise = _NOISE_REQUESTS
        self.is_blocked = False
        """Whether all requests were rejected for a while. A token bucket doesn't do that, so only the mean counts."""

    def add_full_point(self, now: float, number: int) -> None:
        """Record that the bucket may be full before ticket `number`, which is sent now."""
        self._points.append((now, number))
        if len(self._points) > _MAX_POINTS:
            del self._points[1::2]

    def count_rejection(self, number: int) -> None:
        """Count a rejected request."""
        self.rejected += number >= self.first_number

    def count_unknown(self, number: int) -> None:
        """Count a request that may or may not have reached the limiter."""
        self._unknown += number >= self.first_number

    def cancel_slots(self, number: int, count: int) -> None:
        """Subtract `count` requests, from ticket `number` on, that were never sent."""

        def count_cancelled_since(first: int) -> int:
            return min(count, max(0, number + count - first))

        self.cancelled += count_cancelled_since(self.first_number)
        self._points = [(at, first + count_cancelled_since(first)) for at, first in self._points]

    def end(self, sent_at: float, number: int, rate: float, *, jitter: float = 0.0, has_hold: bool = False) -> None:
        """End with the rejected ticket `number`, sent at `rate`.

        Can be called again if the interval continues after all. `jitter` is the number of seconds by which requests may
        move closer together on their way.
        """
        self.rejected_rate, self.has_hold = rate, has_hold
        if number > self._last_number:  # otherwise it was overtaken on its way
            self._ended_at, self._last_number = sent_at, number
        self._noise = _NOISE_REQUESTS + rate * jitter

    @property
    def duration(self) -> float:
        """Seconds between the two 429s."""
        return self._ended_at - self._started_at

    @property
    def accepted_count(self) -> int:
        """The number of requests that weren't rejected."""
        # A 429 at the start counts as accepted: it found up to one token. If in doubt, the higher limit is better: the
        # next 429 corrects it, but a limit that is too low stays unnoticed for long.
        return max(0, self._last_number - self.first_number + 1 - self.rejected - self.cancelled)

    @property
    def is_disturbed(self) -> bool:
        """True if the limit wasn't the only cause: all requests were rejected for a while, or many had no result."""
        return self.is_blocked or self._unknown > _MAX_UNKNOWN_RATIO * self.accepted_count

    @property
    def starts_with_429(self) -> bool:
        """True if the interval starts with a 429, so that its mean is a measurement."""
        return self._is_bucket_empty

    @property
    def mean_rate(self) -> float:
        """Accepted requests per second, a lower bound of the limit; 0.0 if that isn't a measurement."""
        return self.accepted_count / self.duration if self._is_bucket_empty and self.duration > 0 else 0.0

    def fit_limit(self, burst: float) -> float:
        """Return the limit of a bucket of `burst` tokens that is empty exactly at the end."""
        return self.fit_limit_and_error(burst)[0]

    def fit_limit_and_error(self, burst: float) -> tuple[float, float]:
        """Return the fit and its error, if `burst` is about right."""
        error = self._noise + burst * _BURST_ERROR_RATIO
        fits = [
            ((self._last_number - number - burst) / (self._ended_at - at), error / (self._ended_at - at))
            for at, number in self._points
            if self._ended_at > at and not self.is_blocked
        ]
        if self._is_bucket_empty and self.duration > 0:
            fits.append((self.mean_rate, self._noise / self.duration))
        return max(fits, default=(0.0, 1.0))

    def estimate_limit(self, burst: float) -> float:
        """Return the fit, but no more than the rejected rate."""
        return min(self.fit_limit(burst), self.rejected_rate)


class BurstFit(NamedTuple):
    """A candidate burst, the limit that fits it best, and the sum of the intervals' squared deviations, in errors."""

    residual: float
    limit: float
    burst: float


class LimitEstimator:
    """Estimates the limit and the burst from the last intervals."""

    def __init__(self) -> None:
        self.limit: float | None = None
        """Requests per second; None before the first measurement."""
        self.spread = 0.0
        """The uncertainty of the limit, in requests per second; 0.0 if 429s cost no pause."""
        self._intervals: deque[Interval] = deque(maxlen=_MAX_INTERVALS)
        self._burst: float | None = None
        self._is_doubted = False

    def add_interval(self, interval: Interval) -> None:
        """Add an interval that alone isn't a measurement."""
        self._intervals.append(interval)

    def clear(self) -> None:
        """Drop the intervals, because they are out of date."""
        self._intervals.clear()
        self._burst = None

    def restart(self, limit: float) -> None:
        """Replace an outdated limit with a guess. A lower limit is then believed at once."""
        self.clear()
        self.limit = limit
        self._is_doubted = True

    def measure(self, interval: Interval) -> float:
        """Add an interval and return the new limit."""
        self.add_interval(interval)
        is_weighed = interval.has_hold and not interval.is_disturbed
        burst = self._burst if is_weighed else self._update_burst(interval)
        if self.limit is not None and burst is not None and self._is_contradictory(interval, burst):
            if interval.estimate_limit(burst) < self.limit and not self._is_doubted:
                # The 429 came far too early: another user of the key sent a burst, or the limit has fallen. The next
                # 429 decides.
                self._is_doubted = True
                self._intervals.pop()
                return self.limit
            self._intervals = deque([interval], maxlen=_MAX_INTERVALS)
        self._is_doubted = False
        if is_weighed:
            self.limit, self.spread, self._burst = self._average_burst_fits()
            return self.limit
        assert burst is not None
        limit = _average([known.estimate_limit(burst) for known in self._intervals], self._list_weights())
        # The intervals of an idle job show little, so one of them can halve the limit at most.
        self.limit = limit if self.limit is None else max(limit, self.limit / 2)
        self.spread = 0.0
        return self.limit

    def _update_burst(self, interval: Interval) -> float:
        """Return the burst that explains the last intervals. It changes in steps: a single interval may be odd."""
        is_late = self.limit is not None and interval.rejected_rate > _LATE_RATE_RATIO * self.limit
        best = min(reversed(_CANDIDATE_BURSTS), key=self._measure_disagreement)
        if self._burst is None:
            self._burst = best
            return best
        known, smaller = self._measure_disagreement(self._burst), self._burst / _BURST_RATIO
        if self._measure_disagreement(best) < known - _MIN_IMPROVEMENT:
            self._burst *= _BURST_RATIO if best > self._burst else 1 / _BURST_RATIO
        elif (
            is_late
            and smaller >= 1.0
            and self._measure_disagreement(smaller) < min(_MAX_DISAGREEMENT, known + _MAX_WORSENING)
        ):
            self._burst = smaller
        return self._burst

    def _average_burst_fits(self) -> tuple[float, float, float]:
        """Return the weighted mean of the limits of all bursts, their spread, and the best burst."""
        supposed = [self._fit_burst(burst) for burst in _CANDIDATE_BURSTS]
        possible = [each for each in supposed if each.burst <= _MAX_BURST_SECONDS * each.limit] or supposed[:1]
        best = min(possible)
        # If even the best explains the intervals badly, it isn't much better than the others.
        scale = 2 * max(1.0, best.residual)
        weights = [math.exp((best.residual - each.residual) / scale) for each in possible]
        limit = _average([each.limit for each in possible], weights)
        variance = _average([(each.limit - limit) ** 2 for each in possible], weights)
        return limit, math.sqrt(variance), best.burst

    def _fit_burst(self, burst: float) -> BurstFit:
        measured = [(*interval.fit_limit_and_error(burst), interval) for interval in self._intervals]
        limits = [min(fit, interval.rejected_rate) for fit, _, interval in measured]
        limit = _average(limits, [1 / error**2 for _, error, _ in measured])
        limit = max(limit, *(interval.mean_rate for interval in self._intervals))
        return BurstFit(sum(((fit - limit) / error) ** 2 for fit, error, _ in measured), limit, burst)

    def _measure_disagreement(self, burst: float) -> float:
        """Return the mean distance of the intervals' limits from their mean, as a share of that mean."""
        fits = [interval.fit_limit(burst) for interval in self._intervals]
        mean = _average(fits, self._list_weights())
        return _average([abs(fit / mean - 1) for fit in fits], self._list_weights()) if mean > 0 else float("inf")

    def _is_contradictory(self, interval: Interval, burst: float) -> bool:
        assert self.limit is not None
        tolerance = max(
            _TOLERATED_RATIO, _TOLERATED_REQUESTS / max(1, interval.accepted_count), 3 * self.spread / self.limit
        )
        return abs(interval.estimate_limit(burst) / self.limit - 1) > tolerance

    def _list_weights(self) -> list[int]:
        # A limit is known to within one request, so more accepted requests weigh more.
        return [interval.accepted_count + 1 for interval in self._intervals]


def _average(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
