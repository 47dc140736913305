"""The queue before the attempts: in order, cancellable and without polling; in virtual time."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.bulk.permits import ConcurrencyController, Permit, ServerHealth

from ..leftovers import timers_left
from ..virtual_time import run_virtual, virtual, virtual_loop


def admission(most: int) -> ConcurrencyController:
    return ConcurrencyController(most, lambda: math.inf)


async def settled() -> None:
    """Let everything happen that is due now."""
    for _ in range(5):
        await asyncio.sleep(0)


def trip(queue: ConcurrencyController) -> None:
    """Fail this many requests, so that the breaker opens."""
    for _ in range(30):
        permit = queue.try_acquire()
        assert permit is not None
        assert queue.confirm_send(permit)
        queue.release(permit, ServerHealth.FAILURE)


@virtual
async def test_no_more_permits_are_out_than_the_bound_says() -> None:
    queue = admission(3)
    permits = [await queue.acquire() for _ in range(3)]
    waiting = asyncio.ensure_future(queue.acquire())
    await settled()
    assert queue.try_acquire() is None
    assert not waiting.done()
    queue.release(permits[0], ServerHealth.UNKNOWN)
    assert await waiting == Permit(is_trial=False)


@virtual
async def test_waiters_enter_in_the_order_in_which_they_came_and_nobody_overtakes() -> None:
    queue, order = admission(1), []
    permit = await queue.acquire()

    async def enter(name: int) -> None:
        permit = await queue.acquire()
        order.append(name)
        await asyncio.sleep(1)
        queue.release(permit, ServerHealth.UNKNOWN)

    tasks = [asyncio.ensure_future(enter(name)) for name in range(5)]
    await settled()
    queue.release(permit, ServerHealth.UNKNOWN)
    assert queue.try_acquire() is None
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


@virtual
async def test_one_who_is_cancelled_as_he_gets_his_permit_gives_it_back() -> None:
    queue = admission(1)
    permit = await queue.acquire()
    first, second = asyncio.ensure_future(queue.acquire()), asyncio.ensure_future(queue.acquire())
    await settled()
    queue.release(permit, ServerHealth.UNKNOWN)  # gives the first one its slot, which it hasn't checked yet
    first.cancel()
    assert await second == Permit(is_trial=False)
    assert first.cancelled()


@virtual
async def test_while_the_breaker_is_open_one_enters_at_a_time_by_one_timer() -> None:
    queue = admission(100)
    trip(queue)
    began, entered = virtual_loop().time(), []

    async def enter() -> None:
        permit = await queue.acquire()
        entered.append((virtual_loop().time() - began, permit.is_trial))
        assert queue.confirm_send(permit)
        queue.release(permit, ServerHealth.FAILURE) if len(entered) < 4 else queue.release_after_response(permit, 0.1)

    jumps = virtual_loop().jumps
    await asyncio.gather(*(enter() for _ in range(50)))
    assert [round(when, 3) for when, _ in entered[:4]] == [0.5, 1.5, 3.5, 7.5]
    assert {when for when, _ in entered[4:]} == {7.5}
    assert [is_trial for _, is_trial in entered] == [True] * 4 + [False] * 46
    assert virtual_loop().jumps - jumps <= 4
    assert timers_left() == []


@virtual
async def test_where_the_bound_has_risen_nobody_overtakes_who_waits() -> None:
    rate = 1.0
    queue = ConcurrencyController(100, lambda: rate)
    permits = [await queue.acquire() for _ in range(10)]
    waiting = asyncio.ensure_future(queue.acquire())
    await settled()
    rate = 10.0
    assert queue.try_acquire() is None
    queue.release(permits[0], ServerHealth.UNKNOWN)
    assert await waiting
    assert queue.try_acquire()


@virtual
async def test_a_permit_from_before_the_job_was_parked_lets_nothing_start() -> None:
    queue = admission(100)
    early = await queue.acquire()
    trip(queue)
    assert queue.is_breaker_open
    assert not queue.confirm_send(early)
    queue.release(early, ServerHealth.UNKNOWN)
    trial = await queue.acquire()
    assert trial.is_trial
    assert queue.confirm_send(trial)


@virtual
async def test_a_trial_that_is_not_answered_is_followed_by_another_after_four_seconds() -> None:
    queue, began = admission(100), virtual_loop().time()
    trip(queue)
    for expected in (0.5, 4.5, 8.5):
        trial = await queue.acquire()
        assert virtual_loop().time() - began == pytest.approx(expected)
        assert queue.confirm_send(trial)


@virtual
async def test_no_other_trial_gets_ready_while_one_has_yet_to_leave() -> None:
    queue = admission(100)
    trip(queue)
    held = await queue.acquire()  # as if waiting in the send queue for a Retry-After
    other = asyncio.ensure_future(queue.acquire())
    await asyncio.sleep(600)
    assert not other.done()
    assert queue.confirm_send(held)
    began = virtual_loop().time()
    await other
    assert virtual_loop().time() - began == pytest.approx(4)


@virtual
async def test_a_trial_that_is_not_sent_leaves_its_turn_to_the_next_at_once() -> None:
    queue, began = admission(100), virtual_loop().time()
    trip(queue)
    queue.release(await queue.acquire(), ServerHealth.UNKNOWN)
    trial = await queue.acquire()
    assert virtual_loop().time() - began == pytest.approx(0.5)
    assert queue.confirm_send(trial)


@virtual
async def test_a_trial_that_is_throttled_is_followed_by_another_as_if_it_was_not_answered() -> None:
    queue, began = admission(100), virtual_loop().time()
    trip(queue)
    first = await queue.acquire()
    assert queue.confirm_send(first)
    queue.release(first, ServerHealth.UNKNOWN)
    await queue.acquire()
    assert virtual_loop().time() - began == pytest.approx(4.5)


@virtual
async def test_when_the_last_waiter_goes_no_timer_is_left() -> None:
    queue = admission(100)
    trip(queue)
    waiting = asyncio.ensure_future(queue.acquire())
    await settled()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert timers_left() == []


@settings(max_examples=50)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.sampled_from(["answered", "failed", "nothing", "cancel"]))),
)
def test_whatever_happens_nobody_is_forgotten(most: int, callers: list[tuple[float, float, str]]) -> None:
    async def test() -> None:
        queue, under_way = admission(most), 0
        endings = {"answered": ServerHealth.OK, "failed": ServerHealth.FAILURE}

        async def call(came: float, takes: float, ending: str) -> None:
            nonlocal under_way
            await asyncio.sleep(came)
            permit = await queue.acquire()
            under_way += 1
            assert under_way <= most
            health = ServerHealth.UNKNOWN
            try:
                if queue.confirm_send(permit):
                    await asyncio.sleep(takes)
                    health = endings.get(ending, health)
            finally:
                under_way -= 1
                queue.release_after_response(permit, takes) if health is ServerHealth.OK else queue.release(
                    permit, health
                )

        tasks = [asyncio.ensure_future(call(*caller)) for caller in callers]
        for task, (came, takes, ending) in zip(tasks, callers, strict=True):
            if ending == "cancel":
                asyncio.get_running_loop().call_later(came + takes / 2, task.cancel)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
        assert under_way == 0
        assert await queue.acquire()

    run_virtual(test())


@virtual
async def test_the_bound_follows_a_rate_that_falls_while_no_answer_comes() -> None:
    rates = [1000.0]
    queue = ConcurrencyController(100, lambda: rates[-1])
    for _ in range(10):
        assert queue.try_acquire() is not None
    await asyncio.sleep(1)
    rates.append(1.0)
    assert queue.try_acquire() is None
