"""Injected faults, chosen per request from those that pass the rate limit."""

import math
import random
from collections.abc import Mapping
from enum import Enum


class Fault(Enum):
    """A fault of one request. The values are the names on the command line."""

    NONE = "none"
    """Handled as usual."""

    # Faults before the work
    THROTTLED = "throttled"
    """Answered with 429, even below the rate limit."""
    SERVER_ERROR = "server-error"
    """Answered with 500."""
    BAD_GATEWAY = "bad-gateway"
    """Answered with 502 and an HTML page."""
    UNAVAILABLE = "unavailable"
    """Answered with 503."""
    REDIRECT = "redirect"
    """Answered with 307, to another path of the simulator."""
    RESET_BEFORE = "reset-before"
    """The connection is reset."""

    # Faults after the work
    DELAY = "delay"
    """The response is late."""
    RESET_AFTER = "reset-after"
    """The connection is reset without a response."""
    CUT = "cut"
    """The connection is closed in the middle of the response's body."""
    BROKEN_GZIP = "broken-gzip"
    """The response's body is declared as gzip but isn't."""
    BAD_UTF8 = "bad-utf8"
    """The response's body isn't UTF-8."""
    WRONG_JSON = "wrong-json"
    """The response's body is JSON, but not as the API documents it."""
    HUGE = "huge"
    """The response's body is larger than 8 MiB."""
    SURPLUS = "surplus"
    """An extra response follows, the one to the previous request. The next request may take it for its own."""
    STALE = "stale"
    """An extra response comes first, the one to the previous request."""


class Faults:
    """Choose the fault of each request: the next scripted one, or else a random one by its share.

    Args:
        fault_rates: The share of the requests, from 0.0 to 1.0, that suffers each fault. The sum is at most 1.0,
            because a request suffers at most one fault.
        retry_after_503: Seconds in the Retry-After header of a 503. None for no header.
        delay: Seconds by which Fault.DELAY delays a response.
        seed: The same seed and shares give the same faults.

    Raises:
        ValueError: If the shares are invalid.
    """

    def __init__(
        self,
        fault_rates: Mapping[Fault, float] | None = None,
        *,
        retry_after_503: float | None = None,
        delay: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.fault_rates = fault_rates or {}
        self.retry_after_503 = retry_after_503
        self.delay = delay
        self._injected: list[tuple[str | None, Fault]] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable faults, no secrets

    @property
    def fault_rates(self) -> Mapping[Fault, float]:
        """The share of the requests that suffers each fault. Invalid shares raise ValueError."""
        return self._fault_rates

    @fault_rates.setter
    def fault_rates(self, fault_rates: Mapping[Fault, float]) -> None:
        if not (all(share >= 0 for share in fault_rates.values()) and math.fsum(fault_rates.values()) <= 1):
            raise ValueError("the shares of faults must be from 0.0 to 1.0, and at most 1.0 in total")
        self._fault_rates = dict(fault_rates)

    def inject(self, *faults: Fault, method: str | None = None) -> None:
        """Script the faults of the next requests. They follow those scripted before.

        Args:
            *faults: The faults, one per request.
            method: Apply them only to requests of this method. None means all.
        """
        self._injected += [(method and method.upper(), fault) for fault in faults]

    def next(self, method: str) -> Fault:
        """Return the fault of the next request, which has this method."""
        for index, (injected_method, fault) in enumerate(self._injected):
            if injected_method in (None, method):
                del self._injected[index]
                return fault
        # In the order of the class, so that the order of the mapping doesn't matter.
        rates = [self._fault_rates.get(fault, 0.0) for fault in Fault]
        rates[0] = 1.0 - math.fsum(rates[1:])
        return self._random.choices(list(Fault), rates)[0]
