"""A smooth rate limit, computed without a clock."""

import math


class Limiter:
    """Accept `rate` requests per second, and up to `burst` requests above that.

    This is the generic cell rate algorithm, equivalent to a token bucket of size `burst + 1`: in any window of t
    seconds at most `rate * t + burst + 1` requests are accepted. A rejected request costs nothing.

    Args:
        rate: Requests per second.
        burst: Requests above the rate.

    Raises:
        ValueError: If `rate` isn't positive and finite, or `burst` is negative.
    """

    def __init__(self, rate: float, burst: int = 10) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError("rate must be a positive number of requests per second")
        if burst < 0:
            raise ValueError("burst must not be negative")
        self.rate = rate
        self.burst = burst
        self._due = -math.inf

    def accepts(self, now: float) -> bool:
        """Return True if a request at this time is within the limit, and count it.

        Args:
            now: Monotonic time in seconds.
        """
        if now < self._due - self.burst / self.rate:
            return False
        self._due = max(self._due, now) + 1 / self.rate
        return True
