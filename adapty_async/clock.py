"""How much time has passed, by several clocks: each of them may miss some of it."""

import math
import time
from pathlib import Path
from typing import Final, NamedTuple


class Moment(NamedTuple):
    """What the clocks say, in seconds.

    `wall`: since 1970; it may be set. `boot`: since the machine started, suspended or not; it says nothing about a time
    before that. `loop`: of the event loop, by which pauses and delays are measured; it may stop while the machine is
    suspended.
    """

    wall: float
    boot: float
    loop: float = 0.0

    def earlier(self, seconds: float) -> "Moment":
        """Return the moment that was so many seconds before."""
        return Moment(*(reading - seconds for reading in self))


ANY_TIME: Final = Moment(math.inf, math.inf, math.inf)
"""What is never long ago: for what may be repeated whenever it was done."""


def moment(loop: float = 0.0) -> Moment:
    """Read the clocks. `loop`: what the event loop's clock says, where there is one."""
    return Moment(time.time(), _since_boot(), loop)


def elapsed(since: Moment, now: Moment) -> float:
    """Return the seconds between two moments: the most that any clock says, for none runs ahead of the time."""
    return max(after - before for before, after in zip(since, now, strict=True))


def boot_id() -> str:
    """Return what tells one start of the machine from another; nothing where the system doesn't say it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _since_boot() -> float:
    # Linux's monotonic clock stops while the machine is suspended; elsewhere it goes on, or there is no other.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
