"""Which 429s tell something about the limit: pure.

Not all do: a proxy, a restart or a neighbour's requests may reject a few whatever the rate is. One 429 alone can't be
told from such a stray, but what follows can: a limit of `limit` that is exceeded goes on to reject 1 - limit/rate of
what is sent, and of strays there are as few as ever. Which is the case, a cumulative sum tells (CUSUM, Page 1954): each
429 adds to it what it is worth as evidence, the logarithm of how much likelier it is where the limit is exceeded, and
each accepted request takes off what it is worth against that. At zero nothing is left of the suspicion.

How many strays there are must not be learned where we are near the limit, as jitter and the requests of others empty a
small bucket now and then there: only where 429s get no fewer when we go slower are they strays.
"""

import math
from typing import Final

from .measuring import Interval

# Where nothing is known yet: so few strays that the first 429 is believed.
FEWEST: Final = 1e-9
_SUPPOSED_REQUESTS: Final = 100.0
# Strays that are no more are forgotten.
_LOW_MEMORY: Final = 5000.0
_NEAR_MEMORY: Final = 5000.0
# So many 429s near the limit are a reason to go slower, until so many strays would have been seen there.
_NOTABLE: Final = 4.0
_NOTABLE_SHARE: Final = 0.006
_NOTABLE_RATE: Final = 0.3
_TELLING: Final = 3.0
# At least so many, and about as many as near the limit: then those near the limit are strays too.
_FEW: Final = 2.0
_ABOUT_AS_MANY: Final = 1 / 3
# In a row, later 429s are worth less than the first: strays come in clusters.
_IN_A_ROW: Final = 0.5
# So many are rejected at least where the limit is exceeded, and the more, the more strays there are beside.
_EXCESS: Final = 0.02
_TIMES: Final = 3.7


class Count:
    """How many of the last requests were rejected; `memory`: of about how many."""

    def __init__(self, memory: float) -> None:
        self.requests = 0.0
        self.rejected = 0.0
        self._memory = memory

    @property
    def share(self) -> float:
        """Return the share that was rejected."""
        return self.rejected / max(1.0, self.requests)

    def clear(self) -> None:
        """Forget them."""
        self.requests = self.rejected = 0.0

    def count(self, accepted: int, rejected: int) -> None:
        """Count requests."""
        self.requests += accepted + rejected
        self.rejected += rejected
        if self.requests > self._memory:
            self.requests /= 2
            self.rejected /= 2


class Strays:
    """How many requests are rejected whatever the rate is: near the limit, and at rates far below it."""

    def __init__(self) -> None:
        self.low = Count(_LOW_MEMORY)
        self.near = Count(_NEAR_MEMORY)

    @property
    def share(self) -> float:
        """Return the share of strays, so many as are sure."""
        low, near = self.low, self.near
        if low.rejected >= max(_FEW, _ABOUT_AS_MANY * low.requests * near.share):
            return max(FEWEST, _least(low.rejected + near.rejected, low.requests + near.requests))
        most = (near.rejected + math.sqrt(near.rejected) + 1) / (near.requests + 1)
        return max(FEWEST, min(_least(low.rejected, low.requests), most))

    def are_unclear(self, rate: float) -> bool:
        """Return whether it takes more requests far below the limit to tell whether the 429s near it are strays."""
        share = self.near.share
        is_notable = self.near.rejected >= _NOTABLE and share >= min(_NOTABLE_SHARE, _NOTABLE_RATE / rate)
        return is_notable and self.low.requests * share < _TELLING


class Suspicion:
    """Whether a limit is exceeded, from the first 429 on; `interval` is what was sent since, None without suspicion."""

    def __init__(self) -> None:
        self.score = 0.0
        self._in_a_row = False
        self.interval: Interval | None = None

    def accept(self, number: int, strays: float) -> int:
        """Take note of an accepted request, where the share of `strays` is known.

        Return how many 429s were none of the limit's, as is known now.
        """
        if self.interval is None or number < self.interval.first:
            return 0
        self._in_a_row = False
        self.score -= math.log((1 - strays) / (1 - _exceeded(strays)))
        if self.score > 0:
            return 0
        found = 1 + self.interval.refused
        self.clear()
        return found

    def reject(self, sent_at: float, number: int, strays: float) -> None:
        """Take note of a 429."""
        if self.interval is None:
            self.interval = Interval(sent_at, number, empty=True)
        self.score += math.log(_exceeded(strays) / strays) * (_IN_A_ROW if self._in_a_row else 1.0)
        self._in_a_row = True

    def clear(self) -> None:
        """Forget it."""
        self.score = 0.0
        self._in_a_row = False
        self.interval = None


def _exceeded(strays: float) -> float:
    """Return the share that is rejected where the limit is exceeded."""
    return _EXCESS + _TIMES * strays


def _least(rejected: float, requests: float) -> float:
    """Return the share that is rejected at least."""
    return (rejected - math.sqrt(rejected)) / (requests + _SUPPOSED_REQUESTS)
