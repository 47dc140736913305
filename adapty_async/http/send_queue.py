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

_MAX_JITTER_RATIO: Final = 0.1
# Seconds of a Retry-After from which watchers are called.
LONG_HOLD_SECONDS: Final = 60.0
# A wait shorter than this many seconds counts as none: timers may fire early, and sums of floats are inexact.
_ROUNDING_SECONDS: Final = 1e-6
# Seconds of tolerance, so that a turn that comes just in time isn't given up.
_LATE_TOLERANCE_SECONDS: Final = 0.01


class SendQueueTimeoutError(Exception):
    """The wait in the send queue, `seconds`, is longer than the caller allows. Nothing was sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the wait in the send queue is {seconds:.3g} s")
        self.seconds = seconds


def _get_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the loop's clock, or for uvloop the clock that it rounds to milliseconds.

    At many thousand requests per second, a pacer with a clock of milliseconds would release one request per tick.
    """
    return time.monotonic if type(loop).__module__ == "uvloop" else loop.time


class _Waiter:
    """One caller in the queue.

    The result of `turn` is None when the caller may send, or seconds if the wait is too long.
    """

    __slots__ = ("deadline", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self.deadline = deadline
        self.turn: asyncio.Future[float | None] = loop.create_future()


class SendQueue:
    """Release the requests of one pacer one by one, in order of arrival, on one event loop."""

    def __init__(self, pacer: Pacer, rng: random.Random) -> None:
        self._pacer = pacer
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.now = _get_clock(self._loop)
        """The clock of the pacer, in seconds."""
        self._waiters: deque[_Waiter] = deque()
        self._limited_waiters = 0
        self._timer: asyncio.TimerHandle | None = None
        self._hold_until = -math.inf
        self._hold_listeners: set[Callable[[float], None]] = set()

    @property
    def pacer(self) -> Pacer:
        """The pacer behind the queue."""
        return self._pacer

    def try_acquire(self) -> Ticket | None:
        """Take a slot if one is free without waiting."""
        now = self.now()
        if self._waiters or now < self._hold_until - _ROUNDING_SECONDS or self._pacer.delay(now) > _ROUNDING_SECONDS:
            return None
        return self._pacer.acquire(now)

    async def acquire(self, max_wait: float = math.inf) -> Ticket:
        """Wait for a slot and take it. The caller must send at once.

        If a waiter is cancelled, the next one gets its turn.

        Args:
            max_wait: The longest acceptable wait, in seconds.

        Raises:
            SendQueueTimeoutError: As soon as the wait is known to be longer.
        """
        ticket = self.try_acquire()
        if ticket is None:
            await self._wait_for_turn(max_wait)
            ticket = self._pacer.acquire(self.now())
        return ticket

    def record(self, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> float | None:
        """Record the result of a request in the pacer. Return `retry_after` with up to 10% added.

        The jitter prevents clients that got the same Retry-After from sending at the same time.
        """
        hold_seconds = retry_after
        if retry_after is not None and retry_after <= MAX_RETRY_AFTER:  # the pacer ignores longer ones
            hold_seconds = min(retry_after * (1.0 + self._rng.uniform(0.0, _MAX_JITTER_RATIO)), MAX_RETRY_AFTER)
        now = self.now()
        self._pacer.record(now, ticket, verdict, hold_seconds)
        if self._waiters:
            self._update_waiters(now)
        return hold_seconds

    def record_acceptance(self, ticket: Ticket) -> float:
        """Record that a request was accepted, and return the time of the record."""
        now = self.now()
        self._pacer.record(now, ticket, Verdict.ACCEPTED)
        if self._waiters:
            self._update_waiters(now)
        return now

    def hold(self, seconds: float) -> None:
        """Release no request for `seconds`, because another queue of the same API key got a Retry-After."""
        now = self.now()
        self._hold_until = max(self._hold_until, now + seconds)
        self._update_waiters(now)

    def add_hold_listener(self, on_long_hold: Callable[[float], None]) -> None:
        """Call `on_long_hold` with the seconds of every Retry-After that delays a caller for more than 60 seconds."""
        self._hold_listeners.add(on_long_hold)

    def remove_hold_listener(self, on_long_hold: Callable[[float], None]) -> None:
        """Stop calling `on_long_hold`."""
        self._hold_listeners.discard(on_long_hold)

    async def _wait_for_turn(self, max_wait: float) -> None:
        now = self.now()
        wait = self._estimate_delay(len(self._waiters), now)
        if wait > max_wait:
            raise SendQueueTimeoutError(wait)
        waiter = _Waiter(self._loop, now + max_wait)
        self._waiters.append(waiter)
        self._limited_waiters += max_wait < math.inf
        # The estimate may be wrong: the rate may fall, or not rise.
        end = (
            self._loop.call_later(max_wait + _LATE_TOLERANCE_SECONDS, self._reject, waiter)
            if max_wait < math.inf
            else None
        )
        try:
            self._wake_first()
            while True:
                too_long = await waiter.turn
                if too_long is not None:
                    raise SendQueueTimeoutError(too_long)
                now = self.now()
                if self._get_delay(now) <= 0:
                    return
                # A 429 arrived between the wake-up and this step.
                waiter.turn = self._loop.create_future()
                self._update_waiters(now)
        finally:
            if end is not None:
                end.cancel()
            self._waiters.remove(waiter)
            self._limited_waiters -= max_wait < math.inf
            # Later, because the caller takes its ticket first, which determines the next slot.
            self._loop.call_soon(self._wake_first)

    def _update_waiters(self, now: float) -> None:
        """Apply a change of the wait."""
        self._reject_late(now)
        self._wake_first()

    def _wake_first(self) -> None:
        """Wake the first waiter when the pacer allows it: now, or by the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiters:
            return
        wait = self._get_delay(self.now())
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._wake_first)
            if wait > LONG_HOLD_SECONDS and self._hold_listeners:
                self._notify_long_hold()
        elif not (turn := self._waiters[0].turn).done():
            turn.set_result(None)

    def _notify_long_hold(self) -> None:
        hold_seconds = max(self._pacer.snapshot().hold_until, self._hold_until) - self.now()
        if hold_seconds > LONG_HOLD_SECONDS:  # otherwise the rate is just low
            for listener in tuple(self._hold_listeners):
                listener(hold_seconds)

    def _get_delay(self, now: float) -> float:
        wait = max(self._pacer.delay(now), self._hold_until - now)
        return wait if wait > _ROUNDING_SECONDS else 0.0

    def _estimate_delay(self, position: int, now: float) -> float:
        return self._get_delay(now) + position * self._get_min_interval()

    def _get_min_interval(self) -> float:
        """Return the least number of seconds that each waiter adds to the wait of those behind it."""
        # Until a limit is found, the rate grows while callers wait, so it doesn't predict later turns.
        return 0.0 if self._pacer.snapshot().phase is Phase.START else 1.0 / self._pacer.rate

    def _reject(self, waiter: _Waiter) -> None:
        """End the wait of a caller whose time is over."""
        if not waiter.turn.done():
            waiter.turn.set_result(self._estimate_delay(self._waiters.index(waiter), self.now()))

    def _reject_late(self, now: float) -> None:
        if (
            not self._limited_waiters
        ):  # In a bulk job many callers wait, and each response would cost a check of all of them.
            return
        position, delay, interval = 0, self._get_delay(now), self._get_min_interval()
        for waiter in self._waiters:
            wait = delay + position * interval
            if now + wait > waiter.deadline and not waiter.turn.done():
                waiter.turn.set_result(wait)
            else:
                position += 1


# All users of a pacer on a loop share one queue and its order. It lives as long as one of them refers to it.
_send_queues: Final[weakref.WeakKeyDictionary[Pacer, weakref.WeakValueDictionary[int, SendQueue]]] = (
    weakref.WeakKeyDictionary()
)


def get_send_queue(pacer: Pacer, rng: random.Random) -> SendQueue:
    """Return the send queue of a pacer on the running loop."""
    by_loop = _send_queues.setdefault(pacer, weakref.WeakValueDictionary())
    key = id(asyncio.get_running_loop())
    send_queue = by_loop.get(key)
    if send_queue is None:
        send_queue = by_loop[key] = SendQueue(pacer, rng)
    return send_queue
