import asyncio
import contextlib
import re

import aiohttp
import pytest

from adapty_async import (
    UNPACED,
    AdaptyAPIError,
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    InvalidResponseError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    bulk,
)
from adapty_async.testing import Fault, Faults, Simulator
from tests.testing.caller import PROFILE_PATH, Caller, port, raw_request, until
from tests.testing.facts import violations
from tests.waiting import PATIENCE

USER = "user-000001@example.com"
MANY = {Fault.UNAVAILABLE: 0.2, Fault.RESET_AFTER: 0.3}

BEFORE_WORK = [
    Fault.THROTTLED,
    Fault.SERVER_ERROR,
    Fault.BAD_GATEWAY,
    Fault.UNAVAILABLE,
    Fault.REDIRECT,
    Fault.RESET_BEFORE,
]
AFTER_WORK = [fault for fault in Fault if fault not in BEFORE_WORK]


def drawn(faults: Faults, number: int = 10_000) -> list[Fault]:
    return [faults.next("GET") for _ in range(number)]


class TestShares:
    def test_the_same_seed_draws_the_same_faults(self) -> None:
        assert drawn(Faults(MANY, seed=7)) == drawn(Faults(MANY, seed=7))

    def test_the_order_of_the_shares_does_not_count(self) -> None:
        assert drawn(Faults(MANY)) == drawn(Faults(dict(reversed(MANY.items()))))

    def test_another_seed_draws_other_faults(self) -> None:
        assert drawn(Faults(MANY, seed=1)) != drawn(Faults(MANY, seed=2))

    def test_each_fault_gets_its_share(self) -> None:
        faults = drawn(Faults(MANY))
        assert faults.count(Fault.UNAVAILABLE) == pytest.approx(2000, rel=0.1)
        assert faults.count(Fault.RESET_AFTER) == pytest.approx(3000, rel=0.1)
        assert faults.count(Fault.NONE) == pytest.approx(5000, rel=0.1)

    def test_shares_may_add_up_to_all_requests(self) -> None:
        faults = [*AFTER_WORK, *BEFORE_WORK]
        faults.remove(Fault.NONE)
        assert Fault.NONE not in drawn(Faults(dict.fromkeys(faults[:10], 0.1)))

    def test_without_shares_nothing_fails(self) -> None:
        assert set(drawn(Faults())) == {Fault.NONE}

    @pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.0, -0.1), (0.6, 0.6), (float("nan"), 0.0)])
    def test_shares_that_are_none_are_refused_and_the_others_stay(self, shares: tuple[float, float]) -> None:
        wrong: dict[Fault, float] = dict(zip((Fault.CUT, Fault.HUGE), shares, strict=True))
        with pytest.raises(ValueError, match="shares"):
            Faults(wrong)
        faults = Faults(MANY)
        with pytest.raises(ValueError, match="shares"):
            faults.fault_rates = wrong
        assert faults.fault_rates == MANY


class TestScript:
    def test_the_next_requests_suffer_it_in_order_and_then_none(self) -> None:
        faults = Faults()
        faults.inject(Fault.CUT, Fault.NONE)
        faults.inject(Fault.HUGE)
        assert drawn(faults, 5) == [Fault.CUT, Fault.NONE, Fault.HUGE, Fault.NONE, Fault.NONE]

    def test_it_comes_before_what_is_drawn_and_leaves_that_as_it_is(self) -> None:
        faults = Faults(MANY)
        faults.inject(*[Fault.CUT] * 3)
        assert drawn(faults, 100) == [Fault.CUT] * 3 + drawn(Faults(MANY), 97)

    @pytest.mark.parametrize("method", ["DELETE", "delete"])
    def test_only_requests_of_its_method_take_part(self, method: str) -> None:
        faults = Faults()
        faults.inject(Fault.CUT, Fault.HUGE, method=method)
        faults.inject(Fault.BAD_UTF8)
        asked = ["GET", "DELETE", "GET", "DELETE", "DELETE"]
        assert [faults.next(method) for method in asked] == [
            Fault.BAD_UTF8,
            Fault.CUT,
            Fault.NONE,
            Fault.HUGE,
            Fault.NONE,
        ]

    async def test_it_can_be_told_while_the_simulator_runs(self, simulator: Simulator, call: Caller) -> None:
        statuses = [(await call(simulator, "GET", "u1")).status]
        simulator.inject(Fault.UNAVAILABLE, Fault.SERVER_ERROR, method="GET")
        statuses += [(await call(simulator, method, "u1")).status for method in ("GET", "DELETE", "GET", "GET")]
        assert statuses == [404, 503, 404, 500, 404]

    async def test_a_refusal_leaves_it_to_the_next_request(self, simulator: Simulator, call: Caller) -> None:
        simulator.inject(Fault.UNAVAILABLE)
        assert (await call(simulator, "GET", "u1", headers={"Authorization": "Api-Key wrong"})).status == 401
        assert (await call(simulator, "GET", "u1")).status == 503


