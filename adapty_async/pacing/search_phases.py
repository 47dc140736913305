"""The phases of an adaptive pacer's rate, and their steps.

- START about doubles the rate at each step, until the first 429.
- PROBE raises it by small steps, then by larger ones, until a 429 measures the limit.
- CRUISE is one long step at `utilization` of the limit.

A step is passed when the requests of its rate were accepted and were sent at that rate. So a job that has little to
send, or a server that fails, doesn't raise the rate.

A 429 is expensive if its Retry-After is longer than the bucket takes to refill. Then all phases are slower.
"""

from typing import Final

from .base import MAX_LATENESS_SECONDS, Phase, Ticket
from .round_trip import RoundTrip

# Requests per second. From a lower rate, recovery would take hours.
_MIN_RATE: Final = 0.05

# The minimum length of a step, in seconds, round trips and requests. If a 429 costs a hold (its Retry-After), a step
# near the known limit lasts this many holds. In a search for the limit, all steps together should cost no more than one
# hold.
MIN_STEP_SECONDS: Final = 1.0
_MIN_STEP_ROUND_TRIPS: Final = 2.0
MIN_STEP_REQUESTS: Final = 8.0
_STEP_HOLDS: Final = 5.0
_SEARCH_STEP_HOLDS: Final = 1 / 3
_MAX_STEP_SECONDS: Final = 60.0
# The requests of a step may take this many times its length. If they take longer, the job is slower than the pacer.
_MAX_STEP_STRETCH: Final = 1.3

# If the limit is known, PROBE starts just below it and rises by 2% of it; otherwise by more. Later steps become larger
# and larger, because the limit has probably risen. If a large step was rejected, the limit is somewhere within that
# step: the next PROBE makes twice as many small steps first.
_PROBE_START_RATIO: Final = 0.98
_FINE_STEP_RATIO: Final = 0.02
_COARSE_STEP_RATIO: Final = 0.06
_SMALL_STEP_COUNT: Final = 5
_LARGE_STEP_RATIO: Final = 0.1
_SMALL_STEP_FACTOR: Final = 2

# The minimum length of CRUISE, in seconds and, if a 429 costs a hold, in holds: fewer if the estimate is unsure.
_MIN_CRUISE_SECONDS: Final = 2.0
_CRUISE_HOLDS: Final = 40.0
_UNSURE_CRUISE_HOLDS: Final = 10.0
_MAX_CRUISE_SECONDS: Final = 900.0
# A measured limit is trusted for at most this many seconds, or for as long as a few requests take, if that is longer:
# the limit may have been low for a moment only.
_MAX_LIMIT_AGE_SECONDS: Final = 300.0
# A measurement of n requests has an error of 1/n. Until that is good enough for the utilization, each CRUISE is about
# as long as all before it.
_MIN_PRECISION: Final = 2.0
_MIN_CRUISE_REQUESTS: Final = 20.0
# CRUISE eases to this share of the limit to count strays.
_EASED_UTILIZATION: Final = 0.7


