"""How long a mass job bears a trouble before it stops."""

import asyncio
from collections.abc import Callable

from .lineup import Pause
from .results import StopReason


class Patience:
    """Stop a job when a trouble has lasted for so many seconds without a break; a pause of the job is one."""

    def __init__(self, seconds: float | None, reason: StopReason, pause: Pause) -> None:
        self._seconds = seconds
        self._reason = reason
        self._pause = pause
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float | None:
        """How long it bears the trouble; None: for ever."""
        return self._seconds

    def trouble(self, over: Callable[[StopReason], None]) -> None:
        """Take note of the trouble; call `over` when it lasts too long."""
        if self._timer is None and self._seconds is not None:
            self._turns = self._pause.turns
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end, over)

    def relief(self) -> None:
        """Take note that the trouble is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, over: Callable[[StopReason], None]) -> None:
        self._timer = None
        if self._pause.is_on or self._pause.turns != self._turns:
            self.trouble(over)
        else:
            over(self._reason)
