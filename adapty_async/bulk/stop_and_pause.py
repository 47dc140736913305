"""Stop or pause a bulk job while its tasks wait, and check whether the running task is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from .stop_rules import StopReason

T = TypeVar("T")

_KEY_REASONS: Final = (StopReason.CREDENTIALS, StopReason.PERMISSION)


def is_being_cancelled() -> bool:
    """Return True if the running task is being cancelled.

    Otherwise a CancelledError came out of something that the task awaited.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pause:
    """The signal to send no requests for a while.

    `toggle_count` counts how often the signal was set and cleared.
    """

    def __init__(self, signal: "StopSignal") -> None:
        self._signal = signal
        self._over_event = asyncio.Event()
        self.is_active = False
        self.toggle_count = 0

    def start(self) -> None:
        """Stop sending new requests."""
        self._over_event.clear()
        self.is_active = True
        self.toggle_count += 1

    def end(self) -> None:
        """Allow requests again."""
        self._over_event.set()
        self.is_active = False
        self.toggle_count += 1

    async def wait_until_over(self) -> None:
        """Wait until the pause or the job ends."""
        await self._signal.run_until_stop(self._over_event.wait)


class StopSignal:
    """The signal that ends a job early.

    It interrupts tasks that wait without a request in flight. `pause` is the signal that only pauses the job. `reason`
    is None if the input failed and so ended the job. `on_set` is called once.
    """

    def __init__(self, on_set: Callable[[], None]) -> None:
        self.is_set = False
        self.pause = Pause(self)
        self.reason: StopReason | None = None
        self._on_set = on_set
        self._interruptible: set[asyncio.Task[Any]] = set()

    def set(self, reason: StopReason | None) -> None:
        """Set the signal.

        The first reason is kept, with one exception: a rejected API key replaces a stop that was requested, because it
        is the more useful reason.
        """
        if self.is_set:
            if self.reason is StopReason.REQUESTED and reason in _KEY_REASONS:
                self.reason = reason
            return
        self.is_set = True
        self.reason = reason
        if self._interruptible:
            for task in self._interruptible - {asyncio.current_task()}:
                task.cancel()
        self._on_set()

    async def run_until_stop(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Await `wait()`, but no longer than until the signal is given. Return None if the signal came first.

        `wait` must not send requests.
        """
        if self.is_set:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._interruptible.add(task)
        try:
            return await wait()
        except asyncio.CancelledError:
            # The signal cancels this task itself. A cancellation from outside is passed on.
            if not self.is_set or task.uncancel() > 0:
                raise
            return None
        finally:
            self._interruptible.discard(task)
