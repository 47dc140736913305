"""The adaptive pacer with hidden limits in virtual time, and with any sequence of results."""

import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import AdaptivePacer
from adapty_async.pacing import MAX_RETRY_AFTER, Phase, Ticket, Verdict
from adapty_async.pacing.estimator import Interval, LimitEstimator
from benchmarks.rate_simulation import BIN, Answer, FixedWindows, PacedJob, Simulation, Tally, TokenBucket, World


def run(world: World, pacer: AdaptivePacer, seed: int = 1) -> Tally:
    simulation = Simulation(world, seed)
    return simulation.run(PacedJob(simulation, pacer, world.under_way), pacer=pacer)


def accepted(tally: Tally, first: float, last: float) -> float:
    """Return the accepted requests per second between two times."""
    return sum(tally.accepted[int(first / BIN) : int(last / BIN)]) / (last - first)


def refused(tally: Tally) -> float:
    return sum(tally.refused) / sum(tally.sent)


def failing(begins: float, ends: float, verdict: Verdict) -> Callable[[float, float], Answer | None]:
    return lambda now, draw: Answer(verdict) if begins <= now < ends else None


class TestAgainstHiddenLimits:
    @pytest.mark.parametrize(
        ("rate", "burst", "seconds", "goodput", "share"),
        [
            (50, 10, 120, 0.988, 0.005),
            (5, 5, 900, 0.99, 0.006),
            (300, 30, 120, 0.99, 0.0045),
            (50, 250, 300, 0.995, 0.0055),
        ],
    )
    def test_it_comes_near_a_smoothed_limit_with_few_refusals(
        self, rate: float, burst: float, seconds: float, goodput: float, share: float
    ) -> None:
        pacer = AdaptivePacer()
        tally = run(World(lambda: TokenBucket(rate, burst), seconds), pacer)
        assert accepted(tally, 20, seconds) >= goodput * rate
        assert refused(tally) <= share
        # At a low limit, a single request makes a difference within a few seconds.
        assert pacer.estimate == pytest.approx(rate, rel=0.03, abs=0.2)

    def test_it_sends_nothing_before_a_retry_after_is_over_and_loses_little_to_the_pauses(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 10), 200, retry_after=lambda _: 1.0), AdaptivePacer())
        assert tally.too_early == 0
        assert accepted(tally, 20, 200) >= 0.95 * 50
        assert refused(tally) <= 0.0015

    def test_a_limit_that_falls_is_obeyed_within_five_seconds(self) -> None:
        tally = run(World(lambda: TokenBucket(100, 10, rates=[(40, 30)]), 100), AdaptivePacer())
        assert sum(tally.sent[int(45 / BIN) : int(60 / BIN)]) / 15 <= 33
        assert accepted(tally, 45, 100) >= 0.97 * 30
        assert refused(tally) <= 0.012

    def test_a_limit_that_rises_is_used_again_after_a_while(self) -> None:
        tally = run(World(lambda: TokenBucket(30, 10, rates=[(40, 100)]), 100), AdaptivePacer())
        assert accepted(tally, 60, 65) >= 0.9 * 100
        assert refused(tally) <= 0.005

    def test_refused_calls_that_are_charged_too_are_no_trap(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 10, charge_refused=True), 120), AdaptivePacer())
        assert accepted(tally, 20, 120) >= 0.9 * 50

    def test_the_estimate_comes_to_the_mean_of_windows_with_quotas(self) -> None:
        pacer = AdaptivePacer()
        tally = run(World(lambda: FixedWindows(3000, 60.0), 400), pacer)
        assert pacer.estimate == pytest.approx(50, rel=0.05)
        assert refused(tally) <= 0.08

    @pytest.mark.parametrize("verdict", list(Verdict)[1:], ids=str)
    def test_the_estimate_survives_an_outage(self, verdict: Verdict) -> None:
        pacer = AdaptivePacer()
        tally = run(World(lambda: TokenBucket(50, 10), 80, fault=failing(30, 60, verdict)), pacer)
        before, after = tally.estimates[int(29 / BIN)], pacer.estimate
        assert before is not None
        assert after == pytest.approx(before, rel=0.05)
        assert accepted(tally, 75, 80) >= 45

    @pytest.mark.parametrize("seed", range(3))
    def test_requests_that_never_reached_the_limiter_leave_the_estimate_alone(self, seed: int) -> None:
        pacer = AdaptivePacer()
        run(World(lambda: TokenBucket(50, 10), 128, fault=failing(60, 120, Verdict.UNKNOWN)), pacer, seed)
        assert pacer.estimate == pytest.approx(50, rel=0.01)

    def test_where_everything_is_refused_it_asks_with_single_requests_only(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 10), 90, fault=failing(30, 90, Verdict.THROTTLED)), AdaptivePacer())
        assert sum(tally.sent[int(32 / BIN) :]) <= 30

    def test_a_slow_network_is_no_reason_to_go_faster_afterwards(self) -> None:
        pacer = AdaptivePacer()
        tally = run(World(lambda: TokenBucket(50, 10), 90, delay=lambda now: 2.0 if 40 <= now < 60 else 0.1), pacer)
        assert max(tally.rates[int(40 / BIN) : int(62 / BIN)]) <= 55
        assert refused(tally) <= 0.01

    @pytest.mark.parametrize("seed", range(5))
    def test_after_ten_minutes_of_sleep_there_is_no_burst(self, seed: int) -> None:
        world = World(lambda: TokenBucket(50, 10), 800, asleep=lambda now: 700 if 100 <= now < 700 else now)
        tally = run(world, AdaptivePacer(), seed)
        assert max(tally.sent[int(700 / BIN) :]) <= 56 * BIN
        assert accepted(tally, 701, 800) >= 0.98 * 50

    def test_what_was_refused_after_the_first_overshoot_tells_where_to_look(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 250), 20), AdaptivePacer())
        assert sum(tally.refused) <= 50

    @pytest.mark.parametrize("seed", range(3))
    def test_a_window_that_is_used_up_is_not_taken_for_a_limit_of_next_to_nothing(self, seed: int) -> None:
        world = World(lambda: FixedWindows(300, 1.0), 100, under_way=512)
        tally = run(world, AdaptivePacer(), seed)
        assert accepted(tally, 40, 100) >= 0.88 * 300

    @pytest.mark.parametrize("seed", range(3))
    def test_windows_of_a_second_are_not_taken_for_a_lower_limit_with_a_burst(self, seed: int) -> None:
        tally = run(World(lambda: FixedWindows(50, 1.0), 300), AdaptivePacer(), seed)
        assert accepted(tally, 150, 300) >= 0.96 * 50
        assert refused(tally) <= 0.008

    def test_it_never_goes_above_max_rate(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 10), 60), AdaptivePacer(max_rate=40))
        assert max(tally.rates) == 40
        assert accepted(tally, 20, 60) == pytest.approx(40, rel=0.02)
        assert sum(tally.refused) == 0

    def test_background_leaves_room_for_production(self) -> None:
        world = World(lambda: TokenBucket(50, 10), 600, production=lambda rng: rng.uniform(0.8, 1.2) / 20)
        tally = run(world, AdaptivePacer.background())
        assert 0.6 * 30 <= accepted(tally, 20, 600) <= 0.8 * 30
        assert tally.production_refused <= 0.001 * tally.production_sent

    def test_a_limit_far_below_the_start_is_found_too(self) -> None:
        pacer = AdaptivePacer()
        tally = run(World(lambda: TokenBucket(0.2, 1), 9000), pacer)
        assert pacer.rate == pytest.approx(0.2, rel=0.15)
        assert accepted(tally, 4500, 9000) >= 0.86 * 0.2
        assert refused(tally) <= 0.016

    def test_who_leaves_room_for_others_starts_more_gently(self) -> None:
        tally = run(World(lambda: TokenBucket(50, 10), 12), AdaptivePacer.background())
        assert max(tally.rates) <= 75


