import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.testing import Limiter

# Powers of two, so that sums of intervals are exact.
RATES = st.sampled_from([0.25, 1.0, 4.0, 64.0])


def accepted(limiter: Limiter, times: list[float]) -> list[float]:
    return [now for now in times if limiter.accepts(now)]


def test_at_rest_it_accepts_the_burst_above_the_one_that_is_due() -> None:
    assert len(accepted(Limiter(rate=2.0, burst=3), [100.0] * 10)) == 4


def test_without_a_burst_it_accepts_one_request_an_interval() -> None:
    quarters = [number / 4 for number in range(12)]
    assert accepted(Limiter(rate=2.0, burst=0), quarters) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_a_used_up_burst_returns_at_the_rate() -> None:
    limiter = Limiter(rate=2.0, burst=3)
    accepted(limiter, [0.0] * 4)
    assert accepted(limiter, [0.25, 0.5, 0.5, 1.0]) == [0.5, 1.0]


def test_a_refused_request_costs_nothing() -> None:
    limiter = Limiter(rate=1.0, burst=0)
    accepted(limiter, [0.0] * 100)
    assert limiter.accepts(1.0)


@given(RATES, st.integers(0, 20))
def test_at_exactly_the_rate_nothing_is_refused(rate: float, burst: int) -> None:
    times = [number / rate for number in range(200)]
    assert accepted(Limiter(rate, burst), times) == times


@given(RATES, st.integers(0, 20), st.lists(st.floats(0, 60), min_size=1, max_size=100))
def test_no_window_holds_more_than_rate_and_burst_allow(rate: float, burst: int, times: list[float]) -> None:
    passed = accepted(Limiter(rate, burst), sorted(times))
    for first, start in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= rate * (end - start) + burst + 1 + 1e-6


@given(RATES, st.integers(0, 20), st.floats(0, 60))
def test_under_pressure_the_accepted_rate_is_the_rate(rate: float, burst: int, start: float) -> None:
    tries = [start + number / (10 * rate) for number in range(1000)]
    expected = burst + 1 + (tries[-1] - start) * rate
    assert math.isclose(len(accepted(Limiter(rate, burst), tries)), expected, abs_tol=1.1, rel_tol=0.01)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Limiter(rate)


def test_a_negative_burst_is_refused() -> None:
    with pytest.raises(ValueError, match="burst"):
        Limiter(1.0, burst=-1)
