"""What holds a mass job back beside the rate limit: pure decisions, told the time in seconds of any steady clock.

A server that fails or gets slow says nothing of its rate limit, so the pacer doesn't listen to that. It is answered
here: retries are rationed, a job whose every request fails is parked, and no more requests are under way than the rate
and the latency explain, so that not many are left in doubt when the server falls silent.
"""

import math
from typing import Final

# As a finagle.RetryBudget: a share of the successes, and some in any case, forgotten after a while.
_RETRY_SHARE: Final = 0.1
_RETRIES_PER_SECOND: Final = 2.0
_MEMORY: Final = 10.0
_GRAIN: Final = 0.02
"""Seconds that are too short to be forgotten by themselves: what happens in a row is one."""
_ROUNDING: Final = 1e-9


class RetryBudget:
    """Let retries be a tenth of the successes of the last 10 s or so, and 2 a second beside."""

    def __init__(self) -> None:
        self._balance = self._in_any_case = _RETRIES_PER_SECOND * _MEMORY
        self._seen = 0.0

    def succeeded(self, now: float) -> None:
        """Take note of a success."""
        if now - self._seen > _GRAIN:
            self._pass_time(now)
        self._balance += _RETRY_SHARE

    def wait(self, now: float) -> float:
        """Give the seconds until a retry is allowed, if nothing succeeds before; 0.0 = now."""
        self._pass_time(now)
        if self._balance >= 1.0 - _ROUNDING:
            return 0.0
        return _MEMORY * math.log((self._in_any_case - self._balance) / (self._in_any_case - 1.0))

    def spend(self, now: float) -> None:
        """Take note of a retry."""
        self._pass_time(now)
        self._balance -= 1.0

    def _pass_time(self, now: float) -> None:
        """Forget by and by; what is there in any case comes back as fast as it is forgotten."""
        kept = math.exp(min(0.0, self._seen - now) / _MEMORY)
        self._balance = self._in_any_case + (self._balance - self._in_any_case) * kept
        self._seen = now


# A restart of the server resets all that is under way at one blow; more in a row is an outage. Where 80 % fail, so many
# failures in a row come once in 4,000 requests.
_FAILURES_IN_A_ROW: Final = 30
_FIRST_PARK: Final = 0.5
_LONGEST_PARK: Final = 4.0


class Breaker:
    """Park a job whose requests all fail; then let single ones through, trials, until one is answered.

    Between two trials lie 0.5 s, doubling to 4 s; so long is waited, too, for one that isn't answered at all.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._parks = 0
        self._next_trial = -math.inf
        self._trial_is_next = False

    @property
    def is_open(self) -> bool:
        """Whether the job is parked."""
        return self._parks > 0

    def wait(self, now: float) -> float:
        """Give the seconds until a request may get ready; 0.0 = now, infinite while a trial has yet to leave."""
        if not self.is_open:
            return 0.0
        return math.inf if self._trial_is_next else max(0.0, self._next_trial - now)

    def admitted(self) -> bool:
        """Take note that a request gets ready; tell whether it is a trial."""
        self._trial_is_next = self.is_open
        return self.is_open

    def left(self, now: float) -> None:
        """Take note that a trial leaves."""
        self._trial_is_next = False
        self._next_trial = now + _LONGEST_PARK

    def succeeded(self) -> None:
        """Take note that the server has done something, whatever it was asked."""
        self._failures = self._parks = 0

    def failed(self, now: float, *, is_trial: bool) -> None:
        """Take note of a request that failed."""
        self._failures += 1
        after = now + min(_LONGEST_PARK, _FIRST_PARK * 2.0 ** min(self._parks, 10))
        if self.is_open and is_trial:
            # One that fails late, after its timeout, must not put off the trial that is due meanwhile.
            self._next_trial = min(self._next_trial, after)
            self._parks += 1
        elif not self.is_open and self._failures >= _FAILURES_IN_A_ROW:
            self._next_trial = after
            self._parks = 1

    def not_sent(self, now: float) -> None:
        """Take note that the trial which got ready won't leave: another may."""
        self._trial_is_next = False
        self._next_trial = now


# Twice what the rate and the latency explain, and some: a bound that is met costs rate.
_HEADROOM: Final = 2.0
_FEWEST: Final = 8
_SUPPOSED_LATENCY: Final = 1.0
_LOWERED_FOR: Final = 30.0
"""Seconds. Then more is tried again: what took the file descriptors may have given them back."""


class Bound:
    """Bound the requests under way by rate x latency (Little's law) with headroom, and by `most`.

    The latency is that of the slow answers, a peak EWMA as in finagle's load balancer: it jumps up to each slower
    answer, and is forgotten over 10 s. A mean of the last few would fall, where few are slow, below what is under way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lowered = most
        self._lowered_until = -math.inf
        self._latency = -1.0  # no answer yet
        self._seen = -math.inf

    def answered(self, now: float, seconds: float) -> None:
        """Take note of how long an answer took."""
        if seconds > self._latency:
            self._latency = seconds
        elif now - self._seen <= _GRAIN:
            return
        else:
            self._latency += (seconds - self._latency) * -math.expm1((self._seen - now) / _MEMORY)
        self._seen = now

    def lower(self, now: float, most: int) -> None:
        """Allow at most `most` requests, at least 1, for 30 s: this machine has no room for more connections."""
        self._lowered = max(1, min(most, self._most_at(now)))
        self._lowered_until = now + _LOWERED_FOR

    def at(self, now: float, rate: float) -> int:
        """Return the bound at a rate, in requests a second."""
        latency = _SUPPOSED_LATENCY if self._latency < 0 else self._latency
        return int(min(self._most_at(now), _FEWEST + _HEADROOM * rate * latency))

    def _most_at(self, now: float) -> int:
        return self._lowered if now < self._lowered_until else self._most
