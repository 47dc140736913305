"""Scenarios, their targets, and the figures of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from adapty_async.pacing import AdaptivePacer, Pacer
from benchmarks.rate_simulation import BIN, Tally, World


@dataclass(frozen=True)
class Also:
    """An additional figure of a run, with its text and its target. Lower is better."""

    says: str
    figure: Callable[["Run"], float]
    at_most: float = math.inf


@dataclass(frozen=True)
class Asked:
    """The targets, and the aim of the goodput, as shares of 1 and in seconds. None means no target.

    `production`: the maximum share of 429s among the requests of production. `within`: seconds until 90% of the limit.
    """

    goodput: float | None = None
    aim: float | None = None
    refused: float | None = None
    production: float | None = None
    within: float | None = None
    also: tuple[Also, ...] = ()

    @property
    def anything(self) -> bool:
        """True if there is any target."""
        bars = (self.goodput, self.refused, self.production, self.within)
        return any(bar is not None for bar in bars) or any(each.at_most < math.inf for each in self.also)


@dataclass(frozen=True)
class Scenario:
    """A world and the targets of a pacer in it.

    `world` is created for a delay of the event; `allowed` is the limit over time without a delay. The goodput is
    counted from `after` on, except within `leave_out`. `alone`: the targets apply to our pacer only. `told`: also shows
    a FixedPacer that knows the best rate. `brief`: is in the short table too.
    """

    name: str
    world: Callable[[float], World]
    allowed: Callable[[float], float]
    asked: Asked = field(default_factory=Asked)
    after: float = 20.0
    event: float = 0.0
    leave_out: tuple[float, float] = (0.0, 0.0)
    pacer: Callable[[], Pacer] = AdaptivePacer
    alone: bool = False
    told: bool = False
    brief: bool = False

    @property
    def for_anybody(self) -> "Scenario":
        """Return the scenario without the targets that need an estimate and a rate of the pacer itself."""
        return replace(self, asked=replace(self.asked, also=()))

    def delay(self, seed: int) -> float:
        """Return the delay of the event in seconds. It varies to place the event anywhere in a pacer's cycle."""
        return 1.7 * seed if self.event else 0.0


class Figures(NamedTuple):
    """The figures of a run, as shares of 1 and in seconds. `production` is None without production."""

    goodput: float
    refused: float
    production: float | None
    until_90: float
    also: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """A run in a scenario whose event was delayed by `delay`."""

    scenario: Scenario
    tally: Tally
    delay: float = 0.0

    @property
    def figures(self) -> Figures:
        """Return all figures."""
        also = tuple(each.figure(self) for each in self.scenario.asked.also)
        return Figures(self.goodput, self.refused, self.production, self.until_90, also)

    @property
    def event(self) -> float:
        """The time of the event."""
        return self.scenario.event + self.delay

    @property
    def goodput(self) -> float:
        """Accepted / allowed."""
        counted = [number for number in range(len(self.tally.accepted)) if self._counts(number * BIN)]
        return sum(self.tally.accepted[number] for number in counted) / sum(
            self.allowed_at(number * BIN) * BIN for number in counted
        )

    @property
    def refused(self) -> float:
        """The share of 429s among all requests, including the start."""
        return sum(self.tally.refused) / max(1, sum(self.tally.sent))

    @property
    def production(self) -> float | None:
        """The share of 429s among the requests of other users of the key."""
        sent = self.tally.production_sent
        return self.tally.production_refused / sent if sent else None

    @property
    def until_90(self) -> float:
        """Seconds from the event until a period of 5 s (at low limits, 20 requests) at 90% begins."""
        allowed = self.allowed_at(self.event + BIN)
        return self.until(0.9 * allowed, after=self.event, lasting=max(5.0, 20 / allowed))

    def allowed_at(self, when: float) -> float:
        """Return the limit at a time."""
        return self.scenario.allowed(when - self.delay)

    def until(self, rate: float, *, after: float, lasting: float) -> float:
        """Return the seconds from `after` until `rate` is accepted for `input_path` seconds, or inf if it never is."""
        bins = round(lasting / BIN)
        for first in range(int(after / BIN), len(self.tally.accepted) - bins):
            if sum(self.tally.accepted[first : first + bins]) >= rate * bins * BIN:
                return max(0.0, first * BIN - after)
        return math.inf

    def estimate_off(self, limit: float, *, after: float) -> float:
        """Return the largest error of the estimate, in percent of the limit, or inf without an estimate."""
        estimates = self.tally.estimates[int(after / BIN) :]
        return max(math.inf if each is None else 100 * abs(each / limit - 1) for each in estimates)

    def _counts(self, when: float) -> bool:
        first, last = self.scenario.leave_out
        return when >= self.scenario.after and not first <= when < last
