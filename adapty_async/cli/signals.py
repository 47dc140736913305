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

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_HANGUP_SIGNAL: Final = getattr(signal, "SIGHUP", None)  # Windows has none
_PAUSE_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)  # Windows has none


EXIT_INTERRUPTED: Final = 130
"""The exit status of ExitStatus.INTERRUPTED, repeated here because importing ExitStatus takes longer."""


def list_ending_signals() -> tuple[int, ...]:
    """Return the signals that end a command. SIGHUP is one of them unless it is ignored, as under nohup."""
    if _HANGUP_SIGNAL is None or signal.getsignal(_HANGUP_SIGNAL) is signal.SIG_IGN:
        return _ENDING_SIGNALS
    return (*_ENDING_SIGNALS, _HANGUP_SIGNAL)


def install_exit_handlers() -> None:
    """Make signals end the process immediately. Nothing needs a cleanup yet.

    An exception could be lost: the import system runs callbacks in which Python ignores exceptions.
    """
    _install_handler(_exit_now)


def install_interrupt_handlers() -> None:
    """Make signals raise KeyboardInterrupt, so that the command cleans up.

    SIGUSR1 and SIGUSR2 are ignored until a job runs.
    """
    _install_handler(_raise_interrupt)


def _install_handler(handler: Callable[[int, FrameType | None], None]) -> None:
    with contextlib.suppress(ValueError):  # only the main thread can set handlers
        for signum in list_ending_signals():
            signal.signal(signum, handler)
        for signum in _PAUSE_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def _exit_now(_signum: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"adapty-async: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


def _raise_interrupt(_signum: int, _frame: FrameType | None) -> None:
    for signum in list_ending_signals():  # a second signal would interrupt the messages and the cleanup after this one
        signal.signal(
            signum, _ignore_signal
        )  # not SIG_IGN: Python reports an error if such a signal is already pending
    raise KeyboardInterrupt


def _ignore_signal(_signum: int, _frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Postpone the first signal until the block ends; drop it if the block raises. Yield the list of those received."""
    received_signals: list[int] = []
    before = {
        signum: signal.signal(signum, lambda signum, _frame: received_signals.append(signum))
        for signum in list_ending_signals()
    }
    try:
        yield received_signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received_signals:
        signal.raise_signal(received_signals[0])


def ignore_signals() -> None:
    """Ignore further signals, so that they can't change the exit status once it is known."""
    with contextlib.suppress(ValueError):  # only the main thread can set handlers
        for signum in list_ending_signals():
            signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def restore_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers after the block, for a process that doesn't exit with the command."""
    before = {signum: signal.getsignal(signum) for signum in (*list_ending_signals(), *_PAUSE_SIGNALS)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # only the main thread can set handlers
            for signum, handler in before.items():
                signal.signal(signum, handler)


_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class InterruptHandler:
    """Handle the signals that end a command: they cancel the task that enters the block, except in `on_first_signal`.

    SIGUSR1 and SIGUSR2 have no effect except in `on_pause_signals`. When a terminal is closed, both its shell and the
    system may send SIGHUP, so all SIGHUPs count as one signal.
    """

    def __init__(self) -> None:
        self.is_aborted = False
        """Whether the task was cancelled."""
        self._on_first: Callable[[], object] | None = None
        self._pause_actions: dict[int, Callable[[], object]] = {}
        self._has_hung_up = False
        self._previous_handlers: dict[int, _Handler] = {}

    @contextlib.contextmanager
    def on_first_signal(self, action: Callable[[], object]) -> Iterator[None]:
        """Call `action` on the first signal within the block."""
        self._on_first = action
        try:
            yield
        finally:
            self._on_first = None

    @contextlib.contextmanager
    def on_pause_signals(self, pause: Callable[[], object], unpause: Callable[[], object]) -> Iterator[None]:
        """Call `pause` on each SIGUSR1 and `unpause` on each SIGUSR2 within the block."""
        self._pause_actions = dict(zip(_PAUSE_SIGNALS, (pause, unpause), strict=True))
        try:
            yield
        finally:
            self._pause_actions = {}

    def reset_cancellation(self) -> None:
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
        self._loop.add_signal_handler(signal.SIGURG, _do_nothing)
        for signum in (*list_ending_signals(), *_PAUSE_SIGNALS):
            self._previous_handlers[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._loop.remove_signal_handler(signal.SIGURG)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            if self._has_hung_up:
                return
            self._has_hung_up = True
        if signum in _PAUSE_SIGNALS:
            self._loop.call_soon_threadsafe(self._handle_pause_signal, signum)
        else:
            self._loop.call_soon_threadsafe(self.handle_signal)

    def handle_signal(self) -> None:
        """Act as if the next signal had arrived."""
        action, self._on_first = self._on_first, None
        if action is not None:
            action()
        elif not self.is_aborted:  # only once: a second cancellation would interrupt the cleanup after the first one
            self.is_aborted = True
            self._task.cancel()

    def _handle_pause_signal(self, signum: int) -> None:
        self._pause_actions.get(signum, _do_nothing)()


def _do_nothing() -> None:
    pass


_T = TypeVar("_T")


def run_event_loop(main: Callable[[InterruptHandler], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine as asyncio.run does, and handle the signals that arrive during the run.

    Signals raise no exception inside the loop, because the loop might then not close properly. Instead `main` is
    cancelled, unless it uses the `InterruptHandler` to handle them. A signal that arrives after `main` has ended is
    handled when the loop is closed.
    """
    import asyncio

    with defer_signals() as came, asyncio.Runner(loop_factory=get_loop_factory()) as runner:
        return runner.run(_run_with_signals(main, came))


async def _run_with_signals(
    main: Callable[[InterruptHandler], Coroutine[Any, Any, _T]], received_signals: list[int]
) -> _T:
    with InterruptHandler() as interrupt_handler:
        if received_signals:
            interrupt_handler.handle_signal()
        return await main(interrupt_handler)


def get_loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Return the factory of the event loop, or None for asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return None
    return new_event_loop
