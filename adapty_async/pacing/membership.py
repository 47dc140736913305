"""A pacer's part in the shared state: its slots, what it has to tell, and the transactions in which it tells it.

Nothing here waits for the lock: where another process has it, the answer is to ask again a moment later, and what
was to be told is told then. Where a process is stopped with the lock in its hands, this goes on for a second; then each
of the others paces alone, to its end, with its share of the rate.
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

from .base import LATENESS, MAX_RETRY_AFTER, Phase, Ticket, Verdict
from .codec import MisfitError
from .shared_state import LEASE, Member, Report, Settings, SharedState
from .state_file import BrokenError, Pulse, StateFile

logger: Final = logging.getLogger("adapty_async")

# Where another process has the lock: look again so much later, and so often at most.
_BUSY: Final = 0.002
_PATIENCE: Final = 1.0
_TRIES: Final = 50
# A transaction takes a fraction of a millisecond, and to look a microsecond: that often is worth it.
_SPINS: Final = 100
_FAREWELLS: Final = 20
# While everything is blocked, another process may hear the answer that opens the gate.
_LOOK_AGAIN: Final = 0.25
# So that no transaction takes long.
_MOST_SLOTS: Final = 1000

_members_here: Final[set[str]] = set()


class Membership:
    """Take part in the state that a file holds. Any method may raise OSError: then it is over."""

    def __init__(self, path: Path, settings: Settings, start_rate: float, wall_clock: Callable[[], float]) -> None:
        self.pid = os.getpid()
        self.state: SharedState | None = None
        """As it was after the last transaction; None before the first."""
        self.now = -math.inf
        """When it was last made use of."""
        self.told_until = -math.inf
        """When the last Retry-After ends that was heard here."""
        self._path = path
        self._me = Member(self.pid, _pid_namespace(), settings, self.now)
        self._start_rate = start_rate
        self._wall_clock = wall_clock
        self._file = StateFile(path)
        self._token = secrets.token_hex(8)
        _members_here.add(self._token)

        # The lease, and how large the next one may be
        self._slots: deque[Ticket] = deque()
        self._ends = -math.inf
        self._most = 1
        self._used = 0

        # What must be told: slots that won't be used, sends without a slot, answers
        self._returned: list[tuple[Ticket, int]] = []
        self._unplanned: list[float] = []
        self._reports: list[Report] = []
        self._is_urgent = False

        # When to ask again
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
            self._transact(now)  # the others wait for the answer from now on
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
        """Tell what is left to tell, and take part no more; False where another process has the lock: then again.

        Who never comes to tell it is taken for gone when its process ends, or when it has been silent for long.
        Raises no OSError.
        """
        if self.pid == os.getpid() and self.state is not None and self._farewells < _FAREWELLS:
            self._farewells += 1
            with contextlib.suppress(OSError):
                if not self._say_goodbye():
                    return False
        self._end()
        return True

    def abandon(self) -> None:
        """Take part no more, whether or not it can be told. Raises no OSError."""
        if not self.leave():
            self._end()

    # The lease

    def _slot(self, now: float) -> Ticket | None:
        """Give the next slot that may still be used."""
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
        # A wake-up that is late by no more than loops usually are loses no rate; a longer gap isn't made up for.
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
        """Take a lease: twice as large where the last one was used up at once, so that a job that idles wastes none."""
        is_hungry = now <= self._ends + LATENESS
        self._most = min(2 * self._most, _MOST_SLOTS) if is_hungry else 1
        self._slots.extend(state.lease(self._token, now, self._most))
        if self._slots:
            self._ends = self._slots[-1].sent_at
            self._used = 0

    def _close(self, now: float) -> float:
        """Give the time to wait where there are no slots; don't ask before it is over."""
        assert self.state is not None
        wait = self.state.mind.wait(now)
        if self.state.around.question is not None:
            wait = max(self.state.mind.snapshot().reopens - now, min(wait, _LOOK_AGAIN))
        wait = max(wait, _BUSY)
        self._closed_until = now + wait
        return wait

    def _send_unplanned(self, now: float) -> Ticket:
        """Let one leave that didn't ask; without the lock it has no number."""
        self._unplanned.append(now)
        if self._transact(now) and self.state is not None:
            return Ticket(self.state.mind.snapshot().sent, now)
        return Ticket(0, now)

    # What is known of the shared pacer

    @property
    def _is_blocked(self) -> bool:
        return self.state is not None and self.state.mind.phase is Phase.BLOCKED

    def _is_news(self, ticket: Ticket, verdict: Verdict) -> bool:
        """Whether the others must hear of it at once: a refusal that is no echo, an answer while all is blocked."""
        if self.state is None or ticket.number <= self.state.mind.reacted_at:
            return False
        return verdict is Verdict.THROTTLED or self._is_blocked

    # Transactions

    def _transact(self, now: float, *, hungry: bool = False) -> bool:
        """Tell what there is to tell, and where the job is hungry take slots; False where the lock isn't to be had."""
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
            raise TimeoutError(errno.EAGAIN, "another process doesn't let go of it")
        return False

    def _load(self, now: float) -> SharedState:
        """Give the newest state, and take part in it."""
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
            logger.warning("the pacer's state in %s can't be used (%s): it begins anew", self._path, error)
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
    if member.among != _pid_namespace():  # then only its silence tells
        return True
    if member.pid == os.getpid():
        return token in _members_here
    try:
        os.kill(member.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


@functools.cache
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return ""
