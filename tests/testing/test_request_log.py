import asyncio

import aiohttp
import pytest

from adapty_async.testing import Fault, RecordedRequest, Simulator
from tests.testing.caller import PROFILE_PATH, Caller, until


async def test_requests_are_counted_by_method_and_status(simulator: Simulator, call: Caller) -> None:
    simulator.add_profile(customer_user_id="u1")
    for method, customer_user_id in [("GET", "u1"), ("GET", "u2"), ("DELETE", "u1"), ("DELETE", "u1")]:
        await call(simulator, method, customer_user_id)
    assert simulator.stats.responses == {("GET", 200): 1, ("GET", 404): 1, ("DELETE", 204): 1, ("DELETE", 404): 1}
    assert (simulator.stats.requests, simulator.stats.count_responses(404), simulator.stats.count_responses(500)) == (
        4,
        2,
        0,
    )


async def test_the_most_requests_under_way_at_one_time_are_counted(simulator: Simulator, call: Caller) -> None:
    await asyncio.gather(*(call(simulator, "GET", "u1") for _ in range(20)))
    await call(simulator, "GET", "u1")
    assert 1 < simulator.stats.max_in_flight <= 20
    assert simulator.stats.in_flight == 0


async def test_requests_under_way_are_counted_until_they_are_answered(simulator: Simulator, call: Caller) -> None:
    simulator.latency = 60.0
    calls = [asyncio.create_task(call(simulator, "GET", "u1")) for _ in range(5)]
    await until(lambda: simulator.stats.in_flight >= 5)
    assert (simulator.stats.max_in_flight, simulator.stats.responses) == (5, {})
    for task in calls:
        task.cancel()


async def test_each_tcp_connection_is_counted_once(simulator: Simulator, call: Caller) -> None:
    for _ in range(3):
        await call(simulator, "GET", "u1")
    assert simulator.stats.connections == 1
    async with aiohttp.ClientSession() as another:
        await Caller(another)(simulator, "GET", "u1")
    assert simulator.stats.connections == 2


async def test_requests_are_recorded_as_they_came(simulator: Simulator, call: Caller) -> None:
    await call(simulator, "POST", "u1", json={"first_name": "Jane"}, headers={"adapty-platform": "iOS"})
    await call(simulator, "GET", "u1")
    created, fetched = simulator.requests
    assert (created.method, created.path, created.json) == ("POST", PROFILE_PATH, {"first_name": "Jane"})
    assert (created.headers["Adapty-Customer-User-Id"], created.headers["adapty-platform"]) == ("u1", "iOS")
    assert (fetched.method, fetched.json) == ("GET", None)


async def test_a_body_that_is_not_json_is_recorded_as_bytes(simulator: Simulator, call: Caller) -> None:
    await call(simulator, "POST", "u1", data=b"no JSON")
    assert simulator.requests[0].body == b"no JSON"
    with pytest.raises(ValueError, match="Expecting value"):
        _ = simulator.requests[0].json


@pytest.mark.parametrize(("record", "kept"), [(0, []), (2, ["PATCH", "DELETE"]), (9, ["GET", "PATCH", "DELETE"])])
async def test_only_the_last_requests_are_recorded(call: Caller, record: int, kept: list[str]) -> None:
    async with Simulator(record=record) as simulator:
        for method in ("GET", "PATCH", "DELETE"):
            await call(simulator, method, "u1", json={})
        assert [request.method for request in simulator.requests] == kept


def test_the_repr_of_a_recorded_request_shows_neither_headers_nor_body() -> None:
    recorded = RecordedRequest("GET", PROFILE_PATH, {"Authorization": "Api-Key secret"}, b"jane")
    assert repr(recorded) == f"RecordedRequest(method='GET', path='{PROFILE_PATH}')"


async def test_another_process_can_ask_for_the_state(call: Caller) -> None:
    async with Simulator(profiles=3) as simulator:
        await call(simulator, "DELETE", "user-000001@example.com")
        await call(simulator, "DELETE", "user-000001@example.com")
        async with call.session.get(simulator.base_url + "/_simulator/state") as answer:
            state = await answer.json()
    assert state == {
        "profiles": 2,
        "requests": 2,
        "answers": {"DELETE": {"204": 1, "404": 1}},
        "resets": 0,
        "in_flight": 0,
        "max_in_flight": 1,
        "connections": 1,
    }


async def test_asking_for_the_state_is_neither_limited_nor_failed_nor_recorded(call: Caller) -> None:
    async with Simulator(rate=0.001, burst=0, fault_rates={Fault.UNAVAILABLE: 1.0}) as simulator:
        for _ in range(3):
            async with call.session.get(simulator.base_url + "/_simulator/state") as answer:
                assert answer.status == 200
        assert (simulator.stats.requests, len(simulator.requests)) == (0, 0)
