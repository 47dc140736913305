"""This process as a member of a shared pacer: its slots, its unsent reports, and the transactions on the shared state.

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

from ..base import MAX_LATENESS_SECONDS, MAX_RETRY_AFTER, Phase, Ticket, Verdict
from .codec import StateDecodeError
from .state import LEASE_SECONDS, Member, Settings, SharedState, SlotResult
from .state_file import CorruptStateError, SendBarrier, StateFile

_logger: Final = logging.getLogger("adapty_async")

# If another process has the lock: seconds between two attempts to take it, and the limits on their time and number.
_LOCK_RETRY_SECONDS: Final = 0.002
_MAX_LOCK_WAIT_SECONDS: Final = 1.0
_MAX_LOCK_ATTEMPTS: Final = 50
# A transaction takes a fraction of a millisecond and an attempt to take the lock a microsecond, so spinning is worth
# it.
_LOCK_SPINS: Final = 100
_MAX_LEAVE_ATTEMPTS: Final = 20
# While the pacer is blocked, another process may get the response that ends the block.
_BLOCKED_POLL_SECONDS: Final = 0.25
# Keeps transactions short.
_MAX_SLOTS: Final = 1000

_local_tokens: Final[set[str]] = set()


class LocalMember:
    """This process as a member of the state in a file. If a method raises OSError, it isn't a member any more."""

    def __init__(self, path: Path, settings: Settings, start_rate: float, wall_clock: Callable[[], float]) -> None:
        self.pid = os.getpid()
        self.state: SharedState | None = None
        """The state after the last transaction; None before the first."""
        self.last_used_at = -math.inf
        """The time of the last use."""
        self.hold_until = -math.inf
        """The end of the last Retry-After received by this process."""
        self._path = path
        self._member = Member(self.pid, _read_pid_namespace(), settings, self.last_used_at)
        self._start_rate = start_rate
        self._wall_clock = wall_clock
        self._file = StateFile(path)
        self._token = secrets.token_hex(8)
        _local_tokens.add(self._token)

        # The lease, and the maximum size of the next one
        self._slots: deque[Ticket] = deque()
        self._lease_end = -math.inf
        self._max_lease_slots = 1
        self._used_slots = 0

        # To be written to the state: unused slots, requests sent without a slot, results
        self._returned: list[tuple[Ticket, int]] = []
        self._unplanned: list[float] = []
        self._results: list[SlotResult] = []
        self._is_urgent = False

        # When to try again
        self._closed_until = -math.inf
        self._busy_since = math.inf
        self._lock_attempts = 0
        self._leave_attempts = 0

    def delay(self, now: float) -> float:
        if self._is_urgent and not self._transact(now):
            return _LOCK_RETRY_SECONDS
        if (slot := self._peek_slot(now)) is not None:
            return max(0.0, slot.sent_at - now)
        if now < self._closed_until:
            return self._closed_until - now
        if not self._transact(now, needs_slots=True):
            return _LOCK_RETRY_SECONDS
        if self._slots:
            return max(0.0, self._slots[0].sent_at - now)
        return self._plan_next_read(now)

    def acquire(self, now: float) -> Ticket:
        self.last_used_at = now
        if not self._slots:
            return self._acquire_unplanned_ticket(now)
        number = self._slots.popleft().number
        self._used_slots += 1
        if self._is_pacer_blocked:
            self._transact(now)  # from now on the others wait for the response
        return Ticket(number, now)

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None) -> None:
        self._results.append(SlotResult(now, ticket, verdict, retry_after))
        if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
            self.hold_until = max(self.hold_until, now + retry_after)
            self._is_urgent = True
        self._is_urgent |= self._is_urgent_result(ticket, verdict)
        if self._is_urgent or now >= self._results[0].now + LEASE_SECONDS:
            self._transact(now)

    def leave(self) -> bool:
        """Write pending reports and leave. Return False if another process has the lock: then call again.

        A member that never leaves counts as gone when its process ends or has been silent for a long time. Doesn't
        raise OSError.
        """
        if self.pid == os.getpid() and self.state is not None and self._leave_attempts < _MAX_LEAVE_ATTEMPTS:
            self._leave_attempts += 1
            with contextlib.suppress(OSError):
                if not self._deregister():
                    return False
        self._close_file()
        return True

    def abandon(self) -> None:
        """Leave, even if the shared state can't be updated. Doesn't raise OSError."""
        if not self.leave():
            self._close_file()

    # The lease

    def _peek_slot(self, now: float) -> Ticket | None:
        """Return the next slot that may still be used."""
        self._return_late_slots(now)
        if not self._slots or self._slots[0].sent_at > now:
            return self._slots[0] if self._slots else None
        barrier = self._file.barrier
        if barrier is None:
            return None
        if barrier.hold_until > now or self._slots[0].number <= barrier.revoked_up_to:
            self._return_slots(len(self._slots))
            return None
        return self._slots[0]

    def _return_late_slots(self, now: float) -> None:
        # The usual lateness of event loops costs no rate; a longer gap isn't made up for.
        late = 0
        while late < len(self._slots) and self._slots[late].sent_at < now - MAX_LATENESS_SECONDS:
            late += 1
        if late:
            self._return_slots(late)
            self._max_lease_slots = max(1, self._used_slots)

    def _return_slots(self, count: int) -> None:
        self._returned.append((self._slots[0], count))
        for _ in range(count):
            self._slots.popleft()

    def _take_lease(self, state: SharedState, now: float) -> None:
        """Take a lease, twice as large as the last one if that was used up at once: idle jobs waste no slots."""
        is_hungry = now <= self._lease_end + MAX_LATENESS_SECONDS
        self._max_lease_slots = min(2 * self._max_lease_slots, _MAX_SLOTS) if is_hungry else 1
        self._slots.extend(state.lease_slots(self._token, now, self._max_lease_slots))
        if self._slots:
            self._lease_end = self._slots[-1].sent_at
            self._used_slots = 0

    def _plan_next_read(self, now: float) -> float:
        """Return the time to wait if there are no slots. The state isn't read again before that time is over."""
        assert self.state is not None
        wait = self.state.pacer.delay(now)
        if self.state.coordination.trial is not None:
            wait = max(self.state.pacer.snapshot().hold_until - now, min(wait, _BLOCKED_POLL_SECONDS))
        wait = max(wait, _LOCK_RETRY_SECONDS)
        self._closed_until = now + wait
        return wait

    def _acquire_unplanned_ticket(self, now: float) -> Ticket:
        """Record a request that was sent without a slot. If the lock is taken, it has no number."""
        self._unplanned.append(now)
        if self._transact(now) and self.state is not None:
            return Ticket(self.state.pacer.snapshot().sent, now)
        return Ticket(0, now)

    # The state of the shared pacer

    @property
    def _is_pacer_blocked(self) -> bool:
        return self.state is not None and self.state.pacer.phase is Phase.BLOCKED

    def _is_urgent_result(self, ticket: Ticket, verdict: Verdict) -> bool:
        """Return True if the others must know at once: a 429 that isn't an echo, or any result during a block."""
        if self.state is None or ticket.number <= self.state.pacer.reacted_up_to:
            return False
        return verdict is Verdict.THROTTLED or self._is_pacer_blocked

    # Transactions

    def _transact(self, now: float, *, needs_slots: bool = False) -> bool:
        """Write pending reports and, if `needs_slots`, take slots. Return False if another process has the lock."""
        self.last_used_at = now
        if not self._acquire_lock(now):
            return False
        try:
            state = self._load_state(now)
            state.remove_dead_members(now, _is_alive)
            self._flush_results(state, now)
            if needs_slots and not self._slots:
                self._take_lease(state, now)
            self._member.slot_count = len(self._slots)
            if self._slots:
                self._member.first_slot = self._slots[0]
            self._write_shared_state(state)
        finally:
            self._file.unlock()
        self._closed_until = -math.inf
        return True

    def _close_file(self) -> None:
        _local_tokens.discard(self._token)
        self._file.close()

    def _deregister(self) -> bool:
        if not self._try_lock():
            return False
        try:
            state = self._load_state(self.last_used_at)
            if self._slots:
                self._return_slots(len(self._slots))
            self._flush_results(state, self.last_used_at)
            self._member.slot_count = 0
            state.remove_member(self._token)
            self._write_shared_state(state)
        finally:
            self._file.unlock()
        return True

    def _try_lock(self) -> bool:
        return any(self._file.try_lock() for _ in range(_LOCK_SPINS))

    def _acquire_lock(self, now: float) -> bool:
        if self._try_lock():
            self._busy_since, self._lock_attempts = math.inf, 0
            return True
        self._busy_since = min(self._busy_since, now)
        self._lock_attempts += 1
        if self._lock_attempts > _MAX_LOCK_ATTEMPTS and now > self._busy_since + _MAX_LOCK_WAIT_SECONDS:
            raise TimeoutError(errno.EAGAIN, "another process keeps it locked")
        return False

    def _load_state(self, now: float) -> SharedState:
        """Return the newest state after joining it."""
        wall_time = self._wall_clock()
        try:
            data = self._file.read_new_state()
            if data is None:
                state = self.state or SharedState.start(now, wall_time, self._start_rate, None)
            elif self.state is not None:
                state = SharedState.reload(data)
            else:
                state = SharedState.resume(data, now, wall_time, self._start_rate, _is_alive)
        except (CorruptStateError, StateDecodeError) as error:
            _logger.warning("the pacer's state in %s can't be used (%s): starting with a new one", self._path, error)
            self._file.reset()
            if self.state is None:
                state = SharedState.start(now, wall_time, self._start_rate, None)
            else:
                state = self.state.restart(now, wall_time, self._start_rate)
        self._member.seen_at = now
        state.update_member(self._token, self._member, wall_time)
        return state

    def _flush_results(self, state: SharedState, now: float) -> None:
        for at in self._unplanned:
            state.pacer.acquire(at)
        state.record_results(self._results)
        if self._slots and (
            self._slots[0].number <= state.pacer.reacted_up_to or state.pacer.snapshot().hold_until > now
        ):
            self._return_slots(len(self._slots))
        for first, count in self._returned:
            state.cancel_slots(first, count)
        self._unplanned, self._results, self._returned = [], [], []
        self._is_urgent = False

    def _write_shared_state(self, state: SharedState) -> None:
        self._file.store(state.encode())
        self._file.barrier = SendBarrier(state.pacer.reacted_up_to, state.pacer.snapshot().hold_until)
        self.state = state


def _is_alive(token: str, member: Member) -> bool:
    if member.pid_namespace != _read_pid_namespace():  # another container: only a long silence shows that it is gone
        return True
    if member.pid == os.getpid():
        return token in _local_tokens
    try:
        os.kill(member.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


@functools.cache
def _read_pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not on Linux
        return ""
