"""The default pacer of a client: it doesn't limit the rate until the first 429.

A 429 holds every call for its Retry-After or, without one, until the bucket holds a few tokens again. Then the calls
are released one by one. Until the limit is known, the rate grows faster and faster. After that it follows a cubic
curve, as in TCP CUBIC: from just below the limit up to it, flat there, and on above it if nothing is rejected. So the
pacer discovers a limit that has risen. It also ensures that, when pacing stops after a minute without a 429, no calls
are waiting that would all be sent at once. Only requests that are sent raise the rate, not the passing of time.

A single 429 isn't a measurement: the limit can't be far below a rate of which 97% is accepted. So several 429s within a
number of requests are needed. If a 429 costs every caller a pause, the curve is stretched over many pauses, and a
single 429 is believed once it is known that there is a limit.

The limiter is modeled as a bucket that gave out `burst` tokens more than flowed in since it was full. The burst can be
measured if the first calls are all sent at once: it is the number that the bucket accepts.
"""

import math
from typing import Final

from .base import LATENESS, Counting, Phase, Ticket, Verdict

# The rate after the first 429 if none was measured, in requests per second. Then its growth per second, and the
# increase of that growth per second.
_FIRST_RATE: Final = 25.0
_GROWTH: Final = 0.3
_GROWTH_OF_GROWTH: Final = 0.06
_LONGEST_RISE: Final = 60.0
_STOPS_AFTER: Final = 60.0
_SLOWEST: Final = 0.05

# A rate is measured over at least this many seconds of traffic without a gap, and this many requests. A gap of the
# longest measure fills any bucket.
_MEASURED_OVER: Final = 1.0
_LONGEST_MEASURE: Final = 3.0
_SHORTEST_MEASURE: Final = 0.25
_MOMENT: Final = 0.001
_FEW: Final = 8

# The curve goes from 3% below the limit up to it, where it is flat. That takes this many pauses of a 429, or less while
# the limit was only measured for a few seconds.
_BELOW: Final = 0.03
_CLIMB_PAUSES: Final = 10.0
_SHORTEST_CLIMB: Final = 2.0
_LONGEST_CLIMB: Final = 20.0
_UNSURE_CLIMB: Final = 3.0
_SURE_AFTER: Final = 5.0
# After this many seconds the rate grows faster by this much per second: before pacing stops, no calls should be
# waiting.
_AWAY_AFTER: Final = 40.0
_AWAY: Final = 0.2
# The calls use up a rate if they use it for at least this share of the time.
_BUSY: Final = 0.75

# The burst before one was measured, and how much larger it is if the limit turns out lower than estimated.
_ASSUMED_BURST: Final = 10.0
_LARGER: Final = 1.5
# A burst larger than this share of the inflow during a 429's pause is no reason to believe in a much lower limit: the
# pause then costs less than too low a rate.
_REFUNDED: Final = 0.25
# Lateness is made up for by at most this share of a burst.
_MADE_UP: Final = 0.25
# A limit below the first share of a rate at which some requests were accepted isn't believed. If a known limit seems to
# have fallen, the last share applies, of a rate at which this many requests in a row were accepted.
_LEAST_SHARE: Final = 0.5
_TOLERATED: Final = 33
_TOLERATED_SHARE: Final = 0.95
# A point is recorded each time the rate has risen by this factor.
_RISE: Final = 1.03
_MOST_POINTS: Final = 64

# This many 429s among this many requests are due to a limit, not strays. If a 429 costs a pause shorter than this many
# seconds, there is time to be surer.
_A_PAUSE: Final = 0.5
_SEVERAL: Final = (4, 70)
_SEVERAL_CHEAP: Final = (5, 40)
# Tokens that the bucket should hold when calls are released.
_REFILL: Final = 4.0
# Backoff in seconds while nothing is accepted.
_FIRST_BACKOFF: Final = 0.25
_LONGEST_BACKOFF: Final = 8.0


class _Interval:
    """The requests sent since the last hold, up to the next 429."""

    def __init__(self, began: float, first: int, rise: float) -> None:
        self.began = began
        self._rise = rise
        self._points = [(began, first)]
        self.accepted = 0
        self.refused = 0
        self.used = 0.0
        """Seconds that the requests took at the rate of their time. The calls were idle in the rest."""

    @property
    def rise(self) -> float:
        """The seconds for which the rate has risen: while it was used, and before this interval."""
        return self._rise + self.used

    def is_idle(self, ticket: Ticket) -> bool:
        """Return True if there were fewer calls than the rate allowed."""
        return self.used < _BUSY * (ticket.sent_at - self.began)

    def point(self, now: float, number: int) -> None:
        """Record that the bucket may be full before ticket `number`, which is sent now."""
        self._points.append((now, number))
        if len(self._points) > _MOST_POINTS:
            del self._points[1::2]

    def sent(self, ticket: Ticket) -> int:
        """Return how many requests were accepted before the request of `ticket`, the last rejected one."""
        return self._sent_since(self._points[0][1], ticket)

    def limit(self, ticket: Ticket, burst: float) -> float:
        """Return the limit of a bucket of `burst` tokens that was empty when the request of `ticket` arrived."""
        return max(
            (self._sent_since(number, ticket) - burst) / max(ticket.sent_at - at, _MOMENT)
            for at, number in self._points
            if at == self.began or at <= ticket.sent_at - _SHORTEST_MEASURE
        )

    def _sent_since(self, number: int, ticket: Ticket) -> int:
        return ticket.number - number - self.refused + 1


