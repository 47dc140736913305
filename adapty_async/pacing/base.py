"""The protocol of pacers and their common base class.

The caller passes the time to the pacer, in seconds of any monotonic clock.
"""

import math
from enum import Enum, StrEnum
from typing import Final, Protocol, runtime_checkable

import attrs

MAX_RETRY_AFTER: Final = 24 * 3600.0
# Event loops usually wake up no later than this many seconds. Lateness up to it is made up for, so that it costs no
# rate; the rest isn't.
MAX_LATENESS_SECONDS: Final = 0.02


class Verdict(Enum):
    """The result of a request, as far as the rate limit is concerned."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """The current phase of a pacer. STEADY: the pacer isn't searching for a limit."""

    STEADY = "steady"
    START = "start"
    CRUISE = "cruise"
    PROBE = "probe"
    BLOCKED = "blocked"


@attrs.define(unsafe_hash=True)  # not frozen, for speed: each request has one
class Ticket:
    """The right to send one request.

    Attributes:
        number: The number of the request, from 1.
        sent_at: The time at which it is sent.
    """

    number: int
    sent_at: float


@attrs.frozen
class Snapshot:
    """The state of a pacer.

    Attributes:
        phase: The current phase.
        rate: The requests per second that are allowed now.
        estimate: The measured rate limit, in requests per second, or None if it hasn't been measured.
        hold_until: The time at which the last Retry-After ends, or -inf if there was none.
        sent: The number of requests sent so far.
        throttled: The number of 429s so far.
    """

    phase: Phase
    rate: float
    estimate: float | None
    hold_until: float
    sent: int
    throttled: int


@runtime_checkable
class Pacer(Protocol):
    """Decides when the next request of an API key may be sent."""

    @property
    def rate(self) -> float:
        """The requests per second that are allowed now; infinite if the pacer doesn't limit the rate."""
        ...

    @property
    def estimate(self) -> float | None:
        """The measured rate limit of the API key, in requests per second, or None if it hasn't been measured."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the state of the pacer."""
        ...

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be sent. The value may change after every `record`.

        Args:
            now: The current time, in seconds of the caller's clock.

        Returns:
            Seconds; 0.0 if a request may be sent now.
        """
        ...

    def acquire(self, now: float) -> Ticket:
        """Record that a request is sent now.

        Args:
            now: The current time, in seconds of the caller's clock.

        Returns:
            The ticket to pass to `record`.
        """
        ...

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        """Record the result of a request.

        Args:
            now: The current time, in seconds of the caller's clock.
            ticket: The ticket of the request.
            verdict: The result.
            retry_after: Seconds until the next request may be sent, or None.
        """
        ...


class BasePacer:
    """The common base of pacers: numbers tickets, counts 429s and holds all requests during a Retry-After."""

    def __init__(self) -> None:
        self._sent = 0
        self._throttled = 0
        self._hold_until = -math.inf

    @property
    def rate(self) -> float:
        return math.inf

    @property
    def estimate(self) -> float | None:
        return None

    @property
    def phase(self) -> Phase:
        """The current phase of the pacer."""
        return Phase.STEADY

    def snapshot(self) -> Snapshot:
        return Snapshot(self.phase, self.rate, self.estimate, self._hold_until, self._sent, self._throttled)

    def acquire(self, now: float) -> Ticket:
        self._sent += 1
        return Ticket(self._sent, now)

    def _count_verdict(self, verdict: Verdict) -> None:
        self._throttled += verdict is Verdict.THROTTLED

    def _hold(self, now: float, retry_after: float | None) -> float:
        """Hold all requests if `retry_after` is plausible. Return the length of the hold in seconds."""
        if retry_after is None or not 0 < retry_after <= MAX_RETRY_AFTER:
            return 0.0
        self._hold_until = max(self._hold_until, now + retry_after)
        return retry_after


def validate_rate(rate: float, label: str) -> float:
    """Return the rate as a float. Raise TypeError or ValueError if it isn't a positive, finite number."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"the {label} must be a number of requests per second, not {type(rate).__name__}")
    if not 0 < rate < math.inf:
        raise ValueError(f"the {label} must be a positive, finite number of requests per second")
    return float(rate)


def validate_utilization(utilization: float) -> float:
    """Return the share of the limit as a float. Raise TypeError or ValueError if it isn't in (0, 1]."""
    if isinstance(utilization, bool) or not isinstance(utilization, int | float):
        raise TypeError(f"the utilization must be a number, not {type(utilization).__name__}")
    if not 0 < utilization <= 1:
        raise ValueError("the utilization must be above 0 and at most 1")
    return float(utilization)


def validate_count(count: int, label: str) -> int:
    """Return the number of requests. Raise TypeError or ValueError if it isn't an int of at least 1."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{label} must be an int, not {type(count).__name__}")
    if count < 1:
        raise ValueError(f"{label} must be at least 1")
    return count
