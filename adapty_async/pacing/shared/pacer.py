"""A pacer shared by the processes of one machine."""

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..adaptive import AdaptivePacer
from ..base import Phase, Snapshot, Ticket, Verdict
from .membership import Membership
from .state import Settings

logger: Final = logging.getLogger("adapty_async")


class SharedPacer:
    """Finds the rate limit of an API key together with all processes on this machine that use the same `path`.

    Each process uses it like an AdaptivePacer; together they send at one rate. If the file can't be used, the pacer
    logs one warning (logger `adapty_async`) and paces alone. The `now` of its methods must be `loop.time()`, which is
    the same clock in all processes.

    Args:
        path: The state file, one per API key. The file and its folder are created if they don't exist.
        start_rate: The first rate, in requests per second, unless the file remembers a limit from the last 24 hours.
        max_rate: The maximum rate of all processes together, in requests per second, or None for no maximum. The lowest
            of all processes applies.
        utilization: The share of the measured limit to use, in (0, 1]. The lowest of all processes applies.
        probe_after: The number of requests after which the limit is measured again. The highest of all processes
            applies.
        wall_clock: A function that returns the wall-clock time, in seconds since 1970.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range, or no file can have this path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        start_rate: float = 5.0,
        max_rate: float | None = None,
        utilization: float = 0.98,
        probe_after: int = 200,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = _checked_path(path)
        self._own = AdaptivePacer(start_rate, max_rate, utilization, probe_after)
        self._start_rate, self._max_rate = start_rate, max_rate
        self._settings = Settings(math.inf if max_rate is None else max_rate, utilization, probe_after)
        self._wall_clock = wall_clock
        self._membership: Membership | None = None
        self._at_its_end: weakref.finalize[[], SharedPacer] | None = None
        self._alone_since: float | None = None
        # Several threads may have an event loop each. They wait for each other no longer than a transaction takes.
        self._turn = threading.RLock()
        _pacers.add(self)
        try:
            self._path = self._path.absolute()
        except OSError as error:  # the working directory was removed
            self._go_alone(-math.inf, error)

    @classmethod
    def background(
        cls,
        path: str | os.PathLike[str],
        max_rate: float | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> "SharedPacer":
        """Return a pacer that leaves 30% of the limit to other users of the key, such as your app in production.

        Args:
            path: The state file, one per API key.
            max_rate: The maximum rate, in requests per second, or None for no maximum.
            wall_clock: A function that returns the wall-clock time, in seconds since 1970.
        """
        return cls(path, max_rate=max_rate, utilization=0.7, probe_after=3000, wall_clock=wall_clock)

    @property
    def rate(self) -> float:
        """The requests per second that are allowed now, for all processes together."""
        return self._mind.rate

    @property
    def estimate(self) -> float | None:
        return self._mind.estimate

    @property
    def phase(self) -> Phase:
        """The current phase of the pacer."""
        return self._mind.phase

    def snapshot(self) -> Snapshot:
        """Return the state of the pacer. The counts cover all processes since the first of them started."""
        return self._mind.snapshot()

    def __repr__(self) -> str:
        return f"<SharedPacer {self.phase}, {self.rate:.3g}/s>"

    def wait(self, now: float) -> float:
        with self._turn:
            try:
                if (membership := self._take_part()) is not None:
                    return membership.wait(now)
            except OSError as error:
                self._go_alone(now, error)
            return self._own.wait(now)

    def sent(self, now: float) -> Ticket:
        with self._turn:
            try:
                if (membership := self._take_part()) is not None:
                    return membership.sent(now)
            except OSError as error:
                self._go_alone(now, error)
            return self._own.sent(now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        with self._turn:
            try:
                if (membership := self._take_part()) is not None:
                    membership.heard(now, ticket, verdict, retry_after)
                    return
            except OSError as error:
                self._go_alone(now, error)
            self._own.heard(now, self._own_ticket(ticket), verdict, retry_after)

    def close(self) -> None:
        """Leave the shared state and return unused slots. Later requests are paced alone. Can be called again."""
        with self._turn:
            now = -math.inf if self._membership is None else self._membership.now
            self._end(math.nextafter(now, math.inf))

    @property
    def _mind(self) -> AdaptivePacer:
        membership = self._membership
        state = None if self._alone_since is not None or membership is None else membership.state
        return self._own if state is None else state.mind

    def _begin_in_child(self) -> None:
        self._turn = threading.RLock()  # the thread that had the lock isn't in the child

    def _take_part(self) -> Membership | None:
        """Return the membership of this process, or None if the pacer is alone."""
        if self._alone_since is not None:
            self._leave()
            return None
        membership = self._membership
        if membership is None or membership.pid != os.getpid():  # after a fork it is the parent's
            if self._at_its_end is not None:
                self._at_its_end()
            membership = Membership(self._path, self._settings, self._start_rate, self._wall_clock)
            self._membership = membership
            self._at_its_end = weakref.finalize(self, membership.abandon)
        return membership

    def _go_alone(self, now: float, error: OSError) -> None:
        logger.warning(
            "the pacer's state in %s can't be shared (%s): this process paces alone", self._path, error.strerror
        )
        self._end(now)

    def _end(self, now: float) -> None:
        """Leave the shared state: from now on the pacer is alone."""
        if self._alone_since is None:
            self._alone_since = now
            if self._membership is not None:
                self._own = self._heir(self._membership, now)
        self._leave()

    def _leave(self) -> None:
        """Leave the shared state unless already done. If that fails now, the next call tries again."""
        if self._membership is not None and self._membership.leave():
            assert self._at_its_end is not None
            self._at_its_end.detach()
            self._membership = None

    def _heir(self, membership: Membership, now: float) -> AdaptivePacer:
        """Return the pacer to use alone."""
        reopens, rate = membership.told_until, self._start_rate
        if membership.state is not None:
            # Results of the other processes still count, and these processes may be alone now too.
            reopens = max(reopens, membership.state.mind.snapshot().reopens)
            rate = membership.state.mind.rate / max(1, len(membership.state.around.members))
        heir = AdaptivePacer(rate, self._max_rate, self._settings.utilization, self._settings.probe_after)
        heir.heard(now, Ticket(0, now), Verdict.UNKNOWN, reopens - now)
        return heir

    def _own_ticket(self, ticket: Ticket) -> Ticket:
        # The number of an older ticket now belongs to another request. 0 belongs to none.
        assert self._alone_since is not None
        return ticket if ticket.sent_at >= self._alone_since else Ticket(0, ticket.sent_at)


_pacers: Final[weakref.WeakSet[SharedPacer]] = weakref.WeakSet()


def _begin_in_child() -> None:
    for pacer in list(_pacers):
        pacer._begin_in_child()  # noqa: SLF001 - ours


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def _checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the path. Raise ValueError if no file can have it."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise ValueError(f"the path {os.fspath(path)!r} contains a character that isn't allowed in paths")
    return Path(path)
