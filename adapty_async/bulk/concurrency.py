"""The queue in front of a bulk job's attempts, which limits the requests in flight.

Waiters are served in order, can be cancelled, and don't poll.
"""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from .overload import Bound, Breaker

_log: Final = logging.getLogger("adapty_async")

# A wait shorter than this many seconds counts as none: a timer may fire early by the clock's resolution.
_ROUNDING: Final = 1e-6
# The rate hardly changes within this many seconds. After that the limit is computed again: rates also fall while no
# response arrives.
_GRAIN: Final = 0.02


class Health(Enum):
    """The state of the server as seen by a request. NOTHING: the request was rate-limited or never sent."""

    WORKS = "works"
    FAILS = "fails"
    NOTHING = "nothing"


@attrs.frozen
class Permit:
    """The right to have one request in flight. A trial finds out whether the server works again."""

    is_trial: bool


ORDINARY: Final = Permit(is_trial=False)
"""Shared by all permits that aren't trials. Each trial has a permit of its own."""


class Admission:
    """Hand out permits up to the concurrency limit, or one trial at a time while the circuit breaker is open.

    `most` is the maximum number of permits at one time. `rate` returns the requests per second that are allowed now.
    """

    def __init__(self, most: int, rate: Callable[[], float]) -> None:
        self.is_parked = False
        """Whether the circuit breaker is open, so that only trials are sent."""
        self._now = asyncio.get_running_loop().time
        self._bound = Bound(most)
        self._breaker = Breaker()
        self._rate = rate
        self._is_failing = False  # set by the last request that shows the server's state
        self._under_way = 0
        self._most_now = 0
        self._free_until = -math.inf  # until then only the limit needs checking
        self._waiters: deque[asyncio.Future[Permit]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._next_trial: Permit | None = None  # not sent yet

    def try_enter(self) -> Permit | None:
        """Take a permit if one is free without waiting."""
        if self._under_way < self._most_now and self._now() < self._free_until:
            self._under_way += 1
            return ORDINARY
        if self._waiters or self._wait() > 0:
            return None
        return self._permit()

    async def enter(self) -> Permit:
        """Wait for a permit. If the waiter is cancelled, the next one gets its turn."""
        permit = self.try_enter()
        if permit is not None:
            return permit
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        self._free_until = -math.inf
        self._look_again()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # already skipped
                    self._waiters.remove(turn)
                self._look_again()
            else:
                self.leave(turn.result(), Health.NOTHING)
            raise

    def starts(self, permit: Permit) -> bool:
        """Record that a request is about to be sent.

        Return False if it must not be sent because the circuit breaker opened after its permit was taken.
        """
        if self.is_parked and not permit.is_trial:
            return False
        if permit.is_trial:
            self._breaker.left(self._now())
            self._next_trial = None
            self._look_again()
        return True

    def answered(self, permit: Permit, seconds: float) -> None:
        """Return the permit of a request that got a response after `seconds`, which shows that the server works."""
        now = self._now()
        self._under_way -= 1
        self._bound.answered(now, seconds)
        if self._is_failing or now >= self._free_until:
            self._draw_conclusions(permit, Health.WORKS, now)

    def leave(self, permit: Permit, health: Health) -> None:
        """Return a permit and record the state of the server as its request saw it."""
        self._under_way -= 1
        self._draw_conclusions(permit, health, self._now())

    def lower(self, most: int) -> None:
        """Limit the permits to `most` for 30 seconds, but allow at least one."""
        self._bound.lower(self._now(), most)
        self._free_until = -math.inf

    def _draw_conclusions(self, permit: Permit, health: Health, now: float) -> None:
        """Update the circuit breaker, then hand out the permits that are free."""
        if health is Health.WORKS:
            self._is_failing = False
            self._breaker.succeeded()
        elif health is Health.FAILS:
            self._is_failing = True
            self._breaker.failed(now, is_trial=permit.is_trial)
        elif permit is self._next_trial:
            self._next_trial = None
            self._breaker.not_sent(now)
        if self.is_parked is not self._breaker.is_open:
            self._park_or_go_on()
        if now >= self._free_until:
            self._look_at_bound(now)
        if self._waiters or self._timer is not None:
            self._look_again()

    def _park_or_go_on(self) -> None:
        self.is_parked = self._breaker.is_open
        self._free_until = -math.inf
        if self.is_parked:
            _log.warning(
                "the circuit breaker opened: all recent requests failed; "
                "sending single trial requests until the server works again"
            )
        else:
            _log.info("the circuit breaker closed: the server works again")

    def _permit(self) -> Permit:
        self._under_way += 1
        if not self._breaker.admitted():
            return ORDINARY
        self._next_trial = Permit(is_trial=True)
        return self._next_trial

    def _wait(self) -> float:
        """Return the seconds until the next permit, or infinity if one must be returned first."""
        now = self._now()
        self._look_at_bound(now)
        if self._under_way >= self._most_now:
            return math.inf
        wait = self._breaker.wait(now)
        return wait if wait > _ROUNDING else 0.0

    def _look_at_bound(self, now: float) -> None:
        self._most_now = self._bound.at(now, self._rate())
        self._free_until = -math.inf if self._waiters or self.is_parked else now + _GRAIN

    def _look_again(self) -> None:
        """Hand out the permits that are free, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            wait = self._wait()
            if wait > 0:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._look_again)
                return
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(self._permit())
