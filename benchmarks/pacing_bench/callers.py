"""A web app at a hidden limit: callers that wait for each response, in virtual time, with the client's retry policy."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from adapty_async import RateLimitError, RetryPolicy
from adapty_async.pacing import AdaptivePacer, Pacer, ReactivePacer, Ticket, Unpaced, Verdict
from adapty_async.pacing.base import BasePacer
from benchmarks.rate_simulation import BIN, Answer, FixedWindows, Limiter, Simulation, Tally, TokenBucket, World

SECONDS: Final = 60.0
_POLICY: Final = RetryPolicy()
# Seconds after which a caller whose call failed makes its next one.
_AFTER_FAILURE: Final = 0.1


@dataclass(frozen=True)
class Served:
    """The results of all calls."""

    tally: Tally
    seconds: float
    calls: int
    failed: int

    @property
    def rate(self) -> float:
        """Accepted requests per second."""
        return sum(self.tally.accepted) / self.seconds

    @property
    def failed_share(self) -> float:
        """The share of failed calls among all calls that ended."""
        return self.failed / max(1, self.calls)

    @property
    def rejected(self) -> int:
        """The number of 429s."""
        return sum(self.tally.refused)

    def rate_between(self, first: float, last: float) -> float:
        """Return the accepted requests per second between two times."""
        return sum(self.tally.accepted[int(first / BIN) : int(last / BIN)]) / (last - first)

    def worst_second_of_429s(self, after: float) -> int:
        """Return the maximum number of 429s within a second."""
        refused = self.tally.refused[int(after / BIN) :]
        return max(map(sum, itertools.pairwise(refused)))


class Callers:
    """Callers that each make one call after the other, through one send queue in front of a pacer."""

    def __init__(self, simulation: Simulation, pacer: Pacer, callers: int) -> None:
        self._simulation = simulation
        self._pacer = pacer
        self._queue: deque[int] = deque()
        self._alarm = callers  # the number with which the queue is woken
        self._alarm_at = -math.inf
        self._attempts = [0] * callers
        self._began = [0.0] * callers
        self.calls = self.failed = 0

    def wake(self, now: float, who: int) -> None:
        if who == self._alarm:
            if now < self._alarm_at:
                return
            self._alarm_at = -math.inf
        else:
            self._queue.append(who)
        self._release(now)

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        pause, rng = answer.retry_after, self._simulation.rng
        if pause is not None:
            pause *= 1.0 + rng.uniform(0.0, 0.1)
        self._pacer.record(now, request, answer.verdict, pause)
        if answer.verdict is Verdict.ACCEPTED:
            self._end(now, who, failed=False)
        else:
            error, number = RateLimitError(status=429), self._attempts[who]
            elapsed = now - self._began[who]
            wait = _POLICY.get_retry_delay(error, number, elapsed, is_resendable=True, retry_after=pause, rng=rng)
            if wait is None:
                self._end(now + _AFTER_FAILURE, who, failed=True)
            else:
                self._simulation.wake_at(now + wait, who)
        self._release(now)

    def _end(self, now: float, who: int, *, failed: bool) -> None:
        self.calls += 1
        self.failed += failed
        self._attempts[who] = 0
        self._simulation.wake_at(now, who)

    def _release(self, now: float) -> None:
        while self._queue:
            wait = self._pacer.delay(now)
            if wait > 1e-9:
                if now + wait != self._alarm_at:
                    self._alarm_at = now + wait
                    self._simulation.wake_at(self._alarm_at, self._alarm)
                return
            who = self._queue.popleft()
            if not self._attempts[who]:
                self._began[who] = now
            self._attempts[who] += 1
            self._simulation.send(now, self._pacer.acquire(now), who)


class Alone(BasePacer):
    """No pacer: each call only waits before its own retries, as with most clients."""

    def delay(self, now: float) -> float:
        return 0.0

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._count_verdict(verdict)


def serve(world: World, pacer: Pacer, callers: int, seed: int) -> Served:
    """Run `callers` callers until the end of the world."""
    simulation = Simulation(world, seed)
    them = Callers(simulation, pacer, callers)
    tally = simulation.run(them, callers=callers)
    return Served(tally, world.seconds, them.calls, them.failed)


_KINDS: Final[dict[str, Callable[[], Pacer]]] = {
    "the default": ReactivePacer,
    "`AdaptivePacer()`": AdaptivePacer,
    "`UNPACED`": Unpaced,
    "each call alone": Alone,
}
_LIMITS: Final[dict[str, tuple[Callable[[], Limiter], float | None, float]]] = {
    "50/s, burst 10, Retry-After 2": (lambda: TokenBucket(50, 10), 2.0, 0.0),
    "50/s, burst 10, Retry-After 1": (lambda: TokenBucket(50, 10), 1.0, 0.0),
    "50/s, burst 10": (lambda: TokenBucket(50, 10), None, 0.0),
    "50/s, burst 50, Retry-After 2": (lambda: TokenBucket(50, 50), 2.0, 0.0),
    "windows of 50 per second, Retry-After 1": (lambda: FixedWindows(50, 1.0), 1.0, 0.0),
    "5/s, burst 5, Retry-After 2": (lambda: TokenBucket(5, 5), 2.0, 0.0),
    "50/s, burst 10, and 0.2 % stray 429s": (lambda: TokenBucket(50, 10), None, 0.002),
    "50/s, burst 10, and 3 % stray 429s": (lambda: TokenBucket(50, 10), None, 0.03),
}


def callers_table(seeds: int = 5, callers: int = 50) -> Iterator[str]:
    """Yield a table of the calls served per second and the share of failed ones."""
    yield f"| hidden limiter | {' | '.join(_KINDS)} |"
    yield "|---" * (1 + len(_KINDS)) + "|"
    for name, limit in _LIMITS.items():
        cells = (
            _cell([serve(_world(*limit), make(), callers, seed) for seed in range(seeds)]) for make in _KINDS.values()
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _world(limiter: Callable[[], Limiter], pause: float | None, stray: float) -> World:
    def fault(now: float, draw: float) -> Answer | None:
        return Answer(Verdict.THROTTLED, pause) if draw < stray else None

    return World(limiter, SECONDS, retry_after=lambda _: pause, fault=fault, delay=lambda _: 0.05)


def _cell(runs: list[Served]) -> str:
    rate = sum(run.rate for run in runs) / len(runs)
    failed = sum(run.failed_share for run in runs) / len(runs)
    return f"{rate:.1f}/s, {100 * failed:.1f} %"
