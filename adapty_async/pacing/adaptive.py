"""The pacer that finds out a limit which nobody tells, and stays just under it.

It needs refusals to know where the limit is, and wants few of them. So it goes round in a circle: START about doubles
the rate until the first refusal; PROBE goes up by small steps, then larger ones, until a refusal measures the limit
(see measuring.py); CRUISE stays at `utilization` of it for a while, then PROBE again. A step counts as passed when what
was sent at its rate was accepted at that rate: a job that has little to send, or a server that fails, raises nothing.

One overshoot, one reaction: what was under way when a refusal was heard may be refused too, and these echoes tell
nothing new. After a reaction nothing is sent until the bucket holds a few tokens again. Where not even one request was
accepted since the last reaction, it isn't the rate: everything is BLOCKED, and one request at a time asks whether it
still is.

One 429 alone may be a stray, which tells nothing of the limit: where it isn't expected, what follows must confirm it
(see strays.py). While strays are few, a 429 in PROBE is expected.

Where a refusal asks for a pause (Retry-After) that is longer than that, it is dear: all is slower then, and a search
goes up from what is surely accepted, as one late refusal tells more than several early ones.
"""

import math
from typing import Final

from .base import LATENESS, Counting, Phase, Ticket, Verdict, checked_count, checked_rate, checked_utilization
from .measuring import Estimator, Interval
from .strays import FEWEST, Strays, Suspicion

# Slower than that, and coming back would take hours.
_SLOWEST: Final = 0.05

# A step lasts so long, so many round trips, and so many requests. Where a refusal costs a pause, its Retry-After, we
# learn slower near the known limit; while we search for one, the steps up to it should cost no more than a pause.
_STEP_SECONDS: Final = 1.0
_STEP_ROUND_TRIPS: Final = 2.0
_STEP_REQUESTS: Final = 8.0
_STEP_PAUSES: Final = 5.0
_SEARCH_PAUSES: Final = 1 / 3
_LONGEST_STEP: Final = 60.0
# The requests of a step take a little longer than it does where the job is as fast as the pacer; more: the job is slow.
_SLACK: Final = 1.3

# Of the first rate that was refused, about as likely too much as too little: the step before was half of it. Where a
# refusal costs a pause, the search begins there: a refusal that comes late, a little above the limit, tells more.
_LOOK_AGAIN: Final = 0.7
_PASSED: Final = 0.5
# What left after that request and before its refusal was heard met an empty bucket: the share that was accepted is the
# limit's share of the rate. So many requests tell enough; all are heard of after so many round trips; and the search
# begins just below, as an interval that lasts measures best. No smaller share is believed, as half of the rate has just
# been accepted, and a window whose quota is used up accepts nothing.
_TELLING: Final = 12
_SETTLED: Final = 1.2
_JUST_BELOW: Final = 0.9
_LEAST_SHARE: Final = 0.28
# Where the limit is known, PROBE begins just below it, and goes up by a fiftieth of it; else by more. Later steps
# are larger and larger, since then the limit has risen. Where it was one of these that was refused, the limit lies
# somewhere within a large step: the next PROBE takes so many times as many small ones first.
_PROBE_FROM: Final = 0.98
_FINE: Final = 0.02
_COARSE: Final = 0.06
_SMALL_STEPS: Final = 5
_LARGER: Final = 0.1
_CLOSER: Final = 2

# CRUISE lasts at least so long, and where a refusal costs a pause, so many of them; fewer where the limit isn't sure.
_CRUISE_SECONDS: Final = 2.0
_CRUISE_PAUSES: Final = 40.0
_UNSURE_PAUSES: Final = 10.0
_UNSURE: Final = 0.04
_LONGEST_CRUISE: Final = 900.0
# A limit that was low for a moment isn't believed for longer than this, or than it takes to send a few.
_LONGEST_BLIND: Final = 300.0
# Refused so far above what the last intervals say, after larger steps, the limit has risen: they are forgotten. So many
# accepted requests tell it from a burst.
_RISEN: Final = 1.4
_ENOUGH: Final = 30
# A limit that may be so far off is searched for again before CRUISE, but not more often than so: if no bucket is behind
# it, that would go on for ever.
_DOUBTFUL: Final = 0.15
_SEARCHES: Final = 3
# Refused in CRUISE again, the bucket isn't all: jitter empties a small one at any rate. Going slower by half of what
# the pause costs may save it; by no more than so much at once.
_MOST_SLOWER: Final = 0.15
# Fewer accepted requests than this are no measurement; one of n of them is good to 1/n. Until it is good
# enough for the utilization, each CRUISE is about as long as all before it.
_MEASURABLE: Final = 10
_SHARP: Final = 2.0
_SHORTEST_CRUISE: Final = 20.0

