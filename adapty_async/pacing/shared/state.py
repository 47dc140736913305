"""The state that processes with the same API key share, without I/O.

All processes share one pacer with a single schedule. Each member takes a *lease*, the next slots of the
schedule, so that members with many requests alternate. A member returns slots that it doesn't use. A reaction to a 429
cancels all planned slots.
"""

import errno
import functools
import inspect
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from .. import adaptive, base, estimator, limit_search, overshoots, round_trip, search_phases, stray_429s
from ..base import Phase, Ticket, Verdict
from . import shared_adaptive
from .codec import Codec, StateDecodeError, dump_json, parse_json
from .shared_adaptive import SharedAdaptivePacer

LEASE_SECONDS: Final = 0.05
"""Seconds of the schedule that a member takes at once, but at least one slot."""

# The next run starts at this share of the remembered limit, if that is not older than this many seconds.
_RESTART_RATIO: Final = 0.8
_MAX_LIMIT_AGE_SECONDS: Final = 24 * 3600.0
# Without a reboot, the monotonic and the wall clock drift apart by less than this many seconds. A reboot takes longer.
_MAX_CLOCK_DRIFT_SECONDS: Final = 5.0
# A member that is silent for this many seconds counts as gone. It joins again with its next transaction.
_MEMBER_TIMEOUT_SECONDS: Final = 300.0
# Seconds within which a trial request must be sent while the pacer is blocked.
_TRIAL_SEND_TIMEOUT_SECONDS: Final = 1.0

_NO_TICKET: Final = Ticket(0, -math.inf)


@attrs.frozen
class Settings:
    """The settings of a member. The most careful of all members' settings apply."""

    max_rate: float
    utilization: float
    probe_after: int


@attrs.define
class Member:
    """A process that takes part. `count` of its slots, from ticket `first` on, may not have been used yet.

    `pid` is valid in the PID namespace `pid_namespace`. In a container the same number may belong to another process.
    """

    pid: int
    pid_namespace: str
    settings: Settings
    seen_at: float
    first_slot: Ticket = _NO_TICKET
    slot_count: int = 0


IsAlive = Callable[[str, Member], bool]


@attrs.frozen
class TrialRequest:
    """The trial request that is sent while the pacer is blocked, and the member that sends it."""

    token: str
    ticket: Ticket


@attrs.frozen
class SlotResult:
    """A result passed to `record`."""

    now: float
    ticket: Ticket
    verdict: Verdict
    retry_after: float | None


@attrs.define
class Coordination:
    """The shared state except the pacer.

    Attributes:
        code_checksum: The version of the pacer's code.
        started_at: The start of the run on the monotonic clock.
        clock_offset: The wall clock minus the monotonic clock, in seconds.
        written_at: When the state was written, in seconds since 1970.
        last_limit: The limit that was found, in requests per second, and when, in seconds since 1970.
        members: The processes that share the limit, by ID.
        trial: The trial request in flight.
    """

    code_checksum: int
    started_at: float
    clock_offset: float
    written_at: float
    last_limit: tuple[float, float] | None
    members: dict[str, Member]
    trial: TrialRequest | None = None


# A pacer consists of types of these modules, and its objects form a tree: the codec doesn't preserve shared references.
_PACER_MODULES: Final = (
    adaptive,
    base,
    estimator,
    limit_search,
    overshoots,
    search_phases,
    round_trip,
    shared_adaptive,
    stray_429s,
)
_PACER_TYPES: Final = [
    part
    for module in _PACER_MODULES
    for part in vars(module).values()
    if isinstance(part, type) and part.__module__ == module.__name__
]
_PACER_CODEC: Final = Codec(*_PACER_TYPES)
_COORDINATION_CODEC: Final = Codec(Coordination, Member, Settings, TrialRequest, Ticket)


class VersionMismatchError(OSError):
    """Other processes use the file with another version of the pacer."""


