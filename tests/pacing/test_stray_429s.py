"""The adaptive pacers with stray 429s, which don't depend on the limit, in virtual time."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import AdaptivePacer
from adapty_async.pacing import Phase, SharedPacer, Verdict
from adapty_async.pacing.stray_429s import MIN_STRAY_RATIO, ExcessDetector, StrayRateEstimator
from benchmarks.pacing_bench.scenarios import strays
from benchmarks.rate_simulation import TokenBucket, World
from benchmarks.shared_pacing import Job, goodput, simulate

from .test_adaptive import accepted, run

# The same lines run again and again.
pytestmark = pytest.mark.no_cover

Make = Callable[[], AdaptivePacer]


def mean_goodput(make: Make, rate: float, burst: float, seconds: float, share: float) -> float:
    """Return accepted / allowed after the start, as a mean over seeds."""
    world = World(lambda: TokenBucket(rate, burst), seconds, fault=strays(share), under_way=512)
    return fmean(accepted(run(world, make(), seed), 60, seconds) / rate for seed in range(3))


# The benchmark covers more rates.
@pytest.mark.parametrize(
    ("rate", "burst", "seconds", "share", "least"),
    [(50, 10, 360, 0.002, 0.93), (200, 20, 200, 0.01, 0.93), (50, 10, 360, 0.03, 0.85)],
)
def test_strays_cost_little_more_than_themselves(
    rate: float, burst: float, seconds: float, share: float, least: float
) -> None:
    assert mean_goodput(AdaptivePacer, rate, burst, seconds, share) >= least


@pytest.mark.parametrize(
    ("rate", "burst", "seconds", "share"), [(60, 6, 600, 0.002), (200, 20, 300, 0.01), (60, 6, 600, 0.03)]
)
def test_a_job_in_the_background_stays_at_its_share_of_the_limit(
    rate: float, burst: float, seconds: float, share: float
) -> None:
    assert mean_goodput(AdaptivePacer.background, rate, burst, seconds, share) >= 0.65


def test_processes_that_share_a_pacer_are_not_slowed_down_either(tmp_path: Path) -> None:
    world = World(lambda: TokenBucket(60, 6), 200, fault=strays(0.01))
    tally = simulate(world, 1, [Job(SharedPacer(tmp_path / "pacer")) for _ in range(2)])
    assert goodput(tally, 60, 60, 200) >= 0.85


# With these seeds, several of the first few dozen requests get stray 429s.
@pytest.mark.parametrize("seed", [5010, 5016, 5018, 5035])
@pytest.mark.parametrize(("make", "least"), [(AdaptivePacer, 0.8), (AdaptivePacer.background, 0.65)])
def test_strays_among_the_first_requests_hold_a_job_back_for_seconds_only(make: Make, least: float, seed: int) -> None:
    world = World(lambda: TokenBucket(150, 40), 100, fault=strays(0.03), under_way=512)
    assert accepted(run(world, make(), seed), 40, 100) >= least * 150


@settings(max_examples=25, deadline=None)
@given(
    st.floats(math.log(20), math.log(500)).map(math.exp),
    st.floats(0.1, 1.0),
    st.floats(0.0, 0.03),
    st.sampled_from([AdaptivePacer, AdaptivePacer.background]),
    st.integers(0, 1000),
)
def test_no_share_of_strays_makes_the_rate_collapse(
    rate: float, seconds_of_burst: float, share: float, make: Make, seed: int
) -> None:
    seconds = max(120.0, 15_000 / rate)
    burst = max(5.0, seconds_of_burst * rate)
    world = World(lambda: TokenBucket(rate, burst), seconds, fault=strays(share), under_way=512)
    assert accepted(run(world, make(), seed), 0.6 * seconds, seconds) >= 0.4 * rate


@settings(max_examples=25, deadline=None)
@given(
    st.floats(math.log(20), math.log(500)).map(math.exp),
    st.floats(0.1, 0.5),
    st.sampled_from([0.0, 0.01]),
    st.integers(0, 1000),
)
def test_a_limit_that_falls_by_half_is_obeyed_soon(
    rate: float, seconds_of_burst: float, share: float, seed: int
) -> None:
    burst = max(5.0, seconds_of_burst * rate)
    world = World(lambda: TokenBucket(rate, burst, rates=[(90.0, rate / 2)]), 120, fault=strays(share), under_way=512)
    tally = run(world, AdaptivePacer(), seed)
    assert accepted(tally, 60, 90) >= 0.4 * rate
    # The bucket empties, a few dozen 429s are needed, and the news takes a round trip.
    told = 90 + burst / (rate / 2) + 10 + 60 / rate
    sent = sum(tally.sent[int(told * 2) :]) / (120 - told)
    assert sent <= 0.6 * rate


def test_a_429_below_the_estimate_lowers_it_by_little() -> None:
    pacer = AdaptivePacer()
    run(World(lambda: TokenBucket(50, 10), 40), pacer)
    while pacer.phase is not Phase.CRUISE:
        now = 50.0 + pacer.delay(50.0)
        ticket = pacer.acquire(now)
        pacer.record(now + 0.1, ticket, Verdict.THROTTLED if pacer.phase is Phase.PROBE else Verdict.ACCEPTED)
    before, now = pacer.estimate, 60.0
    assert before is not None
    for _ in range(30):
        now += pacer.delay(now)
        pacer.record(now + 0.1, pacer.acquire(now), Verdict.ACCEPTED)
    now += pacer.delay(now)
    pacer.record(now + 0.1, pacer.acquire(now), Verdict.THROTTLED)
    assert pacer.estimate is not None
    assert pacer.estimate >= 0.95 * before


class TestSuspicion:
    def hear(self, answers: str, share: float) -> ExcessDetector:
        suspicion = ExcessDetector()
        for number, answer in enumerate(answers, 1):
            if answer == "x":
                suspicion.record_rejection(0.02 * number, number, share)
            else:
                suspicion.record_acceptance(number, share)
        return suspicion

    def test_a_429_that_is_followed_by_accepted_requests_is_a_stray(self) -> None:
        assert self.hear("x" + 20 * ".", 0.03).interval is None

    def test_429s_that_go_on_confirm_each_other(self) -> None:
        few, many = self.hear("x.x.", 0.03).score, self.hear("x.x.x.x.", 0.03).score
        assert many > few > 2.5

    def test_429s_in_a_row_count_for_less(self) -> None:
        assert self.hear("xxx..", 0.03).score < self.hear("x.x.x", 0.03).score

    def test_where_no_strays_are_known_the_first_429_is_enough(self) -> None:
        assert self.hear("x", MIN_STRAY_RATIO).score > 3 + math.log(3000)


class TestStrays:
    def test_429s_near_the_limit_alone_are_no_strays(self) -> None:
        strays = StrayRateEstimator()
        strays.near.add(980, 20)
        assert strays.ratio == MIN_STRAY_RATIO
        assert strays.is_unclear(50)

    def test_429s_that_get_no_fewer_far_below_it_are(self) -> None:
        strays = StrayRateEstimator()
        strays.near.add(980, 20)
        strays.low.add(490, 10)
        assert strays.ratio == pytest.approx(0.016, abs=0.003)
        assert not strays.is_unclear(50)

    def test_429s_that_get_fewer_far_below_it_are_none(self) -> None:
        strays = StrayRateEstimator()
        strays.near.add(950, 50)
        strays.low.add(499, 1)
        assert strays.ratio == MIN_STRAY_RATIO
        assert not strays.is_unclear(50)

    def test_they_are_forgotten(self) -> None:
        strays = StrayRateEstimator()
        strays.low.add(100, 10)
        for _ in range(100):
            strays.low.add(300, 0)
        assert strays.ratio < 0.001
