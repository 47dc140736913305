"""The clocks of the machine, and the time that elapsed by the one that shows most."""

import math
import time
from pathlib import Path
from typing import Final, NamedTuple


class Moment(NamedTuple):
    """The readings of the clocks, in seconds.

    Attributes:
        wall: Since 1970. This clock can be set.
        boot: Since the start of the machine, including the time it was suspended. It can't measure a time before that.
        loop: The clock of the event loop, which measures waits and delays. It may stop while the machine is suspended.
    """

    wall: float
    boot: float
    loop: float = 0.0

    def subtract(self, seconds: float) -> "Moment":
        """Return the moment that was `seconds` earlier."""
        return Moment(*(reading - seconds for reading in self))


ANY_TIME: Final = Moment(math.inf, math.inf, math.inf)
"""A moment that is never long ago: for requests that may be repeated at any time."""


def read_clocks(loop_time: float = 0.0) -> Moment:
    """Read the clocks. `loop_time` is the time of the event loop, if there is one."""
    return Moment(time.time(), _read_boot_clock(), loop_time)


def get_elapsed_seconds(since: Moment, now: Moment) -> float:
    """Return the seconds between two moments by the clock that shows most. No clock runs ahead of the time."""
    return max(after - before for before, after in zip(since, now, strict=True))


def read_boot_id() -> str:
    """Return an ID of the machine's last start, or an empty string if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _read_boot_clock() -> float:
    # On Linux the monotonic clock stops during suspension. On other systems it runs on, or no other clock exists.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