class SharedState:
    """The pacer and its members. The class methods raise StateDecodeError if `text` contains no valid state."""

    def __init__(self, pacer: SharedAdaptivePacer, coordination: Coordination) -> None:
        self.pacer = pacer
        self.coordination = coordination

    @classmethod
    def start(
        cls, now: float, wall_time: float, start_rate: float, last_limit: tuple[float, float] | None
    ) -> "SharedState":
        """Start a run at `start_rate`, or near the limit found recently."""
        if not _is_fresh(last_limit, wall_time):
            last_limit = None
        if last_limit is not None:
            start_rate = _RESTART_RATIO * last_limit[0]
        return cls(
            SharedAdaptivePacer(start_rate),
            Coordination(_compute_code_checksum(), now, wall_time - now, wall_time, last_limit, {}),
        )

    @classmethod
    def resume(cls, data: bytes, now: float, wall_time: float, start_rate: float, is_alive: IsAlive) -> "SharedState":
        """Join the run in progress. If no member is alive, start a new run with the limit of the last one.

        Raise StateDecodeError, or VersionMismatchError if only the members of another version can use the state.
        """
        coordination, pacer = _decode_parts(data)
        if not abs(wall_time - coordination.written_at) <= _MAX_LIMIT_AGE_SECONDS:
            raise StateDecodeError("more than a day old")
        is_this_boot = abs(coordination.clock_offset - (wall_time - now)) <= _MAX_CLOCK_DRIFT_SECONDS
        if is_this_boot and any(is_alive(token, member) for token, member in coordination.members.items()):
            return cls(_require_same_version(pacer), coordination)
        if pacer is None:
            raise StateDecodeError("of another version")
        shift = 0.0 if is_this_boot else coordination.clock_offset - (wall_time - now)
        return cls(pacer, coordination).restart(now, wall_time, start_rate, shift)

    @classmethod
    def reload(cls, data: bytes) -> "SharedState":
        """Return the state that another member has written. Raise StateDecodeError or VersionMismatchError."""
        coordination, pacer = _decode_parts(data)
        return cls(_require_same_version(pacer), coordination)

    def restart(self, now: float, wall_time: float, start_rate: float, shift_seconds: float = 0.0) -> "SharedState":
        """Start another run with the limit and Retry-After of this one, whose times are `shift_seconds` behind."""
        state = self.start(now, wall_time, start_rate, self.coordination.last_limit)
        hold_until = self.pacer.snapshot().hold_until + shift_seconds
        state.pacer.record(now, Ticket(0, now), Verdict.UNKNOWN, hold_until - now)
        return state

    def encode(self) -> bytes:
        """Return the bytes that `resume` and `reload` read."""
        return dump_json([_COORDINATION_CODEC.encode(self.coordination), _PACER_CODEC.encode(self.pacer)])

    def update_member(self, token: str, member: Member, wall_time: float) -> None:
        """Add a member or update it."""
        coordination, now = self.coordination, member.seen_at
        coordination.members[token] = member
        coordination.written_at, coordination.clock_offset = wall_time, wall_time - now
        if self.pacer.estimate:
            coordination.last_limit = (self.pacer.estimate, wall_time)
        self._update_settings()

    def remove_member(self, token: str) -> None:
        """Remove a member. Its slots without a known result may have been used."""
        member = self.coordination.members.pop(token, None)
        if member is None:
            return
        trial = self.coordination.trial
        if trial is not None and trial.token == token:
            self._cancel_trial(trial)
        elif member.slot_count:
            for number in range(member.first_slot.number, member.first_slot.number + member.slot_count):
                self.pacer.record(member.first_slot.sent_at, Ticket(number, member.first_slot.sent_at), Verdict.UNKNOWN)
        self._update_settings()

    def remove_dead_members(self, now: float, is_alive: IsAlive) -> None:
        """Remove members that are gone, and withdraw a trial request that was never sent."""
        members = self.coordination.members
        for token, member in list(members.items()):
            if now > member.seen_at + _MEMBER_TIMEOUT_SECONDS or not is_alive(token, member):
                self.remove_member(token)
        trial = self.coordination.trial
        if trial is None:
            return
        sender = members.get(trial.token)
        if self.pacer.phase is not Phase.BLOCKED:
            self.coordination.trial = None
        elif sender is None or (sender.slot_count and now > trial.ticket.sent_at + _TRIAL_SEND_TIMEOUT_SECONDS):
            self._cancel_trial(trial)

    def lease_slots(self, token: str, now: float, max_slots: int) -> list[Ticket]:
        """Return up to `max_slots` of the next slots for a member, or none during a hold."""
        pacer = self.pacer
        slots: list[Ticket] = []
        while len(slots) < max_slots and pacer.not_before <= now:
            due = now + pacer.delay(now)
            if slots and due >= slots[0].sent_at + LEASE_SECONDS:
                break
            if pacer.phase is Phase.BLOCKED and due > now:
                break
            slots.append(pacer.acquire(due))
        if slots and pacer.phase is Phase.BLOCKED:
            self.coordination.trial = TrialRequest(token, slots[0])
        return slots

    def record_results(self, results: Iterable[SlotResult]) -> None:
        """Pass results to the pacer. If it reacts to one, all planned slots become void."""
        pacer = self.pacer
        for result in results:
            self._end_trial(result.ticket.number)
            reacted_at = pacer.reacted_up_to
            pacer.record(result.now, self._to_known_ticket(result.ticket), result.verdict, result.retry_after)
            if pacer.reacted_up_to != reacted_at:
                pacer.replan(result.now)

    def cancel_slots(self, first: Ticket, count: int) -> None:
        """Withdraw `count` slots, from ticket `first` on, that a member won't use."""
        if first.sent_at >= self.coordination.started_at:
            self.pacer.cancel_slots(first, count)
            self._end_trial(first.number + count - 1)

    def _end_trial(self, number: int) -> None:
        trial = self.coordination.trial
        if trial is not None and number >= trial.ticket.number:
            self.coordination.trial = None

    def _to_known_ticket(self, ticket: Ticket) -> Ticket:
        # The number of a ticket from an earlier run now belongs to another request. 0 belongs to none.
        return ticket if ticket.sent_at >= self.coordination.started_at else Ticket(0, ticket.sent_at)

    def _update_settings(self) -> None:
        requested = [member.settings for member in self.coordination.members.values()]
        if requested:
            self.pacer.update_settings(
                min(settings.max_rate for settings in requested),
                min(settings.utilization for settings in requested),
                max(settings.probe_after for settings in requested),
            )

    def _cancel_trial(self, trial: TrialRequest) -> None:
        self.pacer.cancel_slots(trial.ticket, 1)
        self.coordination.trial = None


