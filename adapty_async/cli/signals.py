"""Handle the signals that end a command, from its first line until its exit status is known, except during a job."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

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
