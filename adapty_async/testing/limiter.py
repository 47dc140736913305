"""The smoothed rate limit: pure arithmetic, no clock."""

import math


class Limiter:
    """Accept `rate` requests a second sustained and up to `burst` requests above that.

    The generic cell rate algorithm, which is a token bucket of `burst + 1` without the bucket: in any
    window of t seconds at most `rate * t + burst + 1` requests are accepted, and a refused one costs nothing.
    """

    def __init__(self, rate: float, burst: int = 10) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError("rate must be a positive number of requests a second")
        if burst < 0:
            raise ValueError("burst must not be negative")
        self.rate = rate
        self.burst = burst
        self._due = -math.inf

    def accepts(self, now: float) -> bool:
        """Tell whether a request at `now` (monotonic seconds) is within the limit, and charge it if so."""
        if now < self._due - self.burst / self.rate:
            return False
        self._due = max(self._due, now) + 1 / self.rate
        return True
