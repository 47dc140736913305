"""When the next request may leave: pure decisions, without a clock, I/O or randomness.

Every pacer is told the time by its caller, in seconds of any steady clock, and speaks the same interface.
"""

import math
from enum import Enum
from typing import Final, Protocol, runtime_checkable

import attrs

MAX_RETRY_AFTER: Final = 24 * 3600.0
_LATENESS: Final = 0.02


class Verdict(Enum):
    """What became of a request, as far as its rate is concerned."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


@attrs.frozen
class Ticket:
    """The right to send one request: its `number`, from 1, and the time `sent_at` at which it leaves."""

    number: int
    sent_at: float


@runtime_checkable
class Pacer(Protocol):
    """Decide when the next request of an API key may leave."""

    @property
    def rate(self) -> float:
        """Requests a second that are allowed now; infinite where nothing is held back."""
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


class _Counting:
    """What pacers share: they number their tickets, and hold every send back while a Retry-After runs."""

    def __init__(self) -> None:
        self._sent = 0
        self._reopens = -math.inf

    def sent(self, now: float) -> Ticket:
        self._sent += 1
        return Ticket(self._sent, now)

    def _hold(self, now: float, retry_after: float | None) -> None:
        if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
            self._reopens = max(self._reopens, now + retry_after)


class Unpaced(_Counting):
    """Hold nothing back but while the Retry-After of a 429 runs."""

    @property
    def rate(self) -> float:
        return math.inf

    def wait(self, now: float) -> float:
        return max(0.0, self._reopens - now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._hold(now, retry_after)

    def __repr__(self) -> str:
        return "UNPACED"


UNPACED: Final = Unpaced()


class FixedPacer(_Counting):
    """Send at most `rate` requests a second, evenly; a Retry-After holds every send back.

    Nothing is saved up while there is nothing to send. Raises ValueError where `rate` isn't positive and finite.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise TypeError(f"the rate must be a number of requests a second, not {type(rate).__name__}")
        if not 0 < rate < math.inf:
            raise ValueError("the rate must be a positive, finite number of requests a second")
        self._rate = float(rate)
        self._next: float | None = None

    @property
    def rate(self) -> float:
        return self._rate

    def wait(self, now: float) -> float:
        return max(0.0, self._due(now) - now)

    def sent(self, now: float) -> Ticket:
        # A wake-up that is late by no more than loops usually are loses no rate; a longer gap isn't made up for.
        self._next = max(self._due(now), now - _LATENESS) + 1.0 / self._rate
        return super().sent(now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._hold(now, retry_after)

    def _due(self, now: float) -> float:
        """Give the time from which on the next send may leave: nothing is late before the first, or in a pause."""
        return max(now if self._next is None else self._next, self._reopens)

    def __repr__(self) -> str:
        return f"FixedPacer({self._rate:g})"
