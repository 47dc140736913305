"""The search for an unpublished rate limit.

Only 429s show how high the limit is, but there should be few of them. So the search repeats a cycle (see
search_phases.py): START and PROBE raise the rate until a 429 measures the limit (see estimator.py), and CRUISE stays
below the limit for a while.

If a 429 costs a hold (its Retry-After), a search starts at a rate that is surely accepted and goes up, because one late
429 shows more than several early ones.
"""

from typing import Final

from .base import Phase
from .estimator import Interval, LimitEstimator
from .round_trip import RoundTrip
from .search_phases import SearchPhases
from .stray_429s import StrayFilter

# The first search for the limit starts at this share of the first rejected rate. That is about as likely too high as
# too low; the step that passed was at half of that rate. If a 429 costs a hold, the search starts at that half: a 429
# that comes late, a little above the limit, shows more.
_SEARCH_START_RATIO: Final = 0.7
_PASSED_RATE_RATIO: Final = 0.5
# The requests sent after the first rejected one, and before its 429 arrived, met an empty bucket. Their accepted share
# is the limit's share of the rate. This many of them are enough. The search then starts just below that limit, because
# long intervals measure best. A smaller share than the least isn't believed: half of the rate has just been accepted,
# and a window with a used-up quota accepts nothing.
_MIN_OVERSHOOT_REQUESTS: Final = 12
_BELOW_LIMIT_RATIO: Final = 0.9
_MIN_ACCEPTED_RATIO: Final = 0.28

# A 429 at this multiple of the limit that the last intervals show, after larger steps, means that the limit has risen.
# The intervals are then forgotten. This many accepted requests distinguish a higher limit from a burst.
_RISEN_LIMIT_RATIO: Final = 1.4
_MIN_RISE_REQUESTS: Final = 30
# A CRUISE after an estimate with a larger relative spread is shorter.
_UNSURE_SPREAD_RATIO: Final = 0.04
# An estimate with a larger relative spread is searched for again before CRUISE, but only this many times: without a
# bucket behind the limit, the search would never end.
_MAX_SPREAD_RATIO: Final = 0.15
_MAX_SEARCHES: Final = 3
# If CRUISE is rejected repeatedly, jitter may be emptying a small bucket at any rate. Slowing down by half of the share
# of time that the hold costs may avoid that, by no more than this share at once.
_MAX_SLOWDOWN_RATIO: Final = 0.15
# Fewer accepted requests aren't a measurement.
_MIN_MEASURED_REQUESTS: Final = 10
# An estimate based on fewer requests is quickly made again.
_EARLY_REQUESTS: Final = 300
# The rate is multiplied by this after a 429 in CRUISE that the known bucket doesn't explain.
_SLOWDOWN_FACTOR: Final = 0.97
# At this share of the highest recent limit or below, 429s are strays.
_LOW_RATE_RATIO: Final = 0.72
_HIGHEST_LIMIT_DECAY: Final = 0.99