class TestTheWork:
    """Whether the work was done shows in the number of profiles after a deletion."""

    @pytest.mark.parametrize(("faults", "left"), [(BEFORE_WORK, 1), (AFTER_WORK, 0)])
    async def test_it_is_done_or_not_as_the_fault_says(self, faults: list[Fault], left: int, call: Caller) -> None:
        for fault in faults:
            async with Simulator(profiles=1, fault_rates={fault: 1.0}, delay=0.0) as simulator:
                with contextlib.suppress(aiohttp.ClientError):
                    await call(simulator, "DELETE", USER, documented=False)
                assert len(simulator.profiles) == left, fault

    async def test_it_is_done_before_the_delay(self, call: Caller) -> None:
        async with Simulator(profiles=1, fault_rates={Fault.DELAY: 1.0}, delay=60.0) as simulator:
            deletion = asyncio.create_task(call(simulator, "DELETE", USER))
            await until(lambda: simulator.stats.in_flight > 0)
            assert len(simulator.profiles) == 0
            deletion.cancel()

    async def test_it_is_done_before_the_latency(self, simulator: Simulator, call: Caller) -> None:
        simulator.latency = 60.0
        simulator.add_profile(customer_user_id="u1")
        deletion = asyncio.create_task(call(simulator, "DELETE", "u1"))
        await until(lambda: simulator.stats.in_flight > 0)
        assert "u1" not in simulator.profiles.customer_user_ids
        deletion.cancel()