# After a refusal: so many tokens, and what the network's jitter is worth, as shares of a round trip. Requests that
# overtake others on their way see a bucket that is still empty.
_REFILL: Final = 4.0
_REFILL_ROUND_TRIPS: Final = 0.1
_OVERTAKING: Final = 0.25
# The most that the jitter of some hundred requests takes from a bucket, as a share of a round trip.
_JITTER_ROUND_TRIPS: Final = 0.2

# A 429 is believed that is so much likelier the limit's than a stray (a logarithm), and more where there are many
# requests a second, as there are more strays then. Below the limit at least so many strays are supposed. START may err:
# a search goes up from there.
_CERTAIN: Final = 3.0
_START_CERTAIN: Final = 1.0
_SUPPOSED: Final = 0.03
_MOST_STRAYS: Final = 0.2
# So far below the highest limit of late, what is rejected are strays; and so slowly we go to count them.
_LOW: Final = 0.72
_EASED: Final = 0.7
_FADING: Final = 0.99
# A 429 in CRUISE that the bucket, as it is known, doesn't explain makes us so much slower.
_DOUBTED: Final = 0.97
# An estimate that rests on fewer requests is soon made again.
_EARLY: Final = 300
# So far above a limit that strays seemed to tell, it is none.
_REVOKED: Final = 1.2
# So many times as many strays as were known when the limit was measured: it is measured again.
_MANY_MORE: Final = 1.7
# So few strays in a step don't count.
_NEGLIGIBLE: Final = 0.035
_RARE: Final = 0.001

# The round trip is a mean over the last ten or so. A single answer moves it by little: those that were there all the
# while, as the loop was blocked or the machine asleep, took no longer than others.
_ROUND_TRIP_SHARE: Final = 0.1
_ROUND_TRIP_GROWTH: Final = 0.02

# BLOCKED: the seconds between two questions.
_FIRST_PARK: Final = 0.25
_PARK_GROWTH: Final = 1.5
_LONGEST_PARK: Final = 30.0
# An answer that doesn't come for so long won't come.
_LOST: Final = 60.0


