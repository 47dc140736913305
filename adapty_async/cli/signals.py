"""The signals that end a command, where no job runs: heard from its first line on, no more once it is known how."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_PAUSING: Final = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()  # Windows has none


def hear() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that nothing is left behind; before a job there is no pause."""
    with contextlib.suppress(ValueError):  # on a thread that hears none
        signal.signal(signal.SIGTERM, _interrupt)
        for signum in _PAUSING:
            signal.signal(signum, signal.SIG_IGN)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_hearing() -> None:
    """Let no signal change how a command ends, once that is known."""
    with contextlib.suppress(ValueError):  # on a thread that hears none
        for signum in _ENDING:
            signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def hearing_afterwards() -> Iterator[None]:
    """Hear after the block as before it: the process goes on."""
    before = {signum: signal.getsignal(signum) for signum in (*_ENDING, *_PAUSING)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # on a thread that hears none
            for signum, handler in before.items():
                signal.signal(signum, handler)
