"""A pacer that finds the unpublished rate limit of an API key and stays just below it.

Only 429s show how high the limit is, but there should be few of them. So the pacer repeats a cycle:

- START about doubles the rate at each step, until the first 429.
- PROBE raises it by small steps, then by larger ones, until a 429 measures the limit (see estimator.py).
- CRUISE stays at `utilization` of the limit for a while, then PROBE follows again.

A step is passed when the requests of its rate were accepted and were sent at that rate. So a job that has little to
send, or a server that fails, doesn't raise the rate.

The pacer reacts once to each overshoot. Requests in flight when a 429 arrives may be rejected too; these echoes carry
no new information. After a reaction nothing is sent until the bucket holds a few tokens again. If not a single request
was accepted since the last reaction, the rate isn't the cause: the pacer is BLOCKED, and sends one trial request at a
time until one is accepted.

A single 429 may be a stray, which shows nothing about the limit. Unless it is expected, later responses must confirm it
(see strays.py). In PROBE a 429 is expected, as long as strays are few.

A 429 is expensive if its Retry-After is longer than the bucket takes to refill. Then all phases are slower, and a
search starts at a rate that is surely accepted and goes up, because one late 429 shows more than several early ones.
"""

import math
from typing import Final

from .base import (
    MAX_LATENESS_SECONDS,
    BasePacer,
    Phase,
    Ticket,
    Verdict,
    validate_count,
    validate_rate,
    validate_utilization,
)
from .estimator import Interval, LimitEstimator
from .stray_429s import MIN_STRAY_RATIO, ExcessDetector, StrayRateEstimator

# Requests per second. From a lower rate, recovery would take hours.
_MIN_RATE: Final = 0.05

# The minimum length of a step, in seconds, round trips and requests. If a 429 costs a pause (its Retry-After), a step
# near the known limit lasts this many pauses. In a search for the limit, all steps together should cost no more than
# one pause.
_MIN_STEP_SECONDS: Final = 1.0
_MIN_STEP_ROUND_TRIPS: Final = 2.0
_MIN_STEP_REQUESTS: Final = 8.0
_STEP_HOLDS: Final = 5.0
_SEARCH_STEP_HOLDS: Final = 1 / 3
_MAX_STEP_SECONDS: Final = 60.0
# The requests of a step may take this many times its length. If they take longer, the job is slower than the pacer.
_MAX_STEP_STRETCH: Final = 1.3

# The first search for the limit starts at this share of the first rejected rate. That is about as likely too high as
# too low; the step that passed was at half of that rate. If a 429 costs a pause, the search starts at that half: a 429
# that comes late, a little above the limit, shows more.
_SEARCH_START_RATIO: Final = 0.7
_PASSED_RATE_RATIO: Final = 0.5
# The requests sent after the first rejected one, and before its 429 arrived, met an empty bucket. Their accepted share
# is the limit's share of the rate. This many of them are enough, and all their responses arrive within this many round
# trips. The search then starts just below that limit, because long intervals measure best. A smaller share than the
# least isn't believed: half of the rate has just been accepted, and a window with a used-up quota accepts nothing.
_MIN_OVERSHOOT_REQUESTS: Final = 12
_OVERSHOOT_ROUND_TRIPS: Final = 1.2
_BELOW_LIMIT_RATIO: Final = 0.9
_MIN_ACCEPTED_RATIO: Final = 0.28
# If the limit is known, PROBE starts just below it and rises by 2% of it; otherwise by more. Later steps become larger
# and larger, because the limit has probably risen. If a large step was rejected, the limit is somewhere within that
# step: the next PROBE makes twice as many small steps first.
_PROBE_START_RATIO: Final = 0.98
_FINE_STEP_RATIO: Final = 0.02
_COARSE_STEP_RATIO: Final = 0.06
_SMALL_STEP_COUNT: Final = 5
_LARGE_STEP_RATIO: Final = 0.1
_SMALL_STEP_FACTOR: Final = 2