class SearchPhases:
    """The current rate, and the step at which it is tried.

    Args:
        rate: The first rate, in requests per second.
        max_rate: The maximum rate, or infinity.
        utilization: The share of the measured limit to use.
        probe_after: The number of requests of a CRUISE.
    """

    def __init__(self, rate: float, max_rate: float, utilization: float, probe_after: int) -> None:
        self.max_rate = max_rate
        self.utilization = utilization
        self.probe_after = probe_after
        self.round_trip = RoundTrip()
        self.phase = Phase.START
        self.rate = rate
        self.is_rising = True
        """Whether no request has been sent since the rate rose."""
        self.sent_count = 0
        self.is_searching = False
        """Whether PROBE searches for a limit that isn't known yet."""
        self.accepted_count = 0
        """The number of accepted requests of this step."""
        self.stray_count = 0
        """The number of stray 429s of this step."""
        self._index = 0
        self._is_fine = False
        self._increment = _COARSE_STEP_RATIO * rate
        self._first_number = 1
        self._size = 1
        self._started_at: float | None = None
        self.start_step()

    def set_rate(self, rate: float) -> None:
        """Change the rate, within its bounds."""
        rate = min(max(rate, _MIN_RATE), self.max_rate)
        self.is_rising |= rate > self.rate
        self.rate = rate

    def start_step(self, seconds: float | None = None) -> None:
        """Start a step at the current rate, with the next request."""
        if seconds is None:
            seconds = self._choose_step_seconds()
        self._first_number = self.sent_count + 1
        self._size = max(1, round(self.rate * seconds))
        self._started_at = None
        self.accepted_count = 0
        self.stray_count = 0

    def includes(self, number: int) -> bool:
        """Return True if ticket `number` belongs to this step."""
        return number >= self._first_number

    def record_acceptance(self, ticket: Ticket) -> bool:
        """Record an accepted request of this step. Return True if it is the last."""
        if self._started_at is None:
            self._started_at = ticket.sent_at
        self.accepted_count += 1
        return self.accepted_count >= self._size

    def is_in_time(self, ticket: Ticket) -> bool:
        """Return True if the requests of this step, up to `ticket`, were sent at its rate."""
        assert self._started_at is not None
        seconds = ticket.sent_at - self._started_at
        return seconds <= _MAX_STEP_STRETCH * self._size / self.rate + MAX_LATENESS_SECONDS

    def double_rate(self) -> None:
        """Take the next step of START."""
        # Twice the rate, or less if the pacer leaves room for others: an overshoot causes 429s for them as well.
        self.set_rate((1 + self.utilization) * self.rate)

    def raise_rate(self) -> None:
        """Take the next step of PROBE."""
        self._index += 1
        larger = max(0, self._index - self._small_step_count + 1)
        if self.round_trip.hold_seconds:
            # One large step at a time: the larger the step, the less an overshoot shows.
            larger = int(larger > 0 or self.is_searching)
        self.set_rate(self.rate + (_LARGE_STEP_RATIO * larger * self.rate or self._increment))

    @property
    def is_large(self) -> bool:
        """True if PROBE has risen by a large step."""
        return self.phase is Phase.PROBE and self._index > self._small_step_count

    def return_to_start(self) -> None:
        """Return to START."""
        self.phase = Phase.START
        self.is_searching = False

    def start_probe(self, limit: float) -> None:
        """Change to PROBE for a limit that is known. The caller starts the step."""
        self.phase = Phase.PROBE
        self._increment = _FINE_STEP_RATIO * limit
        self.set_rate(max(_PROBE_START_RATIO, self.utilization + _FINE_STEP_RATIO) * limit)

    def start_search(self, rate: float) -> None:
        """Start a PROBE, from `rate` on, for a limit that isn't known yet."""
        self.phase = Phase.PROBE
        self.is_searching = True
        self._index = 0
        self._increment = _COARSE_STEP_RATIO * rate
        self.set_rate(rate)
        self.start_step()

    def end_probe(self, *, is_disturbed: bool) -> None:
        """End PROBE after a 429 that measured the limit."""
        self._is_fine = self._index >= _SMALL_STEP_COUNT and not is_disturbed

    def start_cruise(self, limit: float, accepted_count: int, *, is_sure: bool, is_eased: bool) -> None:
        """Start a CRUISE below `limit`, which was measured with `accepted_count` requests."""
        self.phase = Phase.CRUISE
        self.is_searching = False
        self._index = 0
        utilization = min(self.utilization, _EASED_UTILIZATION) if is_eased else self.utilization
        self.set_rate(utilization * limit)
        holds = _CRUISE_HOLDS if is_sure else _UNSURE_CRUISE_HOLDS
        seconds = self._choose_cruise_seconds(accepted_count)
        self.start_step(max(seconds, min(holds * self.round_trip.hold_seconds, _MAX_CRUISE_SECONDS)))

    @property
    def _small_step_count(self) -> int:
        return _SMALL_STEP_COUNT * (_SMALL_STEP_FACTOR if self._is_fine else 1)

    def _choose_step_seconds(self) -> float:
        is_search = self.is_searching or self._index >= self._small_step_count
        holds = _SEARCH_STEP_HOLDS if is_search else _STEP_HOLDS
        return max(
            MIN_STEP_SECONDS,
            _MIN_STEP_ROUND_TRIPS * self.round_trip.mean_seconds,
            MIN_STEP_REQUESTS / self.rate,
            min(holds * self.round_trip.hold_seconds, _MAX_STEP_SECONDS),
        )

    def _choose_cruise_seconds(self, accepted_count: int) -> float:
        """Return the length of a CRUISE if 429s cost no hold."""
        seconds = self.probe_after / self.rate
        if accepted_count * (1 - self.utilization) < _MIN_PRECISION:
            return min(seconds, max(_MIN_CRUISE_REQUESTS, 2 * accepted_count) / self.rate)
        max_age = max(_MAX_LIMIT_AGE_SECONDS, _MIN_CRUISE_REQUESTS / self.rate)
        return max(min(seconds, max_age), _MIN_CRUISE_SECONDS)
