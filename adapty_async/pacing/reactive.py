"""The pacer of a client that was given none: it holds nothing back until the first 429.

A 429 holds every call: for its Retry-After, or, without one, until the bucket holds a few tokens again. Then the calls
are released one by one. While the limit isn't known, their rate grows ever faster; once it is, the rate follows a cubic
curve, as in TCP CUBIC: from just below the limit up to it, flat there, and away from it if nothing is rejected. So a
limit that has risen is found, and when the pacer stops after a minute without a 429, no calls wait that would leave all
at once. Only requests that are sent raise the rate, not the time that passes.

One 429 is no measurement: a limit can't be far below a rate of which 97 % are accepted, so several among a number of
requests are needed. Where a 429 costs every caller a pause, the curve is stretched over many pauses, and single ones
are believed as soon as it is known that there is a limit.

A limiter is taken for a bucket: it gave out `burst` tokens more than flowed in since it was full. The burst shows where
the first calls all leave at once: the bucket accepts so many of them.
"""

import math
from typing import Final

from .base import LATENESS, Counting, Phase, Ticket, Verdict

# After the first 429: this rate if none was measured. It grows by so much a second, and by more with each second.
_FIRST_RATE: Final = 25.0
_GROWTH: Final = 0.3
_GROWTH_OF_GROWTH: Final = 0.06
_LONGEST_RISE: Final = 60.0
_STOPS_AFTER: Final = 60.0
_SLOWEST: Final = 0.05

# A rate is measured over so many seconds of traffic without a gap, and so many requests. So many seconds without a
# request fill any bucket.
_MEASURED_OVER: Final = 1.0
_LONGEST_MEASURE: Final = 3.0
_SHORTEST_MEASURE: Final = 0.25
_MOMENT: Final = 0.001
_FEW: Final = 8

# The curve: from 3 % below the limit up to it, where it is flat. That takes so many pauses of a 429; less while the
# limit was measured for a few seconds only.
_BELOW: Final = 0.03
_CLIMB_PAUSES: Final = 10.0
_SHORTEST_CLIMB: Final = 2.0
_LONGEST_CLIMB: Final = 20.0
_UNSURE_CLIMB: Final = 3.0
_SURE_AFTER: Final = 5.0
# After so many seconds it grows by so much a second more: before the pacer stops, the calls that wait should be gone.
_AWAY_AFTER: Final = 40.0
_AWAY: Final = 0.2
# The calls use a rate that they use for such a share of the time.
_BUSY: Final = 0.75

# The burst while none was seen; and by how much it is larger where a limit turns out to be lower than was thought.
_ASSUMED_BURST: Final = 10.0
_LARGER: Final = 1.5
# A burst that is larger than this share of what flows in during the pause of a 429 is no reason to believe in a limit
# that is much lower: the pause costs less then than too low a rate.
_REFUNDED: Final = 0.25
# A wake-up that is late is made up for by at most this share of a burst.
_MADE_UP: Final = 0.25
# No limit is believed below this share of a rate at which some requests were accepted, nor, where a known limit seems
# to have fallen, below that share of a rate at which so many in a row were.
_LEAST_SHARE: Final = 0.5
_TOLERATED: Final = 33
_TOLERATED_SHARE: Final = 0.95
# A point for each rise of the rate by so much.
_RISE: Final = 1.03
_MOST_POINTS: Final = 64

# So many 429s among so many requests are a limit, not stray ones. Where a 429 costs no pause of so many seconds, there
# is time to be surer.
_A_PAUSE: Final = 0.5
_SEVERAL: Final = (4, 70)
_SEVERAL_CHEAP: Final = (5, 40)
# Tokens that the bucket should hold when calls are released.
_REFILL: Final = 4.0
# Where nothing at all is accepted: seconds.
_FIRST_BACKOFF: Final = 0.25
_LONGEST_BACKOFF: Final = 8.0


