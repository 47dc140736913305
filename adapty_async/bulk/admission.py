"""The queue before the attempts of a mass job: in order, cancellable, nobody polls."""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from .restraint import Bound, Breaker

_log: Final = logging.getLogger("adapty_async")

# Seconds that are no wait: a timer may come early by the clock's resolution.
_ROUNDING: Final = 1e-6


@attrs.frozen
class Permit:
    """The right to have one request under way. `is_trial`: all waits for its fate."""

    is_trial: bool


class Admission:
    """Hand out permits: no more than the bound says, and while the breaker is open one at a time.

    `most`: permits at one time, whatever the rate. `rate`: gives the requests a second that are allowed now.
    """

    def __init__(self, most: int, rate: Callable[[], float]) -> None:
        self._bound = Bound(most)
        self._breaker = Breaker()
        self._rate = rate
        self._under_way = 0
        self._waiters: deque[asyncio.Future[Permit]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def try_enter(self) -> Permit | None:
        """Take a permit where there is nothing to wait for."""
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
        self._look_again()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiters.remove(turn)
                self._look_again()
            else:
                self.leave(turn.result())
            raise

    def answered(self, seconds: float) -> None:
        """Take note of an answer that says that the server works; it took `seconds`."""
        self._bound.answered(seconds)
        if self._breaker.is_open:
            _log.info("the job goes on: a request has been answered")
        self._breaker.succeeded()

    def failed(self, permit: Permit) -> None:
        """Take note of a request that found no server that works."""
        was_open = self._breaker.is_open
        self._breaker.failed(asyncio.get_running_loop().time(), is_trial=permit.is_trial)
        if self._breaker.is_open and not was_open:
            _log.warning("the job is parked, since its requests fail one and all: it tries single ones, and goes on")

    def leave(self, permit: Permit) -> None:
        """Give a permit back."""
        self._breaker.came_to_nothing(is_trial=permit.is_trial)
        self._under_way -= 1
        self._look_again()

    def _permit(self) -> Permit:
        self._under_way += 1
        return Permit(self._breaker.sent())

    def _wait(self) -> float:
        """Give the seconds until the next permit; infinite: until one is given back."""
        if self._under_way >= self._bound.at(self._rate()):
            return math.inf
        wait = self._breaker.wait(asyncio.get_running_loop().time())
        return wait if wait > _ROUNDING else 0.0

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
