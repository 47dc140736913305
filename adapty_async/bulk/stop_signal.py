"""Signals that stop or pause a bulk job, and a check whether the running task is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from .results import StopReason

T = TypeVar("T")

_OF_THE_KEY: Final = (StopReason.CREDENTIALS, StopReason.PERMISSION)


def is_cancelled() -> bool:
    """Return True if the running task is being cancelled.

    Otherwise a CancelledError came out of something that the task awaited.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pause:
    """The signal to send no requests for a while.

    `turns` counts how often the signal was set and cleared.
    """

    def __init__(self, signal: "StopSignal") -> None:
        self._signal = signal
        self._over = asyncio.Event()
        self.is_on = False
        self.turns = 0

    def begin(self) -> None:
        """Stop sending new requests."""
        self._over.clear()
        self.is_on = True
        self.turns += 1

    def end(self) -> None:
        """Allow requests again."""
        self._over.set()
        self.is_on = False
        self.turns += 1

    async def pass_by(self) -> None:
        """Wait until the pause or the job ends."""
        await self._signal.cut_short(self._over.wait)


class StopSignal:
    """The signal that ends a job early.

    It interrupts tasks that wait without a request in flight. `pause` is the signal that only pauses the job. `reason`
    is None if the input failed and so ended the job. `on_given` is called once.
    """

    def __init__(self, on_given: Callable[[], None]) -> None:
        self.given = False
        self.pause = Pause(self)
        self.reason: StopReason | None = None
        self._on_given = on_given
        self._interruptible: set[asyncio.Task[Any]] = set()

    def give(self, reason: StopReason | None) -> None:
        """Set the signal.

        The first reason is kept, with one exception: a rejected API key replaces a stop that was requested, because it
        is the more useful reason.
        """
        if self.given:
            if self.reason is StopReason.REQUESTED and reason in _OF_THE_KEY:
                self.reason = reason
            return
        self.given = True
        self.reason = reason
        if self._interruptible:
            for task in self._interruptible - {asyncio.current_task()}:
                task.cancel()
        self._on_given()

    async def cut_short(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Await `wait()`, but no longer than until the signal is given. Return None if the signal came first.

        `wait` must not send requests.
        """
        if self.given:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._interruptible.add(task)
        try:
            return await wait()
        except asyncio.CancelledError:
            # The signal cancels this task itself. A cancellation from outside is passed on.
            if not self.given or task.uncancel() > 0:
                raise
            return None
        finally:
            self._interruptible.discard(task)
