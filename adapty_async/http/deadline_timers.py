"""Deadlines for many attempts at once. One timer serves all that are due at about the same time."""

import asyncio
import itertools
import math
from typing import Final

# A timer per attempt would take 10% of the attempt's time. No deadline fires early. It fires at most 50 ms late, or
# 1% of its length if that is less.
_MAX_LATENESS_SECONDS: Final = 0.05
_MAX_LATENESS_RATIO: Final = 0.01


class Deadline:
    """Cancel the running task if it hasn't called `stop` in time, or when all deadlines are ended."""

    __slots__ = ("_cancelling_before", "_group", "_is_expired", "_stopped", "_task")

    def __init__(self, group: "set[Deadline]", loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling_before = task.cancelling()
        self._is_expired = False
        self._stopped: asyncio.Future[None] | None = None
        self._group = group
        group.add(self)

    def stop(self) -> None:
        """Stop the deadline."""
        self._group.discard(self)
        if self._is_expired:  # the cancellation was caught before `undo_cancellation` was called
            self._uncancel()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def undo_cancellation(self) -> bool:
        """Return True if a CancelledError comes from this deadline alone, and undo the cancellation."""
        return self._is_expired and self._uncancel() <= self._cancelling_before

    def expire(self) -> None:
        """Cancel the task."""
        self._is_expired = True
        self._task.cancel()

    def cancel_task(self) -> "asyncio.Future[None] | None":
        """Cancel the task now. Return a future that is done when the task has called `stop`.

        Return None for the running task. It can't be awaited here, and a cancellation would hit its next step.
        """
        if self._task is asyncio.current_task():
            return None
        if not self._is_expired:
            self.expire()
        if self._stopped is None:  # set if another caller waits already
            self._stopped = self._task.get_loop().create_future()
        return self._stopped

    def _uncancel(self) -> int:
        self._is_expired = False
        return self._task.uncancel()


class DeadlineTimers:
    """The deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._groups: dict[float, tuple[set[Deadline], asyncio.TimerHandle]] = {}
        self._endless: set[Deadline] = set()
        # The deadlines started last and their length. Usually the next one is due at the same time.
        self._last_group: set[Deadline] = set()
        self._last_when = self._last_seconds = -math.inf

    @property
    def active_count(self) -> int:
        """The number of running deadlines."""
        return len(self._list_active())

    def start(self, seconds: float) -> Deadline:
        """Start a deadline for the running task. An infinite one only ends by `cancel_all`."""
        if seconds == math.inf:
            return Deadline(self._endless, self._loop)
        end = self._loop.time() + seconds
        if end > self._last_when or seconds != self._last_seconds:
            step = min(_MAX_LATENESS_SECONDS, seconds * _MAX_LATENESS_RATIO)
            self._last_group = self._get_group(math.ceil(end / step) * step)
            self._last_seconds = seconds
        return Deadline(self._last_group, self._loop)

    async def cancel_all(self, max_wait: float) -> None:
        """End all deadlines now and wait up to `max_wait` seconds until each is stopped."""
        ends = [end for deadline in self._list_active() if (end := deadline.cancel_task()) is not None]
        if ends:
            await asyncio.wait(ends, timeout=max_wait)
        for when, (deadlines, timer) in tuple(self._groups.items()):
            if not deadlines:
                timer.cancel()
                del self._groups[when]
        self._last_when = -math.inf  # its timer may be cancelled

    def _list_active(self) -> list[Deadline]:
        due = (deadlines for deadlines, _ in self._groups.values())
        return list(itertools.chain(self._endless, *due))

    def _get_group(self, when: float) -> set[Deadline]:
        due = self._groups.get(when)
        if due is None:
            due = self._groups[when] = (set(), self._loop.call_at(when, self._expire_group, when))
        self._last_when = when
        return due[0]

    def _expire_group(self, when: float) -> None:
        deadlines, _ = self._groups.pop(when)
        self._last_when = -math.inf  # a timer may fire slightly early
        for deadline in deadlines:
            deadline.expire()
