"""When a failed attempt is followed by another: pure decisions, and the loop that carries them out."""

import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import tenacity

from .clock import Moment, elapsed
from .errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    NotFoundError,
    RateLimitError,
)

T = TypeVar("T")

REPEATABLE_FOR: Final = 15 * 60.0
"""Seconds for which a write other than a deletion may be sent again: later it might overwrite newer data."""

_TRANSIENT: Final = frozenset({408, 500, 502, 503, 504})


def _seconds(_: object, field: "attrs.Attribute[float]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field.name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{field.name} must be a number of seconds, not negative and finite")


def _count(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field.name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{field.name} must be at least 1")


@attrs.frozen
class RetryPolicy:
    """Say how often and how long a call is tried.

    `attempts`: at most so many requests a call. `budget`: seconds from the first send within which another attempt may
    begin, waiting at the gate not counted; a pause that doesn't fit raises the error at once. An attempt that has begun
    runs on until its own timeout, so a call may last longer than its budget: what bounds all of it is the client's
    `total_timeout`. `backoff`, `backoff_max`: seconds; unless the server says Retry-After, the wait after attempt n
    is drawn from 0 to backoff x 2^(n-1), at most backoff_max ("full jitter"). Whatever the budget, no write but a
    deletion is sent again more than 15 minutes after it may have been executed.
    """

    attempts: int = attrs.field(default=4, validator=_count)
    budget: float = attrs.field(default=30.0, validator=_seconds)
    backoff: float = attrs.field(default=0.5, validator=_seconds)
    backoff_max: float = attrs.field(default=8.0, validator=_seconds)

    @classmethod
    def none(cls) -> "RetryPolicy":
        """Make the policy that never tries again."""
        return cls(attempts=1)

    def backoff_after(self, number: int, rng: random.Random) -> float:
        """Draw the wait after the failed attempt `number`, in seconds."""
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
        """Decide what follows the failed attempt `number`: seconds until the next one, or None to give up.

        `elapsed`: seconds of the budget that are used up. `pause`: the server's Retry-After with its jitter.
        """
        if number >= self.attempts or not is_retryable(error, resendable=resendable):
            return None
        wait = self.backoff_after(number, rng) if pause is None else pause
        return wait if elapsed + wait <= self.budget else None


def is_retryable(error: AdaptyError, *, resendable: bool) -> bool:
    """Tell whether what failed may be sent again.

    `resendable`: also after an attempt of unknown fate.
    """
    if is_unsent(error) or is_refusal(error):
        return True
    is_fate_unknown = isinstance(error, AdaptyConnectionError | AdaptyTimeoutError)
    is_transient = isinstance(error, AdaptyAPIError) and error.status in _TRANSIENT
    return resendable and (is_fate_unknown or is_transient)


def is_stale(first_sent: Moment | None, now: Moment) -> bool:
    """Tell whether a write that may have been executed must not be sent again. `first_sent`: None where it wasn't."""
    return first_sent is not None and elapsed(first_sent, now) > REPEATABLE_FOR


def is_throttled(error: Exception | None) -> bool:
    """Tell whether the server turned the request away because there were too many."""
    return isinstance(error, RateLimitError) or (isinstance(error, AdaptyAPIError) and error.status == 429)


def is_unsent(error: AdaptyError) -> bool:
    """Tell whether the request never left."""
    return isinstance(error, AdaptyConnectionError | AdaptyTimeoutError) and not error.sent


def is_refusal(error: AdaptyError) -> bool:
    """Tell whether the server turned the request away undone: 429, or 503 with a Retry-After."""
    return is_throttled(error) or (
        isinstance(error, AdaptyAPIError) and error.status == 503 and error.retry_after is not None
    )


def is_absence(error: AdaptyError) -> bool:
    """Tell whether the server said that there is no such profile."""
    return isinstance(error, NotFoundError) and error.status < 500


async def again(
    first: AdaptyError,
    attempt: Callable[[], Awaitable[T]],
    wait: Callable[[], float | None],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Repeat `attempt` after the failure `first` as long as `wait` gives seconds; None ends it with the last error.

    `wait` is asked once after each failure, `first` included.
    """
    failures = [first]

    async def replay() -> T:
        # The failure that led here is the first outcome: nothing is sent for it again.
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

    # One object a call: tenacity keeps the state of the run on it. No stop_after_delay: it reads the wall clock.
    retrying = tenacity.AsyncRetrying(
        retry=goes_on, wait=lambda _: waits.pop(), stop=tenacity.stop_never, sleep=sleep, reraise=True
    )
    return await retrying(replay)
