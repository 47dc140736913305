"""Limits of a job apart from the rate limit. Times are passed in; nothing waits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.bulk.overload_protection import CircuitBreaker, ConcurrencyLimit, RetryBudget

NOW = 1016.0  # after the responses below


def retries(budget: RetryBudget, *, began: float, seconds: float, successes: float = 0.0) -> int:
    """Return the maximum number of retries at this many successes per second."""
    spent, tick = 0, 0.01
    for number in range(round(seconds / tick)):
        now = began + number * tick
        if successes and number % round(1 / (successes * tick)) == 0:
            budget.record_success(now)
        while not budget.delay(now):
            budget.spend(now)
            spent += 1
    return spent


class TestRetryBudget:
    def test_without_a_success_there_are_two_a_second(self) -> None:
        budget = RetryBudget()
        retries(budget, began=1000.0, seconds=30.0)
        assert retries(budget, began=1030.0, seconds=60.0) == pytest.approx(120, abs=7)

    def test_beside_there_is_a_tenth_of_the_successes(self) -> None:
        budget = RetryBudget()
        retries(budget, began=1000.0, seconds=30.0, successes=50.0)
        assert retries(budget, began=1030.0, seconds=60.0, successes=50.0) == pytest.approx(60 * 7, rel=0.06)

    def test_at_once_there_are_no_more_than_those_of_ten_seconds(self) -> None:
        budget = RetryBudget()
        for number in range(100_000):
            budget.record_success(number / 100)
        assert retries(budget, began=1000.0, seconds=0.01) <= 10 * (2 + 10) + 1

    def test_an_old_success_is_forgotten(self) -> None:
        budget = RetryBudget()
        for _ in range(100_000):
            budget.record_success(1000.0)
        assert retries(budget, began=1200.0, seconds=0.01) <= 20

    @given(st.integers(0, 40))
    def test_the_wait_is_over_when_it_says(self, spent: int) -> None:
        budget = RetryBudget()
        for _ in range(min(spent, 20)):
            budget.spend(1000.0)
        wait = budget.delay(1000.0)
        assert wait == 0.0 or budget.delay(1000.0 + 0.9 * wait) > 0.0
        assert budget.delay(1000.0 + wait) == 0.0


def send(breaker: CircuitBreaker, now: float) -> bool:
    """Send a request. Return True if it is a trial."""
    is_trial = breaker.begin_trial_if_open()
    if is_trial:
        breaker.record_trial_sent(now)
    return is_trial


def fail(breaker: CircuitBreaker, now: float, times: int) -> None:
    for _ in range(times):
        breaker.record_failure(now, is_trial=send(breaker, now))


class TestBreaker:
    def test_a_success_among_failures_keeps_the_job_going(self) -> None:
        breaker = CircuitBreaker()
        for _ in range(100):
            fail(breaker, 1000.0, 29)
            breaker.record_success()
        assert breaker.delay(1000.0) == 0.0

    def test_thirty_failures_in_a_row_park_it(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        assert breaker.is_open
        assert breaker.delay(1000.0) == 0.5
        assert breaker.delay(1000.5) == 0.0

    def test_then_single_ones_are_tried_at_longer_and_longer_intervals(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        now, waits = 1000.0, []
        for _ in range(6):
            waits.append(breaker.delay(now))
            now += waits[-1]
            fail(breaker, now, 1)
        assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]

    def test_until_a_trial_has_left_no_other_gets_ready(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        assert breaker.begin_trial_if_open()
        assert breaker.delay(2000.0) == math.inf
        breaker.record_trial_sent(2000.0)
        assert breaker.delay(2000.0) == 4.0

    def test_trials_that_fail_late_put_off_none_that_is_due(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        for number in range(8):
            assert breaker.delay(1000.5 + 4.0 * number) == 0.0
            assert send(breaker, 1000.5 + 4.0 * number)
            breaker.record_failure(1000.5 + 4.0 * number + 3.9, is_trial=True)  # a trial from about 30 s earlier

    def test_what_was_under_way_already_postpones_no_trial(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        breaker.record_failure(1000.4, is_trial=False)
        assert breaker.delay(1000.5) == 0.0

    def test_one_success_sets_it_going_again(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        assert breaker.begin_trial_if_open()
        breaker.record_success()
        assert not breaker.is_open
        assert breaker.delay(1000.5) == 0.0
        fail(breaker, 1000.5, 30)
        assert breaker.delay(1000.5) == 0.5

    def test_a_trial_that_is_not_sent_leaves_its_turn_to_the_next(self) -> None:
        breaker = CircuitBreaker()
        fail(breaker, 1000.0, 30)
        assert breaker.begin_trial_if_open()
        breaker.cancel_trial(1000.5)
        assert breaker.is_open
        assert breaker.delay(1000.5) == 0.0


def answer(bound: ConcurrencyLimit, *, began: float, seconds: float, latency: float, times: int) -> None:
    """Record this many responses at regular intervals, each with the same latency."""
    for number in range(times):
        bound.record_latency(began + (number + 1) * seconds / times, latency)


class TestBound:
    @pytest.mark.parametrize(
        ("rate", "latency", "bound"), [(50, 0.1, 18), (50, 2.0, 100), (1, 0.1, 8), (300, 0.1, 68), (math.inf, 0.1, 100)]
    )
    def test_it_follows_rate_times_latency_up_to_the_most(self, rate: float, latency: float, bound: int) -> None:
        under_way = ConcurrencyLimit(100)
        answer(under_way, began=1000.0, seconds=10.0, latency=latency, times=100)
        assert under_way.compute_limit(NOW, rate) == bound

    def test_answers_in_no_time_are_answers(self) -> None:
        bound = ConcurrencyLimit(100)
        bound.record_latency(NOW, 0.0)
        assert bound.compute_limit(NOW, 50.0) == 8

    def test_a_bound_below_the_fewest_stands(self) -> None:
        assert ConcurrencyLimit(3).compute_limit(NOW, 1000.0) == 3

    def test_before_the_first_answer_a_second_is_supposed(self) -> None:
        assert ConcurrencyLimit(100).compute_limit(NOW, 5.0) == 18

    def test_it_follows_a_server_that_becomes_slow_at_once(self) -> None:
        under_way = ConcurrencyLimit(1000)
        answer(under_way, began=1000.0, seconds=10.0, latency=0.1, times=100)
        under_way.record_latency(1012.0, 2.0)
        assert under_way.compute_limit(NOW, 50.0) == 208

    def test_a_slow_answer_among_many_that_are_quick_counts_for_seconds(self) -> None:
        under_way = ConcurrencyLimit(1000)
        under_way.record_latency(1000.0, 2.0)
        answer(under_way, began=1000.0, seconds=5.0, latency=0.1, times=10_000)
        assert under_way.compute_limit(NOW, 50.0) >= 8 + 2 * 50 * 1.2

    def test_a_server_that_becomes_quick_again_is_believed_after_a_minute(self) -> None:
        under_way = ConcurrencyLimit(1000)
        under_way.record_latency(1000.0, 2.0)
        answer(under_way, began=1000.0, seconds=60.0, latency=0.1, times=600)
        assert under_way.compute_limit(NOW, 50.0) <= 19

    def test_lowered_it_never_allows_none_and_tries_more_after_30_seconds(self) -> None:
        under_way = ConcurrencyLimit(100)
        under_way.lower(1000.0, 60)
        under_way.lower(1000.0, 80)
        assert under_way.compute_limit(1001.0, math.inf) == 60
        under_way.lower(1005.0, 0)
        assert under_way.compute_limit(1034.9, math.inf) == 1
        assert under_way.compute_limit(1035.0, math.inf) == 100