class TestAnswers:
    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            (Fault.THROTTLED, 429, "rate_limited"),
            (Fault.SERVER_ERROR, 500, "internal_server_error"),
            (Fault.UNAVAILABLE, 503, "service_unavailable"),
        ],
    )
    async def test_an_error_of_the_api_has_its_form(
        self, simulator: Simulator, call: Caller, fault: Fault, status: int, code: str
    ) -> None:
        simulator.inject(fault)
        reply = await call(simulator, "GET", "u1")
        assert (reply.status, reply.code) == (status, code)
        assert simulator.stats.responses == {("GET", status): 1}

    @pytest.mark.parametrize(("seconds", "value"), [(None, None), (2.0, "2"), (0.25, "0.25"), (3, "3")])
    async def test_a_503_and_a_429_each_carry_the_retry_after_they_were_given(
        self, simulator: Simulator, call: Caller, seconds: float | None, value: str | None
    ) -> None:
        simulator.inject(Fault.UNAVAILABLE, Fault.THROTTLED, Fault.UNAVAILABLE, Fault.THROTTLED)
        simulator.faults.retry_after_503 = seconds
        found = [(await call(simulator, "GET", "u1")).headers.get("Retry-After") for _ in range(2)]
        simulator.faults.retry_after_503, simulator.retry_after = None, seconds
        found += [(await call(simulator, "GET", "u1")).headers.get("Retry-After") for _ in range(2)]
        assert found == [value, None, None, value]

    async def test_a_gateway_answers_with_a_page(self, simulator: Simulator, call: Caller) -> None:
        simulator.inject(Fault.BAD_GATEWAY)
        reply = await call(simulator, "GET", "u1", documented=False)
        assert (reply.status, reply.headers["Content-Type"]) == (502, "text/html")
        assert reply.body.startswith(b"<html>")

    async def test_who_follows_a_redirect_is_seen(self, simulator: Simulator, call: Caller) -> None:
        simulator.inject(Fault.REDIRECT)
        reply = await call(simulator, "GET", "u1", documented=False)
        assert reply.status == 307
        followed = await call(simulator, "GET", "u1", path=reply.headers["Location"])
        assert followed.status == 404
        assert simulator.requests[-1].path != PROFILE_PATH

    @pytest.mark.parametrize("fault", [Fault.RESET_BEFORE, Fault.RESET_AFTER])
    async def test_a_reset_sends_nothing_and_is_counted(self, simulator: Simulator, fault: Fault) -> None:
        simulator.inject(fault)
        reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
        writer.write(raw_request(simulator, "GET", b"u1"))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (simulator.stats.resets, simulator.stats.responses) == (1, {})

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_cut_body_is_shorter_than_it_says_and_ends_the_connection(self, method: str) -> None:
        async with Simulator(profiles=1, fault_rates={Fault.CUT: 1.0}) as simulator:
            reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
            writer.write(raw_request(simulator, method, USER.encode()))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        assert 0 < len(body) < int(length[1])

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_broken_gzip_cannot_be_unpacked(self, simulator: Simulator, call: Caller, method: str) -> None:
        simulator.inject(Fault.BROKEN_GZIP)
        with pytest.raises(aiohttp.ClientPayloadError):
            await call(simulator, method, "u1")

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_bad_utf8_cannot_be_decoded(self, call: Caller, method: str) -> None:
        async with Simulator(profiles=1, fault_rates={Fault.BAD_UTF8: 1.0}) as simulator:
            reply = await call(simulator, method, USER, documented=False)
        assert reply.status == 200
        with pytest.raises(UnicodeDecodeError):
            reply.body.decode()

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_wrong_json_is_json_and_nothing_documented(self, call: Caller, method: str) -> None:
        async with Simulator(profiles=1, fault_rates={Fault.WRONG_JSON: 1.0}) as simulator:
            reply = await call(simulator, method, USER, documented=False)
        assert reply.status == 200
        assert violations(reply.json, "ProfileResponse") != []

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_huge_body_is_wrong_by_its_size_alone(self, call: Caller, method: str) -> None:
        async with Simulator(profiles=1, fault_rates={Fault.HUGE: 1.0}) as simulator:
            reply = await call(simulator, method, USER, documented=False)
        assert reply.status == 200
        assert len(reply.body) > 8 * 1024 * 1024
        assert isinstance(reply.json, dict)

    @pytest.mark.parametrize(("fault", "statuses"), [(Fault.SURPLUS, [204, 404]), (Fault.STALE, [404, 204])])
    async def test_an_answer_too_many_is_that_of_the_request_before(
        self, simulator: Simulator, call: Caller, fault: Fault, statuses: list[int]
    ) -> None:
        simulator.add_profile(customer_user_id="u1")
        assert (await call(simulator, "GET", "nobody")).status == 404
        simulator.inject(fault)
        reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
        writer.write(raw_request(simulator, "DELETE", b"u1", b"Connection: close"))
        shown = await reader.read()
        writer.close()
        assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) [A-Z]", shown)] == statuses
        assert shown.count(b"profile_does_not_exist") == 1
        assert (simulator.stats.requests, len(simulator.profiles)) == (2, 0)

    async def test_without_a_request_before_it_is_its_own(self, simulator: Simulator) -> None:
        simulator.inject(Fault.SURPLUS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port(simulator))
        writer.write(raw_request(simulator, "GET", b"u1", b"Connection: close"))
        shown = await reader.read()
        writer.close()
        assert len(re.findall(rb"HTTP/1.1 404 Not Found\r\n", shown)) == 2

    async def test_a_spoiled_answer_keeps_its_status(self, simulator: Simulator, call: Caller) -> None:
        simulator.inject(Fault.WRONG_JSON, Fault.BAD_UTF8)
        assert [(await call(simulator, "GET", "u1", documented=False)).status for _ in range(2)] == [404, 404]

    @pytest.mark.parametrize("name", ["latency", "delay"])
    async def test_an_answer_comes_late(self, simulator: Simulator, call: Caller, name: str) -> None:
        if name == "latency":
            simulator.latency = 0.02
        else:
            simulator.faults = Faults({Fault.DELAY: 1.0}, delay=0.02)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert (await call(simulator, "GET", "u1")).status == 404
        assert loop.time() - start >= 0.02


