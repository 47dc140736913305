"""The default pacer of a client, with times passed in, and with hidden limits."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.pacing import MAX_RETRY_AFTER, Pacer, Phase, ReactivePacer, Ticket, Verdict
from benchmarks.pacing_bench.callers import Alone, Served, serve
from benchmarks.rate_simulation import Answer, FixedWindows, SlidingWindow, TokenBucket, World

ACCEPTED, THROTTLED, UNKNOWN = Verdict.ACCEPTED, Verdict.THROTTLED, Verdict.UNKNOWN


def send(pacer: Pacer, now: float, number: int = 1) -> list[Ticket]:
    """Send this many requests at once."""
    return [pacer.acquire(now) for _ in range(number)]


def held(pacer: Pacer, now: float, pause: float | None = 2.0, number: int = 20) -> float:
    """Send this many requests at once and reject all but the first. Return the time when the next may be sent."""
    first, *others = send(pacer, now, number)
    pacer.record(now + 0.1, first, ACCEPTED)
    for ticket in others:
        pacer.record(now + 0.1, ticket, THROTTLED, pause)
    return now + 0.1 + pacer.delay(now + 0.1)


def released(pacer: Pacer, since: float, until: float) -> list[float]:
    """Send requests as soon as allowed, each accepted after 0.01 s. Return the times of sending."""
    times: list[float] = []
    now = since
    while True:
        now += pacer.delay(now)
        if now >= until:
            return times
        ticket = pacer.acquire(now)
        pacer.record(now + 0.01, ticket, ACCEPTED)
        times.append(now)


class TestBeforeTheFirst429:
    def test_nothing_is_held_back(self) -> None:
        pacer = ReactivePacer()
        for number in range(10_000):
            assert pacer.delay(number / 1e5) == 0.0
            pacer.record(number / 1e5, pacer.acquire(number / 1e5), ACCEPTED if number % 7 else UNKNOWN)
        assert (pacer.rate, pacer.estimate, pacer.phase) == (math.inf, None, Phase.STEADY)

    def test_a_503_with_a_retry_after_holds_nobody_else(self) -> None:
        pacer = ReactivePacer()
        pacer.record(0.1, pacer.acquire(0.0), UNKNOWN, 30.0)
        assert pacer.delay(0.1) == 0.0


class TestTheHold:
    @pytest.mark.parametrize("pause", [0.05, 1.0, 2.0, 5.0, MAX_RETRY_AFTER])
    def test_a_429_holds_everything_until_its_retry_after_is_over(self, pause: float) -> None:
        assert held(ReactivePacer(), 10.0, pause) == pytest.approx(10.1 + pause)

    @pytest.mark.parametrize("pause", [None, 0.0, -1.0, math.nan, math.inf, MAX_RETRY_AFTER + 1])
    def test_without_one_to_follow_for_a_moment(self, pause: float | None) -> None:
        assert 10.11 <= held(ReactivePacer(), 10.0, pause) <= 11.0

    def test_the_longest_of_several_counts(self) -> None:
        pacer = ReactivePacer()
        for ticket, pause in zip(send(pacer, 0.0, 3), [1.0, 5.0, 2.0], strict=True):
            pacer.record(0.1, ticket, THROTTLED, pause)
        assert pacer.delay(0.1) == pytest.approx(5.0)

    def test_where_nothing_is_accepted_it_lasts_longer_and_longer(self) -> None:
        pacer = ReactivePacer()
        now = held(pacer, 0.0, None)
        waits = []
        for _ in range(12):
            pacer.record(now + 0.01, pacer.acquire(now), THROTTLED)
            waits.append(pacer.delay(now + 0.01))
            now += 0.01 + waits[-1]
        assert waits == pytest.approx(sorted(waits))
        assert waits[0] < 0.5
        assert waits[-1] == pytest.approx(8.0)
        assert len(released(pacer, now, now + 1.0)) > 10  # blocked, not too fast: the rate stays


class TestTheRelease:
    def test_it_is_one_by_one_from_25_a_second_and_faster_and_faster(self) -> None:
        pacer = ReactivePacer()
        opens = held(pacer, 0.0)
        times = released(pacer, opens, opens + 5.0)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[0] == pytest.approx(1 / 25)
        assert gaps == sorted(gaps, reverse=True)
        assert 25 <= sum(time < opens + 1 for time in times) <= 32
        assert sum(time >= opens + 4 for time in times) > 100
        assert pacer.phase is Phase.START

    def test_it_begins_at_the_rate_that_was_measured_over_a_second(self) -> None:
        pacer = ReactivePacer()
        for number in range(120):
            pacer.record(number / 60, pacer.acquire(number / 60), ACCEPTED)
        opens = held(pacer, 2.0, number=2)
        first, second = released(pacer, opens, opens + 1.0)[:2]
        assert 1 / (second - first) == pytest.approx(60, rel=0.1)

    def test_what_was_sent_long_ago_is_no_measurement(self) -> None:
        pacer = ReactivePacer()
        for number in range(20):
            pacer.record(10.0 * number, pacer.acquire(10.0 * number), ACCEPTED)
        opens = held(pacer, 200.0)
        first, second = released(pacer, opens, opens + 1.0)[:2]
        assert second - first == pytest.approx(1 / 25)

    def test_waking_up_late_lets_no_burst_leave(self) -> None:
        pacer = ReactivePacer()
        opens = held(pacer, 0.0)
        assert sum(pacer.delay(opens + 10.0) == 0.0 and bool(pacer.acquire(opens + 10.0)) for _ in range(50)) <= 4

    def test_calls_that_are_fewer_than_might_leave_dont_raise_the_rate(self) -> None:
        pacer = ReactivePacer()
        now = held(pacer, 0.0)
        for _ in range(50):
            pacer.record(now, pacer.acquire(now), ACCEPTED)
            now += 1.0
        assert pacer.rate < 60

    def test_a_429_of_what_left_before_the_hold_changes_nothing(self) -> None:
        pacer = ReactivePacer()
        tickets = send(pacer, 0.0, 20)
        pacer.record(0.1, tickets[5], THROTTLED, 2.0)
        before = (pacer.rate, pacer.delay(0.1))
        for ticket in tickets[6:]:
            pacer.record(0.1, ticket, THROTTLED, 2.0)
        assert (pacer.rate, pacer.delay(0.1)) == before

    def test_after_a_minute_without_a_429_nothing_is_held_back(self) -> None:
        pacer = ReactivePacer()
        opens = held(pacer, 0.0)
        released(pacer, opens, opens + 5.0)
        assert pacer.phase is Phase.START
        assert pacer.delay(60.2) == 0.0
        send(pacer, 60.2, 1000)
        assert (pacer.delay(60.2), pacer.rate, pacer.phase) == (0.0, math.inf, Phase.STEADY)

    def test_not_before_a_longer_retry_after_is_over(self) -> None:
        pacer = ReactivePacer()
        held(pacer, 0.0, 3600.0)
        assert pacer.delay(100.0) == pytest.approx(3500.1)
        assert pacer.delay(3601.0) == 0.0


@pytest.mark.parametrize("pause", [None, 1.0])
def test_single_429s_are_no_measurement_of_a_limit(pause: float | None) -> None:
    pacer, now = ReactivePacer(), 0.0
    for number in range(2000):
        now = max(now + pacer.delay(now), number / 20)  # 20 calls per second, if allowed
        ticket = pacer.acquire(now)
        pacer.record(now + 0.01, ticket, THROTTLED if number % 100 == 99 else ACCEPTED, pause)
    assert pacer.estimate is None
    assert now - 2000 / 20 < 5.0  # nor does it fall behind


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 90),
        st.integers(0, 30),
        st.sampled_from([ACCEPTED, ACCEPTED, THROTTLED, UNKNOWN]),
        st.sampled_from([None, 0.01, 1.0, 2.0, 100.0, math.nan, -1.0]),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.booleans())
def test_whatever_happens_waits_are_finite_and_no_retry_after_is_broken(
    events: list[tuple[float, int, Verdict, float | None]], obedient: bool
) -> None:
    pacer, now, reopens = ReactivePacer(), 1000.0, -math.inf
    under_way: list[Ticket] = []
    for passes, number, verdict, pause in events:
        now += passes
        for _ in range(number):
            wait = pacer.delay(now)
            assert 0.0 <= wait < math.inf
            assert now + wait >= reopens - 1e-6
            if obedient:
                now += wait
            under_way.append(pacer.acquire(now))
        for ticket in under_way[::2]:
            pacer.record(now, ticket, verdict, pause)
            if verdict is THROTTLED and pause is not None and pause > 0:
                reopens = max(reopens, now + pause)
        under_way = under_way[1::2]
        assert pacer.rate > 0
        assert not math.isnan(pacer.rate)
        assert pacer.estimate is None or 0 < pacer.estimate < math.inf


# With hidden limits


def world(limiter: object, pause: float | None = None, *, seconds: float = 60.0, stray: float = 0.0) -> World:
    """Return a world with a round trip of 50 ms, in which a share of the requests is rejected for no reason."""
    return World(
        limiter,  # type: ignore[arg-type]  # a callable that returns a limiter
        seconds,
        retry_after=lambda _: pause,
        fault=lambda _, draw: Answer(THROTTLED, pause) if draw < stray else None,
        delay=lambda _: 0.05,
    )


def run(of: World, callers: int = 50, seed: int = 0, pacer: Pacer | None = None) -> Served:
    return serve(of, ReactivePacer() if pacer is None else pacer, callers, seed)


@pytest.mark.parametrize("seed", range(5))
def test_50_callers_at_50_a_second_with_a_retry_after_of_2(seed: int) -> None:
    served = run(world(lambda: TokenBucket(50, 10), 2.0), seed=seed)
    assert served.rate >= 41
    assert served.failed_share <= 0.005
    assert served.worst_second_of_429s(after=1.0) <= 5  # no stampede after a hold


@pytest.mark.parametrize("seed", range(5))
def test_50_callers_at_50_a_second_without_one(seed: int) -> None:
    served = run(world(lambda: TokenBucket(50, 10)), seed=seed)
    assert served.rate >= 47
    assert served.failed_share <= 0.005


@pytest.mark.parametrize(
    ("limiter", "allowed"),
    [
        (lambda: TokenBucket(5, 5), 5),
        (lambda: TokenBucket(50, 50), 50),
        (lambda: TokenBucket(50, 100), 50),
        (lambda: TokenBucket(300, 30), 300),
        (lambda: FixedWindows(50, 1.0), 50),
        (lambda: SlidingWindow(50, 1.0), 50),
        (lambda: TokenBucket(50, 10, charge_refused=True), 50),
    ],
    ids=["5/s", "burst 50", "burst 100", "300/s", "windows", "sliding window", "charged"],
)
@pytest.mark.parametrize(("pause", "share"), [(None, 0.85), (1.0, 0.7), (2.0, 0.65)])
def test_other_limits_are_used_too(limiter: object, allowed: float, pause: float | None, share: float) -> None:
    served = run(world(limiter, pause), callers=100 if allowed > 100 else 50)
    assert served.rate >= share * allowed
    assert served.failed_share <= 0.005


@pytest.mark.parametrize("callers", [1, 5, 500])
def test_few_and_many_callers(callers: int) -> None:
    served = run(world(lambda: TokenBucket(50, 10), 2.0), callers=callers)
    assert served.rate >= min(35, 0.8 * callers / 0.05)
    assert served.failed_share <= 0.005


@pytest.mark.parametrize(("stray", "share"), [(0.002, 0.93), (0.01, 0.9), (0.03, 0.8)])
def test_stray_429s_dont_make_it_slow(stray: float, share: float) -> None:
    served = run(world(lambda: TokenBucket(50, 10), stray=stray, seconds=120.0))
    assert served.rate >= share * 50
    assert served.failed_share <= 0.005


def test_a_limit_that_has_risen_is_found() -> None:
    served = run(world(lambda: TokenBucket(30, 10, rates=[(40, 100)]), 2.0, seconds=160.0))
    assert served.rate_between(120, 160) >= 80


def test_a_limit_that_has_fallen_is_found() -> None:
    served = run(world(lambda: TokenBucket(100, 10, rates=[(40, 30)]), 2.0, seconds=140.0))
    assert served.rate_between(80, 140) >= 0.75 * 30
    assert served.worst_second_of_429s(after=41.0) <= 10


def test_without_a_limit_it_ends_as_if_nothing_had_been() -> None:
    served = run(world(lambda: TokenBucket(50, 10, rates=[(20, 1e6)]), 2.0, seconds=100.0))
    assert served.rate_between(95, 100) >= 0.9 * 50 / 0.05


def test_it_is_no_worse_than_retries_alone() -> None:
    alone = run(world(lambda: TokenBucket(50, 10), 2.0), pacer=Alone())
    served = run(world(lambda: TokenBucket(50, 10), 2.0))
    assert served.failed_share <= alone.failed_share
    assert served.rejected < alone.rejected / 4
