"""The retry decisions as pure functions, and the loop that applies them."""

import asyncio
import random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import (
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    InvalidResponseError,
    Response,
    RetryPolicy,
)
from adapty_async.http.error_mapping import build_api_error
from adapty_async.http.retry import (
    is_profile_not_found,
    is_rate_limited,
    is_rejected_unexecuted,
    is_retryable,
    is_unsent,
    retry_call,
)

from ..virtual_time import virtual

RNG = random.Random(7)  # noqa: S311 - no secret


def answered(status: int, code: str | None = None, **headers: str) -> AdaptyError:
    body = b"" if code is None else b'{"error_code": "%s"}' % code.encode()
    return build_api_error(Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body))


class TestWhatMayBeSentAgain:
    """The table of the contract.

    `is_resendable`: its columns get, update, delete, and create with a customer user ID.
    """

    @pytest.mark.parametrize("resendable", [True, False])
    @pytest.mark.parametrize(
        "error",
        [
            AdaptyConnectionError(sent=False),
            AdaptyTimeoutError(sent=False),
            answered(429),
            answered(429, retry_after="1"),
            answered(400, "rate_limited"),
            answered(503, retry_after="1"),
        ],
        ids=repr,
    )
    def test_what_was_never_done_may_always(self, error: AdaptyError, resendable: bool) -> None:
        assert is_retryable(error, is_resendable=resendable)

    @pytest.mark.parametrize("resendable", [True, False])
    @pytest.mark.parametrize(
        "error",
        [
            answered(408),
            answered(500),
            answered(500, retry_after="1"),
            answered(502),
            answered(503),
            answered(504),
            AdaptyConnectionError(sent=True),
            AdaptyTimeoutError(sent=True),
        ],
        ids=repr,
    )
    def test_what_may_have_been_done_may_where_a_repeat_is_safe(self, error: AdaptyError, resendable: bool) -> None:
        assert is_retryable(error, is_resendable=resendable) is resendable

    @pytest.mark.parametrize("resendable", [True, False])
    @pytest.mark.parametrize(
        "error",
        [
            *(answered(status) for status in (301, 400, 401, 403, 404, 409, 422, 501)),
            InvalidResponseError(),
            AdaptyError(),
        ],
        ids=repr,
    )
    def test_what_would_fail_again_may_never(self, error: AdaptyError, resendable: bool) -> None:
        assert not is_retryable(error, is_resendable=resendable)


class TestWhatAnErrorMeans:
    def test_throttled(self) -> None:
        assert is_rate_limited(answered(429))
        assert is_rate_limited(answered(429, "profile_not_found"))
        assert is_rate_limited(answered(403, "rate_limited"))
        assert not is_rate_limited(answered(503, retry_after="1"))
        assert not is_rate_limited(None)
        assert not is_rate_limited(ValueError())

    def test_refusal(self) -> None:
        assert is_rejected_unexecuted(answered(429))
        assert is_rejected_unexecuted(answered(503, retry_after="1"))
        assert not is_rejected_unexecuted(answered(503))
        assert not is_rejected_unexecuted(answered(500, retry_after="1"))
        assert not is_rejected_unexecuted(AdaptyTimeoutError(sent=False))

    def test_unsent(self) -> None:
        assert is_unsent(AdaptyConnectionError(sent=False))
        assert is_unsent(AdaptyTimeoutError(sent=False))
        assert not is_unsent(AdaptyTimeoutError(sent=True))
        assert not is_unsent(answered(429))

    def test_absence(self) -> None:
        assert is_profile_not_found(answered(404))
        assert is_profile_not_found(answered(400, "profile_does_not_exist"))
        assert not is_profile_not_found(answered(500, "profile_does_not_exist"))
        assert not is_profile_not_found(answered(400))
        assert not is_profile_not_found(AdaptyTimeoutError())


class TestPolicy:
    def test_its_defaults_are_the_contracts(self) -> None:
        assert RetryPolicy() == RetryPolicy(max_attempts=4, max_elapsed=30.0, initial_backoff=0.5, max_backoff=8.0)

    def test_none_never_tries_again(self) -> None:
        assert RetryPolicy.none().max_attempts == 1

    def test_it_is_frozen(self) -> None:
        policy: Any = RetryPolicy()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            policy.max_attempts = 9

    @pytest.mark.parametrize("attempts", [0, -1])
    def test_no_attempt_at_all_is_a_value_error(self, attempts: int) -> None:
        with pytest.raises(ValueError, match="attempts must be at least 1"):
            RetryPolicy(max_attempts=attempts)

    @pytest.mark.parametrize("field", ["max_elapsed", "initial_backoff", "max_backoff"])
    @pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
    def test_seconds_that_are_none_are_a_value_error(self, field: str, value: float) -> None:
        settings: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match=f"{field} must be a number of seconds"):
            RetryPolicy(**settings)

    @pytest.mark.parametrize("field", ["max_attempts", "max_elapsed", "initial_backoff", "max_backoff"])
    @pytest.mark.parametrize("value", [True, "3", None])
    def test_what_is_no_number_is_a_type_error(self, field: str, value: object) -> None:
        settings: dict[str, Any] = {field: value}
        with pytest.raises(TypeError, match=f"{field} must be an? .+, not {type(value).__name__}"):
            RetryPolicy(**settings)

    @given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0, 100), st.integers())
    def test_the_backoff_is_drawn_from_all_up_to_a_doubling_bound(
        self, number: int, backoff: float, backoff_max: float, seed: int
    ) -> None:
        policy = RetryPolicy(initial_backoff=backoff, max_backoff=backoff_max)
        wait = policy.draw_backoff(number, random.Random(seed))  # noqa: S311 - no secret
        assert 0.0 <= wait <= backoff_max
        if number < 60:
            assert wait <= backoff * 2 ** (number - 1)

    @pytest.mark.parametrize(
        ("number", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (99, 8.0)]
    )
    def test_the_backoff_has_full_jitter(self, number: int, bound: float) -> None:
        waits = [RetryPolicy().draw_backoff(number, RNG) for _ in range(2000)]
        assert min(waits) < bound * 0.01
        assert max(waits) > bound * 0.99
        assert sum(waits) / len(waits) == pytest.approx(bound / 2, rel=0.1)


