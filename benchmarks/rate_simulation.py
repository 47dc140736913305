"""A simulation of rate limits and callers in virtual time: discrete events, no event loop, an hour in seconds.

It only models what matters to a pacer: when requests are sent, when they reach the limiter, and when their responses
arrive. The limiters share no code with the pacers that search for their limits.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from adapty_async.pacing import MAX_RETRY_AFTER, Pacer, Ticket, Verdict

BIN: Final = 0.5
"""The length of a bin of a Tally in seconds."""


# Limiters


class Limiter(Protocol):
    """Decides whether a request that arrives at `now` is accepted."""

    def accepts(self, now: float) -> bool: ...


class TokenBucket:
    """A token bucket: `rate` tokens per second flow in, it holds at most `burst` tokens, and a request takes one.

    `charge_refused`: a rejected request takes one too, down to a debt of `burst`. `rates`: later rates and when they
    begin.
    """

    def __init__(
        self, rate: float, burst: float, *, charge_refused: bool = False, rates: Sequence[tuple[float, float]] = ()
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._charge_refused = charge_refused
        self._rates = list(rates)
        self._tokens = float(burst)
        self._seen = 0.0

    def accepts(self, now: float) -> bool:
        while self._rates and self._rates[0][0] <= now:
            change, rate = self._rates.pop(0)
            self._fill(change)
            self._rate = rate
        self._fill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return True
        if self._charge_refused:
            self._tokens = max(self._tokens - 1.0, -self._burst)
        return False

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._seen))
        self._seen = now


class FixedWindows:
    """At most `calls` in each window of `seconds`. The windows follow the clock."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._window = -1
        self._used = 0

    def accepts(self, now: float) -> bool:
        # Windows don't start with the job.
        window = math.floor(now / self._seconds + 0.37)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self._calls:
            return False
        self._used += 1
        return True


