"""The send queue in virtual time: in order, cancellable and without polling."""

import asyncio
import contextlib
import gc
import itertools
import math
import random
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import AdaptivePacer, FixedPacer
from adapty_async.http.send_queue import SendQueue, SendQueueTimeoutError, get_send_queue
from adapty_async.pacing import Pacer, Ticket, Unpaced, Verdict

from ..leftovers import tasks_left, timers_left
from ..virtual_time import run_virtual, virtual, virtual_loop


class _Lowest(random.Random):
    def random(self) -> float:
        return 0.0


WITHOUT_JITTER = _Lowest()


def gate_before(pacer: Pacer) -> SendQueue:
    return SendQueue(pacer, WITHOUT_JITTER)


async def settled() -> None:
    """Let everything happen that is due now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def passing_times(gate: SendQueue, number: int) -> list[float]:
    """Enter the send queue this many times at once. Return the times at which each one was released."""
    tickets = await asyncio.gather(*(gate.acquire() for _ in range(number)))
    return [ticket.sent_at for ticket in tickets]


class TestPassing:
    @virtual
    async def test_where_nothing_holds_all_pass_at_once(self) -> None:
        began = virtual_loop().time()
        assert await passing_times(gate_before(Unpaced()), 1000) == [began] * 1000
        assert virtual_loop().jumps == 0

    @pytest.mark.parametrize("rate", [0.1, 3.0, 50.0, 777.7])
    def test_a_fixed_rate_is_kept_exactly(self, rate: float) -> None:
        async def test() -> None:
            began = virtual_loop().time()
            times = await passing_times(gate_before(FixedPacer(rate)), 500)
            expected = [began + number / rate for number in range(500)]
            assert times == pytest.approx(expected, abs=1e-5)

        run_virtual(test())

    @virtual
    async def test_waiters_pass_in_the_order_in_which_they_came(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        passed: list[int] = []

        async def pass_as(number: int) -> None:
            await asyncio.sleep(number * 0.001)
            await gate.acquire()
            passed.append(number)

        await asyncio.gather(*(pass_as(number) for number in reversed(range(50))))
        assert passed == list(range(50))

    @virtual
    async def test_a_newcomer_doesnt_pass_before_those_who_wait(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        gate.try_acquire()
        waiting = asyncio.create_task(gate.acquire())
        await settled()
        virtual_loop().jump(0.2)  # the pacer allows a send now, and the waiter hasn't been woken yet
        assert gate.try_acquire() is None
        newcomer = asyncio.create_task(gate.acquire())
        assert (await waiting).number == 2
        assert (await newcomer).number == 3

    @virtual
    async def test_trying_takes_a_turn_only_where_nothing_holds(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        assert gate.try_acquire() == Ticket(1, virtual_loop().time())
        assert gate.try_acquire() is None
        await asyncio.sleep(0.1)
        assert gate.try_acquire() == Ticket(2, virtual_loop().time())

    @virtual
    async def test_it_names_its_pacer(self) -> None:
        pacer = FixedPacer(1.0)
        assert gate_before(pacer).pacer is pacer


class TestWaiting:
    @virtual
    async def test_nobody_polls(self) -> None:
        await passing_times(gate_before(FixedPacer(100.0)), 1000)
        assert virtual_loop().jumps <= 1000

    @virtual
    async def test_a_long_wait_is_one_timer(self) -> None:
        gate = gate_before(Unpaced())
        gate.record(gate.try_acquire() or pytest.fail("closed"), Verdict.THROTTLED, 3600.0)
        waiting = asyncio.gather(*(gate.acquire() for _ in range(100)))
        await settled()
        assert len(timers_left()) == 1
        await waiting
        assert virtual_loop().jumps == 1

    @virtual
    async def test_when_all_have_passed_no_timer_is_left(self) -> None:
        await passing_times(gate_before(FixedPacer(10.0)), 20)
        await settled()
        assert (timers_left(), tasks_left()) == ([], [])

    @virtual
    async def test_a_timer_that_comes_early_by_the_clocks_resolution_counts_as_in_time(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        gate.try_acquire()
        virtual_loop().jump(0.1 - 1e-9)
        assert gate.try_acquire() is not None


class TestRetryAfter:
    @virtual
    async def test_it_gates_everyone(self) -> None:
        gate = gate_before(Unpaced())
        began = virtual_loop().time()
        ticket = await gate.acquire()
        assert gate.record(ticket, Verdict.THROTTLED, 30.0) == 30.0
        assert gate.try_acquire() is None
        assert await passing_times(gate, 3) == [began + 30.0] * 3

    @virtual
    async def test_it_holds_those_who_wait_already(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        ticket = await gate.acquire()
        waiting = asyncio.create_task(gate.acquire())
        await settled()
        gate.record(ticket, Verdict.THROTTLED, 30.0)
        assert (await waiting).sent_at == began + 30.0
        assert virtual_loop().jumps == 1

    @virtual
    async def test_it_holds_one_who_was_just_woken(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        ticket = await gate.acquire()
        first, second = asyncio.create_task(gate.acquire()), asyncio.create_task(gate.acquire())
        await settled()
        virtual_loop().call_later(0.1 + 5e-10, gate.record, ticket, Verdict.THROTTLED, 5.0)  # after the queue's timer
        assert (await first).sent_at == began + 5.1
        assert (await second).sent_at == pytest.approx(began + 5.2)

    @virtual
    async def test_one_who_was_just_woken_passes_whatever_else_is_heard(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        ticket = await gate.acquire()
        waiting = asyncio.create_task(gate.acquire())
        await settled()
        virtual_loop().call_later(0.1 + 5e-10, gate.record, ticket, Verdict.ACCEPTED)
        assert (await waiting).sent_at == pytest.approx(began + 0.1)

    @virtual
    async def test_one_who_was_just_woken_and_has_no_patience_for_it_is_sent_away(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        ticket = await gate.acquire()
        waiting = asyncio.create_task(gate.acquire(max_wait=1.0))
        await settled()
        virtual_loop().call_later(0.1 + 5e-10, gate.record, ticket, Verdict.THROTTLED, 5.0)
        with pytest.raises(SendQueueTimeoutError):
            await waiting
        assert virtual_loop().time() == began + 0.1

    @virtual
    async def test_a_later_word_that_opens_the_gate_earlier_wakes_the_first(self) -> None:
        class Fickle(Unpaced):
            closed_for = 3600.0

            def delay(self, now: float) -> float:
                return self.closed_for

        pacer = Fickle()
        gate = gate_before(pacer)
        waiting = asyncio.create_task(gate.acquire())
        await settled()
        pacer.closed_for = 0.0
        gate.record(Ticket(1, 0.0), Verdict.ACCEPTED)
        await waiting
        assert virtual_loop().jumps == 0

    @given(st.floats(0.001, 3600.0), st.integers())
    def test_up_to_a_tenth_is_added(self, retry_after: float, seed: int) -> None:
        async def test() -> None:
            gate = SendQueue(Unpaced(), random.Random(seed))  # noqa: S311 - no secret
            began = virtual_loop().time()
            pause = gate.record(await gate.acquire(), Verdict.THROTTLED, retry_after)
            assert pause is not None
            assert retry_after <= pause <= retry_after * 1.1
            assert (await gate.acquire()).sent_at == pytest.approx(began + pause)

        run_virtual(test())

    @virtual
    async def test_all_of_that_tenth_is_used(self) -> None:
        gate = SendQueue(Unpaced(), random.Random(7))  # noqa: S311 - no secret
        pauses = [gate.record(Ticket(1, 0.0), Verdict.THROTTLED, 10.0) or 0.0 for _ in range(300)]
        assert min(pauses) < 10.02
        assert max(pauses) > 10.98

    @virtual
    async def test_the_jitter_never_makes_a_day_too_long_to_be_followed(self) -> None:
        gate = SendQueue(Unpaced(), random.Random(1))  # noqa: S311 - no secret
        assert gate.record(await gate.acquire(), Verdict.THROTTLED, 24 * 3600.0) == 24 * 3600.0
        assert gate.try_acquire() is None

    @virtual
    async def test_none_is_none(self) -> None:
        gate = gate_before(Unpaced())
        assert gate.record(await gate.acquire(), Verdict.ACCEPTED) is None
        assert gate.try_acquire() is not None

    @virtual
    async def test_the_word_of_another_gate_of_the_key_holds_too(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        await gate.acquire()
        patient, hasty = asyncio.create_task(gate.acquire()), asyncio.create_task(gate.acquire(max_wait=1.0))
        await settled()
        gate.hold(30.0)
        gate.hold(3.0)
        with pytest.raises(SendQueueTimeoutError):
            await hasty
        assert (await patient).sent_at == began + 30.0


class TestPatience:
    @virtual
    async def test_a_wait_longer_than_the_patience_is_refused_at_once(self) -> None:
        gate = gate_before(Unpaced())
        gate.record(await gate.acquire(), Verdict.THROTTLED, 30.0)
        with pytest.raises(SendQueueTimeoutError, match="the wait in the send queue is 30 s") as caught:
            await gate.acquire(max_wait=29.0)
        assert caught.value.seconds == 30.0
        assert virtual_loop().jumps == 0

    @virtual
    async def test_a_wait_as_long_as_the_patience_is_waited_for(self) -> None:
        gate = gate_before(Unpaced())
        gate.record(await gate.acquire(), Verdict.THROTTLED, 30.0)
        await gate.acquire(max_wait=30.0)

    @virtual
    async def test_those_who_wait_before_one_count(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        await gate.acquire()
        waiting = asyncio.gather(*(gate.acquire() for _ in range(20)))
        await settled()
        with pytest.raises(SendQueueTimeoutError):
            await gate.acquire(max_wait=2.0)
        await gate.acquire(max_wait=2.2)
        await waiting

    @virtual
    async def test_those_whose_patience_a_429_ends_are_sent_away_at_once_and_the_others_stay(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        ticket = await gate.acquire()
        hasty = [asyncio.create_task(gate.acquire(max_wait=5.0)) for _ in range(3)]
        patient = [asyncio.create_task(gate.acquire(max_wait=60.0)) for _ in range(3)]
        await settled()
        gate.record(ticket, Verdict.THROTTLED, 30.0)
        refused = await asyncio.gather(*hasty, return_exceptions=True)
        assert [type(found) for found in refused] == [SendQueueTimeoutError] * 3
        assert virtual_loop().time() == began
        times = [(await task).sent_at for task in patient]
        assert times == pytest.approx([began + 30.0, began + 30.1, began + 30.2])

    @virtual
    async def test_the_first_in_the_queue_waits_for_nobody_else(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        ticket = await gate.acquire()
        first = asyncio.create_task(gate.acquire(max_wait=30.0))
        second = asyncio.create_task(gate.acquire(max_wait=30.0))
        third = asyncio.create_task(gate.acquire(max_wait=30.15))
        await settled()
        gate.record(ticket, Verdict.THROTTLED, 30.0)
        with pytest.raises(SendQueueTimeoutError):
            await second
        await first
        await third  # in the place of the second

    @virtual
    async def test_those_who_are_sent_away_dont_count_for_those_behind_them(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        ticket = await gate.acquire()
        hasty = [asyncio.create_task(gate.acquire(max_wait=5.0)) for _ in range(20)]
        patient = asyncio.create_task(gate.acquire(max_wait=30.5))
        await settled()
        gate.record(ticket, Verdict.THROTTLED, 30.0)
        await asyncio.gather(*hasty, return_exceptions=True)
        await patient

    @virtual
    async def test_without_patience_one_passes_an_open_gate(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        await gate.acquire(max_wait=0.0)
        with pytest.raises(SendQueueTimeoutError):
            await gate.acquire(max_wait=0.0)

    @virtual
    async def test_the_rate_at_which_a_pacer_starts_refuses_nobody(self) -> None:
        gate = gate_before(AdaptivePacer(start_rate=1.0))
        await gate.acquire()
        waiting = [asyncio.create_task(gate.acquire(max_wait=30.0)) for _ in range(1000)]
        await settled()
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()

    @virtual
    async def test_after_its_first_429_they_are_told_whether_their_turn_comes_in_time(self) -> None:
        gate = gate_before(AdaptivePacer(start_rate=1.0))
        ticket = await gate.acquire()
        gate.record(ticket, Verdict.ACCEPTED)
        ticket = await gate.acquire()
        waiting = [asyncio.create_task(gate.acquire(max_wait=30.0)) for _ in range(1000)]
        await settled()
        gate.record(ticket, Verdict.THROTTLED)
        await settled()
        assert 900 < sum(task.done() for task in waiting) < 1000
        for task in waiting:
            task.cancel()

    @virtual
    async def test_a_patience_ends_though_the_wait_was_thought_to_be_shorter(self) -> None:
        gate = gate_before(AdaptivePacer(start_rate=0.01))
        await gate.acquire()
        began = virtual_loop().time()
        waiting = [asyncio.create_task(gate.acquire(max_wait=110.0)) for _ in range(3)]
        assert (await waiting[0]).sent_at == pytest.approx(began + 100.0, abs=0.05)
        with pytest.raises(SendQueueTimeoutError) as caught:
            await waiting[1]
        assert virtual_loop().time() == pytest.approx(began + 110.0, abs=0.05)
        assert caught.value.seconds > 0
        await asyncio.gather(*waiting, return_exceptions=True)
        await settled()
        assert (timers_left(), tasks_left()) == ([], [])


class TestCancelling:
    @virtual
    async def test_a_cancelled_waiter_leaves_its_turn_to_the_next(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        await gate.acquire()
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(3)]
        await settled()
        waiting[0].cancel()
        await settled()
        assert waiting[0].cancelled()
        assert (await waiting[1]).sent_at == pytest.approx(began + 0.1)
        assert (await waiting[2]).sent_at == pytest.approx(began + 0.2)

    @virtual
    async def test_one_who_is_cancelled_at_its_very_turn_leaves_it_to_the_next(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        began = virtual_loop().time()
        await gate.acquire()
        first, second = asyncio.create_task(gate.acquire()), asyncio.create_task(gate.acquire())
        await settled()
        virtual_loop().call_later(0.1 + 5e-10, first.cancel)  # after the queue's own timer has woken it
        assert (await second).sent_at == pytest.approx(began + 0.1)
        assert first.cancelled()

    @virtual
    async def test_cancelled_waiters_leave_no_timer_and_no_task(self) -> None:
        gate = gate_before(FixedPacer(0.001))
        await gate.acquire()
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(100)]
        await settled()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await settled()
        assert (timers_left(), tasks_left()) == ([], [])
        await asyncio.sleep(1000.0)
        assert gate.try_acquire() is not None

    @virtual
    async def test_one_who_is_sent_away_and_cancelled_in_the_same_moment_is_cancelled(self) -> None:
        gate = gate_before(FixedPacer(10.0))
        ticket = await gate.acquire()
        waiting = asyncio.create_task(gate.acquire(max_wait=1.0))
        await settled()
        gate.record(ticket, Verdict.THROTTLED, 30.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.tuples(st.floats(0, 3), st.sampled_from(["enter", "cancel", "throttle", "hasty"])),
            min_size=1,
            max_size=60,
        )
    )
    def test_whatever_happens_the_rate_is_kept_and_nothing_is_left(self, steps: list[tuple[float, str]]) -> None:
        async def test() -> None:
            gate = gate_before(FixedPacer(5.0))
            sent: list[float] = []
            waiting: list[asyncio.Task[None]] = []
            closed_until = -math.inf

            async def enter(patience: float) -> None:
                with contextlib.suppress(SendQueueTimeoutError):
                    ticket = await gate.acquire(patience)
                    assert ticket.sent_at >= closed_until
                    sent.append(ticket.sent_at)

            for pause, step in steps:
                await asyncio.sleep(pause / 10)
                if step == "cancel" and waiting:
                    waiting[len(sent) % len(waiting)].cancel()
                elif step == "throttle":
                    gate.record(Ticket(0, 0.0), Verdict.THROTTLED, pause + 0.1)
                    closed_until = max(closed_until, virtual_loop().time() + pause + 0.1 - 1e-5)
                else:
                    waiting.append(asyncio.create_task(enter(math.inf if step == "enter" else pause)))
            await asyncio.gather(*waiting, return_exceptions=True)
            await settled()
            assert sent == sorted(sent)
            assert all(later - earlier >= 0.2 - 0.02 - 1e-5 for earlier, later in itertools.pairwise(sent))
            assert (timers_left(), tasks_left()) == ([], [])

        run_virtual(test())


class TestOneGateForAPacer:
    @virtual
    async def test_all_who_use_a_pacer_on_a_loop_share_its_gate(self) -> None:
        pacer = FixedPacer(1.0)
        gate = get_send_queue(pacer, WITHOUT_JITTER)
        assert get_send_queue(pacer, WITHOUT_JITTER) is gate
        assert get_send_queue(FixedPacer(1.0), WITHOUT_JITTER) is not gate

    def test_another_loop_has_another_gate(self) -> None:
        pacer = FixedPacer(1.0)
        gates: list[SendQueue] = []

        async def look() -> None:
            gates.append(get_send_queue(pacer, WITHOUT_JITTER))
            await gates[-1].acquire()

        run_virtual(look())
        run_virtual(look())
        assert gates[0] is not gates[1]

    @virtual
    async def test_it_goes_with_the_last_who_uses_it(self) -> None:
        pacer = FixedPacer(1.0)
        gone = weakref.ref(get_send_queue(pacer, WITHOUT_JITTER))
        gc.collect()
        assert gone() is None
