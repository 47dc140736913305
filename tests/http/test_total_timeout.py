"""The time limit of a whole call: its error shows whether the call may have been executed; a caller's timeout wins."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import (
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    Attempt,
    FixedPacer,
    LocalRateLimitError,
    RateLimitError,
    Request,
    Response,
    RetryPolicy,
    ServerError,
    bulk,
)
from adapty_async.client import get_sender
from adapty_async.http.transport import Transport

from ..leftovers import tasks_left, timers_left
from ..raw_server import RawServer, answer, silence, then
from ..test_client import KEY, OK
from ..virtual_time import run_virtual, virtual, virtual_loop

DELETED: Final = Response(204)
LATE: Final = 0.1
"""Seconds that a call may take beyond its limit, by the contract."""


class TimedTransport(Transport):
    """Delay each attempt by its seconds, within its deadline like the original, and return the scripted result."""

    def __init__(self, *script: tuple[float, Response | AdaptyError]) -> None:
        super().__init__("https://api.test", KEY, session=None, trust_env=False, ssl=None)
        self.script = list(script)
        self.attempts = 0

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        self.attempts += 1
        seconds, end = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        deadline = self.deadlines.start(timeout)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if not deadline.undo_cancellation():
                raise
            end = AdaptyTimeoutError("no response in time")
        finally:
            deadline.stop()
        if isinstance(end, AdaptyError):
            raise end
        return end


def timed(*script: tuple[float, Response | AdaptyError], **settings: Any) -> tuple[AdaptyClient, TimedTransport]:
    transport, client = TimedTransport(*script), AdaptyClient(KEY, **settings)
    get_sender(client).transport = transport
    return client, transport


async def delete(client: AdaptyClient) -> bool:
    return await client.profiles.delete(customer_user_id="u1")


class TestTheTime:
    @pytest.mark.parametrize(
        ("script", "sent", "maybe_executed", "attempts"),
        [
            ([(1e9, OK)], True, True, 1),
            ([(0.1, AdaptyConnectionError(sent=False)), (1e9, OK)], True, True, 2),
            ([(0.1, Response(503)), (1e9, OK)], True, True, 2),
            ([(0.1, Response(429, {"Retry-After": "0.1"})), (1e9, OK)], True, True, 2),
        ],
    )
    def test_an_attempt_that_has_no_answer_by_then_ends_the_call(
        self, script: list[Any], sent: bool, maybe_executed: bool, attempts: int
    ) -> None:
        async def test() -> None:
            client, transport = timed(*script, total_timeout=2.0, retry=RetryPolicy(initial_backoff=0.1))
            began = virtual_loop().time()
            with pytest.raises(AdaptyTimeoutError, match=r"not completed within the total timeout of 2 s") as caught:
                await delete(client)
            error = caught.value
            assert (error.sent, error.maybe_executed, error.attempts) == (sent, maybe_executed, attempts)
            assert transport.attempts == attempts
            assert 2.0 - 1e-6 <= virtual_loop().time() - began <= 2.0 + LATE
            assert (error.__cause__, error.__context__) == (None, None)

        run_virtual(test())

    @pytest.mark.parametrize(
        ("end", "kind", "sent"),
        [
            (Response(503, {"Retry-After": "3"}), ServerError, None),
            (Response(429, {"Retry-After": "3"}), RateLimitError, None),
            (AdaptyConnectionError(sent=True), AdaptyConnectionError, True),
            (AdaptyConnectionError(sent=False), AdaptyConnectionError, False),
        ],
    )
    def test_a_pause_that_doesnt_fit_raises_the_last_error_at_once(
        self, end: Any, kind: type[AdaptyError], sent: bool | None
    ) -> None:
        async def test() -> None:
            retry = RetryPolicy(initial_backoff=1e6, max_backoff=1e6)
            client, transport = timed((0.5, end), total_timeout=2.0, retry=retry)
            began = virtual_loop().time()
            with pytest.raises(kind) as caught:
                await delete(client)
            assert virtual_loop().time() - began == pytest.approx(0.5)
            assert (transport.attempts, getattr(caught.value, "sent", None)) == (1, sent)

        run_virtual(test())

    @virtual
    async def test_the_timeout_of_an_attempt_is_told_from_that_of_the_call(self) -> None:
        client, transport = timed(
            (1e9, OK), timeout=1.0, total_timeout=60.0, retry=RetryPolicy(max_attempts=2, initial_backoff=0)
        )
        with pytest.raises(AdaptyTimeoutError, match="no response in time") as caught:
            await delete(client)
        assert (transport.attempts, caught.value.attempts) == (2, 2)

    @virtual
    async def test_a_call_whose_turn_is_known_to_come_too_late_is_refused_at_once(self) -> None:
        client, transport = timed((0.0, DELETED), pacer=FixedPacer(0.1), total_timeout=2.0)
        assert await delete(client)
        began = virtual_loop().time()
        with pytest.raises(LocalRateLimitError, match="not sent") as caught:
            await delete(client)
        assert (caught.value.attempts, caught.value.maybe_executed) == (0, False)
        assert (virtual_loop().time(), transport.attempts) == (began, 1)

    @virtual
    async def test_a_turn_that_doesnt_come_in_time_ends_the_call_unsent(self) -> None:
        class Liar(FixedPacer):
            """Report at any time that the next slot is soon."""

            def delay(self, now: float) -> float:
                return 0.3

        client, transport = timed((0.0, DELETED), pacer=Liar(1000.0), total_timeout=2.0)
        began = virtual_loop().time()
        with pytest.raises(AdaptyTimeoutError) as caught:
            await delete(client)
        assert (caught.value.attempts, caught.value.sent, caught.value.maybe_executed) == (0, False, False)
        assert transport.attempts == 0
        assert 2.0 - 1e-6 <= virtual_loop().time() - began <= 2.0 + LATE
        await asyncio.sleep(0)
        assert timers_left() == []

    @given(
        total=st.floats(0.01, 100.0),
        timeout=st.floats(0.01, 100.0),
        script=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.01, 0.3, 2.0, 40.0, 1e9]),
                st.sampled_from([503, 429, 204, "lost", "unsent", "1", "20"]),
            ),
            min_size=1,
            max_size=6,
        ),
        rate=st.sampled_from([None, 0.1, 5.0]),
    )
    def test_no_call_takes_longer_than_that_whatever_happens(
        self, total: float, timeout: float, script: list[tuple[float, Any]], rate: float | None
    ) -> None:
        ends: dict[Any, Callable[[], Any]] = {
            "lost": lambda: AdaptyConnectionError(sent=True),
            "unsent": lambda: AdaptyConnectionError(sent=False),
            "1": lambda: Response(429, {"Retry-After": "1"}),
            "20": lambda: Response(503, {"Retry-After": "20"}),
        }

        async def test() -> None:
            client, _ = timed(
                *((seconds, ends[end]() if end in ends else Response(end)) for seconds, end in script),
                timeout=timeout,
                total_timeout=total,
                pacer=None if rate is None else FixedPacer(rate),
                retry=RetryPolicy(max_attempts=9, max_elapsed=1e6),
            )

            async def call() -> None:
                began = virtual_loop().time()
                with contextlib.suppress(AdaptyError):
                    await delete(client)
                assert virtual_loop().time() - began <= total + LATE

            await asyncio.gather(*(call() for _ in range(3)))

        run_virtual(test())

    @virtual
    async def test_a_job_ignores_it(self) -> None:
        client, _ = timed((5.0, DELETED), total_timeout=1.0)
        report = await bulk.delete_profiles(client, ["u1"], by="customer_user_id")
        assert report.counts == {bulk.Outcome.DELETED: 1}

    async def test_over_a_socket(self) -> None:
        half = then(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[", silence)
        for reply in (silence, half):
            async with (
                RawServer(reply) as server,
                AdaptyClient(KEY, base_url=server.base_url, total_timeout=0.2) as client,
            ):
                with pytest.raises(AdaptyTimeoutError) as caught:
                    await delete(client)
                assert (caught.value.sent, caught.value.maybe_executed, caught.value.attempts) == (True, True, 1)
            assert tasks_left() == []

    async def test_views_and_the_environment_have_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADAPTY_API_KEY", KEY)
        client = AdaptyClient.from_env(total_timeout=5.0)
        assert get_sender(client).total_timeout == 5.0
        assert get_sender(client.with_options(timeout=1.0)).total_timeout == 5.0
        assert get_sender(client.with_options(total_timeout=2)).total_timeout == 2.0
        assert get_sender(client.with_options(total_timeout=None)).total_timeout is None
        assert get_sender(AdaptyClient(KEY)).total_timeout is None

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [
            (0, ValueError),
            (-1.0, ValueError),
            (float("inf"), ValueError),
            (float("nan"), ValueError),
            ("5", TypeError),
            (True, TypeError),
        ],
    )
    def test_what_cant_work_is_refused(self, seconds: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="total_timeout must be a"):
            AdaptyClient(KEY, total_timeout=seconds)
        with pytest.raises(error, match="total_timeout must be a"):
            AdaptyClient(KEY).with_options(total_timeout=seconds)


class TestACallersOwnTimeout:
    async def told(self, caplog: pytest.LogCaptureFixture, run: Callable[[AdaptyClient], Any]) -> list[Attempt]:
        """Return the attempts that `on_attempt` and the log got. They must agree."""
        caplog.set_level(logging.DEBUG, logger="adapty_async")
        attempts: list[Attempt] = []
        async with (
            RawServer(answer(503, b"{}"), silence) as server,
            AdaptyClient(
                KEY, base_url=server.base_url, on_attempt=attempts.append, retry=RetryPolicy(initial_backoff=0.0)
            ) as client,
        ):
            await run(client)
        told = [message for message in caplog.messages if " attempt " in message]
        assert len(told) == len(attempts)
        assert ["CancelledError" in message for message in told] == [a.error == "CancelledError" for a in attempts]
        return attempts

    async def test_it_passes_through_and_hook_and_log_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        async def run(client: AdaptyClient) -> None:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.2):
                    await delete(client)
            assert not isinstance(caught.value, AdaptyError)

        first, second = await self.told(caplog, run)
        assert (first.status, first.error, first.number) == (503, "ServerError", 1)
        assert (second.status, second.error, second.number, second.retry_in) == (None, "CancelledError", 2, None)
        assert second.elapsed > 0

    async def test_so_of_a_job(self, caplog: pytest.LogCaptureFixture) -> None:
        async def run(client: AdaptyClient) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await bulk.delete_profiles(client, ["u1", "u2"], by="customer_user_id", pacer=FixedPacer(1000.0))

        attempts = await self.told(caplog, run)
        assert [attempt.error for attempt in attempts].count("CancelledError") == len(attempts) - 1 > 0

    async def test_a_hook_that_raises_doesnt_stop_it(self) -> None:
        def fail(_attempt: Attempt) -> None:
            raise LookupError

        async with (
            RawServer(silence) as server,
            AdaptyClient(KEY, base_url=server.base_url, on_attempt=fail) as client,
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await delete(client)

    @pytest.mark.parametrize("place", ["attempt", "pause", "queue"])
    def test_one_at_the_same_instant_stays_a_cancellation(self, place: str) -> None:
        async def test() -> None:
            pacer = FixedPacer(1.0) if place == "queue" else None
            script = (0.0, Response(503, {"Retry-After": "0.5"})) if place == "pause" else (1e9, OK)
            client, _ = timed(script, total_timeout=1.0, pacer=pacer)
            if place == "queue":
                get_sender(client).transport.check_usable()
                get_sender(client).send_queue.try_acquire()
            call = asyncio.ensure_future(delete(client))
            await asyncio.sleep(1e-6)
            due = min(timer.when() for timer in timers_left())
            virtual_loop().call_at(due, call.cancel)
            await asyncio.wait([call])
            assert call.cancelled()

        run_virtual(test())
