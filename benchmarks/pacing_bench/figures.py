"""What a scenario is, what is asked in it, and the figures of a run that answer."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from adapty_async.pacing import AdaptivePacer, Pacer
from benchmarks.rate_simulation import BIN, Tally, World


@dataclass(frozen=True)
class Also:
    """One more figure of a run, the larger the worse: how it is said, and the most that is asked."""

    says: str
    figure: Callable[["Run"], float]
    at_most: float = math.inf


@dataclass(frozen=True)
class Asked:
    """The bars, and the aim of the goodput; shares of 1 and seconds, None where nothing is asked.

    `production`: of its own requests, so many may be refused. `within`: seconds until 90 % of what is allowed.
    """

    goodput: float | None = None
    aim: float | None = None
    refused: float | None = None
    production: float | None = None
    within: float | None = None
    also: tuple[Also, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is a bar at all."""
        bars = (self.goodput, self.refused, self.production, self.within)
        return any(bar is not None for bar in bars) or any(each.at_most < math.inf for each in self.also)


@dataclass(frozen=True)
class Scenario:
    """A world, and what is asked of a pacer there.

    `world` is made for a delay of the event; `allowed` is the limit over time without such a delay. The goodput is
    counted from `after` on, but not within `leave_out`. `alone`: it asks for what only our pacer has.
    `told`: a FixedPacer that knows the best rate is shown as well. `brief`: it stands in the short table too.
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
        """The same, without what can be asked of a pacer only that has an estimate and a rate of its own."""
        return replace(self, asked=replace(self.asked, also=()))

    def delay(self, seed: int) -> float:
        """Give the seconds by which the event is late, so that it comes at every point of a pacer's cycle."""
        return 1.7 * seed if self.event else 0.0


class Figures(NamedTuple):
    """The figures of one run: shares of 1 and seconds; `production` is None where there is none."""

    goodput: float
    refused: float
    production: float | None
    until_90: float
    also: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """One run in a scenario whose event was late by `delay`."""

    scenario: Scenario
    tally: Tally
    delay: float = 0.0

    @property
    def figures(self) -> Figures:
        """All of them."""
        also = tuple(each.figure(self) for each in self.scenario.asked.also)
        return Figures(self.goodput, self.refused, self.production, self.until_90, also)

    @property
    def event(self) -> float:
        """When it came."""
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
        """Refused / sent, the start included."""
        return sum(self.tally.refused) / max(1, sum(self.tally.sent))

    @property
    def production(self) -> float | None:
        """Refused / sent of those who use the same key."""
        sent = self.tally.production_sent
        return self.tally.production_refused / sent if sent else None

    @property
    def until_90(self) -> float:
        """Seconds from the event until 5 s at 90 % begin; at low limits 20 requests."""
        allowed = self.allowed_at(self.event + BIN)
        return self.until(0.9 * allowed, after=self.event, lasting=max(5.0, 20 / allowed))

    def allowed_at(self, when: float) -> float:
        """Give the limit at a time."""
        return self.scenario.allowed(when - self.delay)

    def until(self, rate: float, *, after: float, lasting: float) -> float:
        """Give the seconds from `after` until so much is accepted for a while; inf: never."""
        bins = round(lasting / BIN)
        for first in range(int(after / BIN), len(self.tally.accepted) - bins):
            if sum(self.tally.accepted[first : first + bins]) >= rate * bins * BIN:
                return max(0.0, first * BIN - after)
        return math.inf

    def estimate_off(self, limit: float, *, after: float) -> float:
        """Give how far the estimate was off at most, in per cent of the limit; inf where there was none."""
        estimates = self.tally.estimates[int(after / BIN) :]
        return max(math.inf if each is None else 100 * abs(each / limit - 1) for each in estimates)

    def _counts(self, when: float) -> bool:
        first, last = self.scenario.leave_out
        return when >= self.scenario.after and not first <= when < last