class LimitSearch:
    """Chooses the rate from the requests that were accepted between 429s.

    Args:
        rate: The first rate, in requests per second.
        max_rate: The maximum rate, or infinity.
        utilization: The share of the measured limit to use.
        probe_after: The number of requests after which the limit is measured again.
    """

    def __init__(self, rate: float, max_rate: float, utilization: float, probe_after: int) -> None:
        self.phases = SearchPhases(rate, max_rate, utilization, probe_after)
        self.strays = StrayFilter()
        self._estimator = LimitEstimator()
        self._was_disturbed = False
        self._overshoot_rate: float | None = None
        self._highest_limit = 0.0
        self._search_count = 0
        self._cruises_cut_short = 0

    @property
    def limit(self) -> float | None:
        """The measured limit, in requests per second, or None before the first measurement."""
        return self._estimator.limit

    @property
    def round_trip(self) -> RoundTrip:
        """The round trip and the cost of a 429."""
        return self.phases.round_trip

    @property
    def backoff_seconds(self) -> float:
        """Seconds until the bucket holds a few tokens again after a 429."""
        seconds = self.round_trip.hold_seconds or self.round_trip.compute_refill_seconds(self.phases.rate)
        return seconds if self._overshoot_rate is None else max(seconds, self.round_trip.response_seconds)

    @property
    def is_rate_low(self) -> bool:
        """True if the rate is so far below the recent limits that 429s are strays."""
        return self.phases.phase is Phase.CRUISE and self.phases.rate <= _LOW_RATE_RATIO * self._highest_limit

    def end_step(self, *, is_in_time: bool) -> None:
        """End a step whose requests were accepted, and start the next."""
        phases = self.phases
        if phases.phase is Phase.CRUISE:
            self.start_probe()
        elif self.strays.is_suspicious:
            pass  # wait for one more step
        elif is_in_time and phases.phase is Phase.START:
            self.strays.add_start_step(phases.accepted_count, phases.stray_count)
            phases.double_rate()
        elif is_in_time:
            # If there is no estimate yet, strays ended START.
            if self.strays.revoke_lower_limit(phases.rate) and self.limit is None:
                self._return_to_start()
            phases.raise_rate()
        phases.start_step()

    def start_probe(self) -> None:
        """Change to PROBE. The caller starts the step."""
        assert self.limit is not None
        self.strays.excess.clear()
        self._search_count = 0
        self.phases.start_probe(self.limit)

    def _return_to_start(self) -> None:
        """Return to START after strays seem to have ended it."""
        self.phases.return_to_start()
        self._estimator.clear()
        self.strays.discard_start_steps()

    def start_cruise(self, limit: float, accepted_count: int) -> None:
        """Start a CRUISE below `limit`, which was measured with `accepted_count` requests."""
        self.phases.start_cruise(
            limit,
            accepted_count,
            is_sure=self._estimator.spread <= _UNSURE_SPREAD_RATIO * limit,
            is_eased=self.strays.is_unclear(limit),
        )

    def slow_down(self) -> bool:
        """Slow down a little after a 429 that the known limit doesn't explain. Later responses decide.

        Return False if the search starts again instead.
        """
        assert self.limit is not None
        phases = self.phases
        if phases.sent_count < _EARLY_REQUESTS:
            # The estimate is based on few requests: searching above it is quicker than slowing down again and again.
            self._return_to_start()
            self.strays.lower_excess.clear()
            phases.double_rate()
            phases.start_step()
            return False
        self._estimator.limit = _SLOWDOWN_FACTOR * self.limit
        phases.set_rate(_SLOWDOWN_FACTOR * phases.rate)
        self.strays.excess.clear()
        return True

    def end_interval(self, interval: Interval) -> bool:
        """Choose the next rate. Return True if the interval has ended."""
        if interval.starts_with_429 and interval.accepted_count < _MIN_MEASURED_REQUESTS:
            return self._choose_rate_without_measurement(interval)
        is_accident = interval.is_disturbed and not self._was_disturbed
        self._was_disturbed = interval.is_disturbed
        if is_accident and self.limit is not None:
            # Once, this shows nothing about the limit. Twice in a row, the cause is a quota per time window, or
            # failures that persist.
            self.start_cruise(self.limit, interval.accepted_count)
        elif self.phases.phase is Phase.START:
            self._estimator.add_interval(interval)
            self._overshoot_rate = self.phases.rate
            ratio = _PASSED_RATE_RATIO if self.round_trip.hold_seconds else _SEARCH_START_RATIO
            self.phases.start_search(ratio * self.phases.rate)
        else:
            self._react_to_interval(interval)
        return True

    def _choose_rate_without_measurement(self, interval: Interval) -> bool:
        """Choose the next rate if few requests were accepted. They show that the rate is far too high.

        Return True if the interval has ended.
        """
        rate = self.phases.rate
        if self.round_trip.hold_seconds:
            self.phases.start_search(_PASSED_RATE_RATIO * rate)
            return True
        mean_rate = (interval.accepted_count + 2) / max(interval.duration, 1 / rate)
        self.phases.start_search(min(rate, max(mean_rate, rate / 4)))
        return False

    def _react_to_interval(self, interval: Interval) -> None:
        if self.phases.phase is Phase.PROBE:
            self.phases.end_probe(is_disturbed=interval.is_disturbed)
        was_known = self.limit is not None
        if not was_known:
            self.strays.confirm_lower_limit()
        limit = self._estimator.measure(interval)
        self._highest_limit = max(limit, _HIGHEST_LIMIT_DECAY * self._highest_limit)
        if self.round_trip.hold_seconds:
            self._choose_rate_after_hold(limit, interval)
        elif was_known and self._has_limit_risen(limit, interval):
            self._search_count += 1
            self._estimator.clear()
            self.phases.start_search(_SEARCH_START_RATIO * self.phases.rate)
        else:
            self.start_cruise(limit, interval.accepted_count)

    def _has_limit_risen(self, limit: float, interval: Interval) -> bool:
        """Return True if more was just accepted than `limit`, inferred from the last intervals, can explain."""
        is_conclusive = interval.accepted_count >= _MIN_RISE_REQUESTS and not interval.is_disturbed
        is_above = self.phases.rate > _RISEN_LIMIT_RATIO * limit
        return self.phases.is_large and is_conclusive and is_above and not self._search_count

    def _choose_rate_after_hold(self, limit: float, interval: Interval) -> None:
        """Choose the next rate if each 429 costs a hold, so that there are few."""
        spread, rate = self._estimator.spread, self.phases.rate
        if spread > _MAX_SPREAD_RATIO * limit and self._search_count < _MAX_SEARCHES:
            self._search_count += 1
            self.phases.start_search(max(limit - spread / 2, _PASSED_RATE_RATIO * rate))
            return
        self._cruises_cut_short = self._cruises_cut_short + 1 if self.phases.phase is Phase.CRUISE else 0
        if self._cruises_cut_short > 1:
            hold_seconds = self.round_trip.hold_seconds
            slower = min(_MAX_SLOWDOWN_RATIO, hold_seconds / (hold_seconds + interval.duration) / 2)
            limit = min(limit, (1 - slower) * rate / self.phases.utilization)
            self._estimator.limit = limit
        self.start_cruise(limit, interval.accepted_count)

    def resume(self, interval: Interval, first_number: int) -> None:
        """Resume with ticket `first_number` after a backoff.

        After START, choose where to search from the requests that were sent in `interval`, between the first 429's
        request and its arrival.
        """
        if self._overshoot_rate is None:
            return
        rate, self._overshoot_rate = self._overshoot_rate, None
        sent = first_number - interval.first_number - interval.cancelled
        accepted = sent - interval.rejected
        if self.phases.phase is Phase.PROBE and sent >= _MIN_OVERSHOOT_REQUESTS:
            ratio = max((accepted + 1) / sent, _MIN_ACCEPTED_RATIO)
            self.phases.start_search(min(self.phases.rate, _BELOW_LIMIT_RATIO * rate * ratio))

    def search_lower_limit(self, interval: Interval) -> None:
        """Search for a limit that has fallen below the rate."""
        accepted, rejected = interval.accepted_count, interval.rejected + 1
        limit = self.phases.rate * (accepted + 1) / (accepted + rejected)
        self.strays.replace_limit(limit, accepted, rejected)
        self._estimator.restart(limit)
        self._highest_limit = limit
        self.phases.start_search(_BELOW_LIMIT_RATIO * limit)
