"""The signals that end a command, where no job runs: heard from its first line on, no more once it is known how."""

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
"""The exit status, as of ExitStatus: that takes more to load."""


def ending() -> tuple[int, ...]:
    """Give the signals that end a command: SIGHUP too, but where it is ignored, as nohup lets it be."""
    if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN:
        return _ENDING
    return (*_ENDING, _HANGUP)


def hear_while_loading() -> None:
    """Let a signal end the process at once: nothing has begun that could be left behind.

    Raised, it might be lost, and the command go on: the import system calls back where Python ignores what is raised.
    """
    _hear_by(_leave)


def hear() -> None:
    """Let a signal end a command, as Ctrl-C does, so that nothing is left behind; before a job there is no pause."""
    _hear_by(_interrupt)


def _hear_by(handler: Callable[[int, FrameType | None], None]) -> None:
    with contextlib.suppress(ValueError):  # on a thread that hears none
        for signum in ending():
            signal.signal(signum, handler)
        for signum in _PAUSING:
            signal.signal(signum, signal.SIG_IGN)


def _leave(_signum: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"adapty-async: interrupted\n")
    os._exit(INTERRUPTED)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    for signum in ending():  # another one would cut off what is said and removed because of this one
        signal.signal(signum, _overhear)  # not SIG_IGN: Python complains of one that has come already
    raise KeyboardInterrupt


def _overhear(_signum: int, _frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def postponed() -> Iterator[list[int]]:
    """Hear after the block a signal that comes within it, if nothing is raised; give those that have come."""
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
    """Let no signal change how a command ends, once that is known."""
    with contextlib.suppress(ValueError):  # on a thread that hears none
        for signum in ending():
            signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def hearing_afterwards() -> Iterator[None]:
    """Hear after the block as before it: the process goes on."""
    before = {signum: signal.getsignal(signum) for signum in (*ending(), *_PAUSING)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # on a thread that hears none
            for signum, handler in before.items():
                signal.signal(signum, handler)