events = st.one_of(
    st.tuples(st.just("send"), st.floats(0.0, 5.0)),
    st.tuples(
        st.sampled_from(list(Verdict)),
        st.floats(0.0, 5.0),
        st.integers(0, 5),
        st.one_of(st.none(), st.floats(), st.floats(0.0, 100.0)),
    ),
)


def play(pacer: AdaptivePacer, script: list[Any]) -> tuple[float, float]:
    """Run a script with checks at each step. Return its end and the end of the last Retry-After."""
    now, told_until = 1000.0, -math.inf
    tickets: list[Ticket] = []
    for event in script:
        now += event[1]
        if event[0] == "send":
            wait = pacer.delay(now)
            if wait == 0.0:
                assert now >= told_until
                tickets.append(pacer.acquire(now))
        elif tickets:
            _, _, back, retry_after = event
            pacer.record(now, tickets[-1 - back % len(tickets)], event[0], retry_after)
            if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
                told_until = max(told_until, now + retry_after)
        assert 0.0 <= pacer.delay(now) < math.inf
        assert 0.0 < pacer.rate <= 80.0
        assert pacer.estimate is None or 0.0 <= pacer.estimate < math.inf
    return now, told_until


class TestWhateverIsHeard:
    @given(st.lists(events, max_size=120), st.floats(0.1, 100.0))
    def test_waits_and_rates_stay_what_they_must_be(self, script: list[Any], start_rate: float) -> None:
        play(AdaptivePacer(start_rate, max_rate=80.0, probe_after=5), script)

    @settings(max_examples=30)
    @given(st.lists(events, max_size=120))
    def test_it_always_recovers(self, script: list[Any]) -> None:
        pacer = AdaptivePacer(max_rate=80.0, probe_after=5)
        now, told_until = play(pacer, script)
        now = max(now, told_until)
        for _ in range(20_000):
            now += pacer.delay(now)
            pacer.record(now + 0.1, pacer.acquire(now), Verdict.ACCEPTED)
            if pacer.rate >= 40.0:
                break
        assert pacer.rate >= 40.0

    def test_a_job_with_little_to_send_raises_nothing(self) -> None:
        pacer = AdaptivePacer()
        for second in range(1000):
            assert pacer.delay(float(second)) == 0.0
            pacer.record(second + 0.1, pacer.acquire(float(second)), Verdict.ACCEPTED)
        assert pacer.rate == 5.0

    @pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf, -math.inf, MAX_RETRY_AFTER + 1])
    def test_a_retry_after_that_makes_no_sense_holds_nothing(self, odd: float) -> None:
        pacer = AdaptivePacer()
        pacer.record(0.1, pacer.acquire(0.0), Verdict.ACCEPTED)
        pacer.record(1.1, pacer.acquire(1.0), Verdict.THROTTLED, odd)
        assert pacer.delay(1.1) < 2.0

    def test_a_503_with_retry_after_gates_and_leaves_the_rate_alone(self) -> None:
        pacer = AdaptivePacer()
        pacer.record(0.1, pacer.acquire(0.0), Verdict.UNKNOWN, 30.0)
        assert pacer.delay(0.1) == 30.0
        assert pacer.rate == 5.0
        assert pacer.snapshot().hold_until == 30.1

    def test_refusals_of_what_was_under_way_are_echoes_of_one_overshoot(self) -> None:
        pacer = AdaptivePacer(start_rate=100.0)
        tickets = [pacer.acquire(number / 100) for number in range(40)]
        for ticket in tickets[:20]:
            pacer.record(ticket.sent_at + 0.2, ticket, Verdict.ACCEPTED)
        for ticket in tickets[20:28]:
            pacer.record(ticket.sent_at + 0.2, ticket, Verdict.THROTTLED)
        rate = pacer.rate
        for ticket in tickets[28:]:
            pacer.record(ticket.sent_at + 0.2, ticket, Verdict.THROTTLED)
        assert pacer.rate == rate < 100.0

    def test_an_answer_that_never_comes_blocks_nothing_for_ever(self) -> None:
        pacer = AdaptivePacer()
        pacer.record(0.1, pacer.acquire(0.0), Verdict.THROTTLED)
        assert pacer.phase is Phase.BLOCKED
        now = 1.0 + pacer.delay(1.0)
        pacer.acquire(now)
        assert 0 < pacer.delay(now) <= 60.0