class AdaptivePacer(Counting):
    """Find out the limit of an API key from its refusals, and send just under it.

    `start_rate`: requests a second to begin with. `max_rate`: never more than this. `utilization`: the share of the
    measured limit to stay at, in (0, 1]. `probe_after`: requests before the limit is measured again.
    Raises ValueError where a number is out of its range.
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

        # What is being measured
        self._interval: Interval | None = None
        self._was_disturbed = False
        self._strays = Strays()
        self._excess = Suspicion()
        self._limited = Suspicion()
        self._unmeasured = False
        self._believed_strays = math.inf
        self._alarm: tuple[float, int, int] | None = None
        self._highest = 0.0

        # The step that is being passed
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

        # The reaction to the last refusal
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
        """Make one that leaves room for others who use the same key: production."""
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

    # The schedule: one request after the other, nothing stored up

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
        # A Retry-After is no lateness that could be made up for: that would be a burst.
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
        """Until when all is held back, whatever the schedule says."""
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

    # Steps: faster, as long as it is accepted

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
        """Measure from the first that is accepted, where all was refused before there was anything to measure."""
        if self._interval is not None and not self._interval.measurable:
            self._interval = Interval(ticket.sent_at, ticket.number, empty=False)
            self._interval.point(ticket.sent_at, ticket.number)

    def _end_step(self, *, in_time: bool) -> None:
        if self._phase is Phase.CRUISE:
            self._probe()
        elif self._limited.interval is not None:
            pass  # one more step tells
        elif in_time and self._phase is Phase.START:
            self._passed.append((self._step_accepted, self._step_strays))
            # Twice the rate, or less where room is left for others, who are refused with us when we go too far.
            self._set_rate((1 + self._utilization) * self._rate)
        elif in_time:
            self._revoke_alarm()
            self._step += 1
            larger = max(0, self._step - self._small_steps + 1)
            if self._pause:
                # One by one, for what an overshoot tells is worth the less the larger the step was.
                larger = int(larger > 0 or self._searching)
            self._set_rate(self._rate + (_LARGER * larger * self._rate or self._increment))
        self._begin_step()

    def _revoke_alarm(self) -> None:
        """Count the 429s as strays that seemed to tell a lower limit than what is accepted now."""
        if self._alarm is not None:
            limit, accepted, rejected = self._alarm
            if self._rate > _REVOKED * limit:
                self._strays.low.count(accepted, rejected)
                self._alarm = None
                if self.estimate is None:  # It was START that they ended.
                    self._start_again()

    def _start_again(self) -> None:
        """Go on with START, where strays seem to have ended it."""
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
        """Probe where the limit isn't known yet."""
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

    # Refusals

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
        # What we wait anyway costs nothing.
        self._pause = pause if pause > self._refill else 0.0
        if self._phase is Phase.CRUISE and not (is_echo or self._is_low):
            self._strays.near.count(0, 1)
        if self._pause:
            # Each 429 that confirms it would cost another pause, so one alone is believed.
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
            # What is under way is enough to tell.
            self._held_until = now + _SETTLED * self._round_trip

    def _measure(self, now: float, ticket: Ticket) -> None:
        """Draw the conclusion from one 429 alone."""
        assert self._interval is not None
        self._end(self._interval, ticket)
        if self._conclude(self._interval):
            self._interval = Interval(ticket.sent_at, ticket.number, empty=True)
        self._hold_back(now)

    @property
    def _suspicion(self) -> Suspicion:
        """The one that counts where we are."""
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
        """The share of strays, where a PROBE would meet them."""
        share = self._strays.share
        if share * max(_STEP_REQUESTS, self._rate * _STEP_SECONDS) <= _NEGLIGIBLE:
            return FEWEST
        return max(share, min(self._strays.low.share, _MOST_STRAYS))

    @property
    def _supposed(self) -> float:
        return max(_SUPPOSED, self._strays.share)

    def _suspect(self, ticket: Ticket) -> bool:
        """Note a 429 that may be a stray; tell whether it is the first."""
        assert self._interval is not None
        begins = self._suspicion.interval is None
        if begins:
            self._end(self._interval, ticket)
        self._excess.reject(ticket.sent_at, ticket.number, self._known_strays)
        self._limited.reject(ticket.sent_at, ticket.number, self._supposed)
        return begins

    def _is_full(self, ticket: Ticket) -> bool:
        """Whether jitter can't have emptied the bucket since the last reaction."""
        limit = self.estimate or 0.0
        refilled = self._refill * self._rate + (limit - self._rate) * (ticket.sent_at - self._held_until)
        return refilled > 2 * _JITTER_ROUND_TRIPS * self._round_trip * limit

    def _end(self, interval: Interval, ticket: Ticket) -> None:
        jitter = _JITTER_ROUND_TRIPS * self._round_trip
        interval.end(ticket.sent_at, ticket.number, self._rate, jitter=jitter, paused=self._pause > 0)

    @property
    def _is_low(self) -> bool:
        """Whether the rate is so far below what was measured lately that 429s are strays."""
        return self._phase is Phase.CRUISE and self._rate <= _LOW * self._highest

    def _react_to(self, now: float, ticket: Ticket) -> None:
        """Draw the conclusion from a 429 of the limiter."""
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
        """Count strays at the rates of START, but for the last two, which may have been above the limit already."""
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
        """Go a little slower, where a 429 can't be of the limit as it is known, and what follows must tell."""
        assert self.estimate is not None
        if self._sent < _EARLY:
            # The estimate rests on few requests: to find out above it is quicker than to go slower and slower.
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
        """Choose the next rate; tell whether the interval is over."""
        accepted = interval.accepted
        if interval.measurable and accepted < _MEASURABLE:
            # Too few for a measurement, enough to see that the rate is far too high.
            if self._pause:
                self._search(_PASSED * self._rate)
                return True
            # The interval goes on.
            self._search(min(self._rate, max((accepted + 2) / max(interval.elapsed, 1 / self._rate), self._rate / 4)))
            return False
        accident = interval.disturbed and not self._was_disturbed
        self._was_disturbed = interval.disturbed
        if accident and self.estimate is not None:
            # Once that tells nothing of the limit. Twice in a row these are windows with quotas, or failures that stay.
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
        """Tell whether so much was just accepted that `limit`, as the last intervals explain it, can't be right."""
        passed = self._phase is Phase.PROBE and self._step > self._small_steps
        tells = interval.accepted >= _ENOUGH and not interval.disturbed
        return passed and tells and self._rate > _RISEN * limit and not self._searches

    def _settle(self, limit: float, interval: Interval) -> None:
        """Go on where each refusal costs a pause, so that few may come."""
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
        """Search from where the fate of what left between the first refusal and its news says, sent at `rate`."""
        assert self._interval is not None
        self._overshot = None
        sent = number - self._interval.first - self._interval.withdrawn
        accepted = sent - self._interval.refused
        if self._phase is Phase.PROBE and sent >= _TELLING:
            share = max((accepted + 1) / sent, _LEAST_SHARE)
            self._search(min(self._rate, _JUST_BELOW * rate * share))

    def _park(self, now: float) -> None:
        """Ask again later, with one request."""
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
        # Beyond 30 the longest park is reached; the power could overflow later.
        return min(_LONGEST_PARK, _FIRST_PARK * _PARK_GROWTH ** min(self._parks - 1, 30))

    @property
    def _refill(self) -> float:
        return _REFILL / self._rate + self._refill_round_trips

    @property
    def _refill_round_trips(self) -> float:
        return _REFILL_ROUND_TRIPS * self._round_trip
