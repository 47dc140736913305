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
    """Take the signals that end a command: they cancel the task that enters the block, but for `first_to`.

    SIGUSR1 does nothing, but within `usr1_to`. A terminal that is closed may say so twice, by its shell and by the
    system: all SIGHUPs are one signal.
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
        """Let the first signal within the block call `action`."""
        self._first = action
        try:
            yield
        finally:
            self._first = None

    @contextlib.contextmanager
    def usr1_to(self, action: Callable[[], object]) -> Iterator[None]:
        """Let each SIGUSR1 within the block call `action`."""
        self._usr1 = action
        try:
            yield
        finally:
            self._usr1 = _nothing

    def go_on(self) -> None:
        """Go on with the task, whose cancellation has been caught."""
        self._task.uncancel()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        # What the loop hears by itself it ends with the system's own handler, which in that moment ends the process.
        # So it is only woken, by having any handler at all: for a signal that nobody sends, and that does nothing.
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
        """Do what the next signal does."""
        action, self._first = self._first, None
        if action is not None:
            action()
        elif not self.aborted:  # once: a second cancellation would cut off what the first one has to put in order
            self.aborted = True
            self._task.cancel()

    def _hear_usr1(self) -> None:
        self._usr1()


def _nothing() -> None:
    pass
