"""Handle signals from the first line of a command until its exit status is known, and run its event loop.

`asyncio` is imported when a loop is needed, because signals must be handled before anything else is imported.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    import asyncio

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_HANGUP: Final = getattr(signal, "SIGHUP", None)  # Windows has none
_PAUSING: Final = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()  # Windows has none


INTERRUPTED: Final = 130
"""The exit status of ExitStatus.INTERRUPTED, repeated here because importing ExitStatus takes longer."""


def ending() -> tuple[int, ...]:
    """Return the signals that end a command. SIGHUP is one of them unless it is ignored, as under nohup."""
    if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN:
        return _ENDING
    return (*_ENDING, _HANGUP)


def hear_while_loading() -> None:
    """Make signals end the process immediately. Nothing needs a cleanup yet.

    An exception could be lost: the import system runs callbacks in which Python ignores exceptions.
    """
    _hear_by(_leave)


def hear() -> None:
    """Make signals raise KeyboardInterrupt, so that the command cleans up. SIGUSR1 is ignored until a job runs."""
    _hear_by(_interrupt)


def _hear_by(handler: Callable[[int, FrameType | None], None]) -> None:
    with contextlib.suppress(ValueError):  # only the main thread can set handlers
        for signum in ending():
            signal.signal(signum, handler)
        for signum in _PAUSING:
            signal.signal(signum, signal.SIG_IGN)


def _leave(_signum: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"adapty-async: interrupted\n")
    os._exit(INTERRUPTED)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    for signum in ending():  # a second signal would interrupt the messages and the cleanup after this one
        signal.signal(signum, _overhear)  # not SIG_IGN: Python reports an error if such a signal is already pending
    raise KeyboardInterrupt


def _overhear(_signum: int, _frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def postponed() -> Iterator[list[int]]:
    """Postpone the first signal until the block ends; drop it if the block raises. Yield the list of those received."""
    came: list[int] = []
    before = {signum: signal.signal(signum, lambda signum, _frame: came.append(signum)) for signum in ending()}
    try:
        yield came
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if came:
        signal.raise_signal(came[0])


def stop_hearing() -> None:
    """Ignore further signals, so that they can't change the exit status once it is known."""
    with contextlib.suppress(ValueError):  # only the main thread can set handlers
        for signum in ending():
            signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def hearing_afterwards() -> Iterator[None]:
    """Restore the signal handlers after the block, for a process that doesn't exit with the command."""
    before = {signum: signal.getsignal(signum) for signum in (*ending(), *_PAUSING)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # only the main thread can set handlers
            for signum, handler in before.items():
                signal.signal(signum, handler)


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
        import asyncio

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


_T = TypeVar("_T")


def run_event_loop(main: Callable[[Interrupts], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine as asyncio.run does, and handle the signals that arrive during the run.

    Signals raise no exception inside the loop, because the loop might then not close properly. Instead `main` is
    cancelled, unless it uses the `Interrupts` to handle them. A signal that arrives after `main` has ended is handled
    when the loop is closed.
    """
    import asyncio

    with postponed() as came, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_hearing(main, came))


async def _hearing(main: Callable[[Interrupts], Coroutine[Any, Any, _T]], came: list[int]) -> _T:
    with Interrupts() as interrupts:
        if came:
            interrupts.hear()
        return await main(interrupts)


def loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Return the factory of the event loop, or None for asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return None
    return new_event_loop