class ReactivePacer(Counting):
    """Doesn't limit the rate until the first 429. Then it paces just below the limit until a minute has no 429."""

    def __init__(self) -> None:
        super().__init__()
        self._paces = False
        self._rate = math.inf
        self._next = -math.inf
        self._held_until = -math.inf
        self._last_throttled = -math.inf
        self._reacted_at = 0
        self._blocked = 0
        self._refused: list[int] = []
        self._is_limited = False
        self._rise = 0.0

        # The limit, as far as it is known
        self._limit: float | None = None
        self._is_sure = False
        self._is_doubted = False
        self._first_rate = _FIRST_RATE
        self._climb = _UNSURE_CLIMB
        self._burst = _ASSUMED_BURST
        self._stampede: tuple[int, int, float] | None = None

        # Measurement
        self._interval: _Interval | None = None
        self._mark = (-math.inf, 0)
        self._mark_before = self._mark
        self._next_mark = -math.inf

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def estimate(self) -> float | None:
        return self._limit

    @property
    def phase(self) -> Phase:
        if not self._paces:
            return Phase.STEADY
        return Phase.START if self._limit is None else Phase.PROBE

    def __repr__(self) -> str:
        return f"<ReactivePacer {self.phase}, {self._rate:.3g}/s>"

    # The schedule

    def wait(self, now: float) -> float:
        if not self._paces:
            return self._reopens - now if self._reopens > now else 0.0
        if now > max(self._last_throttled + _STOPS_AFTER, self._reopens):
            self._stop()
            return 0.0
        return max(0.0, self._due - now)

    def _stop(self) -> None:
        """Stop pacing. The limit is unsure from now on. If the calls used the rate, the limit has risen."""
        self._paces = self._is_sure = self._is_limited = False
        self._rate = math.inf
        if self._interval is not None and self._interval.used >= _BUSY * _STOPS_AFTER:
            self._limit = None

    @property
    def _due(self) -> float:
        return max(self._next, self._held_until, self._reopens)

    def sent(self, now: float) -> Ticket:
        if now >= self._next_mark:
            self._mark_before, self._mark = self._mark, (now, self._sent - self._throttled)
            self._next_mark = now + _MEASURED_OVER
        self._sent += 1
        if self._paces:
            self._schedule(now)
        return Ticket(self._sent, now)

    def _schedule(self, now: float) -> None:
        interval = self._interval
        if interval is None:
            interval = self._interval = _Interval(now, self._sent, self._rise)
            self._is_limited |= self._are_several(*_SEVERAL)
            if not self._rise:
                self._refused.clear()
            self._next = now
        rate = self._risen_rate()
        if rate > _RISE * self._rate:
            interval.point(now, self._sent)
            self._rate = rate
        interval.used += 1.0 / rate
        self._next = max(self._due, now - max(LATENESS, _MADE_UP * self._burst / rate)) + 1.0 / rate

    def _risen_rate(self) -> float:
        """Return the rate after its rise since the last hold, which depends on how much the rate was used."""
        seconds = min(self._rise if self._interval is None else self._interval.rise, _LONGEST_RISE)
        if self._limit is None:
            return self._first_rate * math.exp(seconds * (_GROWTH + _GROWTH_OF_GROWTH * seconds))
        curve = 1.0 + _BELOW * (seconds / self._climb - 1) ** 3
        return max(_SLOWEST, self._limit * curve * math.exp(_AWAY * max(0.0, seconds - _AWAY_AFTER)))

    # Results

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count(verdict)
            self._throttle(now, ticket, self._hold(now, retry_after))
        elif self._paces and verdict is Verdict.ACCEPTED:
            self._accept(ticket)

    def _accept(self, ticket: Ticket) -> None:
        if ticket.number <= self._reacted_at or self._interval is None:
            return
        self._interval.accepted += 1
        self._blocked = 0

    def _throttle(self, now: float, ticket: Ticket, pause: float) -> None:
        self._last_throttled = now
        self._refused = sorted([*self._refused, ticket.number])[-_SEVERAL_CHEAP[0] :]
        if self._paces and ticket.number <= self._reacted_at:
            # An echo: it was sent before the last reaction.
            if self._stampede is not None:
                sent, refused, took = self._stampede
                self._stampede = (sent, refused + 1, took)
            return
        interval = self._interval
        if not self._paces or interval is None:
            self._begin(now, ticket)
        elif not interval.accepted:
            # Blocked rather than too fast: the limit stays as it is.
            self._blocked += 1
            pause = pause or min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(self._blocked - 1, 10))
        else:
            interval.refused += 1
            if self._is_confirmed(interval, ticket, pause):
                self._measure(interval, ticket, pause)
            elif pause < _A_PAUSE:
                self._held_until = max(self._held_until, now + 1.0 / self._rate)
                return
            else:
                self._rise = interval.rise
        self._react(now, pause)

    def _is_confirmed(self, interval: _Interval, ticket: Ticket, pause: float) -> bool:
        """Return True if a 429 is due to the limit. Otherwise only its pause is observed."""
        if pause < _A_PAUSE:
            return self._are_several(*_SEVERAL_CHEAP)
        if self._are_several(*_SEVERAL):
            self._is_limited = True
        elif interval.is_idle(ticket):
            self._is_limited = False
        return self._is_limited

    def _are_several(self, count: int, among: int) -> bool:
        return len(self._refused) >= count and self._refused[-1] - self._refused[-count] < among

    def _begin(self, now: float, ticket: Ticket) -> None:
        """Start pacing."""
        self._paces = True
        self._first_rate = self._measured(ticket) or _FIRST_RATE
        self._rise = 0.0
        at, sent = self._mark
        if now - at < _MEASURED_OVER / 2 and at - self._mark_before[0] > _LONGEST_MEASURE:
            # The bucket was full, and all calls were sent at once.
            self._stampede = (self._sent - self._throttled + 1 - sent, 1, now - at)

    def _measured(self, ticket: Ticket) -> float | None:
        """Return the rate at which requests were accepted until now, or None if that isn't a measurement."""
        for at, number in (self._mark, self._mark_before):
            seconds = ticket.sent_at - at
            if _MEASURED_OVER <= seconds <= _LONGEST_MEASURE:
                accepted = ticket.number - self._throttled - number
                return accepted / seconds if accepted >= _FEW else None
        return None

    def _react(self, now: float, pause: float) -> None:
        """Hold all calls. A new interval begins with the first call that is released."""
        self._interval = None
        self._reacted_at = self._sent
        self._rate = self._risen_rate()
        self._held_until = max(self._held_until, now + (pause or _REFILL / self._rate))

    # Choosing the limit

    def _measure(self, interval: _Interval, ticket: Ticket, pause: float) -> None:
        rate, seconds = self._rate, max(ticket.sent_at - interval.began, _MOMENT)
        accepted = max(1, interval.sent(ticket))
        self._rise = 0.0
        held = max(pause, _REFILL / rate)
        # All that flowed in since the last 429, including the hold, was given out or partly lost.
        least = accepted / (seconds + held)
        if accepted < _FEW:
            limit = math.sqrt(least * rate)
        else:
            self._learn_burst(accepted / seconds)
            if self._limit is not None and not self._is_sure and rate < self._limit:
                self._burst *= _LARGER  # because the limit is lower than estimated
            burst = min(self._burst, _REFUNDED * rate * held)
            limit = max(least, interval.limit(ticket, burst))
            if not interval.is_idle(ticket):
                limit = max(limit, _LEAST_SHARE * rate)
            limit = min(limit, rate)
        self._conclude(limit, rate, seconds, accepted, is_idle=interval.is_idle(ticket))
        self._climb = min(max(_CLIMB_PAUSES * pause, _SHORTEST_CLIMB), _LONGEST_CLIMB)
        if not self._is_sure:
            self._climb = min(self._climb, _UNSURE_CLIMB)

    def _conclude(self, limit: float, rate: float, seconds: float, accepted: int, *, is_idle: bool) -> None:
        known = self._limit
        if known is not None and is_idle:
            # There were fewer calls than the rate allowed: the accepted requests don't measure the limit.
            limit = max(limit, known)
        if known is not None and self._is_sure and rate < known:
            # A 429 that comes too early is doubted once: it may be a stray, or due to another user's burst.
            self._is_doubted = not self._is_doubted
            if self._is_doubted:
                limit = known
            else:
                self._is_sure = False
                if accepted >= _TOLERATED:
                    limit = max(limit, _TOLERATED_SHARE * rate)
        else:
            self._is_sure = seconds >= _SURE_AFTER
            self._is_doubted = False
        self._limit = max(limit, _SLOWEST)

    def _learn_burst(self, rate: float) -> None:
        if self._stampede is not None:
            sent, refused, took = self._stampede
            if took * rate < (sent - refused) / 2:  # otherwise more flowed in during that time than the bucket held
                self._burst = max(1.0, sent - refused - took * rate)
            self._stampede = None