class TestMeasuring:
    def test_between_two_refusals_the_accepted_requests_are_the_limit(self) -> None:
        interval = Interval(10.0, 100, is_bucket_empty=True)
        for number in (101, 102, 601):
            interval.count_rejection(number)
        interval.end(20.0, 601, rate=60.0)
        assert interval.estimate_limit(burst=1e9) == pytest.approx(50.0, rel=0.01)

    def test_a_bucket_that_was_full_gave_its_burst_on_top(self) -> None:
        interval = Interval(10.0, 100, is_bucket_empty=True)
        interval.add_full_point(20.0, 200)
        interval.end(22.0, 320, rate=60.0)
        assert interval.estimate_limit(burst=20.0) == pytest.approx(50.0)

    def test_no_limit_is_above_the_rate_that_was_refused(self) -> None:
        interval = Interval(10.0, 100, is_bucket_empty=True)
        interval.add_full_point(20.0, 200)
        interval.end(22.0, 320, rate=55.0)
        assert interval.estimate_limit(burst=1.0) == 55.0

    def test_the_burst_is_found_from_intervals_of_different_length(self) -> None:
        def interval(seconds: float) -> Interval:
            full_for_long = Interval(0.0, 1, is_bucket_empty=True)
            full_for_long.add_full_point(100.0, 1000)
            full_for_long.end(100.0 + seconds, 1000 + 20 + round(50 * seconds), rate=80.0)
            return full_for_long

        estimator = LimitEstimator()
        estimator.add_interval(interval(1.0))
        estimator.add_interval(interval(4.0))
        assert estimator.measure(interval(10.0)) == pytest.approx(50.0, rel=0.03)

    def test_one_contradiction_downwards_is_doubted_and_two_are_believed(self) -> None:
        estimator = LimitEstimator()
        limits = []
        for rate in (100, 100, 30, 30):
            interval = Interval(0.0, 1, is_bucket_empty=True)
            interval.end(10.0, 10 * rate, rate=120.0)
            limits.append(estimator.measure(interval))
        assert limits == pytest.approx([100.0, 100.0, 100.0, 50.0])

    def test_points_are_thinned_out_not_piled_up(self) -> None:
        interval = Interval(0.0, 1, is_bucket_empty=True)
        for number in range(10_000):
            interval.add_full_point(float(number), number)
        interval.end(10_000.0, 10_000, rate=2.0)
        assert len(interval._points) <= 64  # noqa: SLF001 - the test needs its memory
        assert interval.estimate_limit(burst=1.0) == pytest.approx(1.0, rel=0.01)


