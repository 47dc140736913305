"""The hidden limits and events, and their targets."""

import math
import random
from collections.abc import Callable

from adapty_async.pacing import AdaptivePacer, Pacer, Verdict
from benchmarks.pacing_bench.figures import Also, Asked, Run, Scenario
from benchmarks.rate_simulation import BIN, Answer, FixedWindows, TokenBucket, World

# Worlds


def steady(rate: float) -> Callable[[float], float]:
    """Return a limit that is constant over time."""
    return lambda _: rate


def bucket(rate: float, burst: float, seconds: float, **options: object) -> Callable[[float], World]:
    """Return a world with a token bucket. Above 500/s more requests are in flight."""
    under_way = 512 if rate > 500 else 64
    return lambda _: World(lambda: TokenBucket(rate, burst), seconds, under_way=under_way, **options)  # type: ignore[arg-type]  # object: any argument of World


def change(before: float, later: float) -> Callable[[float], World]:
    """Return a world whose limit changes shortly after 60 s."""
    return lambda delay: World(lambda: TokenBucket(before, 10, rates=[(60 + delay, later)]), 180)


def windows(calls: int, seconds: float, until: float) -> Callable[[float], World]:
    """Return a world with a quota per time window."""
    return lambda _: World(lambda: FixedWindows(calls, seconds), until)


def failing(begins: float, ends: float, share: float) -> Callable[[float, float], Answer | None]:
    """Return a fault that answers a share of the requests with 503 for a while."""
    return lambda now, draw: Answer(Verdict.UNKNOWN) if begins <= now < ends and draw < share else None


def proxy(now: float, draw: float) -> Answer | None:
    """Reject requests that the limiter would accept: all for a while, otherwise a few."""
    return Answer(Verdict.THROTTLED) if 60 <= now < 70 or draw < 0.002 else None


def strays(share: float, retry_after: float | None = None) -> Callable[[float, float], Answer | None]:
    """Return a fault that rejects a share of the requests at any rate."""
    return lambda _now, draw: Answer(Verdict.THROTTLED, retry_after) if draw < share else None


def dozing(now: float) -> float:
    """Block the event loop for half a second from time to time."""
    began = now // 17 * 17
    return began + 0.5 if began and now < began + 0.5 else now


def poisson(rate: float) -> Callable[[random.Random], float]:
    """Return a production whose requests arrive at random times."""
    return lambda rng: rng.expovariate(rate)


def regular(rate: float) -> Callable[[random.Random], float]:
    """Return a production whose requests arrive almost evenly."""
    return lambda rng: rng.uniform(0.8, 1.2) / rate


ODD_VALUES = (0.0, -5.0, math.nan, -3600.0, math.inf, None)

# Additional targets

PUNCTUAL = Also("{:.0f} sent before Retry-After was over", lambda run: run.tally.too_early, at_most=0)


def under_33(run: Run) -> float:
    """Return the seconds from the event until a second with at most 33 requests begins."""
    sent = run.tally.sent
    first = int(run.event / BIN)
    seconds = (
        number * BIN - run.event for number in range(first, len(sent) - 2) if sum(sent[number : number + 2]) <= 33
    )
    return max(0.0, next(seconds, math.inf))


def fastest_second(run: Run) -> float:
    """Return the maximum number of requests sent within a second."""
    return max(map(sum, zip(run.tally.sent, run.tally.sent[1:], strict=False)))


def burst_after_sleep(run: Run) -> float:
    """Return by how many requests the first half second after an idle one exceeds its rate."""
    sent, rates = run.tally.sent, run.tally.rates
    awakenings = [number for number in range(int(20 / BIN), len(rates)) if sent[number] and not sent[number - 1]]
    return max(sent[number] - BIN * max(rates[number - 1 : number + 1]) for number in awakenings)


def lost_of_10_s(run: Run) -> float:
    """Return the loss in the worst ten seconds, in percent."""
    accepted, bins = run.tally.accepted, round(10 / BIN)
    worst = min(sum(accepted[first : first + bins]) for first in range(int(20 / BIN), len(accepted) - bins))
    return 100 * (1 - worst / 10 / run.allowed_at(20))


