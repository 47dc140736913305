"""How soon a pacer corrects its estimate after a disturbance, in virtual time."""

from collections.abc import Callable

import pytest

from adapty_async import AdaptivePacer
from adapty_async.pacing import Verdict
from benchmarks.pacing_bench.scenarios import poisson
from benchmarks.rate_simulation import TokenBucket, World

from .test_adaptive import accepted, failing, run

# Hours of virtual time. Coverage makes this 50% slower, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

Make = Callable[[], AdaptivePacer]


@pytest.mark.parametrize(("make", "share"), [(AdaptivePacer, 0.97), (AdaptivePacer.background, 0.66)])
@pytest.mark.parametrize("blocked", [0.01, 1, 5, 60])
def test_a_job_whose_first_requests_are_refused_is_as_fast_as_any_a_minute_later(
    make: Make, share: float, blocked: float
) -> None:
    world = World(lambda: TokenBucket(50, 10), 600, fault=failing(0, blocked, Verdict.THROTTLED))
    assert accepted(run(world, make()), blocked + 60, 600) >= share * 50


@pytest.mark.parametrize("low", [1, 5])
def test_a_limit_that_was_low_for_a_moment_is_forgotten_within_six_minutes(low: float) -> None:
    world = World(lambda: TokenBucket(low, 10, rates=[(10, 50)]), 900)
    assert accepted(run(world, AdaptivePacer.background()), 500, 900) >= 0.6 * 50


def test_beside_production_it_sinks_no_further_in_hours() -> None:
    world = World(lambda: TokenBucket(50, 10), 9000, production=poisson(20))
    tally = run(world, AdaptivePacer.background())
    assert accepted(tally, 6000, 9000) >= 0.5 * 30
    assert tally.production_refused <= 0.001 * tally.production_sent
