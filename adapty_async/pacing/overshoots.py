"""Recognition of overshoots, which are rates above the limit, from the responses.

A single 429 may be a stray, which shows nothing about the limit. Unless it is expected, later responses must confirm it
(see stray_429s.py). In PROBE a 429 is expected, as long as strays are few.

The requests between two 429s are an Interval. With it, LimitSearch chooses the next rate.
"""

import math
from enum import Enum
from typing import Final

import attrs

from .base import MAX_LATENESS_SECONDS, Phase, Ticket
from .estimator import Interval
from .limit_search import LimitSearch
from .round_trip import RoundTrip
from .search_phases import MIN_STEP_REQUESTS, SearchPhases
from .stray_429s import ExcessDetector, StrayFilter

# A gap in which this many more tokens flow in than after a 429 may have filled the bucket.
_GAP_TOKENS: Final = 6.0
# If at least this many requests were accepted since the last reaction, and none between the 429s, these are a cluster
# of strays.
_MIN_CLUSTER_DISTANCE: Final = 30


class Reaction(Enum):
    """What the pacer must do after a 429."""

    NONE = "none"
    WAIT_FOR_RESPONSES = "wait for responses"
    BACK_OFF = "back off"


@attrs.frozen
class Rejection:
    """A 429.

    Attributes:
        ticket: The ticket of the request.
        hold_seconds: The length of its Retry-After, or 0.0.
        is_echo: Whether it belongs to the overshoot to which the pacer has already reacted.
        accepted_count: The number of accepted requests since that reaction.
        resumed_at: The time at which the pacer resumed after that reaction.
    """

    ticket: Ticket
    hold_seconds: float
    is_echo: bool
    accepted_count: int
    resumed_at: float


