"""The adaptive pacer when each 429 has a Retry-After, in virtual time, with limiters of all kinds."""

from collections import deque
from collections.abc import Callable

import pytest

from adapty_async import AdaptivePacer
from adapty_async.pacing import Verdict
from adapty_async.pacing.estimator import Interval, LimitEstimator
from benchmarks.rate_simulation import BIN, FixedWindows, Limiter, PacedJob, Simulation, Tally, TokenBucket, World

# Hours of virtual time. Coverage makes this 50% slower, and other tests run the same lines.
pytestmark = pytest.mark.no_cover


class TheoreticalArrivals:
    """A smoothed limit as in GCRA: it stores when the next request would arrive if all kept to the rate."""

    def __init__(self, rate: float, burst: float) -> None:
        self._spacing = 1 / rate
        self._tolerance = burst / rate
        self._due = 0.0

    def accepts(self, now: float) -> bool:
        due = max(self._due, now)
        if due - now > self._tolerance:
            return False
        self._due = due + self._spacing
        return True


class SlidingLog:
    """At most `calls` accepted requests within any `seconds`."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._accepted: deque[float] = deque()

    def accepts(self, now: float) -> bool:
        while self._accepted and self._accepted[0] <= now - self._seconds:
            self._accepted.popleft()
        if len(self._accepted) >= self._calls:
            return False
        self._accepted.append(now)
        return True


def run(limiter: Callable[[], Limiter], seconds: float, retry_after: float, round_trip: float) -> Tally:
    world = World(limiter, seconds, retry_after=lambda _: retry_after, delay=lambda _: round_trip, under_way=512)
    simulation = Simulation(world, seed=0)
    pacer = AdaptivePacer()
    return simulation.run(PacedJob(simulation, pacer, world.under_way), pacer=pacer)


class TestWhatIsReached:
    # Before all bursts were weighed, none of these reached 67% of its limit.
    @pytest.mark.parametrize(
        ("limiter", "rate", "round_trip", "retry_after", "goodput"),
        [
            pytest.param(lambda: TokenBucket(300, 300), 300, 0.001, 5.0, 0.96, id="300/s burst 300"),
            pytest.param(lambda: TokenBucket(100, 10), 100, 0.3, 2.0, 0.93, id="100/s burst 10"),
            pytest.param(lambda: TokenBucket(50, 2), 50, 0.001, 5.0, 0.94, id="50/s burst 2"),
            pytest.param(lambda: TokenBucket(50, 2), 50, 0.001, 30.0, 0.90, id="50/s burst 2 long pause"),
            pytest.param(lambda: TokenBucket(2, 3), 2, 0.1, 30.0, 0.85, id="2/s burst 3 long pause"),
            pytest.param(lambda: TheoreticalArrivals(20, 2), 20, 0.05, 5.0, 0.90, id="GCRA 20/s burst 2"),
            pytest.param(lambda: SlidingLog(100, 1.0), 100, 0.001, 5.0, 0.83, id="log of 100 a second"),
            pytest.param(lambda: SlidingLog(1000, 10.0), 100, 0.05, 5.0, 0.80, id="log of 1,000 in 10 s"),
            pytest.param(lambda: SlidingLog(500, 10.0), 50, 0.05, 1.0, 0.90, id="log of 500 in 10 s"),
            pytest.param(lambda: FixedWindows(20, 1.0), 20, 0.3, 10.0, 0.82, id="windows of 20 a second"),
        ],
    )
    def test_a_first_estimate_that_is_wrong_does_not_stay_for_minutes(
        self, limiter: Callable[[], Limiter], rate: float, round_trip: float, retry_after: float, goodput: float
    ) -> None:
        seconds = 60 + max(120, 24 * retry_after)
        tally = run(limiter, seconds, retry_after, round_trip)
        assert tally.too_early == 0
        assert sum(tally.accepted[int(60 / BIN) :]) >= goodput * rate * (seconds - 60)
        assert sum(tally.refused) <= 0.007 * sum(tally.sent)

    @pytest.mark.parametrize("retry_after", [1.0, 2.0])
    def test_a_limit_that_rises_is_used_again(self, retry_after: float) -> None:
        tally = run(lambda: TokenBucket(30, 10, rates=[(200, 100)]), 400, retry_after, 0.1)
        assert sum(tally.accepted[int(380 / BIN) :]) >= 0.9 * 100 * 20

    def test_where_jitter_empties_the_bucket_it_goes_so_slow_that_few_are_refused(self) -> None:
        tally = run(lambda: TokenBucket(100, 2), 400, 2.0, 0.3)
        assert sum(tally.refused) <= 0.004 * sum(tally.sent)


class TestAfterAPause:
    def test_nothing_is_made_up_for(self) -> None:
        pacer = AdaptivePacer(start_rate=100.0)
        first = pacer.acquire(0.0)
        pacer.record(0.1, first, Verdict.ACCEPTED)
        pacer.record(0.2, pacer.acquire(0.1), Verdict.THROTTLED, 5.0)
        opens = 0.2 + pacer.delay(0.2)
        assert opens == pytest.approx(5.2)
        pacer.acquire(opens)
        assert pacer.delay(opens) == pytest.approx(1 / pacer.rate)

    @pytest.mark.parametrize("retry_after", [0.001, 0.05])
    def test_one_that_is_over_before_the_next_request_would_leave_changes_nothing(self, retry_after: float) -> None:
        refused_with: dict[float | None, tuple[float, float]] = {}
        for told in (None, retry_after):
            pacer = AdaptivePacer(start_rate=50.0)
            pacer.record(0.1, pacer.acquire(0.0), Verdict.ACCEPTED)
            # So many that they count even without a Retry-After.
            for ticket in [pacer.acquire(0.1) for _ in range(8)]:
                pacer.record(0.2, ticket, Verdict.THROTTLED, told)
            refused_with[told] = pacer.rate, pacer.delay(0.2)
        assert refused_with[retry_after] == refused_with[None]
        assert refused_with[None][0] < 50.0

    def test_the_search_begins_at_the_step_that_was_passed(self) -> None:
        pacer = AdaptivePacer(start_rate=100.0)
        pacer.record(0.1, pacer.acquire(0.0), Verdict.ACCEPTED)
        pacer.record(0.2, pacer.acquire(0.1), Verdict.THROTTLED, 5.0)
        assert pacer.rate == pytest.approx(50.0)


def after_a_pause(seconds: float, sent: int, rate: float) -> Interval:
    """Return an interval of some seconds with requests to a bucket that was full after a pause of 5 s."""
    interval = Interval(-5.0, 0, is_bucket_empty=True)
    interval.add_full_point(0.0, 1)
    interval.end(seconds, 1 + sent, rate, has_hold=True)
    return interval


class TestWeighing:
    def test_two_short_intervals_leave_a_doubt_and_a_long_one_ends_it(self) -> None:
        estimator = LimitEstimator()
        estimator.add_interval(after_a_pause(0.4, 60, rate=150.0))
        doubtful = estimator.measure(after_a_pause(0.7, 75, rate=107.0))
        assert estimator.spread > 0.2 * doubtful
        sure = estimator.measure(after_a_pause(10.0, 540, rate=56.0))
        assert sure == pytest.approx(50.0, rel=0.03)
        assert estimator.spread < 0.03 * sure

    def test_a_bucket_that_takes_a_minute_to_fill_is_no_explanation(self) -> None:
        # 1,000 at once and then 12 in 5 s would also fit 1,000 and 2/s. A log of ten seconds looks like that.
        estimator = LimitEstimator()
        start = Interval(0.0, 1, is_bucket_empty=False)
        start.add_full_point(0.0, 1)
        start.end(2.0, 1005, rate=500.0, has_hold=True)
        estimator.add_interval(start)
        assert estimator.measure(after_a_pause(0.1, 12, rate=120.0)) > 30

    def test_the_limit_is_no_lower_than_what_was_accepted(self) -> None:
        estimator = LimitEstimator()
        estimator.measure(after_a_pause(45.0, 5000, rate=120.0))
        assert 100.0 <= estimator.measure(after_a_pause(45.0, 5000, rate=120.0)) <= 120.0
