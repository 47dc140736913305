"""How long a bulk job tolerates a problem before it stops."""

import asyncio
from collections.abc import Callable
from typing import Final

from .results import StopReason
from .stop_signal import Pause

_LEAST_IN_PAUSE: Final = 0.1
"""Seconds. A limit of 0 seconds must not keep the event loop busy while the job is paused."""


class Patience:
    """Stop a job when a problem has lasted for `seconds` without a break. A pause of the job counts as a break."""

    def __init__(self, seconds: float | None, reason: StopReason, pause: Pause) -> None:
        self._seconds = seconds
        self._reason = reason
        self._pause = pause
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float | None:
        """How long the problem is tolerated. None means without limit."""
        return self._seconds

    def trouble(self, over: Callable[[StopReason], None]) -> None:
        """Record the problem. `over` is called if it lasts too long."""
        if self._timer is None and self._seconds is not None:
            self._wait(self._seconds, over)

    def relief(self) -> None:
        """Record that the problem is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, over: Callable[[StopReason], None]) -> None:
        self._timer = None
        if self._pause.is_on or self._pause.turns != self._turns:
            assert self._seconds is not None
            self._wait(max(self._seconds, _LEAST_IN_PAUSE), over)
        else:
            over(self._reason)

    def _wait(self, seconds: float, over: Callable[[StopReason], None]) -> None:
        self._turns = self._pause.turns
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end, over)