def decode_limit(data: bytes, wall_time: float) -> float | None:
    """Return the limit in a state, or None if it contains none or it is too old. Raise StateDecodeError."""
    last_limit = _decode_parts(data)[0].last_limit
    return last_limit[0] if last_limit is not None and _is_fresh(last_limit, wall_time) else None


def _is_fresh(last_limit: tuple[float, float] | None, wall_time: float) -> bool:
    return (
        last_limit is not None
        and abs(wall_time - last_limit[1]) <= _MAX_LIMIT_AGE_SECONDS
        and 0 < last_limit[0] < math.inf
    )


def _decode_parts(data: bytes) -> tuple[Coordination, SharedAdaptivePacer | None]:
    """Return the parts of a state. The pacer is None if it is of another version."""
    parts = parse_json(data)
    if not isinstance(parts, list) or len(parts) != 2:
        raise StateDecodeError("not a pacer's state")
    coordination = _COORDINATION_CODEC.decode(parts[0])
    if not isinstance(coordination, Coordination):
        raise StateDecodeError("not a pacer's state")
    pacer = _PACER_CODEC.decode(parts[1]) if coordination.code_checksum == _compute_code_checksum() else None
    return coordination, pacer if isinstance(pacer, SharedAdaptivePacer) else None


def _require_same_version(pacer: SharedAdaptivePacer | None) -> SharedAdaptivePacer:
    if pacer is None:
        raise VersionMismatchError(errno.EBUSY, "in use by processes of another version")
    return pacer


@functools.cache
def _compute_code_checksum() -> int:
    """Return a checksum of the pacer's code. The encoded fields are only valid with the same code."""
    try:
        return zlib.crc32("".join(map(inspect.getsource, _PACER_MODULES)).encode())
    except OSError:  # installed without sources
        return 0
