"""What goes wrong on purpose, decided anew for each request that the limit let through."""

import random
from enum import Enum, auto


class Fault(Enum):
    """How one request is failed."""

    NONE = auto()
    UNAVAILABLE = auto()
    """Answered 503 before any work."""
    RESET = auto()
    """The work is done, then the connection is reset without an answer."""


class Faults:
    """Draw a fault for each request, the same sequence for the same seed and shares.

    A request suffers one fault at most, so the shares (0.0 to 1.0) add up to 1.0 at most. `retry_after_503`:
    seconds in the `Retry-After` header of a 503, None for no header.
    """

    def __init__(
        self,
        *,
        share_503: float = 0.0,
        retry_after_503: float | None = None,
        share_reset: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not (share_503 >= 0 and share_reset >= 0 and share_503 + share_reset <= 1):
            raise ValueError("the shares of faults must be 0.0 to 1.0, and 1.0 at most in sum")
        self.share_503 = share_503
        self.retry_after_503 = retry_after_503
        self.share_reset = share_reset
        self._random = random.Random(seed)  # noqa: S311 - repeatable faults, no secrets

    def draw(self) -> Fault:
        """Return the next request's fault."""
        drawn = self._random.random()
        if drawn < self.share_503:
            return Fault.UNAVAILABLE
        if drawn < self.share_503 + self.share_reset:
            return Fault.RESET
        return Fault.NONE
