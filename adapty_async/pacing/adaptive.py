"""A pacer that finds the unpublished rate limit of an API key and stays just below it.

Only 429s show how high the limit is, but there should be few of them. So the pacer repeats a cycle:

- START about doubles the rate at each step, until the first 429.
- PROBE raises it by small steps, then by larger ones, until a 429 measures the limit (see measuring.py).
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

from .base import LATENESS, Counting, Phase, Ticket, Verdict, checked_count, checked_rate, checked_utilization
from .estimator import Estimator, Interval
from .strays import FEWEST, Strays, Suspicion

# Requests per second. From a lower rate, recovery would take hours.
_SLOWEST: Final = 0.05

# The minimum length of a step, in seconds, round trips and requests. If a 429 costs a pause (its Retry-After), a step
# near the known limit lasts this many pauses. In a search for the limit, all steps together should cost no more than
# one pause.
_STEP_SECONDS: Final = 1.0
_STEP_ROUND_TRIPS: Final = 2.0
_STEP_REQUESTS: Final = 8.0
_STEP_PAUSES: Final = 5.0
_SEARCH_PAUSES: Final = 1 / 3
_LONGEST_STEP: Final = 60.0
# The requests of a step may take this many times its length. If they take longer, the job is slower than the pacer.
_SLACK: Final = 1.3

# The first search for the limit starts at this share of the first rejected rate. That is about as likely too high as
# too low; the step that passed was at half of that rate. If a 429 costs a pause, the search starts at that half: a 429
# that comes late, a little above the limit, shows more.
_LOOK_AGAIN: Final = 0.7
_PASSED: Final = 0.5
# The requests sent after the first rejected one, and before its 429 arrived, met an empty bucket. Their accepted share
# is the limit's share of the rate. This many of them are enough, and all their responses arrive within this many round
# trips. The search then starts just below that limit, because long intervals measure best. A smaller share than the
# least isn't believed: half of the rate has just been accepted, and a window with a used-up quota accepts nothing.
_TELLING: Final = 12
_SETTLED: Final = 1.2
_JUST_BELOW: Final = 0.9
_LEAST_SHARE: Final = 0.28
# If the limit is known, PROBE starts just below it and rises by 2% of it; otherwise by more. Later steps become larger
# and larger, because the limit has probably risen. If a large step was rejected, the limit is somewhere within that
# step: the next PROBE makes twice as many small steps first.
_PROBE_FROM: Final = 0.98
_FINE: Final = 0.02
_COARSE: Final = 0.06
_SMALL_STEPS: Final = 5
_LARGER: Final = 0.1
_CLOSER: Final = 2

# The minimum length of CRUISE, in seconds and, if a 429 costs a pause, in pauses: fewer if the estimate is unsure.
_CRUISE_SECONDS: Final = 2.0
_CRUISE_PAUSES: Final = 40.0
_UNSURE_PAUSES: Final = 10.0
_UNSURE: Final = 0.04
_LONGEST_CRUISE: Final = 900.0
# A measured limit is trusted for at most this many seconds, or for as long as a few requests take, if that is longer:
# the limit may have been low for a moment only.
_LONGEST_BLIND: Final = 300.0
# A 429 at this multiple of the limit that the last intervals show, after larger steps, means that the limit has risen.
# The intervals are then forgotten. This many accepted requests distinguish a higher limit from a burst.
_RISEN: Final = 1.4
_ENOUGH: Final = 30
# An estimate with a larger relative spread is searched for again before CRUISE, but only this many times: without a
# bucket behind the limit, the search would never end.
_DOUBTFUL: Final = 0.15
_SEARCHES: Final = 3
# If CRUISE is rejected repeatedly, jitter may be emptying a small bucket at any rate. Slowing down by half of the share
# of time that the pause costs may avoid that, by no more than this share at once.
_MOST_SLOWER: Final = 0.15
# Fewer accepted requests aren't a measurement. A measurement of n requests has an error of 1/n. Until that is good
# enough for the utilization, each CRUISE is about as long as all before it.
_MEASURABLE: Final = 10
_SHARP: Final = 2.0
_SHORTEST_CRUISE: Final = 20.0

# After a 429 the pacer waits for this many tokens, plus a share of a round trip for the jitter of the network. Requests
# that overtake others on their way may still find the bucket empty.
_REFILL: Final = 4.0
_REFILL_ROUND_TRIPS: Final = 0.1
_OVERTAKING: Final = 0.25
# The most that the jitter of some hundred requests takes from a bucket, as a share of a round trip.
_JITTER_ROUND_TRIPS: Final = 0.2

# A 429 is believed if it is this much more likely the limit's than a stray (as a logarithm). The threshold rises with
# the rate, because more requests bring more strays. Below the limit at least this share of strays is assumed. START may
# be wrong, because a search follows.
_CERTAIN: Final = 3.0
_START_CERTAIN: Final = 1.0
_SUPPOSED: Final = 0.03
_MOST_STRAYS: Final = 0.2
# At this share of the highest recent limit or below, 429s are strays. CRUISE eases to this share of the limit to count
# them.
_LOW: Final = 0.72
_EASED: Final = 0.7
_FADING: Final = 0.99
# The rate is multiplied by this after a 429 in CRUISE that the known bucket doesn't explain.
_DOUBTED: Final = 0.97
# An estimate based on fewer requests is quickly made again.
_EARLY: Final = 300
# If this multiple of a limit is passed, the limit was inferred from strays and is dropped.
_REVOKED: Final = 1.2
# If the share of strays grows by this factor after the limit was measured, the limit is measured again.
_MANY_MORE: Final = 1.7
# Fewer strays per step, or a smaller share of strays, are ignored.
_NEGLIGIBLE: Final = 0.035
_RARE: Final = 0.001

# The round trip is a mean of about the last ten. One response changes it only a little: responses that waited while the
# event loop was blocked or the machine was asleep didn't really take longer.
_ROUND_TRIP_SHARE: Final = 0.1
_ROUND_TRIP_GROWTH: Final = 0.02

# BLOCKED: seconds between two trial requests.
_FIRST_PARK: Final = 0.25
_PARK_GROWTH: Final = 1.5
_LONGEST_PARK: Final = 30.0
# Seconds after which the response to a trial request counts as lost.
_LOST: Final = 60.0


class AdaptivePacer(Counting):
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
        self._max_rate = math.inf if max_rate is None else checked_rate(max_rate, "max_rate")
        self._rate = min(checked_rate(start_rate, "start_rate"), self._max_rate)
        self._utilization = checked_utilization(utilization)
        self._probe_after = checked_count(probe_after, "probe_after")
        self._phase = Phase.START
        self._estimator = Estimator()

        # The schedule
        self._next = -math.inf
        self._held_until = -math.inf
        self._last_sent = math.inf
        self._round_trip = 0.0
        self._rises = True

        # Measurement
        self._interval: Interval | None = None
        self._was_disturbed = False
        self._strays = Strays()
        self._excess = Suspicion()
        self._limited = Suspicion()
        self._unmeasured = False
        self._believed_strays = math.inf
        self._alarm: tuple[float, int, int] | None = None
        self._highest = 0.0

        # The current step
        self._step = 0
        self._looks_closely = False
        self._searching = False
        self._searches = 0
        self._increment = _COARSE * self._rate
        self._step_from = 1
        self._step_needs = 1
        self._step_began: float | None = None
        self._step_accepted = 0
        self._step_strays = 0

        self._passed: list[tuple[int, int]] = []

        # The reaction to the last 429
        self._reacted_at_ticket = 0
        self._echoes_until = -math.inf
        self._accepted_since = 0
        self._overshot: float | None = None
        self._pause = 0.0
        self._cruises_cut_short = 0
        self._parks = 0
        self._question: Ticket | None = None

        self._begin_step()

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
        return Phase.BLOCKED if self._parks else self._phase

    def __repr__(self) -> str:
        return f"<AdaptivePacer {self.phase}, {self._rate:.3g}/s>"

    # The schedule: one request after the other; unused time isn't saved up

    def wait(self, now: float) -> float:
        return max(0.0, max(self._next, self.held_until) - now)

    def sent(self, now: float) -> Ticket:
        ticket = super().sent(now)
        if self._interval is None:
            self._interval = Interval(now, ticket.number, empty=False)
        if self._overshot is not None:
            self._look_back(self._overshot, ticket.number)
        pause = now - self._last_sent > (_REFILL + 2) / self._rate + LATENESS + self._refill_round_trips
        if self._rises or pause:
            for interval in self._open_intervals:
                interval.point(now, ticket.number)
        self._rises = False
        self._last_sent = now
        # A Retry-After isn't made up for as lateness would be: that would cause a burst.
        self._next = max(self._next, self._reopens, now - LATENESS) + 1.0 / self._rate
        if self._parks:
            self._question = ticket
        return ticket

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._count(verdict)
        pause = self._hold(now, retry_after)
        answers_question = self._question is not None and ticket.number >= self._question.number
        if answers_question:
            self._question = None
        if verdict is Verdict.UNKNOWN:
            for interval in self._open_intervals:
                interval.lose(ticket.number)
            if answers_question:
                self._held_until = now + self._park_seconds
            return
        self._learn_round_trip(now - ticket.sent_at)
        if verdict is Verdict.ACCEPTED:
            self._accept(ticket)
        else:
            self._throttle(now, ticket, pause)

    def _learn_round_trip(self, took: float) -> None:
        step = _ROUND_TRIP_SHARE * (max(0.0, took) - self._round_trip)
        self._round_trip += min(step, _ROUND_TRIP_SHARE * self._round_trip + _ROUND_TRIP_GROWTH)

    @property
    def held_until(self) -> float:
        """The time until which nothing is sent, regardless of the schedule."""
        answer = -math.inf if self._question is None else self._question.sent_at + _LOST
        return max(self._reopens, self._held_until, answer)

    @property
    def _open_intervals(self) -> list[Interval]:
        intervals = (self._interval, self._excess.interval, self._limited.interval)
        return [interval for interval in intervals if interval is not None]

    def _set_rate(self, rate: float) -> None:
        rate = min(max(rate, _SLOWEST), self._max_rate)
        self._rises |= rate > self._rate
        self._rate = rate

    # Steps: raise the rate as long as requests are accepted

    def _begin_step(self, seconds: float | None = None) -> None:
        if seconds is None:
            pauses = _SEARCH_PAUSES if self._searching or self._step >= self._small_steps else _STEP_PAUSES
            seconds = max(
                _STEP_SECONDS,
                _STEP_ROUND_TRIPS * self._round_trip,
                _STEP_REQUESTS / self._rate,
                min(pauses * self._pause, _LONGEST_STEP),
            )
        self._step_from = self._sent + 1
        self._step_needs = max(1, round(self._rate * seconds))
        self._step_began = None
        self._step_accepted = 0
        self._step_strays = 0

    def _accept(self, ticket: Ticket) -> None:
        if ticket.number > self._reacted_at_ticket:
            self._accepted_since += 1
            if self._parks:
                self._parks = 0
                self._begin_interval_again(ticket)
                self._begin_step()
        if ticket.number < self._step_from:
            return
        self._excess.accept(ticket.number, self._known_strays)
        strays = self._limited.accept(ticket.number, self._supposed)
        self._step_strays += strays
        if self._is_low:
            self._strays.low.count(1, strays)
        elif self._phase is Phase.CRUISE:
            self._strays.near.count(1, 0)
        if strays and self._phase is Phase.CRUISE and self._known_strays > _MANY_MORE * self._believed_strays:
            self._probe()
            self._begin_step()
            return
        if self._step_began is None:
            self._step_began = ticket.sent_at
        self._step_accepted += 1
        if self._step_accepted >= self._step_needs:
            took = ticket.sent_at - self._step_began
            self._end_step(in_time=took <= _SLACK * self._step_needs / self._rate + LATENESS)

    def _begin_interval_again(self, ticket: Ticket) -> None:
        """Start measuring at this accepted request if all earlier ones were rejected."""
        if self._interval is not None and not self._interval.measurable:
            self._interval = Interval(ticket.sent_at, ticket.number, empty=False)
            self._interval.point(ticket.sent_at, ticket.number)

    def _end_step(self, *, in_time: bool) -> None:
        if self._phase is Phase.CRUISE:
            self._probe()
        elif self._limited.interval is not None:
            pass  # wait for one more step
        elif in_time and self._phase is Phase.START:
            self._passed.append((self._step_accepted, self._step_strays))
            # Twice the rate, or less if the pacer leaves room for others: an overshoot causes 429s for them as well.
            self._set_rate((1 + self._utilization) * self._rate)
        elif in_time:
            self._revoke_alarm()
            self._step += 1
            larger = max(0, self._step - self._small_steps + 1)
            if self._pause:
                # One large step at a time: the larger the step, the less an overshoot shows.
                larger = int(larger > 0 or self._searching)
            self._set_rate(self._rate + (_LARGER * larger * self._rate or self._increment))
        self._begin_step()

    def _revoke_alarm(self) -> None:
        """If a rate well above a suspected lower limit is accepted, count the 429s behind that suspicion as strays."""
        if self._alarm is not None:
            limit, accepted, rejected = self._alarm
            if self._rate > _REVOKED * limit:
                self._strays.low.count(accepted, rejected)
                self._alarm = None
                if self.estimate is None:  # The strays ended START.
                    self._start_again()

    def _start_again(self) -> None:
        """Return to START after strays seem to have ended it."""
        self._phase = Phase.START
        self._searching = False
        self._estimator.forget()
        self._passed.clear()

    @property
    def _small_steps(self) -> int:
        return _SMALL_STEPS * (_CLOSER if self._looks_closely else 1)

    def _probe(self) -> None:
        assert self.estimate is not None
        self._phase = Phase.PROBE
        self._excess.clear()
        self._searches = 0
        self._increment = _FINE * self.estimate
        self._set_rate(max(_PROBE_FROM, self._utilization + _FINE) * self.estimate)

    def _search(self, rate: float) -> None:
        """Start a PROBE for a limit that isn't known yet."""
        self._phase = Phase.PROBE
        self._searching = True
        self._step = 0
        self._increment = _COARSE * rate
        self._set_rate(rate)
        self._begin_step()

    def _cruise(self, limit: float, accepted: int) -> None:
        self._phase = Phase.CRUISE
        self._searching = False
        self._step = 0
        utilization = min(self._utilization, _EASED) if self._strays.are_unclear(limit) else self._utilization
        self._set_rate(utilization * limit)
        seconds = self._probe_after / self._rate
        if accepted * (1 - self._utilization) < _SHARP:
            seconds = min(seconds, max(_SHORTEST_CRUISE, 2 * accepted) / self._rate)
        else:
            seconds = max(min(seconds, max(_LONGEST_BLIND, _SHORTEST_CRUISE / self._rate)), _CRUISE_SECONDS)
        pauses = _CRUISE_PAUSES if self._estimator.spread <= _UNSURE * limit else _UNSURE_PAUSES
        self._begin_step(max(seconds, min(pauses * self._pause, _LONGEST_CRUISE)))

    # 429s

    def _throttle(self, now: float, ticket: Ticket, pause: float) -> None:
        if self._interval is None:  # a ticket of another pacer
            return
        for interval in self._open_intervals:
            interval.refuse(ticket.number)
        is_echo = ticket.number <= self._reacted_at_ticket or ticket.sent_at < self._echoes_until
        if is_echo and self._limited.interval is None:
            return
        if not self._accepted_since and not is_echo:
            self._park(now)
            return
        # A pause shorter than the wait that follows anyway costs nothing.
        self._pause = pause if pause > self._refill else 0.0
        if self._phase is Phase.CRUISE and not (is_echo or self._is_low):
            self._strays.near.count(0, 1)
        if self._pause:
            # Each confirmation would cost another pause, so a single 429 is believed.
            if not is_echo:
                self._measure(now, ticket)
            return
        begins = self._suspect(ticket)
        if self._limited_confirmed:
            self._react_to(now, ticket)
        elif is_echo:
            return
        elif self._is_low:
            if self._strays.low.share < _RARE:
                self._doubt(now)
        elif self._excess_confirmed:
            if self._phase is Phase.CRUISE and self._is_full(ticket):
                self._doubt(now)
            else:
                self._react_to(now, ticket)
        elif begins and self._phase is Phase.START and self._rate * self._round_trip > _STEP_REQUESTS:
            # The responses of the requests in flight are enough to decide.
            self._held_until = now + _SETTLED * self._round_trip

    def _measure(self, now: float, ticket: Ticket) -> None:
        """Choose the next rate after a single 429."""
        assert self._interval is not None
        self._end(self._interval, ticket)
        if self._conclude(self._interval):
            self._interval = Interval(ticket.sent_at, ticket.number, empty=True)
        self._hold_back(now)

    @property
    def _suspicion(self) -> Suspicion:
        """The suspicion that counts in the current phase."""
        return self._limited if self._phase is Phase.START or self._is_low else self._excess

    @property
    def _excess_confirmed(self) -> bool:
        return self._suspicion is self._excess and self._excess.score >= _CERTAIN + self._wariness

    @property
    def _limited_confirmed(self) -> bool:
        certain = _START_CERTAIN if self._phase is Phase.START else _CERTAIN
        return self._limited.score >= certain + self._wariness

    @property
    def _wariness(self) -> float:
        return math.log(max(1.0, self._rate))

    @property
    def _known_strays(self) -> float:
        """The share of strays, if PROBE would meet any."""
        share = self._strays.share
        if share * max(_STEP_REQUESTS, self._rate * _STEP_SECONDS) <= _NEGLIGIBLE:
            return FEWEST
        return max(share, min(self._strays.low.share, _MOST_STRAYS))

    @property
    def _supposed(self) -> float:
        return max(_SUPPOSED, self._strays.share)

    def _suspect(self, ticket: Ticket) -> bool:
        """Record a 429 that may be a stray. Return True if it is the first."""
        assert self._interval is not None
        begins = self._suspicion.interval is None
        if begins:
            self._end(self._interval, ticket)
        self._excess.reject(ticket.sent_at, ticket.number, self._known_strays)
        self._limited.reject(ticket.sent_at, ticket.number, self._supposed)
        return begins

    def _is_full(self, ticket: Ticket) -> bool:
        """Return True if jitter can't have emptied the bucket since the last reaction."""
        limit = self.estimate or 0.0
        refilled = self._refill * self._rate + (limit - self._rate) * (ticket.sent_at - self._held_until)
        return refilled > 2 * _JITTER_ROUND_TRIPS * self._round_trip * limit

    def _end(self, interval: Interval, ticket: Ticket) -> None:
        jitter = _JITTER_ROUND_TRIPS * self._round_trip
        interval.end(ticket.sent_at, ticket.number, self._rate, jitter=jitter, paused=self._pause > 0)

    @property
    def _is_low(self) -> bool:
        """True if the rate is so far below the recent limits that 429s are strays."""
        return self._phase is Phase.CRUISE and self._rate <= _LOW * self._highest

    def _react_to(self, now: float, ticket: Ticket) -> None:
        """Choose the next rate after a confirmed 429."""
        assert self._interval is not None
        followed = self._suspicion.interval
        assert followed is not None
        at_once = followed.first == ticket.number
        self._end(followed, ticket)
        if self._phase is Phase.START:
            self._learn_from_start()
            if self.estimate is None:
                self._alarm = (self._rate, followed.accepted, followed.refused + 1)
            self._conclude(self._interval)
            self._interval = followed
        elif at_once or followed.accepted or self._accepted_since < _ENOUGH:  # else a cluster of strays
            if not (at_once or self._unmeasured):
                self._interval = followed
            self._end(self._interval, ticket)
            if self._limited_confirmed and self._phase is Phase.CRUISE:
                self._fall(followed)
                self._unmeasured = False
            else:
                self._believed_strays = self._known_strays
                self._unmeasured = not self._conclude(self._interval)
            if not self._unmeasured:
                self._interval = Interval(ticket.sent_at, ticket.number, empty=True)
        self._hold_back(now)

    def _learn_from_start(self) -> None:
        """Count the strays at the rates of START, except the last two, which may have been above the limit."""
        for accepted, strays in self._passed[:-1]:
            self._strays.low.count(accepted, strays)
        self._passed.clear()

    def _fall(self, followed: Interval) -> None:
        """Search for a limit that has fallen below the rate."""
        accepted, rejected = followed.accepted, followed.refused + 1
        limit = self._rate * (accepted + 1) / (accepted + rejected)
        self._alarm = (limit, accepted, rejected)
        self._estimator.begin_anew(limit)
        self._highest = limit
        self._strays.near.clear()
        self._search(_JUST_BELOW * limit)

    def _doubt(self, now: float) -> None:
        """Slow down a little after a 429 that the known limit doesn't explain. Later responses decide."""
        assert self.estimate is not None
        if self._sent < _EARLY:
            # The estimate is based on few requests: searching above it is quicker than slowing down again and again.
            self._start_again()
            self._limited.clear()
            self._set_rate((1 + self._utilization) * self._rate)
            self._begin_step()
            return
        self._estimator.limit = _DOUBTED * self.estimate
        self._set_rate(_DOUBTED * self._rate)
        limited = self._limited
        self._limited = Suspicion()
        self._hold_back(now)
        self._limited = limited

    def _hold_back(self, now: float) -> None:
        """Send nothing until the bucket holds a few tokens again."""
        self._held_until = now + (self._pause or self._refill)
        if self._overshot is not None:
            self._held_until = max(self._held_until, now + _SETTLED * self._round_trip)
        self._echoes_until = self._held_until + _OVERTAKING * self._round_trip
        self._react()

    def _conclude(self, interval: Interval) -> bool:
        """Choose the next rate. Return True if the interval has ended."""
        accepted = interval.accepted
        if interval.measurable and accepted < _MEASURABLE:
            # Too few for a measurement, but enough to show that the rate is far too high.
            if self._pause:
                self._search(_PASSED * self._rate)
                return True
            # The interval continues.
            self._search(min(self._rate, max((accepted + 2) / max(interval.elapsed, 1 / self._rate), self._rate / 4)))
            return False
        accident = interval.disturbed and not self._was_disturbed
        self._was_disturbed = interval.disturbed
        if accident and self.estimate is not None:
            # Once, this shows nothing about the limit. Twice in a row, the cause is a quota per time window, or
            # failures that persist.
            self._cruise(self.estimate, accepted)
        elif self._phase is Phase.START:
            self._estimator.add(interval)
            self._overshot = self._rate
            self._search((_PASSED if self._pause else _LOOK_AGAIN) * self._rate)
        else:
            if self._phase is Phase.PROBE:
                self._looks_closely = self._step >= _SMALL_STEPS and not interval.disturbed
            was_known = self.estimate is not None
            if not was_known:
                self._alarm = None
            limit = self._estimator.measure(interval)
            self._highest = max(limit, _FADING * self._highest)
            if self._pause:
                self._settle(limit, interval)
            elif was_known and self._has_risen(limit, interval):
                self._searches += 1
                self._estimator.forget()
                self._search(_LOOK_AGAIN * self._rate)
            else:
                self._cruise(limit, accepted)
        return True

    def _has_risen(self, limit: float, interval: Interval) -> bool:
        """Return True if more was just accepted than `limit`, inferred from the last intervals, can explain."""
        passed = self._phase is Phase.PROBE and self._step > self._small_steps
        tells = interval.accepted >= _ENOUGH and not interval.disturbed
        return passed and tells and self._rate > _RISEN * limit and not self._searches

    def _settle(self, limit: float, interval: Interval) -> None:
        """Choose the next rate if each 429 costs a pause, so that there are few."""
        spread = self._estimator.spread
        if spread > _DOUBTFUL * limit and self._searches < _SEARCHES:
            self._searches += 1
            self._search(max(limit - spread / 2, _PASSED * self._rate))
            return
        self._cruises_cut_short = self._cruises_cut_short + 1 if self._phase is Phase.CRUISE else 0
        if self._cruises_cut_short > 1:
            slower = min(_MOST_SLOWER, self._pause / (self._pause + interval.elapsed) / 2)
            limit = min(limit, (1 - slower) * self._rate / self._utilization)
            self._estimator.limit = limit
        self._cruise(limit, interval.accepted)

    def _look_back(self, rate: float, number: int) -> None:
        """Choose where to search from the requests sent at `rate` between the first 429's request and its arrival."""
        assert self._interval is not None
        self._overshot = None
        sent = number - self._interval.first - self._interval.withdrawn
        accepted = sent - self._interval.refused
        if self._phase is Phase.PROBE and sent >= _TELLING:
            share = max((accepted + 1) / sent, _LEAST_SHARE)
            self._search(min(self._rate, _JUST_BELOW * rate * share))

    def _park(self, now: float) -> None:
        """Wait before the next trial request."""
        assert self._interval is not None
        self._interval.blocked = True
        self._rises = True
        self._parks += 1
        self._held_until = now + self._park_seconds
        self._echoes_until = -math.inf
        self._react()

    def _react(self) -> None:
        self._reacted_at_ticket = self._sent
        self._accepted_since = 0
        self._excess.clear()
        self._limited.clear()

    @property
    def _park_seconds(self) -> float:
        # The maximum is reached before 30. Without this bound the power could overflow.
        return min(_LONGEST_PARK, _FIRST_PARK * _PARK_GROWTH ** min(self._parks - 1, 30))

    @property
    def _refill(self) -> float:
        return _REFILL / self._rate + self._refill_round_trips

    @property
    def _refill_round_trips(self) -> float:
        return _REFILL_ROUND_TRIPS * self._round_trip
