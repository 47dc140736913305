import pytest

from adapty_async.testing import Fault, Limiter, Simulator
from tests.testing.caller import Caller

# So slow that a test sees only the burst and the next request.
SLOW = 0.001


async def test_above_rate_and_burst_it_answers_429_and_does_no_work(call: Caller) -> None:
    async with Simulator(profiles=4, rate=SLOW, burst=2) as simulator:
        replies = [
            await call(simulator, "DELETE", customer_user_id)
            for customer_user_id in list(simulator.profiles.customer_user_ids)
        ]
        assert [reply.status for reply in replies] == [204, 204, 204, 429]
        assert (replies[-1].code, len(simulator.profiles)) == ("rate_limited", 1)


@pytest.mark.parametrize(("seconds", "value"), [(None, None), (1.0, "1"), (0.5, "0.5"), (float("inf"), "inf")])
async def test_a_429_carries_the_retry_after_it_was_given(
    call: Caller, seconds: float | None, value: str | None
) -> None:
    async with Simulator(rate=SLOW, burst=0, retry_after=seconds) as simulator:
        await call(simulator, "GET", "u1")
        reply = await call(simulator, "GET", "u1")
        assert (reply.status, reply.headers.get("Retry-After")) == (429, value)


async def test_the_limit_lets_requests_through_again_as_time_passes(call: Caller) -> None:
    async with Simulator(rate=200, burst=0) as simulator:
        for _ in range(3):
            while (await call(simulator, "GET", "u1")).status == 429:
                pass
        assert simulator.stats.count_responses(404) == 3


async def test_a_wrong_key_spends_nothing_of_the_limit(call: Caller) -> None:
    async with Simulator(rate=SLOW, burst=0) as simulator:
        for _ in range(3):
            assert (await call(simulator, "GET", "u1", headers={"Authorization": "Api-Key wrong"})).status == 401
        assert (await call(simulator, "GET", "u1")).status == 404


async def test_a_503_is_within_the_limit(call: Caller) -> None:
    async with Simulator(rate=SLOW, burst=0, fault_rates={Fault.UNAVAILABLE: 1.0}) as simulator:
        assert [(await call(simulator, "GET", "u1")).status for _ in range(2)] == [503, 429]


async def test_the_limit_can_be_changed_while_it_runs(simulator: Simulator, call: Caller) -> None:
    statuses = [(await call(simulator, "GET", "u1")).status]
    simulator.limiter, simulator.retry_after = Limiter(SLOW, burst=0), 7.0
    statuses += [(await call(simulator, "GET", "u1")).status for _ in range(2)]
    simulator.limiter = None
    statuses += [(await call(simulator, "GET", "u1")).status]
    assert statuses == [404, 404, 429, 404]


async def test_two_simulators_have_limits_of_their_own(call: Caller) -> None:
    async with Simulator(rate=SLOW, burst=0) as one, Simulator(rate=SLOW, burst=0) as other:
        assert [(await call(simulator, "GET", "u1")).status for simulator in (one, other)] == [404, 404]
