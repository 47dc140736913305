"""Deadlines for many attempts at once. One timer serves all that are due at about the same time."""

import asyncio
import itertools
import math
from typing import Final

# A timer per attempt would take 10% of the attempt's time. No deadline fires early. It fires at most 50 ms late, or
# 1% of its length if that is less.
_LATEST: Final = 0.05
_SHARE: Final = 0.01


class Deadline:
    """Cancel the running task if it hasn't called `stop` in time, or when all deadlines are ended."""

    __slots__ = ("_cancelling", "_due", "_is_missed", "_stopped", "_task")

    def __init__(self, due: "set[Deadline]", loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._is_missed = False
        self._stopped: asyncio.Future[None] | None = None
        self._due = due
        due.add(self)

    def stop(self) -> None:
        """Stop the deadline."""
        self._due.discard(self)
        if self._is_missed:  # the cancellation was caught before `is_behind` was called
            self._take_back()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def is_behind(self) -> bool:
        """Return True if a CancelledError comes from this deadline alone, and undo the cancellation."""
        return self._is_missed and self._take_back() <= self._cancelling

    def miss(self) -> None:
        """Cancel the task."""
        self._is_missed = True
        self._task.cancel()

    def end(self) -> "asyncio.Future[None] | None":
        """Cancel the task now. Return a future that is done when the task has called `stop`.

        Return None for the running task. It can't be awaited here, and a cancellation would hit its next step.
        """
        if self._task is asyncio.current_task():
            return None
        if not self._is_missed:
            self.miss()
        if self._stopped is None:  # set if another caller waits already
            self._stopped = self._task.get_loop().create_future()
        return self._stopped

    def _take_back(self) -> int:
        self._is_missed = False
        return self._task.uncancel()


class Deadlines:
    """The deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[float, tuple[set[Deadline], asyncio.TimerHandle]] = {}
        self._endless: set[Deadline] = set()
        # The deadlines started last and their length. Usually the next one is due at the same time.
        self._last: set[Deadline] = set()
        self._last_when = self._last_seconds = -math.inf

    @property
    def running(self) -> int:
        """The number of running deadlines."""
        return len(self._running())

    def start(self, seconds: float) -> Deadline:
        """Start a deadline for the running task. An infinite one only ends by `end_all`."""
        if seconds == math.inf:
            return Deadline(self._endless, self._loop)
        end = self._loop.time() + seconds
        if end > self._last_when or seconds != self._last_seconds:
            step = min(_LATEST, seconds * _SHARE)
            self._last = self._due_at(math.ceil(end / step) * step)
            self._last_seconds = seconds
        return Deadline(self._last, self._loop)

    async def end_all(self, patience: float) -> None:
        """End all deadlines now and wait up to `patience` seconds until each is stopped."""
        ends = [end for deadline in self._running() if (end := deadline.end()) is not None]
        if ends:
            await asyncio.wait(ends, timeout=patience)
        for when, (deadlines, timer) in tuple(self._due.items()):
            if not deadlines:
                timer.cancel()
                del self._due[when]
        self._last_when = -math.inf  # its timer may be cancelled

    def _running(self) -> list[Deadline]:
        due = (deadlines for deadlines, _ in self._due.values())
        return list(itertools.chain(self._endless, *due))

    def _due_at(self, when: float) -> set[Deadline]:
        due = self._due.get(when)
        if due is None:
            due = self._due[when] = (set(), self._loop.call_at(when, self._miss, when))
        self._last_when = when
        return due[0]

    def _miss(self, when: float) -> None:
        deadlines, _ = self._due.pop(when)
        self._last_when = -math.inf  # a timer may fire slightly early
        for deadline in deadlines:
            deadline.miss()
