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
from .clocks import Moment, get_elapsed_seconds

_T = TypeVar("_T")

MAX_WRITE_RETRY_SECONDS: Final = 15 * 60.0
"""Seconds for which a write other than a deletion may be sent again. Later it might overwrite newer data."""

_TRANSIENT_STATUSES: Final = frozenset({408, 500, 502, 503, 504})


def _validate_seconds(_: object, field: "attrs.Attribute[float]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field.name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{field.name} must be a number of seconds, finite and not negative")


def _validate_count(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field.name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{field.name} must be at least 1")


@attrs.frozen
class RetryPolicy:
    """When and how often a call is repeated.

    After attempt n the wait is random, between 0 and backoff x 2^(n-1) seconds and at most `max_backoff` ("full
    jitter"). If the server sends a Retry-After, that is used instead.

    A write other than a deletion is never sent again more than 15 minutes after it may have been executed.

    Attributes:
        max_attempts: The maximum number of requests per call.
        max_elapsed: Seconds after the first request within which another attempt may start, not counting the waits in
            the send queue. If the next wait doesn't fit, the error is raised at once. An attempt in flight runs until
            its own timeout, so a call may take longer than this. Use the client's `total_timeout` to limit the whole
            call.
        initial_backoff: Seconds of the first wait, at most.
        max_backoff: Seconds of any wait, at most.

    Raises:
        ValueError, TypeError: If a value is invalid.
    """

    max_attempts: int = attrs.field(default=4, validator=_validate_count)
    max_elapsed: float = attrs.field(default=30.0, validator=_validate_seconds)
    initial_backoff: float = attrs.field(default=0.5, validator=_validate_seconds)
    max_backoff: float = attrs.field(default=8.0, validator=_validate_seconds)

    @classmethod
    def none(cls) -> "RetryPolicy":
        """Return a policy without retries."""
        return cls(max_attempts=1)

    def draw_backoff(self, attempt_number: int, rng: random.Random) -> float:
        """Return a random wait after the failed attempt `attempt_number`, in seconds."""
        ceiling = self.initial_backoff * 2.0 ** min(attempt_number - 1, 60)
        return rng.uniform(0.0, min(ceiling, self.max_backoff))

    def get_retry_delay(
        self,
        error: AdaptyError,
        attempt_number: int,
        elapsed: float,
        *,
        is_resendable: bool,
        retry_after: float | None,
        rng: random.Random,
    ) -> float | None:
        """Return the seconds until the next attempt, or None to give up.

        Args:
            error: The error of the last attempt.
            attempt_number: The number of the last attempt, from 1.
            elapsed: Seconds of `max_elapsed` that are used up.
            is_resendable: Whether the request may be sent again if it may have been executed.
            retry_after: The server's Retry-After with jitter. None if there was none.
            rng: The source of the jitter.
        """
        if attempt_number >= self.max_attempts or not is_retryable(error, is_resendable=is_resendable):
            return None
        delay = self.draw_backoff(attempt_number, rng) if retry_after is None else retry_after
        return delay if elapsed + delay <= self.max_elapsed else None


def is_retryable(error: AdaptyError, *, is_resendable: bool) -> bool:
    """Return True if a failed request may be sent again.

    `is_resendable` allows this also if the request may have been executed.
    """
    if is_unsent(error) or is_rejected_unexecuted(error):
        return True
    is_outcome_unknown = isinstance(error, AdaptyConnectionError | AdaptyTimeoutError)
    is_transient = isinstance(error, AdaptyAPIError) and error.status in _TRANSIENT_STATUSES
    return is_resendable and (is_outcome_unknown or is_transient)


def is_stale(first_sent: Moment | None, now: Moment) -> bool:
    """Return True if a write must not be sent again because it may have been executed too long ago.

    `first_sent` is None if it can't have been executed.
    """
    return first_sent is not None and get_elapsed_seconds(first_sent, now) > MAX_WRITE_RETRY_SECONDS


def is_rate_limited(error: Exception | None) -> bool:
    """Return True if the request was rate-limited."""
    return isinstance(error, RateLimitError) or (isinstance(error, AdaptyAPIError) and error.status == 429)


def is_unsent(error: AdaptyError) -> bool:
    """Return True if the request was never sent."""
    return isinstance(error, AdaptyConnectionError | AdaptyTimeoutError) and not error.sent


def is_rejected_unexecuted(error: AdaptyError) -> bool:
    """Return True if the server rejected the request without executing it: 429, or 503 with a Retry-After."""
    return is_rate_limited(error) or (
        isinstance(error, AdaptyAPIError) and error.status == 503 and error.retry_after is not None
    )


def is_profile_not_found(error: AdaptyError) -> bool:
    """Return True if the server answered that the profile doesn't exist."""
    return isinstance(error, NotFoundError) and error.status < 500


async def retry_call(
    first_error: AdaptyError,
    attempt: Callable[[], Awaitable[_T]],
    get_delay: Callable[[], float | None],
    sleep: Callable[[float], Awaitable[None]],
) -> _T:
    """Repeat `attempt` after the failure `first_error` while `get_delay` returns seconds.

    Raise the last error if it returns None.

    `get_delay` is called once after each failure, including `first_error`.
    """
    failures = [first_error]

    async def replay() -> _T:
        # Replay the first failure to tenacity without sending anything.
        if failures:
            raise failures.pop()
        return await attempt()

    waits: list[float] = []

    def should_retry(state: tenacity.RetryCallState) -> bool:
        if state.outcome is None or not isinstance(state.outcome.exception(), AdaptyError):
            return False
        seconds = get_delay()
        if seconds is not None:
            waits.append(seconds)
        return seconds is not None

    # One object per call, because tenacity keeps the state on it. stop_after_delay isn't used: it reads the wall clock.
    retrying = tenacity.AsyncRetrying(
        retry=should_retry, wait=lambda _: waits.pop(), stop=tenacity.stop_never, sleep=sleep, reraise=True
    )
    return await retrying(replay)
