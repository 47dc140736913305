"""What goes wrong on purpose, decided anew for each request that the limit let through."""

import math
import random
from collections.abc import Mapping
from enum import Enum


class Fault(Enum):
    """How one request is failed. The values are its names on the command line."""

    NONE = "none"
    """Served as usual."""

    # Before any work.
    THROTTLED = "throttled"
    """Answered 429, whatever the limit says."""
    SERVER_ERROR = "server-error"
    """Answered 500."""
    BAD_GATEWAY = "bad-gateway"
    """Answered 502 with a page of HTML."""
    UNAVAILABLE = "unavailable"
    """Answered 503."""
    REDIRECT = "redirect"
    """Answered 307, to another path of the simulator."""
    RESET_BEFORE = "reset-before"
    """The connection is reset."""

    # After the work.
    DELAY = "delay"
    """The answer comes late."""
    RESET_AFTER = "reset-after"
    """The connection is reset without an answer."""
    CUT = "cut"
    """The connection is closed in the middle of the answer's body."""
    BROKEN_GZIP = "broken-gzip"
    """The answer's body is declared as gzip and is none."""
    BAD_UTF8 = "bad-utf8"
    """The answer's body is no UTF-8."""
    WRONG_JSON = "wrong-json"
    """The answer's body is JSON, but nothing that the API documents."""
    HUGE = "huge"
    """The answer's body has more than 8 MiB."""
    SURPLUS = "surplus"
    """After the answer comes one too many: that of the request before, which the next request may take for its own."""
    STALE = "stale"
    """Before the answer comes one too many: that of the request before."""


class Faults:
    """Decide which fault a request suffers: the next one of the script, else one drawn by its share.

    `shares` gives faults the parts of the requests (0.0 to 1.0) that suffer them, 1.0 at most in sum, for a request
    suffers one fault at most. The same seed and shares draw the same faults. `retry_after_503`: seconds in the
    `Retry-After` header of a 503, None for no header. `delay`: seconds that Fault.DELAY holds an answer back.
    """

    def __init__(
        self,
        shares: Mapping[Fault, float] | None = None,
        *,
        retry_after_503: float | None = None,
        delay: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.shares = shares or {}
        self.retry_after_503 = retry_after_503
        self.delay = delay
        self._script: list[tuple[str | None, Fault]] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable faults, no secrets

    @property
    def shares(self) -> Mapping[Fault, float]:
        """The parts of the requests that suffer a fault. Raises ValueError where it is set to what can't be."""
        return self._shares

    @shares.setter
    def shares(self, shares: Mapping[Fault, float]) -> None:
        if not (all(share >= 0 for share in shares.values()) and math.fsum(shares.values()) <= 1):
            raise ValueError("the shares of faults must be 0.0 to 1.0, and 1.0 at most in sum")
        self._shares = dict(shares)

    def script(self, *faults: Fault, method: str | None = None) -> None:
        """Let the next requests suffer these faults in order, after those that are in the script already.

        `method`: only requests of that method take part; None: all do.
        """
        self._script += [(method and method.upper(), fault) for fault in faults]

    def next(self, method: str) -> Fault:
        """Return the fault of the next request, whose method this is."""
        for place, (wanted, fault) in enumerate(self._script):
            if wanted in (None, method):
                del self._script[place]
                return fault
        # In the order of the class, so that the order of the mapping doesn't count.
        shares = [self._shares.get(fault, 0.0) for fault in Fault]
        shares[0] = 1.0 - math.fsum(shares[1:])
        return self._random.choices(list(Fault), shares)[0]
