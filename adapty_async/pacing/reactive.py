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

from .base import MAX_LATENESS_SECONDS, BasePacer, Phase, Ticket, Verdict

# The rate after the first 429 if none was measured, in requests per second. Then its growth per second, and the
# increase of that growth per second.
_DEFAULT_RATE: Final = 25.0
_GROWTH_PER_SECOND: Final = 0.3
_GROWTH_ACCELERATION: Final = 0.06
_MAX_RISE_SECONDS: Final = 60.0
_STOP_AFTER_SECONDS: Final = 60.0
_MIN_RATE: Final = 0.05

# A rate is measured over at least this many seconds of traffic without a gap, and this many requests. A gap of the
# longest measure fills any bucket.
_MIN_MEASURE_SECONDS: Final = 1.0
_MAX_MEASURE_SECONDS: Final = 3.0
_MIN_POINT_AGE_SECONDS: Final = 0.25
_MIN_INTERVAL_SECONDS: Final = 0.001
_MIN_MEASURED_REQUESTS: Final = 8

# The curve goes from 3% below the limit up to it, where it is flat. That takes this many pauses of a 429, or less while
# the limit was only measured for a few seconds.
_CURVE_DEPTH_RATIO: Final = 0.03
_CLIMB_HOLDS: Final = 10.0
_MIN_CLIMB_SECONDS: Final = 2.0
_MAX_CLIMB_SECONDS: Final = 20.0
_UNSURE_CLIMB_SECONDS: Final = 3.0
_SURE_AFTER_SECONDS: Final = 5.0
# After this many seconds the rate grows faster by this much per second: before pacing stops, no calls should be
# waiting.
_FAST_GROWTH_AFTER_SECONDS: Final = 40.0
_FAST_GROWTH_PER_SECOND: Final = 0.2
# The calls use up a rate if they use it for at least this share of the time.
_MIN_BUSY_RATIO: Final = 0.75

# The burst before one was measured, and how much larger it is if the limit turns out lower than estimated.
_DEFAULT_BURST: Final = 10.0
_BURST_GROWTH_FACTOR: Final = 1.5
# A burst larger than this share of the inflow during a 429's pause is no reason to believe in a much lower limit: the
# pause then costs less than too low a rate.
_MAX_BURST_RATIO: Final = 0.25
# Lateness is made up for by at most this share of a burst.
_MAX_CATCH_UP_RATIO: Final = 0.25
# A limit below the first share of a rate at which some requests were accepted isn't believed. If a known limit seems to
# have fallen, the last share applies, of a rate at which this many requests in a row were accepted.
_MIN_LIMIT_RATIO: Final = 0.5
_TOLERATED_REQUESTS: Final = 33
_TOLERATED_RATIO: Final = 0.95
# A point is recorded each time the rate has risen by this factor.
_POINT_RISE_FACTOR: Final = 1.03
_MAX_POINTS: Final = 64

# This many 429s among this many requests are due to a limit, not strays. If a 429 costs a pause shorter than this many
# seconds, there is time to be surer.
_MIN_HOLD_SECONDS: Final = 0.5
_CONFIRMATION: Final = (4, 70)
_CHEAP_CONFIRMATION: Final = (5, 40)
# Tokens that the bucket should hold when calls are released.
_REFILL_TOKENS: Final = 4.0
# Backoff in seconds while nothing is accepted.
_INITIAL_BACKOFF_SECONDS: Final = 0.25
_MAX_BACKOFF_SECONDS: Final = 8.0