def recovers(ends: float) -> tuple[Also, Also]:
    """Return targets for the recovery after `ends`: 45 of 50/s soon after, and an unharmed estimate."""
    return (
        Also("resumes after {:.1f} s", lambda run: run.until(45, after=ends, lasting=1.0), at_most=5.0),
        Also("then the estimate is off by {:.1f} %", lambda run: run.estimate_off(50, after=ends), at_most=5),
    )


NO_BURST = Also("at most {:.1f} requests above the rate afterwards", burst_after_sleep, at_most=3)
SURVIVES = Also("after 300 s the estimate is off by {:.1f} %", lambda run: run.estimate_off(50, after=300), at_most=5)

# The pacers other than AdaptivePacer()


def capped() -> Pacer:
    """Return a pacer with a maximum of 40/s."""
    return AdaptivePacer(max_rate=40)


def remembered() -> Pacer:
    """Return a pacer that starts at 0.8 of the limit, as with the estimate of an earlier job."""
    return AdaptivePacer(start_rate=40)


SCENARIOS = [
    Scenario(
        "50/s, burst 10",
        bucket(50, 10, 300),
        steady(50),
        Asked(0.988, 0.996, refused=0.005, within=12),
        brief=True,
    ),
    Scenario(
        "the same, remembered",
        bucket(50, 10, 300),
        steady(50),
        Asked(0.988, 0.996, refused=0.005, within=3),
        pacer=remembered,
        alone=True,
    ),
    Scenario(
        "50/s, burst 10, Retry-After 1",
        bucket(50, 10, 600, retry_after=lambda _: 1.0),
        steady(50),
        Asked(0.95, 0.98, refused=0.0015, also=(PUNCTUAL,)),
        brief=True,
    ),
    Scenario(
        "60/s, burst 6, Retry-After 2",
        bucket(60, 6, 600, retry_after=lambda _: 2.0),
        steady(60),
        Asked(0.94, refused=0.0015, also=(PUNCTUAL,)),
    ),
    Scenario(
        "100/s falling to 30/s",
        change(100, 30),
        lambda now: 100 if now < 60 else 30,
        Asked(0.97, 0.99, refused=0.012, also=(Also("under 33/s after {:.1f} s", under_33, at_most=5.0),)),
        event=60,
        brief=True,
    ),
    Scenario(
        "30/s rising to 100/s",
        change(30, 100),
        lambda now: 30 if now < 60 else 100,
        Asked(0.88, 0.93, refused=0.005, within=15),
        event=60,
        brief=True,
    ),
    Scenario("5/s, burst 5", bucket(5, 5, 900), steady(5), Asked(0.97, 0.99, refused=0.008), brief=True),
    Scenario("1/s, burst 3", bucket(1, 3, 1800), steady(1), Asked(0.92, 0.95, refused=0.008)),
    Scenario(
        "300/s, burst 30",
        bucket(300, 30, 120),
        steady(300),
        Asked(0.99, 0.995, refused=0.005, within=20),
        brief=True,
    ),
    Scenario(
        "1,000/s, burst 50",
        bucket(1000, 50, 120),
        steady(1000),
        Asked(0.98, 0.995, refused=0.005, within=25),
        after=60,
        brief=True,
    ),
    Scenario(
        "3,000/s, burst 100",
        bucket(3000, 100, 120),
        steady(3000),
        Asked(0.97, 0.995, refused=0.005, within=30),
        after=60,
    ),
    Scenario("50/s, burst 250", bucket(50, 250, 300), steady(50), Asked(0.98, 0.995, refused=0.006)),
    Scenario(
        "50/s, burst 2, jitter 20 %",
        bucket(50, 2, 600),
        steady(50),
        Asked(0.66, 0.72, refused=0.01),
        told=True,
        brief=True,
    ),
    Scenario(
        "50/s, burst 10, 429s use up tokens",
        lambda _: World(lambda: TokenBucket(50, 10, charge_refused=True), 300),
        steady(50),
        Asked(0.90, 0.97, refused=0.03, also=(Also("lost {:.0f} % of the worst 10 s", lost_of_10_s, at_most=50),)),
        brief=True,
    ),
    Scenario("windows of 50 per second", windows(50, 1.0, 300), steady(50), Asked(0.95, refused=0.015)),
    Scenario(
        "windows of 3,000 per minute",
        windows(
            3000, 60.0, 877.5
        ),  # until the end of a window: a later end would count the next quota without its time
        steady(50),
        Asked(0.95, refused=0.08, also=(SURVIVES,)),
        brief=True,
    ),
    Scenario(
        "latency x 20 for 20 s",
        bucket(50, 10, 200, delay=lambda now: 2.0 if 60 <= now < 80 else 0.1),
        # 64 requests are in flight for 2 s each; the last slow responses arrive at 82 s.
        lambda now: 32 if 60 <= now < 82 else 50,
        Asked(0.90, refused=0.01),
    ),
    Scenario(
        "80 % 503 for 20 s",
        bucket(50, 10, 200, fault=failing(60, 80, 0.8)),
        steady(50),
        Asked(refused=0.01, also=recovers(80)),
        leave_out=(60, 80),
    ),
    Scenario(
        "all 503 for 60 s",
        bucket(50, 10, 240, fault=failing(60, 120, 1.0)),
        steady(50),
        Asked(refused=0.01, also=recovers(120)),
        leave_out=(60, 120),
        brief=True,
    ),
    Scenario(
        "regular production at 20 of 50/s",
        bucket(50, 10, 600, production=regular(20)),
        steady(30),
        Asked(0.90, production=0.006),
        told=True,
    ),
    Scenario(
        "Poisson production at 20 of 50/s",
        bucket(50, 10, 600, production=poisson(20)),
        steady(30),
        Asked(0.90, production=0.006),
        told=True,
        brief=True,
    ),
    Scenario(
        "regular production, background()",
        bucket(50, 10, 1200, production=regular(20)),
        steady(30),
        Asked(0.60, production=0.001),
        pacer=AdaptivePacer.background,
        alone=True,
        told=True,
    ),
    Scenario(
        "Poisson production, background()",
        bucket(50, 10, 1200, production=poisson(20)),
        steady(30),
        Asked(0.60, production=0.001),
        pacer=AdaptivePacer.background,
        alone=True,
        told=True,
        brief=True,
    ),
    Scenario(
        "the same for 4 hours",
        bucket(50, 10, 14_400, production=poisson(20)),
        steady(30),
        Asked(0.55, production=0.001),
        pacer=AdaptivePacer.background,
        alone=True,
    ),
    Scenario(
        "max_rate 40 of 50/s",
        bucket(50, 10, 200),
        steady(40),
        # The 41st may be sent at the very end of the second.
        Asked(0.98, refused=0.0, also=(Also("at most {:.0f} in a second", fastest_second, at_most=41),)),
        pacer=capped,
        alone=True,
    ),
    Scenario(
        "loop blocked 500 ms every 17 s",
        bucket(50, 10, 300, asleep=dozing),
        steady(50),
        Asked(0.95, refused=0.01, also=(NO_BURST,)),
    ),
    Scenario(
        "asleep for 10 minutes",
        bucket(50, 10, 900, asleep=lambda now: 700 if 100 <= now < 700 else now),
        steady(50),
        Asked(0.95, refused=0.01, also=(NO_BURST,)),
        leave_out=(100, 700),
    ),
    Scenario(
        "odd Retry-After values",
        bucket(50, 10, 200, retry_after=lambda number: ODD_VALUES[number % len(ODD_VALUES)]),
        steady(50),
    ),
    Scenario(
        "429 of a proxy: 10 s of all, else 0.2 %",
        bucket(50, 10, 300, fault=proxy),
        steady(50),
        Asked(also=(Also("resumes after {:.1f} s", lambda run: run.until(45, after=70, lasting=1.0)),)),
        leave_out=(60, 70),
    ),
    *(
        Scenario(
            f"{rate}/s, burst {burst}, {100 * share:g} % stray 429s{words}",
            bucket(rate, burst, seconds, fault=strays(share)),
            steady(rate),
            Asked(goodput),
            pacer=pacer,
            alone=pacer is not AdaptivePacer,
            brief=(rate, share) == (60, 0.01),
            after=60,
        )
        for pacer, words in ((AdaptivePacer, ""), (AdaptivePacer.background, ", background()"))
        for rate, burst, seconds in ((60, 6, 600), (200, 20, 300))
        for share, least in ((0.002, 0.95), (0.01, 0.93), (0.03, 0.85))
        for goodput in [least if pacer is AdaptivePacer else 0.65]
    ),
    Scenario("0.2/s, burst 1", bucket(0.2, 1, 6000), steady(0.2), after=300),
]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
