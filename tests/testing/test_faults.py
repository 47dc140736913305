import asyncio

import pytest

from adapty_async.testing import Faults, Simulator
from adapty_async.testing.faults import Fault
from tests.testing.caller import Caller, port, raw_request, until


def drawn(faults: Faults, number: int = 10_000) -> list[Fault]:
    return [faults.draw() for _ in range(number)]


def test_the_same_seed_draws_the_same_faults() -> None:
    first, second = (drawn(Faults(share_503=0.2, share_reset=0.3, seed=7)) for _ in range(2))
    assert first == second


def test_another_seed_draws_other_faults() -> None:
    assert drawn(Faults(share_503=0.5, seed=1)) != drawn(Faults(share_503=0.5, seed=2))


def test_each_fault_gets_its_share() -> None:
    faults = drawn(Faults(share_503=0.2, share_reset=0.3))
    assert faults.count(Fault.UNAVAILABLE) == pytest.approx(2000, rel=0.1)
    assert faults.count(Fault.RESET) == pytest.approx(3000, rel=0.1)


def test_without_shares_nothing_fails() -> None:
    assert set(drawn(Faults())) == {Fault.NONE}


@pytest.mark.parametrize(("share_503", "share_reset"), [(-0.1, 0.0), (0.0, -0.1), (0.6, 0.6), (float("nan"), 0.0)])
def test_shares_that_are_none_are_refused(share_503: float, share_reset: float) -> None:
    with pytest.raises(ValueError, match="shares"):
        Faults(share_503=share_503, share_reset=share_reset)


async def test_a_503_comes_before_any_work(call: Caller) -> None:
    async with Simulator(profiles=1, share_503=1.0) as simulator:
        reply = await call(simulator, "DELETE", "user-000001@example.com")
        assert (reply.status, len(simulator.profiles)) == (503, 1)


@pytest.mark.parametrize(("seconds", "value"), [(None, None), (2.0, "2"), (0.25, "0.25"), (3, "3")])
async def test_a_503_carries_the_retry_after_it_was_given(
    call: Caller, seconds: float | None, value: str | None
) -> None:
    async with Simulator(share_503=1.0, retry_after_503=seconds) as simulator:
        assert (await call(simulator, "GET", "u1")).headers.get("Retry-After") == value


async def test_a_reset_comes_after_the_work_and_without_an_answer() -> None:
    async with Simulator(profiles=1, share_reset=1.0) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
        writer.write(raw_request(simulator, "DELETE", b"user-000001@example.com"))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (len(simulator.profiles), simulator.count.resets, simulator.count.answers) == (0, 1, {})


async def test_faults_can_be_changed_while_it_runs(simulator: Simulator, call: Caller) -> None:
    assert (await call(simulator, "GET", "u1")).status == 404
    simulator.faults = Faults(share_503=1.0)
    assert (await call(simulator, "GET", "u1")).status == 503
    simulator.faults = Faults()
    assert (await call(simulator, "GET", "u1")).status == 404


async def test_a_wrong_key_draws_no_fault(call: Caller) -> None:
    async with Simulator(share_503=1.0) as simulator:
        assert (await call(simulator, "GET", "u1", headers={"Authorization": "Api-Key wrong"})).status == 401


async def test_an_answer_is_delayed_by_the_latency(simulator: Simulator, call: Caller) -> None:
    simulator.latency = 0.02
    loop = asyncio.get_running_loop()
    start = loop.time()
    await call(simulator, "GET", "u1")
    assert loop.time() - start >= 0.02


async def test_the_work_is_done_before_the_latency(simulator: Simulator, call: Caller) -> None:
    simulator.latency = 60.0
    simulator.add_profile(customer_user_id="u1")
    deletion = asyncio.create_task(call(simulator, "DELETE", "u1"))
    await until(lambda: simulator.count.in_flight > 0)
    assert "u1" not in simulator.profiles.customer_user_ids
    deletion.cancel()