class _Interval:
    """The requests sent since the last hold, up to the next 429."""

    def __init__(self, started_at: float, first_number: int, rise_seconds: float) -> None:
        self.started_at = started_at
        self._earlier_rise_seconds = rise_seconds
        self._points = [(started_at, first_number)]
        self.accepted_count = 0
        self.rejected = 0
        self.used_seconds = 0.0
        """Seconds that the requests took at the rate of their time. The calls were idle in the rest."""

    @property
    def rise_seconds(self) -> float:
        """The seconds for which the rate has risen: while it was used, and before this interval."""
        return self._earlier_rise_seconds + self.used_seconds

    def is_idle(self, ticket: Ticket) -> bool:
        """Return True if there were fewer calls than the rate allowed."""
        return self.used_seconds < _MIN_BUSY_RATIO * (ticket.sent_at - self.started_at)

    def add_full_point(self, now: float, number: int) -> None:
        """Record that the bucket may be full before ticket `number`, which is sent now."""
        self._points.append((now, number))
        if len(self._points) > _MAX_POINTS:
            del self._points[1::2]

    def count_accepted_requests(self, ticket: Ticket) -> int:
        """Return how many requests were accepted before the request of `ticket`, the last rejected one."""
        return self._count_accepted_since(self._points[0][1], ticket)

    def estimate_limit(self, ticket: Ticket, burst: float) -> float:
        """Return the limit of a bucket of `burst` tokens that was empty when the request of `ticket` arrived."""
        return max(
            (self._count_accepted_since(number, ticket) - burst) / max(ticket.sent_at - at, _MIN_INTERVAL_SECONDS)
            for at, number in self._points
            if at == self.started_at or at <= ticket.sent_at - _MIN_POINT_AGE_SECONDS
        )

    def _count_accepted_since(self, number: int, ticket: Ticket) -> int:
        return ticket.number - number - self.rejected + 1


