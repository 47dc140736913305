"""A member of a shared pacer: its slots, its unsent reports, and the transactions on the shared state.

No method waits for the lock. If another process has it, the caller is asked to try again a moment later, and pending
reports are kept until then. If a process is stopped while it has the lock, the others retry for a second. Then each of
them paces alone until it ends, with its share of the rate.
"""

import contextlib
import errno
import functools
import logging
import math
import os
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..base import LATENESS, MAX_RETRY_AFTER, Phase, Ticket, Verdict
from .codec import MisfitError
from .state import LEASE, Member, Report, Settings, SharedState
from .state_file import BrokenError, Pulse, StateFile

logger: Final = logging.getLogger("adapty_async")

# If another process has the lock: seconds between two attempts to take it, and the limits on their time and number.
_BUSY: Final = 0.002
_PATIENCE: Final = 1.0
_TRIES: Final = 50
# A transaction takes a fraction of a millisecond and an attempt to take the lock a microsecond, so spinning is worth
# it.
_SPINS: Final = 100
_FAREWELLS: Final = 20
# While the pacer is blocked, another process may get the response that ends the block.
_LOOK_AGAIN: Final = 0.25
# Keeps transactions short.
_MOST_SLOTS: Final = 1000

_members_here: Final[set[str]] = set()


