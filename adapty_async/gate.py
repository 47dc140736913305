"""The queue before a pacer: waiters in order, one timer for the first of them, nobody polls."""

import asyncio
import math
import random
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from .pacing import MAX_RETRY_AFTER, Pacer, Phase, Ticket, Verdict

_JITTER: Final = 0.1
# Seconds of a Retry-After that somebody who watches should hear of.
LONG_PAUSE: Final = 60.0
# Seconds that are no wait: a timer may come early by the clock's resolution, and sums of floats are off by a little.
_ROUNDING: Final = 1e-6
# Seconds by which a turn may come late: it comes before the end of the patience that was long enough for it.
_LATE: Final = 0.01


class GateWaitTooLong(Exception):  # noqa: N818 - what the gate tells its caller, no error of the library
    """The wait at the gate, `seconds`, is longer than the caller's patience; nothing was sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the gate opens in {seconds:.3g} s")
        self.seconds = seconds


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Give the loop's clock; of uvloop, whose ticks are milliseconds, the one that it rounds.

    To a pacer of many thousand requests a second a millisecond is long: it would let one leave a tick.
    """
    return time.monotonic if type(loop).__module__ == "uvloop" else loop.time


class _Waiter:
    """One caller in the queue; `turn` ends with None when it is its turn, with seconds when the wait is too long."""

    __slots__ = ("gives_up", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, gives_up: float) -> None:
        self.gives_up = gives_up
        self.turn: asyncio.Future[float | None] = loop.create_future()


class Gate:
    """Let the requests of one pacer leave one by one, in the order in which they came, on one event loop."""

    def __init__(self, pacer: Pacer, rng: random.Random) -> None:
        self._pacer = pacer
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.now = _clock_of(self._loop)
        """Seconds of the clock that the pacer is told."""
        self._waiters: deque[_Waiter] = deque()
        self._impatient = 0
        self._timer: asyncio.TimerHandle | None = None
        self._held_until = -math.inf
        self._watchers: set[Callable[[float], None]] = set()

    @property
    def pacer(self) -> Pacer:
        """The pacer behind the gate."""
        return self._pacer

    def try_enter(self) -> Ticket | None:
        """Take the turn to send where there is nothing to wait for."""
        now = self.now()
        if self._waiters or now < self._held_until - _ROUNDING or self._pacer.wait(now) > _ROUNDING:
            return None
        return self._pacer.sent(now)

    async def enter(self, patience: float = math.inf) -> Ticket:
        """Wait for the turn to send, and take it: the caller sends at once.

        `patience`: seconds. Raises GateWaitTooLong as soon as the wait is known to be longer. A cancelled waiter
        leaves its turn to the next.
        """
        ticket = self.try_enter()
        if ticket is None:
            await self._turn(patience)
            ticket = self._pacer.sent(self.now())
        return ticket

    def heard(self, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> float | None:
        """Tell the pacer what became of a request; give `retry_after` back with up to 10 % more.

        The jitter keeps those who were told the same from coming back together.
        """
        pause = retry_after
        if retry_after is not None and retry_after <= MAX_RETRY_AFTER:  # above, the pacer ignores it
            pause = min(retry_after * (1.0 + self._rng.uniform(0.0, _JITTER)), MAX_RETRY_AFTER)
        now = self.now()
        self._pacer.heard(now, ticket, verdict, pause)
        if self._waiters:
            self._look_again(now)
        return pause

    def accepted(self, ticket: Ticket) -> float:
        """Tell the pacer that a request was let through; give the time at which that was heard."""
        now = self.now()
        self._pacer.heard(now, ticket, Verdict.ACCEPTED)
        if self._waiters:
            self._look_again(now)
        return now

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long: another gate of the same API key was told a Retry-After."""
        now = self.now()
        self._held_until = max(self._held_until, now + seconds)
        self._look_again(now)

    def watch(self, on_long_pause: Callable[[float], None]) -> None:
        """Tell of each Retry-After that keeps somebody waiting for more than 60 s, whoever was told it: the seconds."""
        self._watchers.add(on_long_pause)

    def unwatch(self, on_long_pause: Callable[[float], None]) -> None:
        """Tell no more."""
        self._watchers.discard(on_long_pause)

    async def _turn(self, patience: float) -> None:
        now = self.now()
        wait = self._wait_at(len(self._waiters), now)
        if wait > patience:
            raise GateWaitTooLong(wait)
        waiter = _Waiter(self._loop, now + patience)
        self._waiters.append(waiter)
        self._impatient += patience < math.inf
        # What the wait was thought to be may be wrong: the rate may fall, or not rise.
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
                # Between the wake-up and this step a refusal was heard.
                waiter.turn = self._loop.create_future()
                self._look_again(now)
        finally:
            if end is not None:
                end.cancel()
            self._waiters.remove(waiter)
            self._impatient -= patience < math.inf
            # Later, since the caller takes its ticket first: that decides when the next one may go.
            self._loop.call_soon(self._wake_first)

    def _look_again(self, now: float) -> None:
        """Draw the conclusions of a wait that may have changed."""
        self._send_away_the_late(now)
        self._wake_first()

    def _wake_first(self) -> None:
        """Wake the first waiter when the pacer allows it: now, or by the one timer."""
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
        if pause > LONG_PAUSE:  # otherwise it is the rate that is so low
            for watcher in tuple(self._watchers):
                watcher(pause)

    def _wait(self, now: float) -> float:
        wait = max(self._pacer.wait(now), self._held_until - now)
        return wait if wait > _ROUNDING else 0.0

    def _wait_at(self, place: int, now: float) -> float:
        return self._wait(now) + place * self._interval()

    def _interval(self) -> float:
        """Return the seconds that each waiter adds to the wait of those behind it, at least."""
        # Where no limit was found yet, the rate grows as long as somebody waits: it says nothing of later turns.
        return 0.0 if self._pacer.snapshot().phase is Phase.START else 1.0 / self._pacer.rate

    def _send_away(self, waiter: _Waiter) -> None:
        """End a wait that has lasted as long as the patience."""
        if not waiter.turn.done():
            waiter.turn.set_result(self._wait_at(self._waiters.index(waiter), self.now()))

    def _send_away_the_late(self, now: float) -> None:
        if not self._impatient:  # as in a mass job, where many wait, and each answer would cost a look at all of them
            return
        place, opens, interval = 0, self._wait(now), self._interval()
        for waiter in self._waiters:
            wait = opens + place * interval
            if now + wait > waiter.gives_up and not waiter.turn.done():
                waiter.turn.set_result(wait)
            else:
                place += 1


# One gate for all who use a pacer on a loop, so that they share its order; it lives as long as one of them holds it.
_gates: Final[weakref.WeakKeyDictionary[Pacer, weakref.WeakValueDictionary[int, Gate]]] = weakref.WeakKeyDictionary()


def gate_of(pacer: Pacer, rng: random.Random) -> Gate:
    """Give the gate of a pacer on the running loop."""
    by_loop = _gates.setdefault(pacer, weakref.WeakValueDictionary())
    key = id(asyncio.get_running_loop())
    gate = by_loop.get(key)
    if gate is None:
        gate = by_loop[key] = Gate(pacer, rng)
    return gate
