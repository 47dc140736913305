"""The pacers as pure functions of the time."""

import math
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import UNPACED, FixedPacer
from adapty_async.pacing import Pacer, Phase, Snapshot, Unpaced, Verdict

pacers = pytest.mark.parametrize("pacer", [Unpaced(), FixedPacer(5.0)], ids=repr)


def send_times(pacer: Pacer, *, began: float, number: int, late: float = 0.0) -> list[float]:
    """Send as soon as allowed. After each wait, wake up `late` seconds late."""
    now, times = began, []
    for _ in range(number):
        wait = pacer.delay(now)
        now += wait + late if wait > 0 else 0.0
        times.append(pacer.acquire(now).sent_at)
    return times


class TestEveryPacer:
    @pacers
    def test_it_numbers_its_tickets_and_dates_them(self, pacer: Pacer) -> None:
        first = pacer.acquire(10.0)
        second = pacer.acquire(12.0)
        assert second.number == first.number + 1
        assert (first.sent_at, second.sent_at) == (10.0, 12.0)

    @pacers
    def test_it_can_be_a_weak_key(self, pacer: Pacer) -> None:
        assert weakref.WeakKeyDictionary({pacer: 1})[pacer] == 1

    @pytest.mark.parametrize("make", [Unpaced, lambda: FixedPacer(5.0)])
    @pytest.mark.parametrize("odd", [None, 0.0, -1.0, math.nan, math.inf, 24 * 3600.1])
    def test_a_retry_after_that_makes_no_sense_holds_nothing(self, make: Any, odd: float | None) -> None:
        pacer = make()
        ticket = pacer.acquire(0.0)
        pacer.record(1.0, ticket, Verdict.THROTTLED, odd)
        assert pacer.delay(1.0) == 0.0

    @pytest.mark.parametrize("make", [Unpaced, lambda: FixedPacer(5.0)])
    def test_a_retry_after_holds_every_send_until_it_is_over(self, make: Any) -> None:
        pacer = make()
        ticket = pacer.acquire(0.0)
        pacer.record(1.0, ticket, Verdict.THROTTLED, 30.0)
        pacer.record(2.0, ticket, Verdict.THROTTLED, 3.0)
        assert pacer.delay(2.0) == 29.0
        assert pacer.delay(31.0) == 0.0
        assert pacer.delay(99.0) == 0.0

    @pacers
    def test_what_looks_for_no_limit_tells_none(self, pacer: Pacer) -> None:
        assert pacer.estimate is None

    @pytest.mark.parametrize("make", [Unpaced, lambda: FixedPacer(5.0)])
    def test_it_tells_where_it_stands(self, make: Any) -> None:
        pacer = make()
        before = pacer.snapshot()
        pacer.record(1.0, pacer.acquire(0.0), Verdict.THROTTLED, 30.0)
        assert before == Snapshot(Phase.STEADY, pacer.rate, None, hold_until=-math.inf, sent=0, throttled=0)
        assert pacer.snapshot() == Snapshot(Phase.STEADY, pacer.rate, None, hold_until=31.0, sent=1, throttled=1)


class TestUnpaced:
    @given(st.lists(st.floats(0, 1e9)))
    def test_it_holds_nothing_back(self, times: list[float]) -> None:
        pacer = Unpaced()
        for now in sorted(times):
            assert pacer.delay(now) == 0.0
            pacer.record(now, pacer.acquire(now), Verdict.ACCEPTED)
        assert pacer.rate == math.inf

    @pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.UNKNOWN])
    def test_only_the_retry_after_of_a_429_holds(self, verdict: Verdict) -> None:
        pacer = Unpaced()
        pacer.record(0.0, pacer.acquire(0.0), verdict, 30.0)
        assert pacer.delay(0.0) == 0.0

    def test_its_name_is_that_of_the_one_to_use(self) -> None:
        assert repr(UNPACED) == "UNPACED"


class TestFixedPacer:
    @given(st.floats(0.01, 5000), st.integers(2, 300), st.floats(0, 1e6))
    def test_it_sends_at_its_rate(self, rate: float, number: int, began: float) -> None:
        times = send_times(FixedPacer(rate), began=began, number=number)
        assert times[-1] - times[0] == pytest.approx((number - 1) / rate, abs=1e-6)

    @given(st.floats(0.01, 5000), st.integers(2, 300), st.floats(0, 0.02))
    def test_wake_ups_that_are_late_as_loops_are_lose_no_rate(self, rate: float, number: int, late: float) -> None:
        times = send_times(FixedPacer(rate), began=100.0, number=number, late=late)
        assert times[-1] - times[0] <= (number - 1) / rate + late + 1e-6

    @given(st.floats(0.01, 5000), st.lists(st.floats(0, 10.0), min_size=1, max_size=100))
    def test_no_idleness_whatever_is_followed_by_a_burst(self, rate: float, pauses: list[float]) -> None:
        pacer, now, times = FixedPacer(rate), 0.0, []
        for pause in pauses:
            now += pause
            now += pacer.delay(now)
            times.append(pacer.acquire(now).sent_at)
        for first, began in enumerate(times):
            for last, ended in enumerate(times[first:], first):
                assert last - first <= rate * (ended - began + 0.02) + 1e-6

    def test_after_an_hour_of_idleness_the_second_call_waits_as_ever(self) -> None:
        pacer = FixedPacer(2.0)
        pacer.acquire(0.0)
        pacer.acquire(3600.0)
        assert pacer.delay(3600.0) == pytest.approx(0.48)

    @pytest.mark.parametrize("after", ["start", "pause"])
    def test_neither_the_start_nor_a_pause_is_followed_by_a_burst(self, after: str) -> None:
        pacer = FixedPacer(1000.0)
        now = 50.0
        if after == "pause":
            pacer.record(now, pacer.acquire(now), Verdict.THROTTLED, 10.0)
            now += pacer.delay(now)
        pacer.acquire(now)
        assert pacer.delay(now) == pytest.approx(0.001)

    def test_a_503_with_retry_after_holds_too(self) -> None:
        pacer = FixedPacer(100.0)
        pacer.record(0.0, pacer.acquire(0.0), Verdict.UNKNOWN, 30.0)
        assert pacer.delay(0.0) == 30.0

    def test_it_tells_its_rate(self) -> None:
        assert FixedPacer(8).rate == 8.0
        assert repr(FixedPacer(2.5)) == "FixedPacer(2.5)"

    @pytest.mark.parametrize("rate", [0, -1.0, math.inf, math.nan])
    def test_a_rate_that_is_none_is_a_value_error(self, rate: float) -> None:
        with pytest.raises(ValueError, match="positive, finite number of requests per second"):
            FixedPacer(rate)

    @pytest.mark.parametrize("rate", [True, "5", None])
    def test_a_rate_that_is_no_number_is_a_type_error(self, rate: Any) -> None:
        with pytest.raises(TypeError, match="must be a number of requests per second, not"):
            FixedPacer(rate)
