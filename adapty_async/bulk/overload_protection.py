"""Protection of an overloaded server: retry budget, circuit breaker and concurrency limit of a bulk job.

They decide without I/O and get the time in seconds from any monotonic clock.

A server that fails or becomes slow gives no information about its rate limit, so the pacer ignores such responses. They
are handled here instead: retries are limited, requests stop if all of them fail, and the number in flight is limited
by rate and latency. If the server stops answering, only that many requests are in doubt.
"""

import math
from typing import Final

# As in finagle's RetryBudget: a share of the successes plus a constant rate, with exponential decay.
_RETRY_RATIO: Final = 0.1
_MIN_RETRIES_PER_SECOND: Final = 2.0
_DECAY_SECONDS: Final = 10.0
_DECAY_INTERVAL: Final = 0.02
"""Seconds. Events closer together than this need no decay between them."""
_TOLERANCE: Final = 1e-9


class RetryBudget:
    """Limit retries to 10% of the successes of about the last 10 seconds, plus 2 per second."""

    def __init__(self) -> None:
        self._balance = self._constant_balance = _MIN_RETRIES_PER_SECOND * _DECAY_SECONDS
        self._updated_at = 0.0

    def record_success(self, now: float) -> None:
        """Record a success."""
        if now - self._updated_at > _DECAY_INTERVAL:
            self._decay(now)
        self._balance += _RETRY_RATIO

    def delay(self, now: float) -> float:
        """Return the seconds until a retry is allowed if no request succeeds before. 0.0 means now."""
        self._decay(now)
        if self._balance >= 1.0 - _TOLERANCE:
            return 0.0
        return _DECAY_SECONDS * math.log((self._constant_balance - self._balance) / (self._constant_balance - 1.0))

    def spend(self, now: float) -> None:
        """Record a retry."""
        self._decay(now)
        self._balance -= 1.0

    def _decay(self, now: float) -> None:
        """Decay the balance towards its constant part."""
        kept = math.exp(min(0.0, self._updated_at - now) / _DECAY_SECONDS)
        self._balance = self._constant_balance + (self._balance - self._constant_balance) * kept
        self._updated_at = now


# A restart of the server resets all requests in flight at once; a longer series of failures is an outage. If 80% of the
# requests fail, 30 failures in a row happen once in 4,000 requests.
_FAILURE_THRESHOLD: Final = 30
_INITIAL_TRIAL_DELAY: Final = 0.5
_MAX_TRIAL_DELAY: Final = 4.0


class CircuitBreaker:
    """Open when 30 requests of a job fail in a row, then allow one trial at a time until the server works.

    The time between two trials is 0.5 seconds and doubles up to 4 seconds. A trial that gets no response at all delays
    the next one by 4 seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._backoff_step = 0
        self._next_trial_at = -math.inf
        self._is_trial_unsent = False

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._backoff_step > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be prepared.

        0.0 means now. Infinity means that a trial has been prepared but not sent yet.
        """
        if not self.is_open:
            return 0.0
        return math.inf if self._is_trial_unsent else max(0.0, self._next_trial_at - now)

    def begin_trial_if_open(self) -> bool:
        """Record that a request is prepared. Return True if it is a trial."""
        self._is_trial_unsent = self.is_open
        return self.is_open

    def record_trial_sent(self, now: float) -> None:
        """Record that a trial is sent."""
        self._is_trial_unsent = False
        self._next_trial_at = now + _MAX_TRIAL_DELAY

    def record_success(self) -> None:
        """Record a response which shows that the server works; it may be a rejection."""
        self._failures = self._backoff_step = 0

    def record_failure(self, now: float, *, is_trial: bool) -> None:
        """Record a request that failed."""
        self._failures += 1
        after = now + min(_MAX_TRIAL_DELAY, _INITIAL_TRIAL_DELAY * 2.0 ** min(self._backoff_step, 10))
        if self.is_open and is_trial:
            # A trial that fails late, by a timeout, must not delay the trial that has become due in the meantime.
            self._next_trial_at = min(self._next_trial_at, after)
            self._backoff_step += 1
        elif not self.is_open and self._failures >= _FAILURE_THRESHOLD:
            self._next_trial_at = after
            self._backoff_step = 1

    def cancel_trial(self, now: float) -> None:
        """Record that the prepared trial won't be sent, so that another can be."""
        self._is_trial_unsent = False
        self._next_trial_at = now


# Twice the number that the rate and the latency explain, plus a constant: reaching the limit lowers the rate.
_HEADROOM: Final = 2.0
_MIN_LIMIT: Final = 8
_DEFAULT_LATENCY: Final = 1.0
_LOWERED_SECONDS: Final = 30.0
"""Seconds. Then more requests are tried again: file descriptors may have become free."""


class ConcurrencyLimit:
    """Limit the requests in flight by rate x latency (Little's law) with headroom, and by `max_in_flight`.

    The latency is a peak EWMA, as in finagle's load balancer: it rises to each slower response at once and decays over
    10 seconds. If only a few responses were slow, a mean of the last ones would be too low for the requests in flight.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._lowered_limit = max_in_flight
        self._lowered_until = -math.inf
        self._latency = -1.0  # no response yet
        self._updated_at = -math.inf

    def record_latency(self, now: float, latency: float) -> None:
        """Record the latency of a response."""
        if latency > self._latency:
            self._latency = latency
        elif now - self._updated_at <= _DECAY_INTERVAL:
            return
        else:
            self._latency += (latency - self._latency) * -math.expm1((self._updated_at - now) / _DECAY_SECONDS)
        self._updated_at = now

    def lower(self, now: float, max_in_flight: int) -> None:
        """Allow at most `max_in_flight` requests, but at least 1, for 30 seconds.

        Used if this machine can't open more connections.
        """
        self._lowered_limit = max(1, min(max_in_flight, self._get_maximum(now)))
        self._lowered_until = now + _LOWERED_SECONDS

    def compute_limit(self, now: float, rate: float) -> int:
        """Return the limit at `rate` requests per second."""
        latency = _DEFAULT_LATENCY if self._latency < 0 else self._latency
        return int(min(self._get_maximum(now), _MIN_LIMIT + _HEADROOM * rate * latency))

    def _get_maximum(self, now: float) -> int:
        return self._lowered_limit if now < self._lowered_until else self._max_in_flight
