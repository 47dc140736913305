"""The signals that end a command, where it doesn't hear them any more."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def stop_hearing() -> None:
    """Let no signal change how a command ends, once that is known."""
    with contextlib.suppress(ValueError):  # on a thread that hears none
        for signum in _ENDING:
            signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def hearing_afterwards() -> Iterator[None]:
    """Hear after the block as before it: the process goes on."""
    before = {signum: signal.getsignal(signum) for signum in _ENDING}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # on a thread that hears none
            for signum, handler in before.items():
                signal.signal(signum, handler)
