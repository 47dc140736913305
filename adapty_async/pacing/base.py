"""What every pacer is, and what they share.

A pacer is told the time by its caller, in seconds of any steady clock.
"""

import math
from enum import Enum, StrEnum
from typing import Final, Protocol, runtime_checkable

import attrs

MAX_RETRY_AFTER: Final = 24 * 3600.0
# How late loops wake up as a rule: what is forgiven, so that it costs no rate, and no more than that is made up for.
LATENESS: Final = 0.02


class Verdict(Enum):
    """What became of a request, as far as its rate is concerned."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """What a pacer is at; STEADY: nothing but its rate."""

    STEADY = "steady"
    START = "start"
    CRUISE = "cruise"
    PROBE = "probe"
    BLOCKED = "blocked"


@attrs.define(unsafe_hash=True)  # not frozen: one is made for each request
class Ticket:
    """The right to send one request: its `number`, from 1, and the time `sent_at` at which it leaves."""

    number: int
    sent_at: float


@attrs.frozen
class Snapshot:
    """Where a pacer stands.

    `rate`: requests a second that are allowed now. `estimate`: the limit as it was measured, None where it wasn't.
    `reopens`: the time at which the last Retry-After ends, -inf where there was none. `sent`, `throttled`: so far.
    """

    phase: Phase
    rate: float
    estimate: float | None
    reopens: float
    sent: int
    throttled: int


@runtime_checkable
class Pacer(Protocol):
    """Decide when the next request of an API key may leave."""

    @property
    def rate(self) -> float:
        """Requests a second that are allowed now; infinite where nothing is held back."""
        ...

    @property
    def estimate(self) -> float | None:
        """The limit of the API key as it was measured, in requests a second; None where it wasn't."""
        ...

    def snapshot(self) -> Snapshot:
        """Tell where the pacer stands."""
        ...

    def wait(self, now: float) -> float:
        """Give the seconds until the next send is allowed, 0.0 = now. May change after every `heard`."""
        ...

    def sent(self, now: float) -> Ticket:
        """Take note that a request leaves now."""
        ...

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        """Take note of what became of the request of `ticket`. `retry_after`: seconds until the next send."""
        ...


class Counting:
    """What pacers share: they number their tickets, and hold every send back while a Retry-After runs."""

    def __init__(self) -> None:
        self._sent = 0
        self._throttled = 0
        self._reopens = -math.inf

    @property
    def rate(self) -> float:
        return math.inf

    @property
    def estimate(self) -> float | None:
        return None

    @property
    def phase(self) -> Phase:
        """What the pacer is at."""
        return Phase.STEADY

    def snapshot(self) -> Snapshot:
        return Snapshot(self.phase, self.rate, self.estimate, self._reopens, self._sent, self._throttled)

    def sent(self, now: float) -> Ticket:
        self._sent += 1
        return Ticket(self._sent, now)

    def _count(self, verdict: Verdict) -> None:
        self._throttled += verdict is Verdict.THROTTLED

    def _hold(self, now: float, retry_after: float | None) -> float:
        """Hold every send back, where that makes sense; give the seconds."""
        if retry_after is None or not 0 < retry_after <= MAX_RETRY_AFTER:
            return 0.0
        self._reopens = max(self._reopens, now + retry_after)
        return retry_after


def checked_rate(rate: float, what: str) -> float:
    """Refuse a rate that is none."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"the {what} must be a number of requests a second, not {type(rate).__name__}")
    if not 0 < rate < math.inf:
        raise ValueError(f"the {what} must be a positive, finite number of requests a second")
    return float(rate)


def checked_utilization(utilization: float) -> float:
    """Refuse a share of the limit that is none."""
    if isinstance(utilization, bool) or not isinstance(utilization, int | float):
        raise TypeError(f"the utilization must be a number, not {type(utilization).__name__}")
    if not 0 < utilization <= 1:
        raise ValueError("the utilization must be above 0 and at most 1")
    return float(utilization)


def checked_count(count: int, what: str) -> int:
    """Refuse a number of requests that is none."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{what} must be an int, not {type(count).__name__}")
    if count < 1:
        raise ValueError(f"{what} must be at least 1")
    return count
