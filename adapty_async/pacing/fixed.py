"""Pacers that don't search for the limit: a fixed rate, and no rate at all."""

import math
from typing import Final

from .base import MAX_LATENESS_SECONDS, BasePacer, Ticket, Verdict, validate_rate


class Unpaced(BasePacer):
    """A pacer without a rate: it only waits out the Retry-After of a 429."""

    def delay(self, now: float) -> float:
        return self._hold_until - now if self._hold_until > now else 0.0

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count_verdict(verdict)
            self._hold(now, retry_after)

    def __repr__(self) -> str:
        return "UNPACED"


UNPACED: Final = Unpaced()


class FixedPacer(BasePacer):
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
        self._rate = validate_rate(rate, "rate")
        self._interval = 1.0 / self._rate
        self._next_slot = -math.inf

    @property
    def rate(self) -> float:
        return self._rate

    def delay(self, now: float) -> float:
        due = max(self._hold_until, self._next_slot)
        return due - now if due > now else 0.0

    def acquire(self, now: float) -> Ticket:
        # The usual lateness of event loops costs no rate; a longer gap isn't made up for. Nothing is late before the
        # first request, or during a hold.
        due = self._next_slot if self._sent else now
        self._next_slot = max(now - MAX_LATENESS_SECONDS, due, self._hold_until) + self._interval
        self._sent += 1
        return Ticket(self._sent, now)

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        if verdict is Verdict.THROTTLED:
            self._count_verdict(verdict)
        if retry_after is not None:
            self._hold(now, retry_after)

    def __repr__(self) -> str:
        return f"FixedPacer({self._rate:g})"