class _Interval:
    """What was sent since the last hold, up to the next 429."""

    def __init__(self, began: float, first: int, rise: float) -> None:
        self.began = began
        self._rise = rise
        self._points = [(began, first)]
        self.accepted = 0
        self.refused = 0
        self.used = 0.0
        """Seconds that the requests took at the rate of their time; in the rest there were none."""

    @property
    def rise(self) -> float:
        """Return for how many seconds the rate has risen: while it was used, and before that."""
        return self._rise + self.used

    def is_idle(self, ticket: Ticket) -> bool:
        """Tell whether the calls were fewer than might have left."""
        return self.used < _BUSY * (ticket.sent_at - self.began)

    def point(self, now: float, number: int) -> None:
        """Note that the bucket may be full before ticket `number`, which leaves now."""
        self._points.append((now, number))
        if len(self._points) > _MOST_POINTS:
            del self._points[1::2]

    def sent(self, ticket: Ticket) -> int:
        """Return how many requests were accepted before that of `ticket`, the last one that was refused."""
        return self._sent_since(self._points[0][1], ticket)

    def limit(self, ticket: Ticket, burst: float) -> float:
        """Return the limit of a bucket of `burst` that was empty when the request of `ticket` came."""
        return max(
            (self._sent_since(number, ticket) - burst) / max(ticket.sent_at - at, _MOMENT)
            for at, number in self._points
            if at == self.began or at <= ticket.sent_at - _SHORTEST_MEASURE
        )

    def _sent_since(self, number: int, ticket: Ticket) -> int:
        return ticket.number - number - self.refused + 1


class ReactivePacer(Counting):
    """Hold nothing back until the first 429; then pace just below the limit, until none has come for a minute."""

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

        # What is known of the limit
        self._limit: float | None = None
        self._is_sure = False
        self._is_doubted = False
        self._first_rate = _FIRST_RATE
        self._climb = _UNSURE_CLIMB
        self._burst = _ASSUMED_BURST
        self._stampede: tuple[int, int, float] | None = None

        # What is being measured
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
        """Stop to pace. What is known of the limit isn't sure any more: where the calls used the rate, it has risen."""
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
        """Return what the rate has risen to since the last hold, by as much as it was used."""
        seconds = min(self._rise if self._interval is None else self._interval.rise, _LONGEST_RISE)
        if self._limit is None:
            return self._first_rate * math.exp(seconds * (_GROWTH + _GROWTH_OF_GROWTH * seconds))
        curve = 1.0 + _BELOW * (seconds / self._climb - 1) ** 3
        return max(_SLOWEST, self._limit * curve * math.exp(_AWAY * max(0.0, seconds - _AWAY_AFTER)))

    # What is heard

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
            # An echo: it left before the last reaction.
            if self._stampede is not None:
                sent, refused, took = self._stampede
                self._stampede = (sent, refused + 1, took)
            return
        interval = self._interval
        if not self._paces or interval is None:
            self._begin(now, ticket)
        elif not interval.accepted:
            # Not too fast but blocked: the limit stays what it is.
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
        """Tell whether a 429 is the limit's; else only its pause is kept."""
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
        """Begin to pace."""
        self._paces = True
        self._first_rate = self._measured(ticket) or _FIRST_RATE
        self._rise = 0.0
        at, sent = self._mark
        if now - at < _MEASURED_OVER / 2 and at - self._mark_before[0] > _LONGEST_MEASURE:
            # The bucket was full, and all has left at once.
            self._stampede = (self._sent - self._throttled + 1 - sent, 1, now - at)

    def _measured(self, ticket: Ticket) -> float | None:
        """Return the rate at which requests were accepted up to now, None if that is no measurement."""
        for at, number in (self._mark, self._mark_before):
            seconds = ticket.sent_at - at
            if _MEASURED_OVER <= seconds <= _LONGEST_MEASURE:
                accepted = ticket.number - self._throttled - number
                return accepted / seconds if accepted >= _FEW else None
        return None

    def _react(self, now: float, pause: float) -> None:
        """Hold everything, and begin a new interval with the first that is released."""
        self._interval = None
        self._reacted_at = self._sent
        self._rate = self._risen_rate()
        self._held_until = max(self._held_until, now + (pause or _REFILL / self._rate))

    # What the limit is

    def _measure(self, interval: _Interval, ticket: Ticket, pause: float) -> None:
        rate, seconds = self._rate, max(ticket.sent_at - interval.began, _MOMENT)
        accepted = max(1, interval.sent(ticket))
        self._rise = 0.0
        held = max(pause, _REFILL / rate)
        # What flowed in since the last 429, the hold included, was given out, or some of it was lost.
        least = accepted / (seconds + held)
        if accepted < _FEW:
            limit = math.sqrt(least * rate)
        else:
            self._learn_burst(accepted / seconds)
            if self._limit is not None and not self._is_sure and rate < self._limit:
                self._burst *= _LARGER  # for the limit is lower than was thought
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
            # The calls were fewer than might have left: what was accepted is no measure of the limit.
            limit = max(limit, known)
        if known is not None and self._is_sure and rate < known:
            # Too early a 429 is doubted once: it may be a stray one, or somebody else's burst.
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
            if took * rate < (sent - refused) / 2:  # else more flowed in meanwhile than the bucket held
                self._burst = max(1.0, sent - refused - took * rate)
            self._stampede = None
