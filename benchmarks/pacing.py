"""How near to a hidden limit the pacers come, and how many refusals that costs: scenarios in virtual time, as a table.

Goodput is accepted / allowed after the start (20 s, at high and very low limits more). Refused is the share of all
requests of the run, its start included. 90 %: seconds until 5 s begin in which 90 % of what is allowed is accepted.
"""

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapty_async.pacing import AdaptivePacer, Pacer, Ticket, Verdict
from adapty_async.pacing.base import LATENESS, Counting
from benchmarks.rate_simulation import (
    BIN,
    Answer,
    BackingOff,
    FixedWindows,
    PacedJob,
    Simulation,
    Tally,
    TokenBucket,
    World,
)

# The others


class Cubic(Counting):
    """An adaptive client as a well-known cloud SDK has one: a token bucket whose rate follows a cubic curve.

    After a throttled answer the rate is 0.7 of the rate measured, then it comes back to it and goes on beyond.
    """

    _SCALE, _BETA, _SMOOTHING = 0.4, 0.7, 0.8

    def __init__(self) -> None:
        super().__init__()
        self._enabled = False
        self._capacity = self._rate = 0.5
        self._tokens = 0.0
        self._filled = 0.0
        self._before = self._failed = self._inflection = 0.0
        self._measured = 0.0
        self._heard = 0
        self._bucket = 0.0

    @property
    def rate(self) -> float:
        return self._rate if self._enabled else math.inf

    def wait(self, now: float) -> float:
        if not self._enabled:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def sent(self, now: float) -> Ticket:
        self._fill(now)
        self._tokens -= self._enabled
        return super().sent(now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        measured = self._measure(now)
        if verdict is Verdict.THROTTLED:
            self._before = min(measured, self._rate) if self._enabled else measured
            self._inflection = (self._before * (1 - self._BETA) / self._SCALE) ** (1 / 3)
            self._failed, self._enabled = now, True
            rate = self._BETA * self._before
        else:
            rate = self._SCALE * (now - self._failed - self._inflection) ** 3 + self._before
        self._fill(now)
        self._rate = max(0.5, min(rate, 2 * measured))
        self._capacity = max(1.0, self._rate)
        self._tokens = min(self._tokens, self._capacity)

    def _measure(self, now: float) -> float:
        self._heard += 1
        bucket = math.floor(now * 2) / 2
        if bucket > self._bucket:
            current = self._heard / (bucket - self._bucket)
            self._measured = current * self._SMOOTHING + self._measured * (1 - self._SMOOTHING)
            self._heard, self._bucket = 0, bucket
        return self._measured

    def _fill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


class Aimd(Counting):
    """Additive increase, multiplicative decrease: 1/s more each second, a tenth less once a round trip."""

    def __init__(self, start_rate: float = 5.0) -> None:
        super().__init__()
        self._rate = start_rate
        self._next = -math.inf
        self._cut_at = self._grown_at = 0.0

    @property
    def rate(self) -> float:
        return self._rate

    def wait(self, now: float) -> float:
        return max(0.0, self._next - now, self._reopens - now)

    def sent(self, now: float) -> Ticket:
        self._next = max(self._next, now - LATENESS) + 1.0 / self._rate
        return super().sent(now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._hold(now, retry_after)
        if verdict is Verdict.THROTTLED and ticket.sent_at > self._cut_at:
            self._rate = max(0.1, 0.9 * self._rate)
            self._cut_at = now
        elif verdict is Verdict.ACCEPTED:
            self._rate += now - self._grown_at
        self._grown_at = now


# The scenarios


Check = Callable[["Run"], str]


@dataclass(frozen=True)
class Scenario:
    """A world, what it allows, and what is asked of a pacer there, in per cent."""

    name: str
    world: Callable[[int], World]
    allowed: Callable[[float], float]
    goodput: str = ""
    refused: str = ""
    after: float = 20.0
    until_90: float | None = None
    event: float = 0.0
    leave_out: tuple[float, float] = (0.0, 0.0)
    pacer: Callable[[], Pacer] = AdaptivePacer
    check: Check = field(default=lambda run: "")
    alone: bool = False
    """Not for the others: it asks for what only the pacer has."""


@dataclass
class Run:
    """One run and its figures."""

    scenario: Scenario
    tally: Tally
    event: float

    @property
    def goodput(self) -> float:
        counted = [number for number in range(len(self.tally.accepted)) if self._counts(number * BIN)]
        allowed = sum(self.scenario.allowed(number * BIN - self._shift) * BIN for number in counted)
        return sum(self.tally.accepted[number] for number in counted) / allowed

    @property
    def refused(self) -> float:
        return sum(self.tally.refused) / max(1, sum(self.tally.sent))

    @property
    def until_90(self) -> float:
        """Seconds from the event until 5 s at 90 % begin; at low limits 20 requests."""
        allowed = self.scenario.allowed(self.event - self._shift + BIN)
        bins = round(max(5.0, 20 / allowed) / BIN)
        for first in range(int(self.event / BIN), len(self.tally.accepted) - bins):
            if sum(self.tally.accepted[first : first + bins]) >= 0.9 * allowed * bins * BIN:
                return first * BIN - self.event
        return math.inf

    def estimate_at(self, when: float) -> float:
        """Give the estimate at a time."""
        return self.tally.estimates[min(int(when / BIN), len(self.tally.estimates)) - 1] or math.nan

    @property
    def _shift(self) -> float:
        return self.event - self.scenario.event

    def _counts(self, when: float) -> bool:
        first, last = self.scenario.leave_out
        return when >= self.scenario.after and not first <= when < last


def steady(rate: float) -> Callable[[float], float]:
    return lambda _: rate


def bucket(rate: float, burst: float, seconds: float, **options: object) -> Callable[[int], World]:
    return lambda _: World(lambda: TokenBucket(rate, burst), seconds, **options)  # type: ignore[arg-type]


def change(before: float, later: float, burst: float) -> Callable[[int], World]:
    """Change the limit at 60 s and a bit, so that it comes at every point of a pacer's cycle."""
    return lambda seed: World(lambda: TokenBucket(before, burst, rates=[(60 + 1.7 * seed, later)]), 180)


def failing(begins: float, ends: float, share: float) -> Callable[[float, float], Answer | None]:
    return lambda now, draw: Answer(Verdict.UNKNOWN) if begins <= now < ends and draw < share else None


def proxy(now: float, draw: float) -> Answer | None:
    return Answer(Verdict.THROTTLED) if 60 <= now < 70 or draw < 0.002 else None


def dozing(now: float) -> float:
    began = now // 17 * 17
    return began + 0.5 if began and now < began + 0.5 else now


def under_33(run: Run) -> str:
    bins = range(int(run.event / BIN), len(run.tally.sent) - 2)
    when = next(
        (number * BIN - run.event for number in bins if sum(run.tally.sent[number : number + 2]) <= 33), math.inf
    )
    return f"under 33/s after {when:.1f} s"


def estimate_after(*times: float) -> Check:
    return lambda run: "estimate " + ", ".join(f"{run.estimate_at(when):.1f}" for when in times)


def resumes(when: float) -> Check:
    def check(run: Run) -> str:
        bins = range(int(when / BIN), len(run.tally.accepted) - 2)
        taken = next(
            (number * BIN - when for number in bins if sum(run.tally.accepted[number : number + 2]) >= 45), math.inf
        )
        return f"resumes after {taken:.1f} s, {estimate_after(when + 5)(run)}"

    return check


def production_refused(run: Run) -> str:
    return f"production {run.tally.production_refused / max(1, run.tally.production_sent):.2%}"


def early(run: Run) -> str:
    return f"{run.tally.too_early} too early"


def fastest(run: Run) -> str:
    return f"never above {max(run.tally.rates):.4g}/s"


def most_at_once(run: Run) -> str:
    return f"at most {max(run.tally.sent[int(20 / BIN) :]) / BIN:.0f}/s"


def poisson(rate: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.expovariate(rate)


def regular(rate: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.uniform(0.8, 1.2) / rate


ODD = (0.0, -5.0, math.nan, -3600.0, math.inf, None)
BACKGROUND = AdaptivePacer.background


def capped() -> Pacer:
    return AdaptivePacer(max_rate=40)


def remembered() -> Pacer:
    return AdaptivePacer(start_rate=40)


SCENARIOS = [
    Scenario("50/s, burst 10", bucket(50, 10, 300), steady(50), "98.8, 99.6", "0.5", until_90=12),
    Scenario(
        "the same, remembered",
        bucket(50, 10, 300),
        steady(50),
        "98.8, 99.6",
        "0.5",
        until_90=3,
        pacer=remembered,
        alone=True,
    ),
    Scenario(
        "50/s, burst 10, Retry-After 1",
        bucket(50, 10, 600, retry_after=lambda _: 1.0),
        steady(50),
        "95, 98",
        "0.15",
        check=early,
    ),
    Scenario(
        "60/s, burst 6, Retry-After 2",
        bucket(60, 6, 600, retry_after=lambda _: 2.0),
        steady(60),
        "94",
        "0.15",
        check=early,
    ),
    Scenario(
        "100/s falling to 30/s",
        change(100, 30, 10),
        lambda now: 100 if now < 60 else 30,
        "97, 99",
        "1.2",
        event=60,
        check=under_33,
    ),
    Scenario(
        "30/s rising to 100/s",
        change(30, 100, 10),
        lambda now: 30 if now < 60 else 100,
        "88, 93",
        "0.5",
        event=60,
        until_90=15,
    ),
    Scenario("5/s, burst 5", bucket(5, 5, 900), steady(5), "97, 99", "0.8"),
    Scenario("1/s, burst 3", bucket(1, 3, 1800), steady(1), "92, 95", "0.8"),
    Scenario("300/s, burst 30", bucket(300, 30, 120), steady(300), "99, 99.5", "0.5", until_90=20),
    Scenario(
        "1,000/s, burst 50",
        bucket(1000, 50, 120, under_way=512),
        steady(1000),
        "98, 99.5",
        "0.5",
        after=60,
        until_90=25,
    ),
    Scenario(
        "3,000/s, burst 100",
        bucket(3000, 100, 90, under_way=512),
        steady(3000),
        "97, 99.5",
        "0.5",
        after=60,
        until_90=30,
    ),
    Scenario("50/s, burst 250", bucket(50, 250, 300), steady(50), "98, 99.5", "0.6"),
    Scenario("50/s, burst 2, jitter 20 %", bucket(50, 2, 600), steady(50), "66, 72", "1"),
    Scenario(
        "50/s, burst 10, refused calls charged",
        lambda _: World(lambda: TokenBucket(50, 10, charge_refused=True), 300),
        steady(50),
        "90, 97",
        "3",
    ),
    Scenario("windows of 50 a second", lambda _: World(lambda: FixedWindows(50, 1.0), 300), steady(50), "95", "1.5"),
    Scenario(
        "windows of 3,000 a minute",
        lambda _: World(lambda: FixedWindows(3000, 60.0), 900),
        steady(50),
        "95",
        "8",
        check=estimate_after(600, 900),
    ),
    Scenario(
        "latency x 20 for 20 s",
        bucket(50, 10, 200, delay=lambda now: 2.0 if 60 <= now < 80 else 0.1),
        lambda now: 32 if 60 <= now < 82 else 50,
        "90",
        "1",
    ),
    Scenario(
        "80 % 503 for 20 s",
        bucket(50, 10, 200, fault=failing(60, 80, 0.8)),
        steady(50),
        "",
        "1",
        leave_out=(60, 80),
        check=resumes(80),
    ),
    Scenario(
        "all 503 for 60 s",
        bucket(50, 10, 240, fault=failing(60, 120, 1.0)),
        steady(50),
        "",
        "1",
        leave_out=(60, 120),
        check=resumes(120),
    ),
    Scenario(
        "regular production at 20 of 50/s",
        bucket(50, 10, 600, production=regular(20)),
        steady(30),
        "90",
        "",
        check=production_refused,
    ),
    Scenario(
        "Poisson production at 20 of 50/s",
        bucket(50, 10, 600, production=poisson(20)),
        steady(30),
        "90",
        "",
        check=production_refused,
    ),
    Scenario(
        "regular production, background()",
        bucket(50, 10, 1200, production=regular(20)),
        steady(30),
        "60",
        "",
        pacer=BACKGROUND,
        check=production_refused,
        alone=True,
    ),
    Scenario(
        "Poisson production, background()",
        bucket(50, 10, 1200, production=poisson(20)),
        steady(30),
        "60",
        "",
        pacer=BACKGROUND,
        check=production_refused,
        alone=True,
    ),
    Scenario(
        "max_rate 40 of 50/s",
        bucket(50, 10, 200),
        steady(40),
        "98 to 100",
        "0",
        pacer=capped,
        check=fastest,
        alone=True,
    ),
    Scenario(
        "loop blocked 500 ms every 17 s", bucket(50, 10, 300, asleep=dozing), steady(50), "95", "1", check=most_at_once
    ),
    Scenario(
        "asleep for 10 minutes",
        bucket(50, 10, 900, asleep=lambda now: 700 if 100 <= now < 700 else now),
        steady(50),
        "95",
        "1",
        leave_out=(100, 700),
        check=most_at_once,
    ),
    Scenario("odd Retry-After values", bucket(50, 10, 200, retry_after=lambda n: ODD[n % len(ODD)]), steady(50)),
    Scenario(
        "429 of a proxy: 10 s of all, else 0.2 %",
        bucket(50, 10, 300, fault=proxy),
        steady(50),
        leave_out=(60, 70),
        check=resumes(70),
    ),
    Scenario("0.2/s, burst 1", bucket(0.2, 1, 6000), steady(0.2), after=300),
]


def paced(make: Callable[[], Pacer], scenario: Scenario, seed: int) -> Tally:
    world = scenario.world(seed)
    simulation, pacer = Simulation(world, seed), make()
    return simulation.run(PacedJob(simulation, pacer, world.under_way), pacer=pacer)


def backing_off(scenario: Scenario, seed: int) -> Tally:
    simulation = Simulation(scenario.world(seed), seed)
    return simulation.run(BackingOff(simulation, 20), callers=20)


CONTENDERS: dict[str, Callable[[Scenario, int], Tally]] = {
    "AdaptivePacer": lambda scenario, seed: paced(scenario.pacer, scenario, seed),
    "back-off, 20 workers": backing_off,
    "cubic": lambda scenario, seed: paced(Cubic, scenario, seed),
    "AIMD": lambda scenario, seed: paced(Aimd, scenario, seed),
}


# The table


def runs(number: int, contender: str, seeds: int) -> list[tuple[float, float, float, str]]:
    """Run a scenario with each seed: goodput, refused share, seconds until 90 %, what else is asked."""
    scenario = SCENARIOS[number]
    results = []
    for seed in range(seeds):
        tally = CONTENDERS[contender](scenario, seed)
        run = Run(scenario, tally, scenario.event + (1.7 * seed if scenario.event else 0.0))
        checked = scenario.check(run) if contender == "AdaptivePacer" or "production" in scenario.name else ""
        results.append((run.goodput, run.refused, run.until_90, checked))
    return results


def cells(results: list[tuple[float, float, float, str]]) -> tuple[str, str, str, str]:
    goodput = statistics.fmean(result[0] for result in results)
    refused = statistics.fmean(result[1] for result in results)
    until_90 = statistics.fmean(result[2] for result in results)
    also = summary([result[3] for result in results if result[3]])
    return f"{goodput:.1%}", f"{refused:.2%}", f"{until_90:.1f} s" if until_90 < math.inf else "never", also


def summary(also: list[str]) -> str:
    """Give the first and the last of the sorted findings, or the one."""
    ends = sorted(set(also), key=lambda text: (len(text), text))
    return "; ".join(ends if len(ends) < 3 else [ends[0], ends[-1]])


def tables(contenders: Iterable[str], wanted: str, seeds: int, jobs: int) -> Iterator[str]:
    chosen = [number for number, scenario in enumerate(SCENARIOS) if wanted in scenario.name]
    with ProcessPoolExecutor(jobs) as pool:
        for contender in contenders:
            numbers = [n for n in chosen if contender == "AdaptivePacer" or not SCENARIOS[n].alone]
            futures = [pool.submit(runs, number, contender, seeds) for number in numbers]
            yield f"\n{contender}\n"
            yield "| hidden limiter or event | goodput | asked, aim | refused | at most | 90 % after | also |"
            yield "|---|---|---|---|---|---|---|"
            for number, future in zip(numbers, futures, strict=True):
                scenario = SCENARIOS[number]
                goodput, refused, until_90, also = cells(future.result())
                limit = f" (at most {scenario.until_90:g} s)" if scenario.until_90 else ""
                yield (
                    f"| {scenario.name} | {goodput} | {scenario.goodput} | {refused} | {scenario.refused} "
                    f"| {until_90}{limit} | {also} |"
                )


def main() -> None:
    """Read the arguments, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--scenario", default="", help="only those whose name has this in it")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    arguments = parser.parse_args()
    began = time.perf_counter()
    for line in tables(arguments.contender or CONTENDERS, arguments.scenario, arguments.seeds, arguments.jobs):
        print(line, flush=True)
    print(f"\nmeans of {arguments.seeds} seeds; {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
