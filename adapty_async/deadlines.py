"""Deadlines for many attempts at once: one timer serves all that are due at about the same time."""

import asyncio
import math
from typing import Final

# A timer of its own costs an attempt a tenth of its time. None fires early, and none later than this; where the time is
# short, than a hundredth of it.
_LATEST: Final = 0.05
_SHARE: Final = 0.01


class Deadline:
    """Cancel the running task where it has not come to `stop` in time."""

    __slots__ = ("_cancelling", "_due", "_is_missed", "_task")

    def __init__(self, due: "set[Deadline]", loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._is_missed = False
        self._due = due
        due.add(self)

    def stop(self) -> None:
        """Let it pass from now on."""
        self._due.discard(self)

    def is_behind(self) -> bool:
        """Tell whether a CancelledError is the deadline's: it is taken back then. Others pass through."""
        return self._is_missed and self._task.uncancel() <= self._cancelling

    def miss(self) -> None:
        """Cancel the task."""
        self._is_missed = True
        self._task.cancel()


class Deadlines:
    """The deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[float, tuple[set[Deadline], asyncio.TimerHandle]] = {}
        # Those that were started last, and for how long: mostly the next one joins them.
        self._last: set[Deadline] = set()
        self._last_when = self._last_seconds = -math.inf

    @property
    def running(self) -> int:
        """The number of deadlines that have been started and not stopped."""
        return sum(len(deadlines) for deadlines, _ in self._due.values())

    def start(self, seconds: float) -> Deadline:
        """Start a deadline for what the running task does until it is stopped."""
        end = self._loop.time() + seconds
        if end > self._last_when or seconds != self._last_seconds:
            step = min(_LATEST, seconds * _SHARE)
            self._last = self._due_at(math.ceil(end / step) * step)
            self._last_seconds = seconds
        return Deadline(self._last, self._loop)

    def close(self) -> None:
        """Cancel the timers: no task will be cancelled any more."""
        for _, timer in self._due.values():
            timer.cancel()
        self._due.clear()

    def _due_at(self, when: float) -> set[Deadline]:
        due = self._due.get(when)
        if due is None:
            due = self._due[when] = (set(), self._loop.call_at(when, self._miss, when))
        self._last_when = when
        return due[0]

    def _miss(self, when: float) -> None:
        deadlines, _ = self._due.pop(when)
        self._last_when = -math.inf  # a timer may be early by a little
        for deadline in deadlines:
            deadline.miss()
