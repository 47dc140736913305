"""The queue before the attempts of a mass job: in order, cancellable, nobody polls."""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from .restraint import Bound, Breaker

_log: Final = logging.getLogger("adapty_async")

# Seconds that are no wait: a timer may come early by the clock's resolution.
_ROUNDING: Final = 1e-6
# Seconds in which the rate hardly changes. After that the bound may be another: rates fall also while no answer comes.
_GRAIN: Final = 0.02


class Health(Enum):
    """What a request says of the server: that it works, or not; NOTHING where it was throttled or never left."""

    WORKS = "works"
    FAILS = "fails"
    NOTHING = "nothing"


@attrs.frozen
class Permit:
    """The right to have one request under way. `is_trial`: it finds out whether the server works again."""

    is_trial: bool


ORDINARY: Final = Permit(is_trial=False)
"""What nearly every permit is; that of a trial is one of a kind."""


class Admission:
    """Hand out permits: no more than the bound says, and while the breaker is open one at a time.

    `most`: permits at one time, whatever the rate. `rate`: gives the requests a second that are allowed now.
    """

    def __init__(self, most: int, rate: Callable[[], float]) -> None:
        self.is_parked = False
        """Whether requests fail one and all, so that only trials leave."""
        self._now = asyncio.get_running_loop().time
        self._bound = Bound(most)
        self._breaker = Breaker()
        self._rate = rate
        self._is_failing = False  # the last request that says something of the server
        self._under_way = 0
        self._most_now = 0
        self._free_until = -math.inf  # till then there is nothing to look at but the bound
        self._waiters: deque[asyncio.Future[Permit]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._next_trial: Permit | None = None  # it has yet to leave

    def try_enter(self) -> Permit | None:
        """Take a permit where there is nothing to wait for."""
        if self._under_way < self._most_now and self._now() < self._free_until:
            self._under_way += 1
            return ORDINARY
        if self._waiters or self._wait() > 0:
            return None
        return self._permit()

    async def enter(self) -> Permit:
        """Wait for a permit. A cancelled waiter leaves its turn to the next."""
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
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiters.remove(turn)
                self._look_again()
            else:
                self.leave(turn.result(), Health.NOTHING)
            raise

    def starts(self, permit: Permit) -> bool:
        """Take note that a request leaves. False: it must not, for the job was parked while it got ready."""
        if self.is_parked and not permit.is_trial:
            return False
        if permit.is_trial:
            self._breaker.left(self._now())
            self._next_trial = None
            self._look_again()
        return True

    def answered(self, permit: Permit, seconds: float) -> None:
        """Give a permit back whose request was answered after so many seconds: the server works."""
        now = self._now()
        self._under_way -= 1
        self._bound.answered(now, seconds)
        if self._is_failing or now >= self._free_until:
            self._draw_conclusions(permit, Health.WORKS, now)

    def leave(self, permit: Permit, health: Health) -> None:
        """Give a permit back, with what its request says of the server."""
        self._under_way -= 1
        self._draw_conclusions(permit, health, self._now())

    def lower(self, most: int) -> None:
        """Hand out at most `most` permits for a while, at least one."""
        self._bound.lower(self._now(), most)
        self._free_until = -math.inf

    def _draw_conclusions(self, permit: Permit, health: Health, now: float) -> None:
        """Park the job, or go on with it, and hand out what may be handed out."""
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
            _log.warning("the job is parked, since its requests fail one and all: it tries single ones, and goes on")
        else:
            _log.info("the job goes on: a request has been answered")

    def _permit(self) -> Permit:
        self._under_way += 1
        if not self._breaker.admitted():
            return ORDINARY
        self._next_trial = Permit(is_trial=True)
        return self._next_trial

    def _wait(self) -> float:
        """Give the seconds until the next permit; infinite: until one is given back."""
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
        """Hand out what may be handed out, and set the one timer."""
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
