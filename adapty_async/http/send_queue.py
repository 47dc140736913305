"""The queue of callers in front of a pacer. It is served in order and needs one timer; callers don't poll."""

import asyncio
import math
import random
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from ..pacing import MAX_RETRY_AFTER, Pacer, Phase, Ticket, Verdict

_JITTER: Final = 0.1
# Seconds of a Retry-After from which watchers are called.
LONG_PAUSE: Final = 60.0
# A wait shorter than this many seconds counts as none: timers may fire early, and sums of floats are inexact.
_ROUNDING: Final = 1e-6
# Seconds of tolerance, so that a turn that comes just in time isn't given up.
_LATE: Final = 0.01


class GateWaitTooLong(Exception):  # noqa: N818 - internal signal to the caller
    """The wait in the send queue, `seconds`, is longer than the caller allows. Nothing was sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the wait in the send queue is {seconds:.3g} s")
        self.seconds = seconds


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the loop's clock, or for uvloop the clock that it rounds to milliseconds.

    At many thousand requests per second, a pacer with a clock of milliseconds would release one request per tick.
    """
    return time.monotonic if type(loop).__module__ == "uvloop" else loop.time


class _Waiter:
    """One caller in the queue.

    The result of `turn` is None when the caller may send, or seconds if the wait is too long.
    """

    __slots__ = ("gives_up", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, gives_up: float) -> None:
        self.gives_up = gives_up
        self.turn: asyncio.Future[float | None] = loop.create_future()


