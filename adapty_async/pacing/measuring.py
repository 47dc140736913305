"""What refusals tell about the limit.

A smoothed limiter is a bucket: `limit` tokens a second flow in, it holds at most `burst` of them, each accepted request
takes one, and a request that finds none is refused. So a refusal says: the bucket is empty now. Between two refusals
it gave out what flowed in, and accepted / elapsed is the limit, to one request -- unless the bucket was full for a
while in between, when what flowed in was lost: then the limit is higher. A bucket that was full at some point gave
out `burst` tokens more than flowed in since. Of all that it may have been through, the highest rate is the true one:

    limit = max(accepted / elapsed since the last refusal, (sent since a point - burst) / elapsed since that point)

over the points at which the bucket may have been full: those after which we sent faster. Only the burst is unknown. The
right one is the one whose limits agree from interval to interval.

Where a refusal asks for a pause (Retry-After), the bucket is full again after each, few refusals may come, and none of
the means is the limit. Two or three intervals are then often explained as well by a low limit with a large burst as by
a high one with a small burst. So all bursts are weighed there, each by how well it explains the intervals: the limit is
the mean of theirs, and the spread of theirs tells how much it is worth.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

_BURST_RATIO: Final = 1.25
_BURSTS: Final = tuple(_BURST_RATIO**power for power in range(36))
_MOST_POINTS: Final = 64
_REMEMBERED: Final = 3
_FEW_UNKNOWN: Final = 0.05

# Another burst than the one believed in must explain the intervals better by so much.
_BETTER: Final = 0.01
# Intervals that look alike can't tell a high limit with a small burst from a low one with a large burst, and with too
# large a burst we would measure our own mean for ever. So where the rate had to go so far above the known limit until
# it was refused, and a smaller burst explains the intervals about as well, the smaller one is taken. Not where nothing
# explains them: then others are at work.
_LATE: Final = 1.07
_AS_WELL: Final = 0.005
_EXPLAINED: Final = 0.02
# Intervals whose limits are further apart than this, or than so many requests, have seen different limits.
_TOLERANCE: Final = 0.15
_TOLERATED_REQUESTS: Final = 6.0

# Where all bursts are weighed: a refusal tells to so many requests when the bucket was empty, and any burst is within
# this share of one that is supposed. A bucket that takes longer than so many seconds to fill would be a quota, with a
# limit of next to nothing.
_NOISE: Final = 2.0
_BURST_ERROR: Final = (_BURST_RATIO - 1) / 2
_LONGEST_BURST: Final = 20.0


class Interval:
    """What was sent from one refusal to the next.

    It begins with ticket number `first`, sent at `began`: a refusal, or, `empty=False`, the first request of all.
    """

    def __init__(self, began: float, first: int, *, empty: bool) -> None:
        self._began = began
        self.first = first
        self._empty = empty
        self._points: list[tuple[float, int]] = []
        self.refused = 0
        self.withdrawn = 0
        self._unknown = 0
        self._ended = began
        self._last = first
        self.refused_at = 0.0
        self.paused = False
        """Whether the refusal at the end asked for a pause."""
        self._noise = _NOISE
        self.blocked = False
        """For a while nothing at all was accepted: that is no smoothed limiter, and only the mean counts."""

    def point(self, now: float, number: int) -> None:
        """Note that the bucket may be full before ticket `number`, which leaves now."""
        self._points.append((now, number))
        if len(self._points) > _MOST_POINTS:
            del self._points[1::2]

    def refuse(self, number: int) -> None:
        """Count a refused request."""
        self.refused += number >= self.first

    def lose(self, number: int) -> None:
        """Count a request of which nobody knows whether the limiter saw it."""
        self._unknown += number >= self.first

    def withdraw(self, number: int, count: int) -> None:
        """Count off `count` requests, from ticket `number` on, that never left."""

        def withdrawn_since(first: int) -> int:
            return min(count, max(0, number + count - first))

        self.withdrawn += withdrawn_since(self.first)
        self._points = [(at, first + withdrawn_since(first)) for at, first in self._points]

    def end(self, sent_at: float, number: int, rate: float, *, jitter: float = 0.0, paused: bool = False) -> None:
        """End with the refused ticket `number`, sent at `rate`; again, if the interval goes on after all.

        `jitter`: seconds by which requests may come closer together on their way.
        """
        self.refused_at, self.paused = rate, paused
        if number > self._last:  # else it was overtaken on its way
            self._ended, self._last = sent_at, number
        self._noise = _NOISE + rate * jitter

    @property
    def elapsed(self) -> float:
        """Seconds between the two refusals."""
        return self._ended - self._began

    @property
    def accepted(self) -> int:
        """Requests that were not refused."""
        # A refusal at the beginning counts as one: it found up to one token, and in doubt the higher limit is the
        # better answer, as the next refusal corrects it, while a limit that is too low stays unnoticed for long.
        return max(0, self._last - self.first + 1 - self.refused - self.withdrawn)

    @property
    def disturbed(self) -> bool:
        """Whether more than the limit was at work: all blocked for a while, or many requests of unknown fate."""
        return self.blocked or self._unknown > _FEW_UNKNOWN * self.accepted

    @property
    def measurable(self) -> bool:
        """Whether the first refusal was one, so that the mean is a measurement."""
        return self._empty

    @property
    def mean(self) -> float:
        """What was accepted a second, a lower bound of the limit; 0.0 where that is no measurement."""
        return self.accepted / self.elapsed if self._empty and self.elapsed > 0 else 0.0

    def fit(self, burst: float) -> float:
        """Give the limit of a bucket of `burst` that is empty exactly at the end."""
        return self.fit_and_error(burst)[0]

    def fit_and_error(self, burst: float) -> tuple[float, float]:
        """Give the fit, and how far off it is where the burst is about that."""
        error = self._noise + burst * _BURST_ERROR
        fits = [
            ((self._last - number - burst) / (self._ended - at), error / (self._ended - at))
            for at, number in self._points
            if self._ended > at and not self.blocked
        ]
        if self._empty and self.elapsed > 0:
            fits.append((self.mean, self._noise / self.elapsed))
        return max(fits, default=(0.0, 1.0))

    def limit(self, burst: float) -> float:
        """Give the limit: the fit, but no more than the rate that was refused."""
        return min(self.fit(burst), self.refused_at)


class Explanation(NamedTuple):
    """A supposed burst, the limit that fits best to it, and by how many errors, squared, the intervals don't."""

    misfit: float
    limit: float
    burst: float


