"""The words that end a mass job early, or let it pause, and whom a cancellation is meant for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from .results import StopReason

T = TypeVar("T")

_OF_THE_KEY: Final = (StopReason.CREDENTIALS, StopReason.PERMISSION)


def is_cancelled() -> bool:
    """Tell whether a CancelledError is meant for the running task, or came out of something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pause:
    """The word to send nothing for a while; `turns`: how often it was given and taken back."""

    def __init__(self, signal: "StopSignal") -> None:
        self._signal = signal
        self._over = asyncio.Event()
        self.is_on = False
        self.turns = 0

    def begin(self) -> None:
        """Let nothing more be sent."""
        self._over.clear()
        self.is_on = True
        self.turns += 1

    def end(self) -> None:
        """Let the job go on."""
        self._over.set()
        self.is_on = False
        self.turns += 1

    async def pass_by(self) -> None:
        """Wait for the end of the pause, or of the job."""
        await self._signal.cut_short(self._over.wait)


class StopSignal:
    """The one word that ends a job early; what waits and sends nothing is interrupted by it. `pause`: the other word.

    `reason`: None also where the job ends because its input failed. `on_given` is called once.
    """

    def __init__(self, on_given: Callable[[], None]) -> None:
        self.given = False
        self.pause = Pause(self)
        self.reason: StopReason | None = None
        self._on_given = on_given
        self._interruptible: set[asyncio.Task[Any]] = set()

    def give(self, reason: StopReason | None) -> None:
        """Give the signal; the first reason stands, but for a request to stop: a key that is refused says more."""
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
        """Wait for something that sends nothing, but no longer than until the signal: then the answer is None."""
        if self.given:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._interruptible.add(task)
        try:
            return await wait()
        except asyncio.CancelledError:
            # The signal's own cancellation, or one from outside, which passes through?
            if not self.given or task.uncancel() > 0:
                raise
            return None
        finally:
            self._interruptible.discard(task)