class Gate:
    """Release the requests of one pacer one by one, in order of arrival, on one event loop."""

    def __init__(self, pacer: Pacer, rng: random.Random) -> None:
        self._pacer = pacer
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.now = _clock_of(self._loop)
        """The clock of the pacer, in seconds."""
        self._waiters: deque[_Waiter] = deque()
        self._impatient = 0
        self._timer: asyncio.TimerHandle | None = None
        self._held_until = -math.inf
        self._watchers: set[Callable[[float], None]] = set()

    @property
    def pacer(self) -> Pacer:
        """The pacer behind the queue."""
        return self._pacer

    def try_enter(self) -> Ticket | None:
        """Take a slot if one is free without waiting."""
        now = self.now()
        if self._waiters or now < self._held_until - _ROUNDING or self._pacer.wait(now) > _ROUNDING:
            return None
        return self._pacer.sent(now)

    async def enter(self, patience: float = math.inf) -> Ticket:
        """Wait for a slot and take it. The caller must send at once.

        If a waiter is cancelled, the next one gets its turn.

        Args:
            patience: The longest acceptable wait, in seconds.

        Raises:
            GateWaitTooLong: As soon as the wait is known to be longer.
        """
        ticket = self.try_enter()
        if ticket is None:
            await self._turn(patience)
            ticket = self._pacer.sent(self.now())
        return ticket

    def heard(self, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> float | None:
        """Record the result of a request in the pacer. Return `retry_after` with up to 10% added.

        The jitter prevents clients that got the same Retry-After from sending at the same time.
        """
        pause = retry_after
        if retry_after is not None and retry_after <= MAX_RETRY_AFTER:  # the pacer ignores longer ones
            pause = min(retry_after * (1.0 + self._rng.uniform(0.0, _JITTER)), MAX_RETRY_AFTER)
        now = self.now()
        self._pacer.heard(now, ticket, verdict, pause)
        if self._waiters:
            self._look_again(now)
        return pause

    def accepted(self, ticket: Ticket) -> float:
        """Record that a request was accepted, and return the time of the record."""
        now = self.now()
        self._pacer.heard(now, ticket, Verdict.ACCEPTED)
        if self._waiters:
            self._look_again(now)
        return now

    def hold(self, seconds: float) -> None:
        """Release no request for `seconds`, because another queue of the same API key got a Retry-After."""
        now = self.now()
        self._held_until = max(self._held_until, now + seconds)
        self._look_again(now)

    def watch(self, on_long_pause: Callable[[float], None]) -> None:
        """Call `on_long_pause` with the seconds of every Retry-After that delays a caller for more than 60 seconds."""
        self._watchers.add(on_long_pause)

    def unwatch(self, on_long_pause: Callable[[float], None]) -> None:
        """Stop calling `on_long_pause`."""
        self._watchers.discard(on_long_pause)

    async def _turn(self, patience: float) -> None:
        now = self.now()
        wait = self._wait_at(len(self._waiters), now)
        if wait > patience:
            raise GateWaitTooLong(wait)
        waiter = _Waiter(self._loop, now + patience)
        self._waiters.append(waiter)
        self._impatient += patience < math.inf
        # The estimate may be wrong: the rate may fall, or not rise.
        end = self._loop.call_later(patience + _LATE, self._send_away, waiter) if patience < math.inf else None
        try:
            self._wake_first()
            while True:
                too_long = await waiter.turn
                if too_long is not None:
                    raise GateWaitTooLong(too_long)
                now = self.now()
                if self._wait(now) <= 0:
                    return
                # A 429 arrived between the wake-up and this step.
                waiter.turn = self._loop.create_future()
                self._look_again(now)
        finally:
            if end is not None:
                end.cancel()
            self._waiters.remove(waiter)
            self._impatient -= patience < math.inf
            # Later, because the caller takes its ticket first, which determines the next slot.
            self._loop.call_soon(self._wake_first)

    def _look_again(self, now: float) -> None:
        """Apply a change of the wait."""
        self._send_away_the_late(now)
        self._wake_first()

    def _wake_first(self) -> None:
        """Wake the first waiter when the pacer allows it: now, or by the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiters:
            return
        wait = self._wait(self.now())
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._wake_first)
            if wait > LONG_PAUSE and self._watchers:
                self._tell_of_pause()
        elif not (turn := self._waiters[0].turn).done():
            turn.set_result(None)

    def _tell_of_pause(self) -> None:
        pause = max(self._pacer.snapshot().reopens, self._held_until) - self.now()
        if pause > LONG_PAUSE:  # otherwise the rate is just low
            for watcher in tuple(self._watchers):
                watcher(pause)

    def _wait(self, now: float) -> float:
        wait = max(self._pacer.wait(now), self._held_until - now)
        return wait if wait > _ROUNDING else 0.0

    def _wait_at(self, place: int, now: float) -> float:
        return self._wait(now) + place * self._interval()

    def _interval(self) -> float:
        """Return the least number of seconds that each waiter adds to the wait of those behind it."""
        # Until a limit is found, the rate grows while callers wait, so it doesn't predict later turns.
        return 0.0 if self._pacer.snapshot().phase is Phase.START else 1.0 / self._pacer.rate

    def _send_away(self, waiter: _Waiter) -> None:
        """End the wait of a caller whose time is over."""
        if not waiter.turn.done():
            waiter.turn.set_result(self._wait_at(self._waiters.index(waiter), self.now()))

    def _send_away_the_late(self, now: float) -> None:
        if not self._impatient:  # In a bulk job many callers wait, and each response would cost a check of all of them.
            return
        place, opens, interval = 0, self._wait(now), self._interval()
        for waiter in self._waiters:
            wait = opens + place * interval
            if now + wait > waiter.gives_up and not waiter.turn.done():
                waiter.turn.set_result(wait)
            else:
                place += 1


# All users of a pacer on a loop share one queue and its order. It lives as long as one of them refers to it.
_gates: Final[weakref.WeakKeyDictionary[Pacer, weakref.WeakValueDictionary[int, Gate]]] = weakref.WeakKeyDictionary()


def gate_of(pacer: Pacer, rng: random.Random) -> Gate:
    """Return the send queue of a pacer on the running loop."""
    by_loop = _gates.setdefault(pacer, weakref.WeakValueDictionary())
    key = id(asyncio.get_running_loop())
    gate = by_loop.get(key)
    if gate is None:
        gate = by_loop[key] = Gate(pacer, rng)
    return gate
