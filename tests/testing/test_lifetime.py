import asyncio
import contextlib
import logging
import socket

import aiohttp
import pytest

from adapty_async.testing import Simulator
from tests.leftovers import tasks_left
from tests.testing.caller import Caller, port, raw_request, until
from tests.waiting import PATIENCE


async def test_it_serves_on_a_free_loopback_port() -> None:
    async with Simulator() as simulator:
        assert simulator.base_url == f"http://127.0.0.1:{port(simulator)}"
        assert port(simulator) > 0


async def test_several_run_at_once_with_keys_and_profiles_of_their_own(call: Caller) -> None:
    async with Simulator(profiles=1) as one, Simulator() as other:
        assert one.api_key != other.api_key
        assert (await call(one, "GET", "user-000001@example.com")).status == 200
        assert (await call(other, "GET", "user-000001@example.com")).status == 404


async def test_it_takes_the_key_it_is_given(call: Caller) -> None:
    async with Simulator(api_key="given") as simulator:
        assert (await call(simulator, "GET", "u1", headers={"Authorization": "Api-Key given"})).status == 404


async def test_its_address_is_known_only_while_it_runs() -> None:
    simulator = Simulator()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not running"):
            _ = simulator.base_url
        async with simulator:
            assert simulator.base_url


async def test_started_again_it_has_the_same_address(call: Caller) -> None:
    simulator = Simulator(profiles=1)
    await simulator.start()
    address = simulator.base_url
    assert (await call(simulator, "GET", "user-000001@example.com")).status == 200
    for _ in range(2):
        await simulator.stop()
        await simulator.start()
        assert simulator.base_url == address
        assert (await call(simulator, "GET", "user-000001@example.com")).status == 200
    await simulator.stop()


async def test_it_starts_only_once_at_a_time(simulator: Simulator) -> None:
    with pytest.raises(RuntimeError, match="already running"):
        await simulator.start()


async def test_a_port_that_is_taken_is_an_error_and_it_can_start_later(simulator: Simulator) -> None:
    second = Simulator(port=port(simulator))
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await simulator.stop()
    async with second:
        assert port(second) > 0


async def test_a_stop_is_harmless_when_stopped_already(simulator: Simulator) -> None:
    await simulator.stop()
    await simulator.stop()


async def test_counts_and_profiles_are_there_after_the_stop_and_the_next_start(call: Caller) -> None:
    simulator = Simulator(profiles=2)
    for number in (1, 2):
        async with simulator:
            await call(simulator, "DELETE", f"user-00000{number}@example.com")
    assert (simulator.stats.responses["DELETE", 204], len(simulator.profiles)) == (2, 0)


async def test_a_stop_closes_idle_connections_and_leaves_no_task() -> None:
    async with aiohttp.ClientSession() as session:
        async with Simulator() as simulator:
            await asyncio.gather(*(Caller(session)(simulator, "GET", "u1") for _ in range(10)))
            address = ("127.0.0.1", port(simulator))
        assert tasks_left() == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_a_stop_cancels_requests_under_way_at_once(call: Caller) -> None:
    simulator = Simulator(latency=600.0)
    await simulator.start()
    calls = [asyncio.create_task(call(simulator, "POST", "u1", json={})) for _ in range(10)]
    await until(lambda: simulator.stats.in_flight >= 10)
    async with asyncio.timeout(PATIENCE):
        await simulator.stop()
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(failure) for failure in failures} <= {aiohttp.ServerDisconnectedError, aiohttp.ClientOSError}
    assert (simulator.stats.in_flight, simulator.stats.responses) == (0, {})
    assert tasks_left() == []


async def test_a_stop_gives_up_a_body_that_does_not_end() -> None:
    async with Simulator() as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
        writer.write(raw_request(simulator, "POST", b"u1", b"Content-Length: 9") + b"{")
        await until(lambda: simulator.stats.in_flight > 0)
    assert await reader.read() == b""
    writer.close()
    assert tasks_left() == []


async def test_a_stop_does_not_wait_for_a_caller_that_never_reads() -> None:
    simulator = Simulator()
    simulator.add_profile(customer_user_id="u1").subscriptions = [{"store": "x" * 20_000_000}]
    await simulator.start()
    with socket.create_connection(("127.0.0.1", port(simulator))) as connection:
        connection.sendall(raw_request(simulator, "GET", b"u1"))
        await until(lambda: simulator.stats.responses["GET", 200] > 0)
        async with asyncio.timeout(PATIENCE):
            await simulator.stop()
        assert tasks_left() == []


@pytest.mark.parametrize("rounds", range(8))
async def test_a_stop_closes_a_connection_that_is_just_arriving(rounds: int) -> None:
    simulator = Simulator(latency=600.0)
    await simulator.start()
    with socket.create_connection(("127.0.0.1", port(simulator))) as connection:
        connection.sendall(raw_request(simulator, "GET", b"u1"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        await simulator.stop()
        assert tasks_left() == []
        connection.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError):  # if it was never accepted
            assert connection.recv(1) == b""


async def test_a_caller_that_leaves_in_the_middle_of_a_body_does_no_harm(
    simulator: Simulator, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
    writer.write(raw_request(simulator, "POST", b"u1", b"Content-Length: 9") + b"{")
    await until(lambda: simulator.stats.in_flight > 0)
    writer.transport.abort()
    await until(lambda: simulator.stats.in_flight == 0)
    assert (simulator.stats.responses, simulator.stats.resets, caplog.records) == ({}, 0, [])
    assert (await call(simulator, "GET", "u1")).status == 404


async def test_a_body_that_cannot_be_unpacked_ends_the_connection_without_an_answer(simulator: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
    writer.write(raw_request(simulator, "POST", b"u1", b"Content-Encoding: gzip", b"Content-Length: 4") + b"text")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert simulator.stats.responses == {}


async def test_the_log_of_a_broken_request_hides_its_bytes(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
    with caplog.at_level(logging.DEBUG):
        writer.write(b"GET / HTTP/1.1\r\nAuthorization: Api-Key s3cr3t\x00\r\n\r\n")
        assert b" 400 " in (await reader.read()).partition(b"\r\n")[0]
    writer.close()
    assert "Error handling request" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_log_record_without_an_error_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("adapty_async.testing.server").error("100 %% %s", "plain")
    assert caplog.messages == ["100 % plain"]


async def test_no_request_is_logged(simulator: Simulator, call: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await call(simulator, "POST", "jane@example.com", json={"first_name": "Jane"})
        await call(simulator, "DELETE", "jane@example.com")
    assert [record for record in caplog.records if record.name.startswith(("adapty_async", "aiohttp"))] == []