class SlidingWindow:
    """At most `calls` within any period of `seconds`."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._seconds = seconds
        self._accepted = deque([-math.inf] * calls, maxlen=calls)

    def accepts(self, now: float) -> bool:
        if self._accepted[0] > now - self._seconds:
            return False
        self._accepted.append(now)
        return True


# The network and the servers


@dataclass(frozen=True)
class Answer:
    """A response: a verdict, and its Retry-After in seconds."""

    verdict: Verdict
    retry_after: float | None = None


ACCEPTED: Final = Answer(Verdict.ACCEPTED)


@dataclass(frozen=True)
class World:
    """A hidden limit and its environment.

    `retry_after` returns the Retry-After of a 429, given its number. `fault(now, draw)` may respond before the limiter;
    `draw` is uniform in [0, 1). `delay(now)` is the round trip, which varies log-normally with `jitter`. `production`
    returns the seconds until the next request of another user of the key. `asleep(now)` returns the time until which
    the caller's event loop is blocked, if it is blocked at `now`.
    """

    limiter: Callable[[], Limiter]
    seconds: float
    retry_after: Callable[[int], float | None] = lambda _: None
    fault: Callable[[float, float], Answer | None] = lambda _now, _draw: None
    delay: Callable[[float], float] = lambda _: 0.1
    jitter: float = 0.2
    production: Callable[[random.Random], float] | None = None
    asleep: Callable[[float], float] = lambda now: now
    under_way: int = 64


@dataclass
class Tally:
    """Counts in bins of BIN seconds, by time of arrival (accepted, refused) and of departure (sent)."""

    sent: list[int]
    accepted: list[int]
    refused: list[int]
    production_sent: int = 0
    production_refused: int = 0
    too_early: int = 0
    rates: list[float] = field(default_factory=list)
    estimates: list[float | None] = field(default_factory=list)

    @classmethod
    def of(cls, seconds: float) -> "Tally":
        """Return an empty tally."""
        bins = math.ceil(seconds / BIN)
        return cls([0] * bins, [0] * bins, [0] * bins)


class Caller(Protocol):
    """A job with more requests than may be sent."""

    def wake(self, now: float, who: int) -> None:
        """Continue, at the start or at a time passed to `Simulation.wake_at`."""
        ...

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        """Handle a response."""
        ...


_ARRIVES, _ANSWERED, _WAKES, _PRODUCTION, _LOOKS = range(5)


class Simulation:
    """A job in a world."""

    def __init__(self, world: World, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self._world = world
        self._limiter = world.limiter()
        self._events: list[tuple[float, int, int, int, Ticket | None, Answer | None]] = []
        self._pushed = 0
        self._throttled = 0
        self._told_until = -math.inf
        self.tally = Tally.of(world.seconds)

    def run(self, caller: Caller, *, pacer: Pacer | None = None, callers: int = 1) -> Tally:
        """Run the job until the end of the world. The rate of `pacer` is sampled once per bin."""
        world, tally = self._world, self.tally
        for who in range(callers):
            self.wake_at(0.0, who)
        if world.production:
            self._push(world.production(self.rng), _PRODUCTION, 0, None, None)
        if pacer is not None:
            self._push(BIN, _LOOKS, 0, None, None)
        while self._events:
            now, _, kind, who, ticket, answer = heapq.heappop(self._events)
            if now >= world.seconds:
                break
            if kind == _ARRIVES:
                assert ticket is not None
                answer = self._answer(now)
                back = world.delay(ticket.sent_at) / 2 * self.rng.lognormvariate(0.0, world.jitter)
                self._push(now + back, _ANSWERED, who, ticket, answer)
            elif kind == _PRODUCTION:
                assert world.production is not None
                tally.production_sent += 1
                tally.production_refused += not self._limiter.accepts(now)
                self._push(now + world.production(self.rng), _PRODUCTION, 0, None, None)
            elif kind == _LOOKS:
                assert pacer is not None
                tally.rates.append(pacer.rate)
                tally.estimates.append(pacer.estimate)
                self._push(now + BIN, _LOOKS, 0, None, None)
            elif (awake := world.asleep(now)) > now:
                self._push(awake, kind, who, ticket, answer)
            elif kind == _ANSWERED:
                assert ticket is not None
                assert answer is not None
                if answer.retry_after is not None and 0 < answer.retry_after <= MAX_RETRY_AFTER:
                    self._told_until = max(self._told_until, now + answer.retry_after)
                caller.answered(now, ticket, who, answer)
            else:
                caller.wake(now, who)
        return tally

    def wake_at(self, when: float, who: int) -> None:
        """Wake the caller at a time."""
        self._push(when, _WAKES, who, None, None)

    def send(self, now: float, request: Ticket, who: int = 0) -> None:
        """Send a request."""
        self.tally.sent[int(now / BIN)] += 1
        self.tally.too_early += now < self._told_until
        there = self._world.delay(now) / 2 * self.rng.lognormvariate(0.0, self._world.jitter)
        self._push(now + there, _ARRIVES, who, request, None)

    def _answer(self, now: float) -> Answer:
        answer = self._world.fault(now, self.rng.random())
        if answer is None and self._limiter.accepts(now):
            answer = ACCEPTED
        if answer is None:
            self._throttled += 1
            answer = Answer(Verdict.THROTTLED, self._world.retry_after(self._throttled))
        if answer.verdict is Verdict.ACCEPTED:
            self.tally.accepted[int(now / BIN)] += 1
        elif answer.verdict is Verdict.THROTTLED:
            self.tally.refused[int(now / BIN)] += 1
        return answer

    def _push(self, when: float, kind: int, who: int, ticket: Ticket | None, answer: Answer | None) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (when, self._pushed, kind, who, ticket, answer))


# Callers


class PacedJob:
    """A job that always has requests waiting for its pacer; at most `under_way` are in flight."""

    def __init__(self, simulation: Simulation, pacer: Pacer, under_way: int) -> None:
        self._simulation = simulation
        self._pacer = pacer
        self._bound = under_way
        self._under_way = 0
        self._wakes = -math.inf

    def wake(self, now: float, who: int) -> None:
        if now >= self._wakes:
            self._wakes = -math.inf
            self._send(now)

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        self._under_way -= 1
        pause = answer.retry_after
        if pause is not None:  # as the client's send queue does
            pause *= 1.0 + self._simulation.rng.uniform(0.0, 0.1)
        self._pacer.record(now, request, answer.verdict, pause)
        self._send(now)

    def _send(self, now: float) -> None:
        while self._under_way < self._bound:
            wait = self._pacer.delay(now)
            if wait > 1e-9:
                if now + wait != self._wakes:
                    self._wakes = now + wait
                    self._simulation.wake_at(self._wakes, 0)
                return
            self._under_way += 1
            self._simulation.send(now, self._pacer.acquire(now))


class BackingOff:
    """Workers without a pacer. Each backs off on its own: full jitter, 0.5 s doubling to 8 s, or the Retry-After."""

    def __init__(self, simulation: Simulation, workers: int) -> None:
        self._simulation = simulation
        self._refused_in_a_row = [0] * workers
        self._sent = 0

    def wake(self, now: float, who: int) -> None:
        self._sent += 1
        self._simulation.send(now, Ticket(self._sent, now), who)

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        if answer.verdict is Verdict.ACCEPTED:
            self._refused_in_a_row[who] = 0
            self.wake(now, who)
            return
        backoff = min(8.0, 0.5 * 2 ** self._refused_in_a_row[who])
        self._refused_in_a_row[who] += 1
        pause = self._simulation.rng.uniform(0.0, backoff)
        if answer.retry_after is not None and 0 < answer.retry_after <= MAX_RETRY_AFTER:
            pause = answer.retry_after * self._simulation.rng.uniform(1.0, 1.1)
        self._simulation.wake_at(now + pause, who)
