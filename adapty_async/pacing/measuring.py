"""What refusals tell about the limit.

A smoothed limiter is a bucket: `limit` tokens a second flow in, it holds at most `burst` of them, each accepted request
takes one, and a request that finds none is refused. So a refusal says: the bucket is empty now. Between two refusals
it gave out what flowed in, and accepted / elapsed is the limit, to one request -- unless the bucket was full for a
while in between, when what flowed in was lost: then the limit is higher. A bucket that was full at some point gave
out `burst` tokens more than flowed in since. Of all that it may have been through, the highest rate is the true one:

    limit = max(accepted / elapsed since the last refusal, (sent since a point - burst) / elapsed since that point)

over the points at which the bucket may have been full: those after which we sent faster. Only the burst is unknown. The
right one is the one whose limits agree from interval to interval.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

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

    def end(self, sent_at: float, number: int, rate: float) -> None:
        """End with the refused ticket `number`, sent at `rate`; again, if the interval goes on after all."""
        self._ended, self._last, self.refused_at = sent_at, number, rate

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

    def fit(self, burst: float) -> float:
        """Give the limit of a bucket of `burst` that is empty exactly at the end."""
        fits = [
            (self._last - number - burst) / (self._ended - at)
            for at, number in self._points
            if self._ended > at and not self.blocked
        ]
        if self._empty and self.elapsed > 0:
            fits.append(self.accepted / self.elapsed)
        return max(fits, default=0.0)

    def limit(self, burst: float) -> float:
        """Give the limit: the fit, but no more than the rate that was refused."""
        return min(self.fit(burst), self.refused_at)


class Estimator:
    """The limit and the burst behind the last intervals."""

    def __init__(self) -> None:
        self.limit: float | None = None
        """Requests a second; None before the first measurement."""
        self._intervals: deque[Interval] = deque(maxlen=_REMEMBERED)
        self._burst: float | None = None
        self._doubted = False

    def add(self, interval: Interval) -> None:
        """Remember an interval that alone is no measurement."""
        self._intervals.append(interval)

    def measure(self, interval: Interval) -> float:
        """Draw the conclusion from an interval: give the limit."""
        self.add(interval)
        burst = self._believe(late=self.limit is not None and interval.refused_at > _LATE * self.limit)
        if self.limit is not None and self._contradicts(interval, burst):
            if interval.limit(burst) < self.limit and not self._doubted:
                # Far too early a refusal: somebody else's burst on the same key, or the limit has fallen. The next
                # one tells.
                self._doubted = True
                self._intervals.pop()
                return self.limit
            self._intervals = deque([interval], maxlen=_REMEMBERED)
        self._doubted = False
        limit = _mean([known.limit(burst) for known in self._intervals], self._weights())
        # An idle job's intervals tell little: one of them may halve the limit, no more.
        self.limit = limit if self.limit is None else max(limit, self.limit / 2)
        return self.limit

    def _believe(self, *, late: bool) -> float:
        """Give the burst that explains the last intervals; step by step, as one odd interval is no reason to jump.

        `late`: the last refusal came later than was to be expected.
        """
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

    def _disagreement(self, burst: float) -> float:
        """Give how far the intervals' limits lie from their mean, as a share of it."""
        fits = [interval.fit(burst) for interval in self._intervals]
        mean = _mean(fits, self._weights())
        return _mean([abs(fit / mean - 1) for fit in fits], self._weights()) if mean > 0 else float("inf")

    def _contradicts(self, interval: Interval, burst: float) -> bool:
        assert self.limit is not None
        tolerance = max(_TOLERANCE, _TOLERATED_REQUESTS / max(1, interval.accepted))
        return abs(interval.limit(burst) / self.limit - 1) > tolerance

    def _weights(self) -> list[int]:
        # A limit is known to one request: the more were accepted the better.
        return [interval.accepted + 1 for interval in self._intervals]


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
