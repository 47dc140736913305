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
from .local_member import LocalMember
from .state import Settings

_logger: Final = logging.getLogger("adapty_async")


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
        self._path = _validate_path(path)
        self._local_pacer = AdaptivePacer(start_rate, max_rate, utilization, probe_after)
        self._start_rate, self._max_rate = start_rate, max_rate
        self._settings = Settings(math.inf if max_rate is None else max_rate, utilization, probe_after)
        self._wall_clock = wall_clock
        self._member: LocalMember | None = None
        self._finalizer: weakref.finalize[[], SharedPacer] | None = None
        self._local_since: float | None = None
        # Several threads may have an event loop each. They wait for each other no longer than a transaction takes.
        self._lock = threading.RLock()
        _pacers.add(self)
        try:
            self._path = self._path.absolute()
        except OSError as error:  # the working directory was removed
            self._fall_back_to_local(-math.inf, error)

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
        return self._active_pacer.rate

    @property
    def estimate(self) -> float | None:
        return self._active_pacer.estimate

    @property
    def phase(self) -> Phase:
        """The current phase of the pacer."""
        return self._active_pacer.phase

    def snapshot(self) -> Snapshot:
        """Return the state of the pacer. The counts cover all processes since the first of them started."""
        return self._active_pacer.snapshot()

    def __repr__(self) -> str:
        return f"<SharedPacer {self.phase}, {self.rate:.3g}/s>"

    def delay(self, now: float) -> float:
        with self._lock:
            try:
                if (member := self._join()) is not None:
                    return member.delay(now)
            except OSError as error:
                self._fall_back_to_local(now, error)
            return self._local_pacer.delay(now)

    def acquire(self, now: float) -> Ticket:
        with self._lock:
            try:
                if (member := self._join()) is not None:
                    return member.acquire(now)
            except OSError as error:
                self._fall_back_to_local(now, error)
            return self._local_pacer.acquire(now)

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        with self._lock:
            try:
                if (member := self._join()) is not None:
                    member.record(now, ticket, verdict, retry_after)
                    return
            except OSError as error:
                self._fall_back_to_local(now, error)
            self._local_pacer.record(now, self._to_local_ticket(ticket), verdict, retry_after)

    def close(self) -> None:
        """Leave the shared state and return unused slots. Later requests are paced alone. Can be called again."""
        with self._lock:
            now = -math.inf if self._member is None else self._member.last_used_at
            self._stop_sharing(math.nextafter(now, math.inf))

    @property
    def _active_pacer(self) -> AdaptivePacer:
        member = self._member
        state = None if self._local_since is not None or member is None else member.state
        return self._local_pacer if state is None else state.pacer

    def _reset_in_child(self) -> None:
        self._lock = threading.RLock()  # the thread that had the lock isn't in the child

    def _join(self) -> LocalMember | None:
        """Return this process as a member, or None if the pacer is alone."""
        if self._local_since is not None:
            self._try_leave()
            return None
        member = self._member
        if member is None or member.pid != os.getpid():  # after a fork it is the parent's
            if self._finalizer is not None:
                self._finalizer()
            member = LocalMember(self._path, self._settings, self._start_rate, self._wall_clock)
            self._member = member
            self._finalizer = weakref.finalize(self, member.abandon)
        return member

    def _fall_back_to_local(self, now: float, error: OSError) -> None:
        _logger.warning(
            "the pacer's state in %s can't be shared (%s): this process paces alone", self._path, error.strerror
        )
        self._stop_sharing(now)

    def _stop_sharing(self, now: float) -> None:
        """Leave the shared state: from now on the pacer is alone."""
        if self._local_since is None:
            self._local_since = now
            if self._member is not None:
                self._local_pacer = self._make_local_pacer(self._member, now)
        self._try_leave()

    def _try_leave(self) -> None:
        """Leave the shared state unless already done. If that fails now, the next call tries again."""
        if self._member is not None and self._member.leave():
            assert self._finalizer is not None
            self._finalizer.detach()
            self._member = None

    def _make_local_pacer(self, member: LocalMember, now: float) -> AdaptivePacer:
        """Return the pacer to use alone."""
        hold_until, rate = member.hold_until, self._start_rate
        if member.state is not None:
            # Results of the other processes still count, and these processes may be alone now too.
            hold_until = max(hold_until, member.state.pacer.snapshot().hold_until)
            rate = member.state.pacer.rate / max(1, len(member.state.coordination.members))
        local_pacer = AdaptivePacer(rate, self._max_rate, self._settings.utilization, self._settings.probe_after)
        local_pacer.record(now, Ticket(0, now), Verdict.UNKNOWN, hold_until - now)
        return local_pacer

    def _to_local_ticket(self, ticket: Ticket) -> Ticket:
        # The number of an older ticket now belongs to another request. 0 belongs to none.
        assert self._local_since is not None
        return ticket if ticket.sent_at >= self._local_since else Ticket(0, ticket.sent_at)


_pacers: Final[weakref.WeakSet[SharedPacer]] = weakref.WeakSet()


def _reset_pacers_in_child() -> None:
    for pacer in list(_pacers):
        pacer._reset_in_child()  # noqa: SLF001 - ours


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_pacers_in_child)


def _validate_path(path: str | os.PathLike[str]) -> Path:
    """Return the path. Raise ValueError if no file can have it."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise ValueError(f"the path {os.fspath(path)!r} contains a character that isn't allowed in paths")
    return Path(path)
