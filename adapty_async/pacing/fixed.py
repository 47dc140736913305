"""Pacers that don't search for the limit: a fixed rate, and no rate at all."""

import math
from typing import Final

from .base import LATENESS, Counting, Ticket, Verdict, checked_rate


class Unpaced(Counting):
    """A pacer without a rate: it only waits out the Retry-After of a 429."""

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
    """Sends at most `rate` requests per second, evenly spaced. A Retry-After holds all requests.

    Time without requests isn't made up for.

    Args:
        rate: Requests per second.

    Raises:
        TypeError: If `rate` isn't a number.
        ValueError: If `rate` isn't positive and finite.
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
        # The usual lateness of event loops costs no rate; a longer gap isn't made up for. Nothing is late before the
        # first request, or during a hold.
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
