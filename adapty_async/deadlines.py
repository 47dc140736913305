"""Deadlines for many attempts at once: one timer serves all that are due at about the same time."""

import asyncio
import itertools
import math
from typing import Final

# A timer of its own costs an attempt a tenth of its time. None fires early, and none later than this; where the time is
# short, than a hundredth of it.
_LATEST: Final = 0.05
_SHARE: Final = 0.01


class Deadline:
    """Cancel the running task where it has not come to `stop` in time, or where all deadlines are ended."""

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
        """Let it pass from now on."""
        self._due.discard(self)
        if self._is_missed:  # and the cancellation was swallowed on its way to `is_behind`
            self._take_back()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def is_behind(self) -> bool:
        """Return whether a CancelledError is the deadline's: it is taken back then. Others pass through."""
        return self._is_missed and self._take_back() <= self._cancelling

    def miss(self) -> None:
        """Cancel the task."""
        self._is_missed = True
        self._task.cancel()

    def end(self) -> "asyncio.Future[None] | None":
        """Cancel the task now. Return what is done when the task has come to `stop`; None for the running task.

        The running task can't be waited for here, and a cancellation would hit what it does next.
        """
        if self._task is asyncio.current_task():
            return None
        if not self._is_missed:
            self.miss()
        if self._stopped is None:  # else somebody waits for it already
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
        # Those that were started last, and for how long: mostly the next one joins them.
        self._last: set[Deadline] = set()
        self._last_when = self._last_seconds = -math.inf

    @property
    def running(self) -> int:
        """The number of deadlines that have been started and not stopped."""
        return len(self._running())

    def start(self, seconds: float) -> Deadline:
        """Start a deadline for what the running task does until it is stopped; an infinite one comes by `end_all`."""
        if seconds == math.inf:
            return Deadline(self._endless, self._loop)
        end = self._loop.time() + seconds
        if end > self._last_when or seconds != self._last_seconds:
            step = min(_LATEST, seconds * _SHARE)
            self._last = self._due_at(math.ceil(end / step) * step)
            self._last_seconds = seconds
        return Deadline(self._last, self._loop)

    async def end_all(self, patience: float) -> None:
        """Let all deadlines come now, and wait until each is stopped, at most for `patience` seconds."""
        ends = [end for deadline in self._running() if (end := deadline.end()) is not None]
        if ends:
            await asyncio.wait(ends, timeout=patience)
        for when, (deadlines, timer) in tuple(self._due.items()):
            if not deadlines:
                timer.cancel()
                del self._due[when]
        self._last_when = -math.inf  # its timer may be gone

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
        self._last_when = -math.inf  # a timer may be early by a little
        for deadline in deadlines:
            deadline.miss()
