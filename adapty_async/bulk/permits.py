"""Permits for the requests in flight of a bulk job, and the queue of attempts that wait for one.

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

from .overload_protection import CircuitBreaker, ConcurrencyLimit

_log: Final = logging.getLogger("adapty_async")

# A wait shorter than this many seconds counts as none: a timer may fire early by the clock's resolution.
_MIN_DELAY: Final = 1e-6
# The rate hardly changes within this many seconds. After that the limit is computed again: rates also fall while no
# response arrives.
_UPDATE_INTERVAL: Final = 0.02


class ServerHealth(Enum):
    """The state of the server as seen by a request. UNKNOWN: the request was rate-limited or never sent."""

    OK = "works"
    FAILURE = "fails"
    UNKNOWN = "nothing"


@attrs.frozen
class Permit:
    """The right to have one request in flight. A trial finds out whether the server works again."""

    is_trial: bool


ORDINARY_PERMIT: Final = Permit(is_trial=False)
"""Shared by all permits that aren't trials. Each trial has a permit of its own."""


class ConcurrencyController:
    """Hand out permits up to the concurrency limit, or one trial at a time while the circuit breaker is open.

    `max_in_flight` is the maximum number of permits at one time. `get_rate` returns the requests per second that are
    allowed now.
    """

    def __init__(self, max_in_flight: int, get_rate: Callable[[], float]) -> None:
        self.is_breaker_open = False
        """Whether the circuit breaker is open, so that only trials are sent."""
        self._clock = asyncio.get_running_loop().time
        self._concurrency_limit = ConcurrencyLimit(max_in_flight)
        self._breaker = CircuitBreaker()
        self._get_rate = get_rate
        self._is_failing = False  # set by the last request that shows the server's state
        self._in_flight = 0
        self._current_limit = 0
        self._fast_path_until = -math.inf  # until then only the limit needs checking
        self._waiters: deque[asyncio.Future[Permit]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_trial: Permit | None = None  # not sent yet

    def try_acquire(self) -> Permit | None:
        """Take a permit if one is free without waiting."""
        if self._in_flight < self._current_limit and self._clock() < self._fast_path_until:
            self._in_flight += 1
            return ORDINARY_PERMIT
        if self._waiters or self._delay() > 0:
            return None
        return self._take_permit()

    async def acquire(self) -> Permit:
        """Wait for a permit. If the waiter is cancelled, the next one gets its turn."""
        permit = self.try_acquire()
        if permit is not None:
            return permit
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        self._fast_path_until = -math.inf
        self._hand_out_permits()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # already skipped
                    self._waiters.remove(turn)
                self._hand_out_permits()
            else:
                self.release(turn.result(), ServerHealth.UNKNOWN)
            raise

    def confirm_send(self, permit: Permit) -> bool:
        """Record that a request is about to be sent.

        Return False if it must not be sent because the circuit breaker opened after its permit was taken.
        """
        if self.is_breaker_open and not permit.is_trial:
            return False
        if permit.is_trial:
            self._breaker.record_trial_sent(self._clock())
            self._unsent_trial = None
            self._hand_out_permits()
        return True

    def release_after_response(self, permit: Permit, elapsed: float) -> None:
        """Return the permit of a request that got a response after `elapsed`, which shows that the server works."""
        now = self._clock()
        self._in_flight -= 1
        self._concurrency_limit.record_latency(now, elapsed)
        if self._is_failing or now >= self._fast_path_until:
            self._update_state(permit, ServerHealth.OK, now)

    def release(self, permit: Permit, server_signal: ServerHealth) -> None:
        """Return a permit and record the state of the server as its request saw it."""
        self._in_flight -= 1
        self._update_state(permit, server_signal, self._clock())

    def lower(self, max_in_flight: int) -> None:
        """Limit the permits to `max_in_flight` for 30 seconds, but allow at least one."""
        self._concurrency_limit.lower(self._clock(), max_in_flight)
        self._fast_path_until = -math.inf

    def _update_state(self, permit: Permit, server_signal: ServerHealth, now: float) -> None:
        """Update the circuit breaker, then hand out the permits that are free."""
        if server_signal is ServerHealth.OK:
            self._is_failing = False
            self._breaker.record_success()
        elif server_signal is ServerHealth.FAILURE:
            self._is_failing = True
            self._breaker.record_failure(now, is_trial=permit.is_trial)
        elif permit is self._unsent_trial:
            self._unsent_trial = None
            self._breaker.cancel_trial(now)
        if self.is_breaker_open is not self._breaker.is_open:
            self._apply_breaker_state()
        if now >= self._fast_path_until:
            self._update_limit(now)
        if self._waiters or self._timer is not None:
            self._hand_out_permits()

    def _apply_breaker_state(self) -> None:
        self.is_breaker_open = self._breaker.is_open
        self._fast_path_until = -math.inf
        if self.is_breaker_open:
            _log.warning(
                "the circuit breaker opened: all recent requests failed; "
                "sending single trial requests until the server works again"
            )
        else:
            _log.info("the circuit breaker closed: the server works again")

    def _take_permit(self) -> Permit:
        self._in_flight += 1
        if not self._breaker.begin_trial_if_open():
            return ORDINARY_PERMIT
        self._unsent_trial = Permit(is_trial=True)
        return self._unsent_trial

    def _delay(self) -> float:
        """Return the seconds until the next permit, or infinity if one must be returned first."""
        now = self._clock()
        self._update_limit(now)
        if self._in_flight >= self._current_limit:
            return math.inf
        delay = self._breaker.delay(now)
        return delay if delay > _MIN_DELAY else 0.0

    def _update_limit(self, now: float) -> None:
        self._current_limit = self._concurrency_limit.compute_limit(now, self._get_rate())
        self._fast_path_until = -math.inf if self._waiters or self.is_breaker_open else now + _UPDATE_INTERVAL

    def _hand_out_permits(self) -> None:
        """Hand out the permits that are free, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            delay = self._delay()
            if delay > 0:
                if delay < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(delay, self._hand_out_permits)
                return
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(self._take_permit())
