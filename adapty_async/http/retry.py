"""Retry decisions, which do no I/O, and the loop that applies them."""

import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import tenacity

from ..errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    NotFoundError,
    RateLimitError,
)
from .clock import Moment, elapsed

T = TypeVar("T")

REPEATABLE_FOR: Final = 15 * 60.0
"""Seconds for which a write other than a deletion may be sent again. Later it might overwrite newer data."""

_TRANSIENT: Final = frozenset({408, 500, 502, 503, 504})


def _seconds(_: object, field: "attrs.Attribute[float]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field.name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{field.name} must be a number of seconds, finite and not negative")


def _count(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field.name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{field.name} must be at least 1")


@attrs.frozen
class RetryPolicy:
    """When and how often a call is repeated.

    After attempt n the wait is random, between 0 and backoff x 2^(n-1) seconds and at most `backoff_max` ("full
    jitter"). If the server sends a Retry-After, that is used instead.

    A write other than a deletion is never sent again more than 15 minutes after it may have been executed.

    Attributes:
        attempts: The maximum number of requests per call.
        budget: Seconds after the first request within which another attempt may start, not counting the waits in the
            send queue. If the next wait doesn't fit, the error is raised at once. An attempt in flight runs until its
            own timeout, so a call may take longer than this. Use the client's `total_timeout` to limit the whole call.
        backoff: Seconds of the first wait, at most.
        backoff_max: Seconds of any wait, at most.

    Raises:
        ValueError, TypeError: If a value is invalid.
    """

    attempts: int = attrs.field(default=4, validator=_count)
    budget: float = attrs.field(default=30.0, validator=_seconds)
    backoff: float = attrs.field(default=0.5, validator=_seconds)
    backoff_max: float = attrs.field(default=8.0, validator=_seconds)

    @classmethod
    def none(cls) -> "RetryPolicy":
        """Return a policy without retries."""
        return cls(attempts=1)

    def backoff_after(self, number: int, rng: random.Random) -> float:
        """Return a random wait after the failed attempt `number`, in seconds."""
        ceiling = self.backoff * 2.0 ** min(number - 1, 60)
        return rng.uniform(0.0, min(ceiling, self.backoff_max))

    def wait_after(
        self,
        error: AdaptyError,
        number: int,
        elapsed: float,
        *,
        resendable: bool,
        pause: float | None,
        rng: random.Random,
    ) -> float | None:
        """Return the seconds until the next attempt, or None to give up.

        Args:
            error: The error of the last attempt.
            number: The number of the last attempt, from 1.
            elapsed: Seconds of `budget` that are used up.
            resendable: Whether the request may be sent again if it may have been executed.
            pause: The server's Retry-After with jitter. None if there was none.
            rng: The source of the jitter.
        """
        if number >= self.attempts or not is_retryable(error, resendable=resendable):
            return None
        wait = self.backoff_after(number, rng) if pause is None else pause
        return wait if elapsed + wait <= self.budget else None


def is_retryable(error: AdaptyError, *, resendable: bool) -> bool:
    """Return True if a failed request may be sent again.

    `resendable` allows this also if the request may have been executed.
    """
    if is_unsent(error) or is_refusal(error):
        return True
    is_fate_unknown = isinstance(error, AdaptyConnectionError | AdaptyTimeoutError)
    is_transient = isinstance(error, AdaptyAPIError) and error.status in _TRANSIENT
    return resendable and (is_fate_unknown or is_transient)


def is_stale(first_sent: Moment | None, now: Moment) -> bool:
    """Return True if a write must not be sent again because it may have been executed too long ago.

    `first_sent` is None if it can't have been executed.
    """
    return first_sent is not None and elapsed(first_sent, now) > REPEATABLE_FOR


def is_throttled(error: Exception | None) -> bool:
    """Return True if the request was rate-limited."""
    return isinstance(error, RateLimitError) or (isinstance(error, AdaptyAPIError) and error.status == 429)


def is_unsent(error: AdaptyError) -> bool:
    """Return True if the request was never sent."""
    return isinstance(error, AdaptyConnectionError | AdaptyTimeoutError) and not error.sent


def is_refusal(error: AdaptyError) -> bool:
    """Return True if the server rejected the request without executing it: 429, or 503 with a Retry-After."""
    return is_throttled(error) or (
        isinstance(error, AdaptyAPIError) and error.status == 503 and error.retry_after is not None
    )


def is_absence(error: AdaptyError) -> bool:
    """Return True if the server answered that the profile doesn't exist."""
    return isinstance(error, NotFoundError) and error.status < 500


async def again(
    first: AdaptyError,
    attempt: Callable[[], Awaitable[T]],
    wait: Callable[[], float | None],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Repeat `attempt` after the failure `first` while `wait` returns seconds. Raise the last error if it returns None.

    `wait` is called once after each failure, including `first`.
    """
    failures = [first]

    async def replay() -> T:
        # Replay the first failure to tenacity without sending anything.
        if failures:
            raise failures.pop()
        return await attempt()

    waits: list[float] = []

    def goes_on(state: tenacity.RetryCallState) -> bool:
        if state.outcome is None or not isinstance(state.outcome.exception(), AdaptyError):
            return False
        seconds = wait()
        if seconds is not None:
            waits.append(seconds)
        return seconds is not None

    # One object per call, because tenacity keeps the state on it. stop_after_delay isn't used: it reads the wall clock.
    retrying = tenacity.AsyncRetrying(
        retry=goes_on, wait=lambda _: waits.pop(), stop=tenacity.stop_never, sleep=sleep, reraise=True
    )
    return await retrying(replay)