class Membership:
    """Takes part in the state that a file contains. If a method raises OSError, the membership is over."""

    def __init__(self, path: Path, settings: Settings, start_rate: float, wall_clock: Callable[[], float]) -> None:
        self.pid = os.getpid()
        self.state: SharedState | None = None
        """The state after the last transaction; None before the first."""
        self.now = -math.inf
        """The time of the last use."""
        self.told_until = -math.inf
        """The end of the last Retry-After received by this process."""
        self._path = path
        self._me = Member(self.pid, _pid_namespace(), settings, self.now)
        self._start_rate = start_rate
        self._wall_clock = wall_clock
        self._file = StateFile(path)
        self._token = secrets.token_hex(8)
        _members_here.add(self._token)

        # The lease, and the maximum size of the next one
        self._slots: deque[Ticket] = deque()
        self._ends = -math.inf
        self._most = 1
        self._used = 0

        # To be written to the state: unused slots, requests sent without a slot, results
        self._returned: list[tuple[Ticket, int]] = []
        self._unplanned: list[float] = []
        self._reports: list[Report] = []
        self._is_urgent = False

        # When to try again
        self._closed_until = -math.inf
        self._busy_since = math.inf
        self._tries = 0
        self._farewells = 0

    def wait(self, now: float) -> float:
        if self._is_urgent and not self._transact(now):
            return _BUSY
        if (slot := self._slot(now)) is not None:
            return max(0.0, slot.sent_at - now)
        if now < self._closed_until:
            return self._closed_until - now
        if not self._transact(now, hungry=True):
            return _BUSY
        if self._slots:
            return max(0.0, self._slots[0].sent_at - now)
        return self._close(now)

    def sent(self, now: float) -> Ticket:
        self.now = now
        if not self._slots:
            return self._send_unplanned(now)
        number = self._slots.popleft().number
        self._used += 1
        if self._is_blocked:
            self._transact(now)  # from now on the others wait for the response
        return Ticket(number, now)

    def heard(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None) -> None:
        self._reports.append(Report(now, ticket, verdict, retry_after))
        if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
            self.told_until = max(self.told_until, now + retry_after)
            self._is_urgent = True
        self._is_urgent |= self._is_news(ticket, verdict)
        if self._is_urgent or now >= self._reports[0].now + LEASE:
            self._transact(now)

    def leave(self) -> bool:
        """Write pending reports and leave. Return False if another process has the lock: then call again.

        A member that never leaves counts as gone when its process ends or has been silent for a long time. Doesn't
        raise OSError.
        """
        if self.pid == os.getpid() and self.state is not None and self._farewells < _FAREWELLS:
            self._farewells += 1
            with contextlib.suppress(OSError):
                if not self._say_goodbye():
                    return False
        self._end()
        return True

    def abandon(self) -> None:
        """Leave, even if the shared state can't be updated. Doesn't raise OSError."""
        if not self.leave():
            self._end()

    # The lease

    def _slot(self, now: float) -> Ticket | None:
        """Return the next slot that may still be used."""
        self._give_back_the_late(now)
        if not self._slots or self._slots[0].sent_at > now:
            return self._slots[0] if self._slots else None
        pulse = self._file.pulse
        if pulse is None:
            return None
        if pulse.reopens > now or self._slots[0].number <= pulse.revoked:
            self._give_back(len(self._slots))
            return None
        return self._slots[0]

    def _give_back_the_late(self, now: float) -> None:
        # The usual lateness of event loops costs no rate; a longer gap isn't made up for.
        late = 0
        while late < len(self._slots) and self._slots[late].sent_at < now - LATENESS:
            late += 1
        if late:
            self._give_back(late)
            self._most = max(1, self._used)

    def _give_back(self, count: int) -> None:
        self._returned.append((self._slots[0], count))
        for _ in range(count):
            self._slots.popleft()

    def _take(self, state: SharedState, now: float) -> None:
        """Take a lease, twice as large as the last one if that was used up at once: idle jobs waste no slots."""
        is_hungry = now <= self._ends + LATENESS
        self._most = min(2 * self._most, _MOST_SLOTS) if is_hungry else 1
        self._slots.extend(state.lease(self._token, now, self._most))
        if self._slots:
            self._ends = self._slots[-1].sent_at
            self._used = 0

    def _close(self, now: float) -> float:
        """Return the time to wait if there are no slots. The state isn't read again before that time is over."""
        assert self.state is not None
        wait = self.state.mind.wait(now)
        if self.state.around.question is not None:
            wait = max(self.state.mind.snapshot().reopens - now, min(wait, _LOOK_AGAIN))
        wait = max(wait, _BUSY)
        self._closed_until = now + wait
        return wait

    def _send_unplanned(self, now: float) -> Ticket:
        """Record a request that was sent without a slot. If the lock is taken, it has no number."""
        self._unplanned.append(now)
        if self._transact(now) and self.state is not None:
            return Ticket(self.state.mind.snapshot().sent, now)
        return Ticket(0, now)

    # The state of the shared pacer

    @property
    def _is_blocked(self) -> bool:
        return self.state is not None and self.state.mind.phase is Phase.BLOCKED

    def _is_news(self, ticket: Ticket, verdict: Verdict) -> bool:
        """Return True if the others must know at once: a 429 that isn't an echo, or any result during a block."""
        if self.state is None or ticket.number <= self.state.mind.reacted_at:
            return False
        return verdict is Verdict.THROTTLED or self._is_blocked

    # Transactions

    def _transact(self, now: float, *, hungry: bool = False) -> bool:
        """Write pending reports and, if `hungry`, take slots. Return False if another process has the lock."""
        self.now = now
        if not self._lock(now):
            return False
        try:
            state = self._load(now)
            state.tidy(now, _is_alive)
            self._tell(state, now)
            if hungry and not self._slots:
                self._take(state, now)
            self._me.count = len(self._slots)
            if self._slots:
                self._me.first = self._slots[0]
            self._store(state)
        finally:
            self._file.unlock()
        self._closed_until = -math.inf
        return True

    def _end(self) -> None:
        _members_here.discard(self._token)
        self._file.close()

    def _say_goodbye(self) -> bool:
        if not self._try_lock():
            return False
        try:
            state = self._load(self.now)
            if self._slots:
                self._give_back(len(self._slots))
            self._tell(state, self.now)
            self._me.count = 0
            state.leave(self._token)
            self._store(state)
        finally:
            self._file.unlock()
        return True

    def _try_lock(self) -> bool:
        return any(self._file.try_lock() for _ in range(_SPINS))

    def _lock(self, now: float) -> bool:
        if self._try_lock():
            self._busy_since, self._tries = math.inf, 0
            return True
        self._busy_since = min(self._busy_since, now)
        self._tries += 1
        if self._tries > _TRIES and now > self._busy_since + _PATIENCE:
            raise TimeoutError(errno.EAGAIN, "another process keeps it locked")
        return False

    def _load(self, now: float) -> SharedState:
        """Return the newest state after joining it."""
        wall = self._wall_clock()
        try:
            text = self._file.changed()
            if text is None:
                state = self.state or SharedState.begin(now, wall, self._start_rate, None)
            elif self.state is not None:
                state = SharedState.reload(text)
            else:
                state = SharedState.resume(text, now, wall, self._start_rate, _is_alive)
        except (BrokenError, MisfitError) as error:
            logger.warning("the pacer's state in %s can't be used (%s): starting with a new one", self._path, error)
            self._file.reset()
            if self.state is None:
                state = SharedState.begin(now, wall, self._start_rate, None)
            else:
                state = self.state.begin_anew(now, wall, self._start_rate)
        self._me.seen = now
        state.attend(self._token, self._me, wall)
        return state

    def _tell(self, state: SharedState, now: float) -> None:
        for at in self._unplanned:
            state.mind.sent(at)
        state.hear(self._reports)
        if self._slots and (self._slots[0].number <= state.mind.reacted_at or state.mind.snapshot().reopens > now):
            self._give_back(len(self._slots))
        for first, count in self._returned:
            state.withdraw(first, count)
        self._unplanned, self._reports, self._returned = [], [], []
        self._is_urgent = False

    def _store(self, state: SharedState) -> None:
        self._file.store(state.encode())
        self._file.pulse = Pulse(state.mind.reacted_at, state.mind.snapshot().reopens)
        self.state = state


def _is_alive(token: str, member: Member) -> bool:
    if member.among != _pid_namespace():  # another container: only a long silence shows that it is gone
        return True
    if member.pid == os.getpid():
        return token in _members_here
    try:
        os.kill(member.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


@functools.cache
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not on Linux
        return ""
