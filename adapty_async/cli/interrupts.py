"""Ctrl-C, SIGTERM and SIGHUP while a job runs, and SIGUSR1, which pauses it."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self, TypeAlias

from .signals import ending

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Handle the signals that end a command: they cancel the task that enters the block, except in `first_to`.

    SIGUSR1 has no effect except in `usr1_to`. When a terminal is closed, both its shell and the system may send SIGHUP,
    so all SIGHUPs count as one signal.
    """

    def __init__(self) -> None:
        self.aborted = False
        """Whether the task was cancelled."""
        self._first: Callable[[], object] | None = None
        self._usr1: Callable[[], object] = _nothing
        self._has_hung_up = False
        self._before: dict[int, _Handler] = {}

    @contextlib.contextmanager
    def first_to(self, action: Callable[[], object]) -> Iterator[None]:
        """Call `action` on the first signal within the block."""
        self._first = action
        try:
            yield
        finally:
            self._first = None

    @contextlib.contextmanager
    def usr1_to(self, action: Callable[[], object]) -> Iterator[None]:
        """Call `action` on each SIGUSR1 within the block."""
        self._usr1 = action
        try:
            yield
        finally:
            self._usr1 = _nothing

    def go_on(self) -> None:
        """Reset the cancellation of the task after it was caught, so that the task can run again."""
        self._task.uncancel()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        # `add_signal_handler` isn't used for these signals: removing such a handler restores the system's default, and
        # a signal in that moment would end the process. SIGURG, which isn't otherwise used, gets one instead, because
        # the loop only wakes up on signals if it has at least one handler.
        self._loop.add_signal_handler(signal.SIGURG, _nothing)
        for signum in (*ending(), signal.SIGUSR1):
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._loop.remove_signal_handler(signal.SIGURG)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            if self._has_hung_up:
                return
            self._has_hung_up = True
        self._loop.call_soon_threadsafe(self._hear_usr1 if signum == signal.SIGUSR1 else self.hear)

    def hear(self) -> None:
        """Act as if the next signal had arrived."""
        action, self._first = self._first, None
        if action is not None:
            action()
        elif not self.aborted:  # only once: a second cancellation would interrupt the cleanup after the first one
            self.aborted = True
            self._task.cancel()

    def _hear_usr1(self) -> None:
        self._usr1()


def _nothing() -> None:
    pass
