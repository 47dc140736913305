"""How long a bulk job tolerates a problem before it stops."""

import asyncio
from collections.abc import Callable
from typing import Final

from .stop_and_pause import Pause
from .stop_rules import StopReason

_MIN_SECONDS_IN_PAUSE: Final = 0.1
"""Seconds. A limit of 0 seconds must not keep the event loop busy while the job is paused."""


class ProblemTimeout:
    """Stop a job when a problem has lasted for `seconds` without a break. A pause of the job counts as a break."""

    def __init__(self, seconds: float | None, reason: StopReason, pause: Pause) -> None:
        self._seconds = seconds
        self._reason = reason
        self._pause = pause
        self._pause_toggles = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float | None:
        """How long the problem is tolerated. None means without limit."""
        return self._seconds

    def start(self, on_expired: Callable[[StopReason], None]) -> None:
        """Record the problem. `on_expired` is called if it lasts too long."""
        if self._timer is None and self._seconds is not None:
            self._start_timer(self._seconds, on_expired)

    def reset(self) -> None:
        """Record that the problem is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self, on_expired: Callable[[StopReason], None]) -> None:
        self._timer = None
        if self._pause.is_active or self._pause.toggle_count != self._pause_toggles:
            assert self._seconds is not None
            self._start_timer(max(self._seconds, _MIN_SECONDS_IN_PAUSE), on_expired)
        else:
            on_expired(self._reason)

    def _start_timer(self, seconds: float, on_expired: Callable[[StopReason], None]) -> None:
        self._pause_toggles = self._pause.toggle_count
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer, on_expired)