class TestTheClient:
    """The client reports each fault as intended."""

    @pytest.mark.parametrize(
        ("fault", "error", "maybe_executed"),
        [
            (Fault.THROTTLED, RateLimitError, False),
            (Fault.SERVER_ERROR, ServerError, True),
            (Fault.BAD_GATEWAY, ServerError, True),
            (Fault.UNAVAILABLE, ServerError, True),
            (Fault.REDIRECT, AdaptyAPIError, False),
            (Fault.RESET_BEFORE, AdaptyConnectionError, True),
            (Fault.DELAY, AdaptyTimeoutError, True),
            (Fault.RESET_AFTER, AdaptyConnectionError, True),
            (Fault.CUT, AdaptyConnectionError, True),
            (Fault.BROKEN_GZIP, InvalidResponseError, False),
            (Fault.BAD_UTF8, InvalidResponseError, False),
            (Fault.WRONG_JSON, InvalidResponseError, False),
            (Fault.HUGE, InvalidResponseError, False),
        ],
    )
    async def test_a_fault_is_the_error_it_is_meant_to_be(
        self, simulator: Simulator, client: AdaptyClient, fault: Fault, error: type[AdaptyError], maybe_executed: bool
    ) -> None:
        simulator.add_profile(customer_user_id="u1")
        simulator.inject(fault)
        simulator.faults.delay = 60.0
        impatient = client.with_options(retry=RetryPolicy.none(), timeout=1.0 if fault is Fault.DELAY else PATIENCE)
        with pytest.raises(error) as caught:
            await impatient.profiles.get(customer_user_id="u1")
        assert caught.value.maybe_executed is maybe_executed


async def test_an_answer_too_many_reaches_no_other_call(simulator: Simulator, client: AdaptyClient) -> None:
    names = [simulator.add_profile(customer_user_id=f"u{number}").customer_user_id for number in range(20)]
    simulator.faults.fault_rates = {Fault.SURPLUS: 0.3, Fault.STALE: 0.3}
    for name in names:
        assert (await client.profiles.get(customer_user_id=name)).customer_user_id == name


async def test_a_job_sends_again_what_it_answers_twice(simulator: Simulator, client: AdaptyClient) -> None:
    simulator.add_profile(customer_user_id="u1")
    simulator.inject(Fault.SURPLUS)
    report = await bulk.delete_profiles(client, ["u1"], by="customer_user_id", pacer=UNPACED)
    assert report.counts == {bulk.Outcome.DELETED_UNCONFIRMED: 1}
    assert simulator.stats.responses == {("DELETE", 204): 1, ("DELETE", 404): 1}


async def test_shares_can_be_changed_while_it_runs(simulator: Simulator, call: Caller) -> None:
    assert (await call(simulator, "GET", "u1")).status == 404
    simulator.faults.fault_rates = {Fault.UNAVAILABLE: 1.0}
    assert (await call(simulator, "GET", "u1")).status == 503
    simulator.faults = Faults()
    assert (await call(simulator, "GET", "u1")).status == 404


async def test_a_wrong_key_draws_no_fault(call: Caller) -> None:
    async with Simulator(fault_rates={Fault.UNAVAILABLE: 1.0}) as simulator:
        assert (await call(simulator, "GET", "u1", headers={"Authorization": "Api-Key wrong"})).status == 401
