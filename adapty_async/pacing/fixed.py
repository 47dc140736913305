"""The pacers that look for nothing: a rate that the caller knows, and none at all."""

import math
from typing import Final

from .base import LATENESS, Counting, Ticket, Verdict, checked_rate


class Unpaced(Counting):
    """Hold nothing back but while the Retry-After of a 429 runs."""

    def wait(self, now: float) -> float:
        return self._reopens - now if self._reopens > now else 0.0

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count(verdict)
            self._hold(now, retry_after)

    def __repr__(self) -> str:
        return "UNPACED"


UNPACED: Final = Unpaced()


class FixedPacer(Counting):
    """Send at most `rate` requests a second, evenly; a Retry-After holds every send back.

    Nothing is saved up while there is nothing to send. Raises ValueError where `rate` isn't positive and finite.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = checked_rate(rate, "rate")
        self._interval = 1.0 / self._rate
        self._next = -math.inf

    @property
    def rate(self) -> float:
        return self._rate

    def wait(self, now: float) -> float:
        due = max(self._reopens, self._next)
        return due - now if due > now else 0.0

    def sent(self, now: float) -> Ticket:
        # A wake-up that is late by no more than loops usually are loses no rate; a longer gap isn't made up for.
        # Nothing is late before the first send, or in a pause.
        due = self._next if self._sent else now
        self._next = max(now - LATENESS, due, self._reopens) + self._interval
        self._sent += 1
        return Ticket(self._sent, now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count(verdict)
        if retry_after is not None:
            self._hold(now, retry_after)

    def __repr__(self) -> str:
        return f"FixedPacer({self._rate:g})"