class OvershootDetector:
    """Follows the requests of a LimitSearch and reports overshoots to it.

    Args:
        rate: The first rate, in requests per second.
        max_rate: The maximum rate, or infinity.
        utilization: The share of the measured limit to use.
        probe_after: The number of requests after which the limit is measured again.
    """

    def __init__(self, rate: float, max_rate: float, utilization: float, probe_after: int) -> None:
        self.search = LimitSearch(rate, max_rate, utilization, probe_after)
        self._interval: Interval | None = None
        self._is_unmeasured = False
        """Whether the interval continues after a 429 that was too early for a measurement."""
        self._last_sent_at = math.inf

    @property
    def is_suspicious(self) -> bool:
        """True if a 429 may have been that of the limit, and more responses must show it."""
        return self._strays.is_suspicious

    def record_send(self, ticket: Ticket) -> None:
        """Record that a request is sent."""
        phases, now = self._phases, ticket.sent_at
        phases.sent_count = ticket.number
        if self._interval is None:
            self._interval = Interval(now, ticket.number, is_bucket_empty=False)
        self.search.resume(self._interval, ticket.number)
        gap = _GAP_TOKENS / phases.rate + MAX_LATENESS_SECONDS + self._round_trip.refill_jitter_seconds
        if phases.is_rising or now - self._last_sent_at > gap:
            for interval in self._list_intervals():
                interval.add_full_point(now, ticket.number)
        phases.is_rising = False
        self._last_sent_at = now

    def record_acceptance(self, ticket: Ticket) -> None:
        """Record an accepted request. It may end the current step."""
        phases, strays = self._phases, self._strays
        if not phases.includes(ticket.number):
            return
        stray_count = strays.record_acceptance(ticket.number, phases.rate)
        phases.stray_count += stray_count
        if self.search.is_rate_low:
            strays.count_low(1, stray_count)
        elif phases.phase is Phase.CRUISE:
            strays.count_near(1, 0)
        if stray_count and phases.phase is Phase.CRUISE and strays.has_ratio_grown(phases.rate):
            self.search.start_probe()
            phases.start_step()
        elif phases.record_acceptance(ticket):
            self.search.end_step(is_in_time=phases.is_in_time(ticket))

    def record_unknown(self, number: int) -> None:
        """Record that it is unknown whether request `number` reached the limiter."""
        for interval in self._list_intervals():
            interval.count_unknown(number)

    def count_rejection(self, number: int) -> bool:
        """Count a 429 for request `number`. Return False if no request has been sent."""
        for interval in self._list_intervals():
            interval.count_rejection(number)
        return self._interval is not None

    def record_rejection(self, rejection: Rejection) -> Reaction:
        """Choose the next rate after a 429, which has been counted."""
        phases = self._phases
        self._round_trip.record_hold(rejection.hold_seconds, phases.rate)
        if phases.phase is Phase.CRUISE and not (rejection.is_echo or self.search.is_rate_low):
            self._strays.count_near(0, 1)
        if not self._round_trip.hold_seconds:
            return self._judge_rejection(rejection)
        # Each confirmation would cost another hold, so a single 429 is believed.
        return Reaction.NONE if rejection.is_echo else self._react_to_believed_429(rejection.ticket)

    def cancel_slots(self, number: int, count: int) -> None:
        """Subtract `count` requests, from ticket `number` on, that were never sent."""
        for interval in self._list_intervals():
            interval.cancel_slots(number, count)

    def block(self) -> None:
        """Record that requests are rejected at every rate."""
        assert self._interval is not None
        self._interval.is_blocked = True
        self._phases.is_rising = True
        self._strays.clear()

    def unblock(self, ticket: Ticket) -> None:
        """Record that a request was accepted after `block`."""
        if self._interval is not None and not self._interval.starts_with_429:
            # All earlier requests were rejected, so the measurement starts here.
            self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=False)
            self._interval.add_full_point(ticket.sent_at, ticket.number)
        self._phases.start_step()

    @property
    def _phases(self) -> SearchPhases:
        return self.search.phases

    @property
    def _strays(self) -> StrayFilter:
        return self.search.strays

    @property
    def _round_trip(self) -> RoundTrip:
        return self.search.round_trip

    def _list_intervals(self) -> list[Interval]:
        intervals = (self._interval, self._strays.excess.interval, self._strays.lower_excess.interval)
        return [interval for interval in intervals if interval is not None]

    # 429s

    @property
    def _suspicion(self) -> ExcessDetector:
        """The suspicion that counts in the current phase."""
        expects_lower_limit = self._phases.phase is Phase.START or self.search.is_rate_low
        return self._strays.lower_excess if expects_lower_limit else self._strays.excess

    @property
    def _is_lower_excess_confirmed(self) -> bool:
        return self._strays.is_lower_excess_confirmed(self._phases.rate, is_start=self._phases.phase is Phase.START)

    @property
    def _is_excess_confirmed(self) -> bool:
        return self._suspicion is self._strays.excess and self._strays.is_excess_confirmed(self._phases.rate)

    def _judge_rejection(self, rejection: Rejection) -> Reaction:
        """React to a 429 if it and those before it show that the limit is exceeded."""
        phases = self._phases
        is_first = self._suspicion.interval is None
        self._record_suspicion(rejection.ticket)
        if self._is_lower_excess_confirmed:
            return self._react_to_confirmed_429(rejection)
        if rejection.is_echo:
            return Reaction.NONE
        if self.search.is_rate_low:
            return self._slow_down() if self._strays.is_rare else Reaction.NONE
        if self._is_excess_confirmed:
            if phases.phase is Phase.CRUISE and self._is_bucket_full(rejection):
                return self._slow_down()
            return self._react_to_confirmed_429(rejection)
        if is_first and phases.phase is Phase.START and phases.rate * self._round_trip.mean_seconds > MIN_STEP_REQUESTS:
            # The responses of the requests in flight are enough to decide.
            return Reaction.WAIT_FOR_RESPONSES
        return Reaction.NONE

    def _record_suspicion(self, ticket: Ticket) -> None:
        if self._suspicion.interval is None:
            self._end_interval(self._current_interval, ticket)
        self._strays.record_rejection(ticket, self._phases.rate)

    def _is_bucket_full(self, rejection: Rejection) -> bool:
        """Return True if jitter can't have emptied the bucket since the last reaction."""
        limit, rate = self.search.limit or 0.0, self._phases.rate
        seconds = rejection.ticket.sent_at - rejection.resumed_at
        refilled = self._round_trip.compute_refill_seconds(rate) * rate + (limit - rate) * seconds
        return refilled > 2 * self._round_trip.jitter_seconds * limit

    def _react_to_believed_429(self, ticket: Ticket) -> Reaction:
        """Choose the next rate after a single 429."""
        interval = self._current_interval
        self._end_interval(interval, ticket)
        if self.search.end_interval(interval):
            self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=True)
        self._strays.clear()
        return Reaction.BACK_OFF

    def _react_to_confirmed_429(self, rejection: Rejection) -> Reaction:
        """Choose the next rate after a confirmed 429."""
        ticket, followed = rejection.ticket, self._suspicion.interval
        assert followed is not None
        is_at_once = followed.first_number == ticket.number
        self._end_interval(followed, ticket)
        if self._phases.phase is Phase.START:
            self._end_start(followed)
        elif is_at_once or followed.accepted_count or rejection.accepted_count < _MIN_CLUSTER_DISTANCE:
            # Otherwise, the 429s are a cluster of strays.
            if not (is_at_once or self._is_unmeasured):
                self._interval = followed
            self._end_interval(self._current_interval, ticket)
            self._choose_confirmed_rate(followed)
            if not self._is_unmeasured:
                self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=True)
        self._strays.clear()
        return Reaction.BACK_OFF

    def _end_start(self, followed: Interval) -> None:
        self._strays.count_start_strays()
        if self.search.limit is None:
            self._strays.add_lower_limit(self._phases.rate, followed.accepted_count, followed.rejected + 1)
        self.search.end_interval(self._current_interval)
        self._interval = followed

    def _choose_confirmed_rate(self, followed: Interval) -> None:
        if self._is_lower_excess_confirmed and self._phases.phase is Phase.CRUISE:
            self.search.search_lower_limit(followed)
            self._is_unmeasured = False
        else:
            self._strays.believe_ratio(self._phases.rate)
            self._is_unmeasured = not self.search.end_interval(self._current_interval)

    def _slow_down(self) -> Reaction:
        return Reaction.BACK_OFF if self.search.slow_down() else Reaction.NONE

    @property
    def _current_interval(self) -> Interval:
        assert self._interval is not None
        return self._interval

    def _end_interval(self, interval: Interval, ticket: Ticket) -> None:
        round_trip = self._round_trip
        interval.end(
            ticket.sent_at,
            ticket.number,
            self._phases.rate,
            jitter=round_trip.jitter_seconds,
            has_hold=round_trip.hold_seconds > 0,
        )
