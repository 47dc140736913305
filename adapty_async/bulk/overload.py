"""Retry budget, circuit breaker and concurrency limit of a bulk job.

They decide without I/O and get the time in seconds from any monotonic clock.

A server that fails or becomes slow gives no information about its rate limit, so the pacer ignores such responses. They
are handled here instead: retries are limited, requests stop if all of them fail, and the number in flight is limited
by rate and latency. If the server stops answering, only that many requests are in doubt.
"""

import math
from typing import Final

# As in finagle's RetryBudget: a share of the successes plus a constant rate, with exponential decay.
_RETRY_SHARE: Final = 0.1
_RETRIES_PER_SECOND: Final = 2.0
_MEMORY: Final = 10.0
_GRAIN: Final = 0.02
"""Seconds. Events closer together than this need no decay between them."""
_ROUNDING: Final = 1e-9


class RetryBudget:
    """Limit retries to 10% of the successes of about the last 10 seconds, plus 2 per second."""

    def __init__(self) -> None:
        self._balance = self._in_any_case = _RETRIES_PER_SECOND * _MEMORY
        self._seen = 0.0

    def succeeded(self, now: float) -> None:
        """Record a success."""
        if now - self._seen > _GRAIN:
            self._pass_time(now)
        self._balance += _RETRY_SHARE

    def wait(self, now: float) -> float:
        """Return the seconds until a retry is allowed if no request succeeds before. 0.0 means now."""
        self._pass_time(now)
        if self._balance >= 1.0 - _ROUNDING:
            return 0.0
        return _MEMORY * math.log((self._in_any_case - self._balance) / (self._in_any_case - 1.0))

    def spend(self, now: float) -> None:
        """Record a retry."""
        self._pass_time(now)
        self._balance -= 1.0

    def _pass_time(self, now: float) -> None:
        """Decay the balance towards its constant part."""
        kept = math.exp(min(0.0, self._seen - now) / _MEMORY)
        self._balance = self._in_any_case + (self._balance - self._in_any_case) * kept
        self._seen = now


# A restart of the server resets all requests in flight at once; a longer series of failures is an outage. If 80% of the
# requests fail, 30 failures in a row happen once in 4,000 requests.
_FAILURES_IN_A_ROW: Final = 30
_FIRST_PARK: Final = 0.5
_LONGEST_PARK: Final = 4.0


class Breaker:
    """Open when 30 requests of a job fail in a row, then allow one trial at a time until the server works.

    The time between two trials is 0.5 seconds and doubles up to 4 seconds. A trial that gets no response at all delays
    the next one by 4 seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._parks = 0
        self._next_trial = -math.inf
        self._trial_is_next = False

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._parks > 0

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be prepared.

        0.0 means now. Infinity means that a trial has been prepared but not sent yet.
        """
        if not self.is_open:
            return 0.0
        return math.inf if self._trial_is_next else max(0.0, self._next_trial - now)

    def admitted(self) -> bool:
        """Record that a request is prepared. Return True if it is a trial."""
        self._trial_is_next = self.is_open
        return self.is_open

    def left(self, now: float) -> None:
        """Record that a trial is sent."""
        self._trial_is_next = False
        self._next_trial = now + _LONGEST_PARK

    def succeeded(self) -> None:
        """Record a response which shows that the server works; it may be a rejection."""
        self._failures = self._parks = 0

    def failed(self, now: float, *, is_trial: bool) -> None:
        """Record a request that failed."""
        self._failures += 1
        after = now + min(_LONGEST_PARK, _FIRST_PARK * 2.0 ** min(self._parks, 10))
        if self.is_open and is_trial:
            # A trial that fails late, by a timeout, must not delay the trial that has become due in the meantime.
            self._next_trial = min(self._next_trial, after)
            self._parks += 1
        elif not self.is_open and self._failures >= _FAILURES_IN_A_ROW:
            self._next_trial = after
            self._parks = 1

    def not_sent(self, now: float) -> None:
        """Record that the prepared trial won't be sent, so that another can be."""
        self._trial_is_next = False
        self._next_trial = now


# Twice the number that the rate and the latency explain, plus a constant: reaching the limit lowers the rate.
_HEADROOM: Final = 2.0
_FEWEST: Final = 8
_SUPPOSED_LATENCY: Final = 1.0
_LOWERED_FOR: Final = 30.0
"""Seconds. Then more requests are tried again: file descriptors may have become free."""


class Bound:
    """Limit the requests in flight by rate x latency (Little's law) with headroom, and by `most`.

    The latency is a peak EWMA, as in finagle's load balancer: it rises to each slower response at once and decays over
    10 seconds. If only a few responses were slow, a mean of the last ones would be too low for the requests in flight.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lowered = most
        self._lowered_until = -math.inf
        self._latency = -1.0  # no response yet
        self._seen = -math.inf

    def answered(self, now: float, seconds: float) -> None:
        """Record the latency of a response."""
        if seconds > self._latency:
            self._latency = seconds
        elif now - self._seen <= _GRAIN:
            return
        else:
            self._latency += (seconds - self._latency) * -math.expm1((self._seen - now) / _MEMORY)
        self._seen = now

    def lower(self, now: float, most: int) -> None:
        """Allow at most `most` requests, but at least 1, for 30 seconds.

        Used if this machine can't open more connections.
        """
        self._lowered = max(1, min(most, self._most_at(now)))
        self._lowered_until = now + _LOWERED_FOR

    def at(self, now: float, rate: float) -> int:
        """Return the limit at `rate` requests per second."""
        latency = _SUPPOSED_LATENCY if self._latency < 0 else self._latency
        return int(min(self._most_at(now), _FEWEST + _HEADROOM * rate * latency))

    def _most_at(self, now: float) -> int:
        return self._lowered if now < self._lowered_until else self._most