class ReactivePacer(BasePacer):
    """Doesn't limit the rate until the first 429. Then it paces just below the limit until a minute has no 429."""

    def __init__(self) -> None:
        super().__init__()
        self._is_pacing = False
        self._rate = math.inf
        self._next_slot = -math.inf
        self._backoff_until = -math.inf
        self._last_rate_limited_at = -math.inf
        self._reacted_up_to = 0
        self._blocked_count = 0
        self._rejected_numbers: list[int] = []
        self._is_limited = False
        self._rise_seconds = 0.0

        # The limit, as far as it is known
        self._limit: float | None = None
        self._is_sure = False
        self._is_doubted = False
        self._first_rate = _DEFAULT_RATE
        self._climb_seconds = _UNSURE_CLIMB_SECONDS
        self._burst = _DEFAULT_BURST
        self._stampede: tuple[int, int, float] | None = None

        # Measurement
        self._interval: _Interval | None = None
        self._mark = (-math.inf, 0)
        self._mark_before = self._mark
        self._next_mark_at = -math.inf

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def estimate(self) -> float | None:
        return self._limit

    @property
    def phase(self) -> Phase:
        if not self._is_pacing:
            return Phase.STEADY
        return Phase.START if self._limit is None else Phase.PROBE

    def __repr__(self) -> str:
        return f"<ReactivePacer {self.phase}, {self._rate:.3g}/s>"

    # The schedule

    def delay(self, now: float) -> float:
        if not self._is_pacing:
            return self._hold_until - now if self._hold_until > now else 0.0
        if now > max(self._last_rate_limited_at + _STOP_AFTER_SECONDS, self._hold_until):
            self._stop_pacing()
            return 0.0
        return max(0.0, self._next_send_at - now)

    def _stop_pacing(self) -> None:
        """Stop pacing. The limit is unsure from now on. If the calls used the rate, the limit has risen."""
        self._is_pacing = self._is_sure = self._is_limited = False
        self._rate = math.inf
        if self._interval is not None and self._interval.used_seconds >= _MIN_BUSY_RATIO * _STOP_AFTER_SECONDS:
            self._limit = None

    @property
    def _next_send_at(self) -> float:
        return max(self._next_slot, self._backoff_until, self._hold_until)

    def acquire(self, now: float) -> Ticket:
        if now >= self._next_mark_at:
            self._mark_before, self._mark = self._mark, (now, self._sent - self._throttled)
            self._next_mark_at = now + _MIN_MEASURE_SECONDS
        self._sent += 1
        if self._is_pacing:
            self._schedule_next(now)
        return Ticket(self._sent, now)

    def _schedule_next(self, now: float) -> None:
        interval = self._interval
        if interval is None:
            interval = self._interval = _Interval(now, self._sent, self._rise_seconds)
            self._is_limited |= self._is_repeated(*_CONFIRMATION)
            if not self._rise_seconds:
                self._rejected_numbers.clear()
            self._next_slot = now
        rate = self._compute_rate()
        if rate > _POINT_RISE_FACTOR * self._rate:
            interval.add_full_point(now, self._sent)
            self._rate = rate
        interval.used_seconds += 1.0 / rate
        self._next_slot = (
            max(self._next_send_at, now - max(MAX_LATENESS_SECONDS, _MAX_CATCH_UP_RATIO * self._burst / rate))
            + 1.0 / rate
        )

    def _compute_rate(self) -> float:
        """Return the rate after its rise since the last hold, which depends on how much the rate was used."""
        seconds = min(self._rise_seconds if self._interval is None else self._interval.rise_seconds, _MAX_RISE_SECONDS)
        if self._limit is None:
            return self._first_rate * math.exp(seconds * (_GROWTH_PER_SECOND + _GROWTH_ACCELERATION * seconds))
        curve = 1.0 + _CURVE_DEPTH_RATIO * (seconds / self._climb_seconds - 1) ** 3
        return max(
            _MIN_RATE,
            self._limit * curve * math.exp(_FAST_GROWTH_PER_SECOND * max(0.0, seconds - _FAST_GROWTH_AFTER_SECONDS)),
        )

    # Results

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count_verdict(verdict)
            self._on_rate_limited(now, ticket, self._hold(now, retry_after))
        elif self._is_pacing and verdict is Verdict.ACCEPTED:
            self._on_accepted(ticket)

    def _on_accepted(self, ticket: Ticket) -> None:
        if ticket.number <= self._reacted_up_to or self._interval is None:
            return
        self._interval.accepted_count += 1
        self._blocked_count = 0

    def _on_rate_limited(self, now: float, ticket: Ticket, hold_seconds: float) -> None:
        self._last_rate_limited_at = now
        self._rejected_numbers = sorted([*self._rejected_numbers, ticket.number])[-_CHEAP_CONFIRMATION[0] :]
        if self._is_pacing and ticket.number <= self._reacted_up_to:
            # An echo: it was sent before the last reaction.
            if self._stampede is not None:
                sent, rejected, seconds = self._stampede
                self._stampede = (sent, rejected + 1, seconds)
            return
        interval = self._interval
        if not self._is_pacing or interval is None:
            self._start(now, ticket)
        elif not interval.accepted_count:
            # Blocked rather than too fast: the limit stays as it is.
            self._blocked_count += 1
            hold_seconds = hold_seconds or min(
                _MAX_BACKOFF_SECONDS, _INITIAL_BACKOFF_SECONDS * 2.0 ** min(self._blocked_count - 1, 10)
            )
        else:
            interval.rejected += 1
            if self._is_confirmed(interval, ticket, hold_seconds):
                self._measure_limit(interval, ticket, hold_seconds)
            elif hold_seconds < _MIN_HOLD_SECONDS:
                self._backoff_until = max(self._backoff_until, now + 1.0 / self._rate)
                return
            else:
                self._rise_seconds = interval.rise_seconds
        self._start_backoff(now, hold_seconds)

    def _is_confirmed(self, interval: _Interval, ticket: Ticket, hold_seconds: float) -> bool:
        """Return True if a 429 is due to the limit. Otherwise only its pause is observed."""
        if hold_seconds < _MIN_HOLD_SECONDS:
            return self._is_repeated(*_CHEAP_CONFIRMATION)
        if self._is_repeated(*_CONFIRMATION):
            self._is_limited = True
        elif interval.is_idle(ticket):
            self._is_limited = False
        return self._is_limited

    def _is_repeated(self, min_count: int, max_span: int) -> bool:
        return (
            len(self._rejected_numbers) >= min_count
            and self._rejected_numbers[-1] - self._rejected_numbers[-min_count] < max_span
        )

    def _start(self, now: float, ticket: Ticket) -> None:
        """Start pacing."""
        self._is_pacing = True
        self._first_rate = self._measure_rate(ticket) or _DEFAULT_RATE
        self._rise_seconds = 0.0
        at, sent = self._mark
        if now - at < _MIN_MEASURE_SECONDS / 2 and at - self._mark_before[0] > _MAX_MEASURE_SECONDS:
            # The bucket was full, and all calls were sent at once.
            self._stampede = (self._sent - self._throttled + 1 - sent, 1, now - at)

    def _measure_rate(self, ticket: Ticket) -> float | None:
        """Return the rate at which requests were accepted until now, or None if that isn't a measurement."""
        for at, number in (self._mark, self._mark_before):
            seconds = ticket.sent_at - at
            if _MIN_MEASURE_SECONDS <= seconds <= _MAX_MEASURE_SECONDS:
                accepted = ticket.number - self._throttled - number
                return accepted / seconds if accepted >= _MIN_MEASURED_REQUESTS else None
        return None

    def _start_backoff(self, now: float, hold_seconds: float) -> None:
        """Hold all calls. A new interval begins with the first call that is released."""
        self._interval = None
        self._reacted_up_to = self._sent
        self._rate = self._compute_rate()
        self._backoff_until = max(self._backoff_until, now + (hold_seconds or _REFILL_TOKENS / self._rate))

    # Choosing the limit

    def _measure_limit(self, interval: _Interval, ticket: Ticket, hold_seconds: float) -> None:
        rate, seconds = self._rate, max(ticket.sent_at - interval.started_at, _MIN_INTERVAL_SECONDS)
        accepted = max(1, interval.count_accepted_requests(ticket))
        self._rise_seconds = 0.0
        backoff_seconds = max(hold_seconds, _REFILL_TOKENS / rate)
        # All that flowed in since the last 429, including the hold, was given out or partly lost.
        min_limit = accepted / (seconds + backoff_seconds)
        if accepted < _MIN_MEASURED_REQUESTS:
            limit = math.sqrt(min_limit * rate)
        else:
            self._learn_burst(accepted / seconds)
            if self._limit is not None and not self._is_sure and rate < self._limit:
                self._burst *= _BURST_GROWTH_FACTOR  # because the limit is lower than estimated
            burst = min(self._burst, _MAX_BURST_RATIO * rate * backoff_seconds)
            limit = max(min_limit, interval.estimate_limit(ticket, burst))
            if not interval.is_idle(ticket):
                limit = max(limit, _MIN_LIMIT_RATIO * rate)
            limit = min(limit, rate)
        self._update_limit(limit, rate, seconds, accepted, is_idle=interval.is_idle(ticket))
        self._climb_seconds = min(max(_CLIMB_HOLDS * hold_seconds, _MIN_CLIMB_SECONDS), _MAX_CLIMB_SECONDS)
        if not self._is_sure:
            self._climb_seconds = min(self._climb_seconds, _UNSURE_CLIMB_SECONDS)

    def _update_limit(self, limit: float, rate: float, seconds: float, accepted: int, *, is_idle: bool) -> None:
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
                if accepted >= _TOLERATED_REQUESTS:
                    limit = max(limit, _TOLERATED_RATIO * rate)
        else:
            self._is_sure = seconds >= _SURE_AFTER_SECONDS
            self._is_doubted = False
        self._limit = max(limit, _MIN_RATE)

    def _learn_burst(self, rate: float) -> None:
        if self._stampede is not None:
            sent, rejected, seconds = self._stampede
            if seconds * rate < (sent - rejected) / 2:  # otherwise more flowed in during that time than the bucket held
                self._burst = max(1.0, sent - rejected - seconds * rate)
            self._stampede = None