class TestWaitAfter:
    def decide(
        self, policy: RetryPolicy, error: AdaptyError, number: int = 1, elapsed: float = 0.0, **said: Any
    ) -> Any:
        return policy.get_retry_delay(
            error, number, elapsed, **{"is_resendable": True, "retry_after": None, "rng": RNG} | said
        )

    def test_the_servers_pause_comes_before_the_backoff(self) -> None:
        assert self.decide(RetryPolicy(), answered(429), retry_after=17.0) == 17.0

    def test_without_one_it_is_the_backoff(self) -> None:
        assert 0.0 <= self.decide(RetryPolicy(), answered(429)) <= 0.5

    def test_the_last_attempt_is_the_last(self) -> None:
        assert self.decide(RetryPolicy(max_attempts=3), answered(429), number=2, retry_after=1.0) == 1.0
        assert self.decide(RetryPolicy(max_attempts=3), answered(429), number=3, retry_after=1.0) is None
        assert self.decide(RetryPolicy.none(), answered(429), retry_after=0.0) is None

    def test_a_wait_that_doesnt_fit_the_budget_ends_it_at_once(self) -> None:
        policy = RetryPolicy(max_elapsed=10.0)
        assert self.decide(policy, answered(429), elapsed=4.0, retry_after=6.0) == 6.0
        assert self.decide(policy, answered(429), elapsed=4.1, retry_after=6.0) is None

    def test_what_may_be_sent_again_where_a_repeat_is_safe_is(self) -> None:
        assert self.decide(RetryPolicy(), AdaptyTimeoutError(), is_resendable=True, retry_after=1.0) == 1.0

    def test_what_may_not_be_sent_again_isnt(self) -> None:
        assert self.decide(RetryPolicy(), answered(404), retry_after=1.0) is None
        assert self.decide(RetryPolicy(), AdaptyTimeoutError(), is_resendable=False) is None


class Script:
    """Attempts with scripted results, and the waits between them."""

    def __init__(self, *ends: Exception | str, waits: tuple[float | None, ...]) -> None:
        self.ends = iter(ends)
        self.waits = iter(waits)
        self.attempts = 0
        self.slept: list[float] = []

    async def attempt(self) -> str:
        self.attempts += 1
        end = next(self.ends)
        if isinstance(end, Exception):
            raise end
        return end

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def run(self, first: AdaptyError) -> str:
        return await retry_call(first, self.attempt, lambda: next(self.waits), self.sleep)


class TestAgain:
    async def test_it_goes_on_until_an_attempt_succeeds(self) -> None:
        script = Script(AdaptyError("2"), AdaptyError("3"), "done", waits=(1.0, 2.0, 3.0))
        assert await script.run(AdaptyError("1")) == "done"
        assert (script.attempts, script.slept) == (3, [1.0, 2.0, 3.0])

    async def test_it_ends_with_the_last_error_itself(self) -> None:
        last = AdaptyError("3")
        script = Script(AdaptyError("2"), last, waits=(1.0, 2.0, None))
        with pytest.raises(AdaptyError) as caught:
            await script.run(AdaptyError("1"))
        assert caught.value is last
        assert (last.__cause__, last.__context__) == (None, None)
        assert script.attempts == 2

    async def test_it_sends_nothing_for_the_failure_that_led_to_it(self) -> None:
        first = AdaptyError("1")
        script = Script(waits=(None,))
        with pytest.raises(AdaptyError) as caught:
            await script.run(first)
        assert caught.value is first
        assert script.attempts == 0

    async def test_what_is_no_failure_of_a_call_ends_it_unasked(self) -> None:
        script = Script(RuntimeError("the client is closed"), waits=(1.0,))
        with pytest.raises(RuntimeError):
            await script.run(AdaptyError("1"))
        assert script.attempts == 1

    async def test_calls_at_the_same_time_dont_mix_up(self) -> None:
        scripts = [Script(*[AdaptyError()] * number, str(number), waits=(0.0,) * (number + 1)) for number in range(20)]
        ended = await asyncio.gather(*(script.run(AdaptyError()) for script in scripts))
        assert ended == [str(number) for number in range(20)]

    @virtual
    async def test_it_is_cancelled_while_it_waits(self) -> None:
        script = Script(waits=(3600.0,))
        call = asyncio.create_task(retry_call(AdaptyError(), script.attempt, lambda: next(script.waits), asyncio.sleep))
        await asyncio.sleep(10.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert script.attempts == 0

    @virtual
    async def test_it_is_cancelled_in_an_attempt_and_makes_no_other(self) -> None:
        attempts = 0

        async def attempt() -> str:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(3600.0)
            return "done"

        call = asyncio.create_task(retry_call(AdaptyError(), attempt, lambda: 1.0, asyncio.sleep))
        await asyncio.sleep(10.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert attempts == 1
