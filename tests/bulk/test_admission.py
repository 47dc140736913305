"""The queue before the attempts: in order, cancellable, nobody polls; in virtual time."""

import asyncio
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.bulk.admission import Admission, Permit

from ..leftovers import timers_left
from ..virtual_time import run_virtual, virtual, virtual_loop


def admission(most: int) -> Admission:
    return Admission(most, lambda: math.inf)


async def settled() -> None:
    """Let everything happen that is due now."""
    for _ in range(5):
        await asyncio.sleep(0)


def trip(queue: Admission) -> None:
    """Let so many requests fail that the breaker opens."""
    for _ in range(30):
        permit = queue.try_enter()
        assert permit is not None
        queue.failed(permit)
        queue.leave(permit)


@virtual
async def test_no_more_permits_are_out_than_the_bound_says() -> None:
    queue = admission(3)
    permits = [await queue.enter() for _ in range(3)]
    waiting = asyncio.ensure_future(queue.enter())
    await settled()
    assert queue.try_enter() is None
    assert not waiting.done()
    queue.leave(permits[0])
    assert await waiting == Permit(is_trial=False)


@virtual
async def test_waiters_enter_in_the_order_in_which_they_came_and_nobody_overtakes() -> None:
    queue, order = admission(1), []
    permit = await queue.enter()

    async def enter(name: int) -> None:
        permit = await queue.enter()
        order.append(name)
        await asyncio.sleep(1)
        queue.leave(permit)

    tasks = [asyncio.ensure_future(enter(name)) for name in range(5)]
    await settled()
    queue.leave(permit)
    assert queue.try_enter() is None
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


@virtual
async def test_one_who_is_cancelled_as_he_gets_his_permit_gives_it_back() -> None:
    queue = admission(1)
    permit = await queue.enter()
    first, second = asyncio.ensure_future(queue.enter()), asyncio.ensure_future(queue.enter())
    await settled()
    queue.leave(permit)  # gives the first one his, who hasn't looked yet
    first.cancel()
    assert await second == Permit(is_trial=False)
    assert first.cancelled()


@virtual
async def test_while_the_breaker_is_open_one_enters_at_a_time_by_one_timer() -> None:
    queue = admission(100)
    trip(queue)
    began, entered = virtual_loop().time(), []

    async def enter() -> None:
        permit = await queue.enter()
        entered.append((virtual_loop().time() - began, permit.is_trial))
        if len(entered) < 4:
            queue.failed(permit)
        else:
            queue.answered(0.1)
        queue.leave(permit)

    jumps = virtual_loop().jumps
    await asyncio.gather(*(enter() for _ in range(50)))
    assert [round(when, 3) for when, _ in entered[:4]] == [0.5, 1.5, 3.5, 7.5]
    assert {when for when, _ in entered[4:]} == {7.5}
    assert [is_trial for _, is_trial in entered] == [True] * 4 + [False] * 46
    assert virtual_loop().jumps - jumps <= 4
    assert timers_left() == []


@virtual
async def test_when_the_last_waiter_goes_no_timer_is_left() -> None:
    queue = admission(100)
    trip(queue)
    waiting = asyncio.ensure_future(queue.enter())
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

        async def call(came: float, takes: float, ending: str) -> None:
            nonlocal under_way
            await asyncio.sleep(came)
            permit = await queue.enter()
            under_way += 1
            assert under_way <= most
            try:
                await asyncio.sleep(takes)
                if ending == "answered":
                    queue.answered(takes)
                elif ending == "failed":
                    queue.failed(permit)
            finally:
                under_way -= 1
                queue.leave(permit)

        tasks = [asyncio.ensure_future(call(*caller)) for caller in callers]
        for task, (came, takes, ending) in zip(tasks, callers, strict=True):
            if ending == "cancel":
                asyncio.get_running_loop().call_later(came + takes / 2, task.cancel)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
        assert under_way == 0
        assert await queue.enter()

    run_virtual(test())
