"""Deadlines in virtual time: never early, hardly late, and not confused with other cancellations."""

import asyncio
import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.http.deadline_timers import DeadlineTimers

from ..leftovers import timers_left
from ..virtual_time import run_virtual, virtual, virtual_loop


class LateError(Exception):
    """The deadline was reached."""


async def work(deadlines: DeadlineTimers, allowed: float, takes: float) -> float:
    """Work for some seconds. Return the elapsed time. Raises LateError if the deadline was reached."""
    began = virtual_loop().time()
    deadline = deadlines.start(allowed)
    try:
        await asyncio.sleep(takes)
    except asyncio.CancelledError:
        if not deadline.undo_cancellation():
            raise
        raise LateError(virtual_loop().time() - began) from None
    finally:
        deadline.stop()
    return virtual_loop().time() - began


@given(st.floats(0.001, 1000), st.floats(0, 1))
def test_it_comes_never_early_and_at_most_a_twentieth_of_a_second_or_a_hundredth_late(
    allowed: float, began: float
) -> None:
    async def test() -> None:
        await asyncio.sleep(began)
        with pytest.raises(LateError) as caught:
            await work(DeadlineTimers(virtual_loop()), allowed, 1e9)
        (took,) = caught.value.args
        assert allowed - 1e-9 <= took <= allowed + min(0.05, 0.01 * allowed) + 1e-9

    run_virtual(test())


@virtual
async def test_what_is_done_in_time_is_left_alone() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    assert await work(deadlines, 1.0, 0.9) == pytest.approx(0.9)
    await asyncio.sleep(1)
    assert deadlines.active_count == 0
    assert timers_left() == []


@virtual
async def test_those_that_are_due_together_have_one_timer_and_each_its_own_end() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    jobs = [asyncio.ensure_future(work(deadlines, 30.0, 10.0 if number % 2 else 1e9)) for number in range(1000)]
    await asyncio.sleep(1)
    assert deadlines.active_count == 1000
    assert len([timer for timer in timers_left() if timer.when() < 1e8]) <= 500 + 2  # the sleeps, and ours
    ends = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(end, LateError) for end in ends] == [number % 2 == 0 for number in range(1000)]


@virtual
async def test_a_cancellation_from_elsewhere_passes_through() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    task = asyncio.ensure_future(work(deadlines, 30.0, 1e9))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deadlines.active_count == 0


@virtual
async def test_a_cancellation_at_the_same_moment_passes_through() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    task = asyncio.ensure_future(work(deadlines, 1.0, 1e9))
    await asyncio.sleep(0)
    when = min(timer.when() for timer in timers_left())
    virtual_loop().call_at(when, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


@virtual
async def test_within_a_timeout_of_the_callers_each_is_told_from_the_other() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    with pytest.raises(LateError):
        async with asyncio.timeout(2.0):
            await work(deadlines, 1.0, 1e9)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await work(deadlines, 2.0, 1e9)
    assert await work(deadlines, 2.0, 1.0) == pytest.approx(1.0)


@virtual
async def test_an_infinite_one_doesnt_come_and_sets_no_timer() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    assert await work(deadlines, math.inf, 1e6) == pytest.approx(1e6)
    assert (deadlines.active_count, timers_left()) == (0, [])


@virtual
async def test_ended_all_come_at_once_and_are_waited_for() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    jobs = [asyncio.ensure_future(work(deadlines, allowed, 1e9)) for allowed in (1.0, 30.0, 30.0, math.inf)]
    await asyncio.sleep(0.5)
    await deadlines.cancel_all(9.0)
    assert deadlines.active_count == 0
    assert timers_left() == []
    ends = await asyncio.gather(*jobs, return_exceptions=True)
    assert [(type(end), *end.args) for end in ends if isinstance(end, LateError)] == [(LateError, 0.5)] * 4


@virtual
async def test_two_that_end_all_wait_for_the_same() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    began = virtual_loop().time()
    job = asyncio.ensure_future(work(deadlines, 30.0, 1e9))
    await asyncio.sleep(0.5)
    await asyncio.gather(deadlines.cancel_all(9.0), deadlines.cancel_all(9.0))
    assert virtual_loop().time() == pytest.approx(began + 0.5)
    with pytest.raises(LateError):
        await job


@virtual
async def test_what_doesnt_end_is_waited_for_no_longer_than_said_and_its_deadline_stays() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    began = virtual_loop().time()

    async def stubborn() -> None:
        deadline = deadlines.start(2.0)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1e9)
        await asyncio.sleep(1e9)
        deadline.stop()

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    await deadlines.cancel_all(0.5)
    assert virtual_loop().time() == began + 0.5
    with pytest.raises(asyncio.CancelledError):
        await task
    assert virtual_loop().time() == pytest.approx(began + 2.0, abs=0.05)


@virtual
async def test_the_task_that_ends_all_goes_on_itself() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    deadline = deadlines.start(5.0)
    await deadlines.cancel_all(1.0)
    await asyncio.sleep(1.0)
    deadline.stop()
    await asyncio.sleep(9.0)


@virtual
async def test_a_cancellation_by_the_caller_wins_over_the_end_of_all() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    task = asyncio.ensure_future(work(deadlines, 30.0, 1e9))
    await asyncio.sleep(1)
    ending = asyncio.ensure_future(deadlines.cancel_all(1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
    await ending


@virtual
async def test_a_cancellation_that_was_swallowed_is_taken_back() -> None:
    deadlines = DeadlineTimers(virtual_loop())
    deadline = deadlines.start(1.0)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(1e9)
    deadline.stop()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
