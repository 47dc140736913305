"""Ctrl-C and SIGTERM while a command runs."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Final, Self, TypeAlias

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing is left behind."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interrupts:
    """Take the signals that end a command: they cancel the task that enters the block, but for `first_to`."""

    def __init__(self) -> None:
        self.aborted = False
        """Whether the task was cancelled."""
        self._first: Callable[[], object] | None = None
        self._before: dict[signal.Signals, _Handler] = {}

    @contextlib.contextmanager
    def first_to(self, action: Callable[[], object]) -> Iterator[None]:
        """Let the first signal within the block call `action`."""
        self._first = action
        try:
            yield
        finally:
            self._first = None

    def go_on(self) -> None:
        """Go on with the task, whose cancellation has been caught."""
        self._task.uncancel()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        for signum in _SIGNALS:
            self._before[signum] = signal.getsignal(signum)
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the task, without a first time
                self._loop.add_signal_handler(signum, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum in _SIGNALS:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_signal_handler(signum)
                signal.signal(signum, self._before[signum])

    def _hear(self) -> None:
        action, self._first = self._first, None
        if action is not None:
            action()
        else:
            self.aborted = True
            self._task.cancel()