# The minimum length of CRUISE, in seconds and, if a 429 costs a pause, in pauses: fewer if the estimate is unsure.
_MIN_CRUISE_SECONDS: Final = 2.0
_CRUISE_HOLDS: Final = 40.0
_UNSURE_CRUISE_HOLDS: Final = 10.0
_UNSURE_SPREAD_RATIO: Final = 0.04
_MAX_CRUISE_SECONDS: Final = 900.0
# A measured limit is trusted for at most this many seconds, or for as long as a few requests take, if that is longer:
# the limit may have been low for a moment only.
_MAX_LIMIT_AGE_SECONDS: Final = 300.0
# A 429 at this multiple of the limit that the last intervals show, after larger steps, means that the limit has risen.
# The intervals are then forgotten. This many accepted requests distinguish a higher limit from a burst.
_RISEN_LIMIT_RATIO: Final = 1.4
_MIN_RISE_REQUESTS: Final = 30
# An estimate with a larger relative spread is searched for again before CRUISE, but only this many times: without a
# bucket behind the limit, the search would never end.
_MAX_SPREAD_RATIO: Final = 0.15
_MAX_SEARCHES: Final = 3
# If CRUISE is rejected repeatedly, jitter may be emptying a small bucket at any rate. Slowing down by half of the share
# of time that the pause costs may avoid that, by no more than this share at once.
_MAX_SLOWDOWN_RATIO: Final = 0.15
# Fewer accepted requests aren't a measurement. A measurement of n requests has an error of 1/n. Until that is good
# enough for the utilization, each CRUISE is about as long as all before it.
_MIN_MEASURED_REQUESTS: Final = 10
_MIN_PRECISION: Final = 2.0
_MIN_CRUISE_REQUESTS: Final = 20.0

# After a 429 the pacer waits for this many tokens, plus a share of a round trip for the jitter of the network. Requests
# that overtake others on their way may still find the bucket empty.
_REFILL_TOKENS: Final = 4.0
_REFILL_ROUND_TRIPS: Final = 0.1
_OVERTAKING_ROUND_TRIPS: Final = 0.25
# The most that the jitter of some hundred requests takes from a bucket, as a share of a round trip.
_JITTER_ROUND_TRIPS: Final = 0.2

# A 429 is believed if it is this much more likely the limit's than a stray (as a logarithm). The threshold rises with
# the rate, because more requests bring more strays. Below the limit at least this share of strays is assumed. START may
# be wrong, because a search follows.
_MIN_EVIDENCE: Final = 3.0
_MIN_START_EVIDENCE: Final = 1.0
_MIN_ASSUMED_STRAY_RATIO: Final = 0.03
_MAX_STRAY_RATIO: Final = 0.2
# At this share of the highest recent limit or below, 429s are strays. CRUISE eases to this share of the limit to count
# them.
_LOW_RATE_RATIO: Final = 0.72
_EASED_UTILIZATION: Final = 0.7
_HIGHEST_LIMIT_DECAY: Final = 0.99
# The rate is multiplied by this after a 429 in CRUISE that the known bucket doesn't explain.
_SLOWDOWN_FACTOR: Final = 0.97
# An estimate based on fewer requests is quickly made again.
_EARLY_REQUESTS: Final = 300
# If this multiple of a limit is passed, the limit was inferred from strays and is dropped.
_REVOKED_LIMIT_RATIO: Final = 1.2
# If the share of strays grows by this factor after the limit was measured, the limit is measured again.
_STRAY_GROWTH_FACTOR: Final = 1.7
# Fewer strays per step, or a smaller share of strays, are ignored.
_NEGLIGIBLE_STRAYS: Final = 0.035
_RARE_STRAY_RATIO: Final = 0.001

# The round trip is a mean of about the last ten. One response changes it only a little: responses that waited while the
# event loop was blocked or the machine was asleep didn't really take longer.
_ROUND_TRIP_WEIGHT: Final = 0.1
_ROUND_TRIP_GROWTH_SECONDS: Final = 0.02

# BLOCKED: seconds between two trial requests.
_INITIAL_TRIAL_DELAY_SECONDS: Final = 0.25
_TRIAL_DELAY_GROWTH: Final = 1.5
_MAX_TRIAL_DELAY_SECONDS: Final = 30.0
# Seconds after which the response to a trial request counts as lost.
_TRIAL_TIMEOUT_SECONDS: Final = 60.0