class TestItsForm:
    def test_it_tells_where_it_stands(self) -> None:
        pacer = AdaptivePacer(start_rate=8)
        pacer.record(0.1, pacer.acquire(0.0), Verdict.THROTTLED, 3.0)
        snapshot = pacer.snapshot()
        assert snapshot.phase is Phase.BLOCKED
        assert (snapshot.rate, snapshot.estimate, snapshot.sent, snapshot.throttled) == (8.0, None, 1, 1)
        assert repr(pacer) == "<AdaptivePacer blocked, 8/s>"

    def test_it_can_be_a_weak_key(self) -> None:
        pacer = AdaptivePacer()
        assert weakref.WeakKeyDictionary({pacer: 1})[pacer] == 1

    @pytest.mark.parametrize("rate", [0, -1.0, math.inf, math.nan])
    @pytest.mark.parametrize("name", ["start_rate", "max_rate"])
    def test_a_rate_that_is_none_is_a_value_error(self, name: str, rate: float) -> None:
        with pytest.raises(ValueError, match="positive, finite number of requests per second"):
            AdaptivePacer(**{name: rate})  # type: ignore[arg-type]

    @pytest.mark.parametrize("utilization", [0.0, -0.1, 1.01, math.nan])
    def test_a_utilization_outside_its_range_is_a_value_error(self, utilization: float) -> None:
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            AdaptivePacer(utilization=utilization)

    @pytest.mark.parametrize(
        "wrong",
        [{"start_rate": "5"}, {"max_rate": True}, {"utilization": "0.9"}, {"probe_after": 2.5}, {"probe_after": True}],
    )
    def test_what_is_no_number_is_a_type_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="must be a"):
            AdaptivePacer(**wrong)

    def test_probe_after_below_one_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            AdaptivePacer(probe_after=0)
