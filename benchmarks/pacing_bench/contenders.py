"""The pacers that are compared: ours, common alternatives, and a fixed rate that knows the limit."""

import math
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from adapty_async.pacing import FixedPacer, Pacer, Ticket, Verdict
from adapty_async.pacing.base import MAX_LATENESS_SECONDS, BasePacer
from benchmarks.pacing_bench.figures import Figures, Run, Scenario
from benchmarks.rate_simulation import BackingOff, PacedJob, Simulation, Tally


class Cubic(BasePacer):
    """Adapts like botocore's retry mode "adaptive": a token bucket whose rate follows a cubic curve.

    After a 429 the rate drops to 0.7 of the measured rate, returns to it and rises beyond. The rate is measured by half
    seconds of the wall clock, which shows `clock` at the start. As in botocore, a Retry-After holds nothing.
    """

    _SCALE, _BETA, _SMOOTHING, _SLOWEST = 0.4, 0.7, 0.8, 0.5

    def __init__(self, clock: float = 0.0) -> None:
        super().__init__()
        self._enabled = False  # until the first 429
        self._rate = self._capacity = 1.0
        self._tokens = self._filled = 0.0
        self._most = self._inflection = 0.0
        self._failed = 0.0
        self._clock = clock
        self._measured = 0.0
        self._heard = 0
        self._half_second = float(math.floor(clock))

    @property
    def rate(self) -> float:
        return self._rate if self._enabled else math.inf

    def delay(self, now: float) -> float:
        if not self._enabled:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def acquire(self, now: float) -> Ticket:
        self._fill(now)
        self._tokens -= self._enabled
        return super().acquire(now)

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        measured = self._measure(now + self._clock)
        if verdict is Verdict.THROTTLED:
            self._most = min(measured, self._rate) if self._enabled else measured
            self._inflection = (self._most * (1 - self._BETA) / self._SCALE) ** (1 / 3)
            self._failed, self._enabled = now, True
            rate = self._BETA * self._most
        else:
            rate = self._SCALE * (now - self._failed - self._inflection) ** 3 + self._most
        rate = min(rate, 2 * measured)
        self._fill(now)
        self._rate = max(self._SLOWEST, rate)
        self._capacity = max(1.0, rate)
        self._tokens = min(self._tokens, self._capacity)

    def _measure(self, clock: float) -> float:
        self._heard += 1
        half_second = math.floor(clock * 2) / 2
        if half_second > self._half_second:
            current = self._heard / (half_second - self._half_second)
            self._measured = current * self._SMOOTHING + self._measured * (1 - self._SMOOTHING)
            self._heard, self._half_second = 0, half_second
        return self._measured

    def _fill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


class Aimd(BasePacer):
    """Increases additively, by 1/s per second, and decreases multiplicatively to `cut`, once per round trip.

    A cut to 0.9 favors it: with 0.7 or 0.5 it gets fewer 429s but stays further below the limit.
    """

    def __init__(self, start_rate: float = 5.0, cut: float = 0.9) -> None:
        super().__init__()
        self._rate = start_rate
        self._cut = cut
        self._next = -math.inf
        self._cut_at = self._grown_at = 0.0

    @property
    def rate(self) -> float:
        return self._rate

    def delay(self, now: float) -> float:
        return max(0.0, self._next - now, self._hold_until - now)

    def acquire(self, now: float) -> Ticket:
        self._next = max(self._next, now - MAX_LATENESS_SECONDS) + 1.0 / self._rate
        return super().acquire(now)

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._hold(now, retry_after)
        if verdict is Verdict.THROTTLED and ticket.sent_at > self._cut_at:
            self._rate = max(0.1, self._cut * self._rate)
            self._cut_at = now
        elif verdict is Verdict.ACCEPTED:
            self._rate += now - self._grown_at
        self._grown_at = now


def paced(pacer: Pacer, scenario: Scenario, seed: int) -> Tally:
    """Run a job with a pacer."""
    world = scenario.world(scenario.delay(seed))
    simulation = Simulation(world, seed)
    return simulation.run(PacedJob(simulation, pacer, world.under_way), pacer=pacer)


def backing_off(scenario: Scenario, seed: int) -> Tally:
    """Run 20 workers without a pacer."""
    simulation = Simulation(scenario.world(scenario.delay(seed)), seed)
    return simulation.run(BackingOff(simulation, 20), callers=20)


OURS: Final = "AdaptivePacer"
CONTENDERS: Final[dict[str, Callable[[Scenario, int], Tally]]] = {
    OURS: lambda scenario, seed: paced(scenario.pacer(), scenario, seed),
    "back-off, 20 workers": backing_off,
    "cubic": lambda scenario, seed: paced(Cubic(clock=0.1 * seed), scenario, seed),
    "AIMD": lambda scenario, seed: paced(Aimd(), scenario, seed),
}


def asked_of(contender: str, scenario: Scenario) -> Scenario:
    """Return the scenario with the targets that apply to a contender."""
    return scenario if contender == OURS else scenario.for_anybody


def figures_of(contender: str, scenario: Scenario, seeds: int) -> list[Figures]:
    """Run a scenario with each seed."""
    scenario, run = asked_of(contender, scenario), CONTENDERS[contender]
    return [Run(scenario, run(scenario, seed), scenario.delay(seed)).figures for seed in range(seeds)]


def told_figures(scenario: Scenario, seeds: int) -> tuple[float, list[Figures]]:
    """Find the highest steady rate within the target for 429s, to 1%. Return it and the figures of its runs.

    No pacer can know this rate in advance. It shows the best possible result.
    """
    scenario = scenario.for_anybody
    runs: dict[int, list[Figures]] = {}
    allowed = scenario.allowed(0.0)

    def is_too_fast(percent: int) -> bool:
        tallies = [paced(FixedPacer(allowed * percent / 100), scenario, seed) for seed in range(seeds)]
        runs[percent] = figures = [Run(scenario, tally).figures for tally in tallies]
        asked = scenario.asked
        refused = sum(each.refused for each in figures) / seeds
        production = sum(each.production or 0.0 for each in figures) / seeds
        return refused > (asked.refused or 1.0) or production > (asked.production or 1.0)

    percents = range(40, 101)
    best = percents[bisect_left(percents, True, key=is_too_fast) - 1]
    return allowed * best / 100, runs[best]