class AdaptivePacer(BasePacer):
    """Finds the rate limit of an API key from its 429s and sends just below it.

    Args:
        start_rate: The first rate, in requests per second.
        max_rate: The maximum rate, in requests per second, or None for no maximum.
        utilization: The share of the measured limit to use, in (0, 1].
        probe_after: The number of requests after which the limit is measured again.

    Raises:
        TypeError: If an argument isn't a number.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        start_rate: float = 5.0,
        max_rate: float | None = None,
        utilization: float = 0.98,
        probe_after: int = 200,
    ) -> None:
        super().__init__()
        self._max_rate = math.inf if max_rate is None else validate_rate(max_rate, "max_rate")
        self._rate = min(validate_rate(start_rate, "start_rate"), self._max_rate)
        self._utilization = validate_utilization(utilization)
        self._probe_after = validate_count(probe_after, "probe_after")
        self._phase = Phase.START
        self._estimator = LimitEstimator()

        # The schedule
        self._next_slot = -math.inf
        self._backoff_until = -math.inf
        self._last_sent_at = math.inf
        self._round_trip_seconds = 0.0
        self._is_rising = True

        # Measurement
        self._interval: Interval | None = None
        self._was_disturbed = False
        self._strays = StrayRateEstimator()
        self._excess = ExcessDetector()
        self._limited = ExcessDetector()
        self._is_unmeasured = False
        self._believed_stray_ratio = math.inf
        self._lower_limit_evidence: tuple[float, int, int] | None = None
        self._highest_limit = 0.0

        # The current step
        self._step = 0
        self._is_fine_search = False
        self._is_searching = False
        self._search_count = 0
        self._increment = _COARSE_STEP_RATIO * self._rate
        self._step_first_number = 1
        self._step_size = 1
        self._step_started_at: float | None = None
        self._step_accepted = 0
        self._step_strays = 0

        self._passed_steps: list[tuple[int, int]] = []

        # The reaction to the last 429
        self._reacted_up_to = 0
        self._echoes_until = -math.inf
        self._accepted_since_reaction = 0
        self._overshoot_rate: float | None = None
        self._hold_seconds = 0.0
        self._cruises_cut_short = 0
        self._failed_trials = 0
        self._trial_ticket: Ticket | None = None

        self._start_step()

    @classmethod
    def background(cls, max_rate: float | None = None) -> "AdaptivePacer":
        """Return a pacer that leaves 30% of the limit to other users of the key, such as your app in production.

        Args:
            max_rate: The maximum rate, in requests per second, or None for no maximum.
        """
        return cls(max_rate=max_rate, utilization=0.7, probe_after=3000)

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def estimate(self) -> float | None:
        return self._estimator.limit

    @property
    def phase(self) -> Phase:
        return Phase.BLOCKED if self._failed_trials else self._phase

    def __repr__(self) -> str:
        return f"<AdaptivePacer {self.phase}, {self._rate:.3g}/s>"

    # The schedule: one request after the other; unused time isn't saved up

    def delay(self, now: float) -> float:
        return max(0.0, max(self._next_slot, self.not_before) - now)

    def acquire(self, now: float) -> Ticket:
        ticket = super().acquire(now)
        if self._interval is None:
            self._interval = Interval(now, ticket.number, is_bucket_empty=False)
        if self._overshoot_rate is not None:
            self._search_from_overshoot(self._overshoot_rate, ticket.number)
        is_gap = (
            now - self._last_sent_at
            > (_REFILL_TOKENS + 2) / self._rate + MAX_LATENESS_SECONDS + self._refill_jitter_seconds
        )
        if self._is_rising or is_gap:
            for interval in self._open_intervals:
                interval.add_full_point(now, ticket.number)
        self._is_rising = False
        self._last_sent_at = now
        # A Retry-After isn't made up for as lateness would be: that would cause a burst.
        self._next_slot = max(self._next_slot, self._hold_until, now - MAX_LATENESS_SECONDS) + 1.0 / self._rate
        if self._failed_trials:
            self._trial_ticket = ticket
        return ticket

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._count_verdict(verdict)
        hold_seconds = self._hold(now, retry_after)
        ends_trial = self._trial_ticket is not None and ticket.number >= self._trial_ticket.number
        if ends_trial:
            self._trial_ticket = None
        if verdict is Verdict.UNKNOWN:
            for interval in self._open_intervals:
                interval.count_unknown(ticket.number)
            if ends_trial:
                self._backoff_until = now + self._trial_delay
            return
        self._learn_round_trip(now - ticket.sent_at)
        if verdict is Verdict.ACCEPTED:
            self._on_accepted(ticket)
        else:
            self._on_rate_limited(now, ticket, hold_seconds)

    def _learn_round_trip(self, seconds: float) -> None:
        step = _ROUND_TRIP_WEIGHT * (max(0.0, seconds) - self._round_trip_seconds)
        self._round_trip_seconds += min(
            step, _ROUND_TRIP_WEIGHT * self._round_trip_seconds + _ROUND_TRIP_GROWTH_SECONDS
        )

    @property
    def not_before(self) -> float:
        """The time until which nothing is sent, regardless of the schedule."""
        trial_end = -math.inf if self._trial_ticket is None else self._trial_ticket.sent_at + _TRIAL_TIMEOUT_SECONDS
        return max(self._hold_until, self._backoff_until, trial_end)

    @property
    def _open_intervals(self) -> list[Interval]:
        intervals = (self._interval, self._excess.interval, self._limited.interval)
        return [interval for interval in intervals if interval is not None]

    def _set_rate(self, rate: float) -> None:
        rate = min(max(rate, _MIN_RATE), self._max_rate)
        self._is_rising |= rate > self._rate
        self._rate = rate

    # Steps: raise the rate as long as requests are accepted

    def _start_step(self, seconds: float | None = None) -> None:
        if seconds is None:
            holds = _SEARCH_STEP_HOLDS if self._is_searching or self._step >= self._small_step_count else _STEP_HOLDS
            seconds = max(
                _MIN_STEP_SECONDS,
                _MIN_STEP_ROUND_TRIPS * self._round_trip_seconds,
                _MIN_STEP_REQUESTS / self._rate,
                min(holds * self._hold_seconds, _MAX_STEP_SECONDS),
            )
        self._step_first_number = self._sent + 1
        self._step_size = max(1, round(self._rate * seconds))
        self._step_started_at = None
        self._step_accepted = 0
        self._step_strays = 0

    def _on_accepted(self, ticket: Ticket) -> None:
        if ticket.number > self._reacted_up_to:
            self._accepted_since_reaction += 1
            if self._failed_trials:
                self._failed_trials = 0
                self._restart_interval(ticket)
                self._start_step()
        if ticket.number < self._step_first_number:
            return
        self._excess.record_acceptance(ticket.number, self._known_stray_ratio)
        strays = self._limited.record_acceptance(ticket.number, self._assumed_stray_ratio)
        self._step_strays += strays
        if self._is_rate_low:
            self._strays.low.add(1, strays)
        elif self._phase is Phase.CRUISE:
            self._strays.near.add(1, 0)
        if (
            strays
            and self._phase is Phase.CRUISE
            and self._known_stray_ratio > _STRAY_GROWTH_FACTOR * self._believed_stray_ratio
        ):
            self._start_probe()
            self._start_step()
            return
        if self._step_started_at is None:
            self._step_started_at = ticket.sent_at
        self._step_accepted += 1
        if self._step_accepted >= self._step_size:
            seconds = ticket.sent_at - self._step_started_at
            self._end_step(
                is_in_time=seconds <= _MAX_STEP_STRETCH * self._step_size / self._rate + MAX_LATENESS_SECONDS
            )

    def _restart_interval(self, ticket: Ticket) -> None:
        """Start measuring at this accepted request if all earlier ones were rejected."""
        if self._interval is not None and not self._interval.is_measurable:
            self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=False)
            self._interval.add_full_point(ticket.sent_at, ticket.number)

    def _end_step(self, *, is_in_time: bool) -> None:
        if self._phase is Phase.CRUISE:
            self._start_probe()
        elif self._limited.interval is not None:
            pass  # wait for one more step
        elif is_in_time and self._phase is Phase.START:
            self._passed_steps.append((self._step_accepted, self._step_strays))
            # Twice the rate, or less if the pacer leaves room for others: an overshoot causes 429s for them as well.
            self._set_rate((1 + self._utilization) * self._rate)
        elif is_in_time:
            self._revoke_alarm()
            self._step += 1
            larger = max(0, self._step - self._small_step_count + 1)
            if self._hold_seconds:
                # One large step at a time: the larger the step, the less an overshoot shows.
                larger = int(larger > 0 or self._is_searching)
            self._set_rate(self._rate + (_LARGE_STEP_RATIO * larger * self._rate or self._increment))
        self._start_step()

    def _revoke_alarm(self) -> None:
        """If a rate well above a suspected lower limit is accepted, count the 429s behind that suspicion as strays."""
        if self._lower_limit_evidence is not None:
            limit, accepted, rejected = self._lower_limit_evidence
            if self._rate > _REVOKED_LIMIT_RATIO * limit:
                self._strays.low.add(accepted, rejected)
                self._lower_limit_evidence = None
                if self.estimate is None:  # The strays ended START.
                    self._return_to_start()

    def _return_to_start(self) -> None:
        """Return to START after strays seem to have ended it."""
        self._phase = Phase.START
        self._is_searching = False
        self._estimator.clear()
        self._passed_steps.clear()

    @property
    def _small_step_count(self) -> int:
        return _SMALL_STEP_COUNT * (_SMALL_STEP_FACTOR if self._is_fine_search else 1)

    def _start_probe(self) -> None:
        assert self.estimate is not None
        self._phase = Phase.PROBE
        self._excess.clear()
        self._search_count = 0
        self._increment = _FINE_STEP_RATIO * self.estimate
        self._set_rate(max(_PROBE_START_RATIO, self._utilization + _FINE_STEP_RATIO) * self.estimate)

    def _start_search(self, rate: float) -> None:
        """Start a PROBE for a limit that isn't known yet."""
        self._phase = Phase.PROBE
        self._is_searching = True
        self._step = 0
        self._increment = _COARSE_STEP_RATIO * rate
        self._set_rate(rate)
        self._start_step()

    def _start_cruise(self, limit: float, accepted: int) -> None:
        self._phase = Phase.CRUISE
        self._is_searching = False
        self._step = 0
        utilization = (
            min(self._utilization, _EASED_UTILIZATION) if self._strays.is_unclear(limit) else self._utilization
        )
        self._set_rate(utilization * limit)
        seconds = self._probe_after / self._rate
        if accepted * (1 - self._utilization) < _MIN_PRECISION:
            seconds = min(seconds, max(_MIN_CRUISE_REQUESTS, 2 * accepted) / self._rate)
        else:
            seconds = max(
                min(seconds, max(_MAX_LIMIT_AGE_SECONDS, _MIN_CRUISE_REQUESTS / self._rate)), _MIN_CRUISE_SECONDS
            )
        holds = _CRUISE_HOLDS if self._estimator.spread <= _UNSURE_SPREAD_RATIO * limit else _UNSURE_CRUISE_HOLDS
        self._start_step(max(seconds, min(holds * self._hold_seconds, _MAX_CRUISE_SECONDS)))

    # 429s

    def _on_rate_limited(self, now: float, ticket: Ticket, hold_seconds: float) -> None:
        if self._interval is None:  # a ticket of another pacer
            return
        for interval in self._open_intervals:
            interval.count_rejection(ticket.number)
        is_echo = ticket.number <= self._reacted_up_to or ticket.sent_at < self._echoes_until
        if is_echo and self._limited.interval is None:
            return
        if not self._accepted_since_reaction and not is_echo:
            self._schedule_trial(now)
            return
        # A pause shorter than the wait that follows anyway costs nothing.
        self._hold_seconds = hold_seconds if hold_seconds > self._refill_seconds else 0.0
        if self._phase is Phase.CRUISE and not (is_echo or self._is_rate_low):
            self._strays.near.add(0, 1)
        if self._hold_seconds:
            # Each confirmation would cost another pause, so a single 429 is believed.
            if not is_echo:
                self._react_to_believed_429(now, ticket)
            return
        is_first = self._record_suspicion(ticket)
        if self._is_low_rate_excess_confirmed:
            self._react_to_confirmed_429(now, ticket)
        elif is_echo:
            return
        elif self._is_rate_low:
            if self._strays.low.rejected_ratio < _RARE_STRAY_RATIO:
                self._slow_down(now)
        elif self._is_excess_confirmed:
            if self._phase is Phase.CRUISE and self._is_bucket_full(ticket):
                self._slow_down(now)
            else:
                self._react_to_confirmed_429(now, ticket)
        elif is_first and self._phase is Phase.START and self._rate * self._round_trip_seconds > _MIN_STEP_REQUESTS:
            # The responses of the requests in flight are enough to decide.
            self._backoff_until = now + _OVERSHOOT_ROUND_TRIPS * self._round_trip_seconds

    def _react_to_believed_429(self, now: float, ticket: Ticket) -> None:
        """Choose the next rate after a single 429."""
        assert self._interval is not None
        self._end_interval(self._interval, ticket)
        if self._choose_rate(self._interval):
            self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=True)
        self._start_backoff(now)

    @property
    def _suspicion(self) -> ExcessDetector:
        """The suspicion that counts in the current phase."""
        return self._limited if self._phase is Phase.START or self._is_rate_low else self._excess

    @property
    def _is_excess_confirmed(self) -> bool:
        return self._suspicion is self._excess and self._excess.score >= _MIN_EVIDENCE + self._evidence_margin

    @property
    def _is_low_rate_excess_confirmed(self) -> bool:
        certain = _MIN_START_EVIDENCE if self._phase is Phase.START else _MIN_EVIDENCE
        return self._limited.score >= certain + self._evidence_margin

    @property
    def _evidence_margin(self) -> float:
        return math.log(max(1.0, self._rate))

    @property
    def _known_stray_ratio(self) -> float:
        """The share of strays, if PROBE would meet any."""
        ratio = self._strays.ratio
        if ratio * max(_MIN_STEP_REQUESTS, self._rate * _MIN_STEP_SECONDS) <= _NEGLIGIBLE_STRAYS:
            return MIN_STRAY_RATIO
        return max(ratio, min(self._strays.low.rejected_ratio, _MAX_STRAY_RATIO))

    @property
    def _assumed_stray_ratio(self) -> float:
        return max(_MIN_ASSUMED_STRAY_RATIO, self._strays.ratio)

    def _record_suspicion(self, ticket: Ticket) -> bool:
        """Record a 429 that may be a stray. Return True if it is the first."""
        assert self._interval is not None
        is_first = self._suspicion.interval is None
        if is_first:
            self._end_interval(self._interval, ticket)
        self._excess.record_rejection(ticket.sent_at, ticket.number, self._known_stray_ratio)
        self._limited.record_rejection(ticket.sent_at, ticket.number, self._assumed_stray_ratio)
        return is_first

    def _is_bucket_full(self, ticket: Ticket) -> bool:
        """Return True if jitter can't have emptied the bucket since the last reaction."""
        limit = self.estimate or 0.0
        refilled = self._refill_seconds * self._rate + (limit - self._rate) * (ticket.sent_at - self._backoff_until)
        return refilled > 2 * _JITTER_ROUND_TRIPS * self._round_trip_seconds * limit

    def _end_interval(self, interval: Interval, ticket: Ticket) -> None:
        jitter = _JITTER_ROUND_TRIPS * self._round_trip_seconds
        interval.end(ticket.sent_at, ticket.number, self._rate, jitter=jitter, has_hold=self._hold_seconds > 0)

    @property
    def _is_rate_low(self) -> bool:
        """True if the rate is so far below the recent limits that 429s are strays."""
        return self._phase is Phase.CRUISE and self._rate <= _LOW_RATE_RATIO * self._highest_limit

    def _react_to_confirmed_429(self, now: float, ticket: Ticket) -> None:
        """Choose the next rate after a confirmed 429."""
        assert self._interval is not None
        followed = self._suspicion.interval
        assert followed is not None
        at_once = followed.first_number == ticket.number
        self._end_interval(followed, ticket)
        if self._phase is Phase.START:
            self._record_start_strays()
            if self.estimate is None:
                self._lower_limit_evidence = (self._rate, followed.accepted_count, followed.rejected + 1)
            self._choose_rate(self._interval)
            self._interval = followed
        elif (
            at_once or followed.accepted_count or self._accepted_since_reaction < _MIN_RISE_REQUESTS
        ):  # else a cluster of strays
            if not (at_once or self._is_unmeasured):
                self._interval = followed
            self._end_interval(self._interval, ticket)
            if self._is_low_rate_excess_confirmed and self._phase is Phase.CRUISE:
                self._search_lower_limit(followed)
                self._is_unmeasured = False
            else:
                self._believed_stray_ratio = self._known_stray_ratio
                self._is_unmeasured = not self._choose_rate(self._interval)
            if not self._is_unmeasured:
                self._interval = Interval(ticket.sent_at, ticket.number, is_bucket_empty=True)
        self._start_backoff(now)

    def _record_start_strays(self) -> None:
        """Count the strays at the rates of START, except the last two, which may have been above the limit."""
        for accepted, strays in self._passed_steps[:-1]:
            self._strays.low.add(accepted, strays)
        self._passed_steps.clear()

    def _search_lower_limit(self, interval: Interval) -> None:
        """Search for a limit that has fallen below the rate."""
        accepted, rejected = interval.accepted_count, interval.rejected + 1
        limit = self._rate * (accepted + 1) / (accepted + rejected)
        self._lower_limit_evidence = (limit, accepted, rejected)
        self._estimator.restart(limit)
        self._highest_limit = limit
        self._strays.near.clear()
        self._start_search(_BELOW_LIMIT_RATIO * limit)

    def _slow_down(self, now: float) -> None:
        """Slow down a little after a 429 that the known limit doesn't explain. Later responses decide."""
        assert self.estimate is not None
        if self._sent < _EARLY_REQUESTS:
            # The estimate is based on few requests: searching above it is quicker than slowing down again and again.
            self._return_to_start()
            self._limited.clear()
            self._set_rate((1 + self._utilization) * self._rate)
            self._start_step()
            return
        self._estimator.limit = _SLOWDOWN_FACTOR * self.estimate
        self._set_rate(_SLOWDOWN_FACTOR * self._rate)
        limited = self._limited
        self._limited = ExcessDetector()
        self._start_backoff(now)
        self._limited = limited

    def _start_backoff(self, now: float) -> None:
        """Send nothing until the bucket holds a few tokens again."""
        self._backoff_until = now + (self._hold_seconds or self._refill_seconds)
        if self._overshoot_rate is not None:
            self._backoff_until = max(self._backoff_until, now + _OVERSHOOT_ROUND_TRIPS * self._round_trip_seconds)
        self._echoes_until = self._backoff_until + _OVERTAKING_ROUND_TRIPS * self._round_trip_seconds
        self._start_reaction()

    def _choose_rate(self, interval: Interval) -> bool:
        """Choose the next rate. Return True if the interval has ended."""
        accepted = interval.accepted_count
        if interval.is_measurable and accepted < _MIN_MEASURED_REQUESTS:
            # Too few for a measurement, but enough to show that the rate is far too high.
            if self._hold_seconds:
                self._start_search(_PASSED_RATE_RATIO * self._rate)
                return True
            # The interval continues.
            self._start_search(
                min(self._rate, max((accepted + 2) / max(interval.duration, 1 / self._rate), self._rate / 4))
            )
            return False
        accident = interval.is_disturbed and not self._was_disturbed
        self._was_disturbed = interval.is_disturbed
        if accident and self.estimate is not None:
            # Once, this shows nothing about the limit. Twice in a row, the cause is a quota per time window, or
            # failures that persist.
            self._start_cruise(self.estimate, accepted)
        elif self._phase is Phase.START:
            self._estimator.add_interval(interval)
            self._overshoot_rate = self._rate
            self._start_search((_PASSED_RATE_RATIO if self._hold_seconds else _SEARCH_START_RATIO) * self._rate)
        else:
            if self._phase is Phase.PROBE:
                self._is_fine_search = self._step >= _SMALL_STEP_COUNT and not interval.is_disturbed
            was_known = self.estimate is not None
            if not was_known:
                self._lower_limit_evidence = None
            limit = self._estimator.measure(interval)
            self._highest_limit = max(limit, _HIGHEST_LIMIT_DECAY * self._highest_limit)
            if self._hold_seconds:
                self._choose_rate_after_hold(limit, interval)
            elif was_known and self._has_limit_risen(limit, interval):
                self._search_count += 1
                self._estimator.clear()
                self._start_search(_SEARCH_START_RATIO * self._rate)
            else:
                self._start_cruise(limit, accepted)
        return True

    def _has_limit_risen(self, limit: float, interval: Interval) -> bool:
        """Return True if more was just accepted than `limit`, inferred from the last intervals, can explain."""
        passed = self._phase is Phase.PROBE and self._step > self._small_step_count
        tells = interval.accepted_count >= _MIN_RISE_REQUESTS and not interval.is_disturbed
        return passed and tells and self._rate > _RISEN_LIMIT_RATIO * limit and not self._search_count

    def _choose_rate_after_hold(self, limit: float, interval: Interval) -> None:
        """Choose the next rate if each 429 costs a pause, so that there are few."""
        spread = self._estimator.spread
        if spread > _MAX_SPREAD_RATIO * limit and self._search_count < _MAX_SEARCHES:
            self._search_count += 1
            self._start_search(max(limit - spread / 2, _PASSED_RATE_RATIO * self._rate))
            return
        self._cruises_cut_short = self._cruises_cut_short + 1 if self._phase is Phase.CRUISE else 0
        if self._cruises_cut_short > 1:
            slower = min(_MAX_SLOWDOWN_RATIO, self._hold_seconds / (self._hold_seconds + interval.duration) / 2)
            limit = min(limit, (1 - slower) * self._rate / self._utilization)
            self._estimator.limit = limit
        self._start_cruise(limit, interval.accepted_count)

    def _search_from_overshoot(self, rate: float, first_number: int) -> None:
        """Choose where to search from the requests sent at `rate` between the first 429's request and its arrival."""
        assert self._interval is not None
        self._overshoot_rate = None
        sent = first_number - self._interval.first_number - self._interval.cancelled
        accepted = sent - self._interval.rejected
        if self._phase is Phase.PROBE and sent >= _MIN_OVERSHOOT_REQUESTS:
            ratio = max((accepted + 1) / sent, _MIN_ACCEPTED_RATIO)
            self._start_search(min(self._rate, _BELOW_LIMIT_RATIO * rate * ratio))

    def _schedule_trial(self, now: float) -> None:
        """Wait before the next trial request."""
        assert self._interval is not None
        self._interval.is_blocked = True
        self._is_rising = True
        self._failed_trials += 1
        self._backoff_until = now + self._trial_delay
        self._echoes_until = -math.inf
        self._start_reaction()

    def _start_reaction(self) -> None:
        self._reacted_up_to = self._sent
        self._accepted_since_reaction = 0
        self._excess.clear()
        self._limited.clear()

    @property
    def _trial_delay(self) -> float:
        # The maximum is reached before 30. Without this bound the power could overflow.
        return min(
            _MAX_TRIAL_DELAY_SECONDS,
            _INITIAL_TRIAL_DELAY_SECONDS * _TRIAL_DELAY_GROWTH ** min(self._failed_trials - 1, 30),
        )

    @property
    def _refill_seconds(self) -> float:
        return _REFILL_TOKENS / self._rate + self._refill_jitter_seconds

    @property
    def _refill_jitter_seconds(self) -> float:
        return _REFILL_ROUND_TRIPS * self._round_trip_seconds