class Estimator:
    """The limit and the burst behind the last intervals."""

    def __init__(self) -> None:
        self.limit: float | None = None
        """Requests a second; None before the first measurement."""
        self.spread = 0.0
        """How far off the limit may be; 0.0 where refusals ask for no pause."""
        self._intervals: deque[Interval] = deque(maxlen=_REMEMBERED)
        self._burst: float | None = None
        self._doubted = False

    def add(self, interval: Interval) -> None:
        """Remember an interval that alone is no measurement."""
        self._intervals.append(interval)

    def forget(self) -> None:
        """Forget the intervals: what they say is out of date."""
        self._intervals.clear()
        self._burst = None

    def begin_anew(self, limit: float) -> None:
        """Suppose another limit, as the last one is out of date. It is a guess: a lower one is believed at once."""
        self.forget()
        self.limit = limit
        self._doubted = True

    def measure(self, interval: Interval) -> float:
        """Draw the conclusion from an interval: give the limit."""
        self.add(interval)
        weighs = interval.paused and not interval.disturbed
        burst = self._burst if weighs else self._believe(interval)
        if self.limit is not None and burst is not None and self._contradicts(interval, burst):
            if interval.limit(burst) < self.limit and not self._doubted:
                # Far too early a refusal: somebody else's burst on the same key, or the limit has fallen. The next
                # one tells.
                self._doubted = True
                self._intervals.pop()
                return self.limit
            self._intervals = deque([interval], maxlen=_REMEMBERED)
        self._doubted = False
        if weighs:
            self.limit, self.spread, self._burst = self._weigh()
            return self.limit
        assert burst is not None
        limit = _mean([known.limit(burst) for known in self._intervals], self._weights())
        # An idle job's intervals tell little: one of them may halve the limit, no more.
        self.limit = limit if self.limit is None else max(limit, self.limit / 2)
        self.spread = 0.0
        return self.limit

    def _believe(self, interval: Interval) -> float:
        """Give the burst that explains the last intervals; step by step, as one odd interval is no reason to jump."""
        late = self.limit is not None and interval.refused_at > _LATE * self.limit
        best = min(reversed(_BURSTS), key=self._disagreement)
        if self._burst is None:
            self._burst = best
            return best
        known, smaller = self._disagreement(self._burst), self._burst / _BURST_RATIO
        if self._disagreement(best) < known - _BETTER:
            self._burst *= _BURST_RATIO if best > self._burst else 1 / _BURST_RATIO
        elif late and smaller >= 1.0 and self._disagreement(smaller) < min(_EXPLAINED, known + _AS_WELL):
            self._burst = smaller
        return self._burst

    def _weigh(self) -> tuple[float, float, float]:
        """Give the limit as all bursts together explain it, its spread, and the best burst."""
        supposed = [self._explain(burst) for burst in _BURSTS]
        possible = [each for each in supposed if each.burst <= _LONGEST_BURST * each.limit] or supposed[:1]
        best = min(possible)
        # Where even the best explains badly, it isn't much better than the others.
        scale = 2 * max(1.0, best.misfit)
        weights = [math.exp((best.misfit - each.misfit) / scale) for each in possible]
        limit = _mean([each.limit for each in possible], weights)
        variance = _mean([(each.limit - limit) ** 2 for each in possible], weights)
        return limit, math.sqrt(variance), best.burst

    def _explain(self, burst: float) -> Explanation:
        measured = [(*interval.fit_and_error(burst), interval) for interval in self._intervals]
        limits = [min(fit, interval.refused_at) for fit, _, interval in measured]
        limit = _mean(limits, [1 / error**2 for _, error, _ in measured])
        limit = max(limit, *(interval.mean for interval in self._intervals))
        return Explanation(sum(((fit - limit) / error) ** 2 for fit, error, _ in measured), limit, burst)

    def _disagreement(self, burst: float) -> float:
        """Give how far the intervals' limits lie from their mean, as a share of it."""
        fits = [interval.fit(burst) for interval in self._intervals]
        mean = _mean(fits, self._weights())
        return _mean([abs(fit / mean - 1) for fit in fits], self._weights()) if mean > 0 else float("inf")

    def _contradicts(self, interval: Interval, burst: float) -> bool:
        assert self.limit is not None
        tolerance = max(_TOLERANCE, _TOLERATED_REQUESTS / max(1, interval.accepted), 3 * self.spread / self.limit)
        return abs(interval.limit(burst) / self.limit - 1) > tolerance

    def _weights(self) -> list[int]:
        # A limit is known to one request: the more were accepted the better.
        return [interval.accepted + 1 for interval in self._intervals]


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
