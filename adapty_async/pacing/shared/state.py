"""The state that processes with the same API key share, without I/O.

All processes share one pacer, the mind, with a single schedule. Each member takes a *lease*, the next slots of the
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

from .. import adaptive, base, estimator, strays
from ..base import Phase, Ticket, Verdict
from . import planned
from .codec import Codec, MisfitError, from_bytes, to_bytes
from .planned import Mind

LEASE: Final = 0.05
"""Seconds of the schedule that a member takes at once, but at least one slot."""

# The next run starts at this share of the remembered limit, if that is not older than this many seconds.
_CAREFUL: Final = 0.8
_REMEMBERED: Final = 24 * 3600.0
# Without a reboot, the monotonic and the wall clock drift apart by less than this many seconds. A reboot takes longer.
_DRIFT: Final = 5.0
# A member that is silent for this many seconds counts as gone. It joins again with its next transaction.
_SILENT: Final = 300.0
# Seconds within which a trial request must be sent while the pacer is blocked.
_ASKED: Final = 1.0

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

    `pid` is valid in the PID namespace `among`. In a container the same number may belong to another process.
    """

    pid: int
    among: str
    settings: Settings
    seen: float
    first: Ticket = _NO_TICKET
    count: int = 0


IsAlive = Callable[[str, Member], bool]


@attrs.frozen
class Question:
    """The trial request that is sent while the pacer is blocked, and the member that sends it."""

    token: str
    ticket: Ticket


@attrs.frozen
class Report:
    """A result passed to `heard`."""

    now: float
    ticket: Ticket
    verdict: Verdict
    retry_after: float | None


@attrs.define
class Around:
    """The shared state except the mind.

    `code`: the version of the pacer's code. `began`: the start of the run on the monotonic clock. `offset`: wall clock
    minus monotonic clock, in seconds. `written`: seconds since 1970. `found`: the limit that was found, in requests per
    second, and when, in seconds since 1970.
    """

    code: int
    began: float
    offset: float
    written: float
    found: tuple[float, float] | None
    members: dict[str, Member]
    question: Question | None = None


_MODULES: Final = (adaptive, base, estimator, planned, strays)
_PARTS: Final = [
    part
    for module in _MODULES
    for part in vars(module).values()
    if isinstance(part, type) and part.__module__ == module.__name__
]
_MIND: Final = Codec(*_PARTS)
_AROUND: Final = Codec(Around, Member, Settings, Question, Ticket)


class OtherVersionError(OSError):
    """Other processes use the file with another version of the pacer."""


class SharedState:
    """The mind and its members. The class methods raise MisfitError if `text` contains no valid state."""

    def __init__(self, mind: Mind, around: Around) -> None:
        self.mind = mind
        self.around = around

    @classmethod
    def begin(cls, now: float, wall: float, rate: float, found: tuple[float, float] | None) -> "SharedState":
        """Start a run at `rate`, or near the limit found recently."""
        if not _is_fresh(found, wall):
            found = None
        if found is not None:
            rate = _CAREFUL * found[0]
        return cls(Mind(rate), Around(_code(), now, wall - now, wall, found, {}))

    @classmethod
    def resume(cls, text: bytes, now: float, wall: float, rate: float, is_alive: IsAlive) -> "SharedState":
        """Join the run in progress. If no member is alive, start a new run with the limit of the last one.

        Raise MisfitError, or OtherVersionError if only the members of another version can use the state.
        """
        around, mind = _read(text)
        if not abs(wall - around.written) <= _REMEMBERED:
            raise MisfitError("more than a day old")
        is_this_boot = abs(around.offset - (wall - now)) <= _DRIFT
        if is_this_boot and any(is_alive(token, member) for token, member in around.members.items()):
            return cls(_same_version(mind), around)
        if mind is None:
            raise MisfitError("of another version")
        shift = 0.0 if is_this_boot else around.offset - (wall - now)
        return cls(mind, around).begin_anew(now, wall, rate, shift)

    @classmethod
    def reload(cls, text: bytes) -> "SharedState":
        """Return the state that another member has written. Raise MisfitError or OtherVersionError."""
        around, mind = _read(text)
        return cls(_same_version(mind), around)

    def begin_anew(self, now: float, wall: float, rate: float, shift: float = 0.0) -> "SharedState":
        """Start another run with the limit and the Retry-After of this one, whose times are `shift` seconds behind."""
        state = self.begin(now, wall, rate, self.around.found)
        reopens = self.mind.snapshot().reopens + shift
        state.mind.heard(now, Ticket(0, now), Verdict.UNKNOWN, reopens - now)
        return state

    def encode(self) -> bytes:
        """Return the bytes that `resume` and `reload` read."""
        return to_bytes([_AROUND.encode(self.around), _MIND.encode(self.mind)])

    def attend(self, token: str, member: Member, wall: float) -> None:
        """Add a member or update it."""
        around, now = self.around, member.seen
        around.members[token] = member
        around.written, around.offset = wall, wall - now
        if self.mind.estimate:
            around.found = (self.mind.estimate, wall)
        self._adopt()

    def leave(self, token: str) -> None:
        """Remove a member. Its slots without a known result may have been used."""
        member = self.around.members.pop(token, None)
        if member is None:
            return
        question = self.around.question
        if question is not None and question.token == token:
            self._withdraw_question(question)
        elif member.count:
            for number in range(member.first.number, member.first.number + member.count):
                self.mind.heard(member.first.sent_at, Ticket(number, member.first.sent_at), Verdict.UNKNOWN)
        self._adopt()

    def tidy(self, now: float, is_alive: IsAlive) -> None:
        """Remove members that are gone, and withdraw a trial request that was never sent."""
        members = self.around.members
        for token, member in list(members.items()):
            if now > member.seen + _SILENT or not is_alive(token, member):
                self.leave(token)
        question = self.around.question
        if question is None:
            return
        asker = members.get(question.token)
        if self.mind.phase is not Phase.BLOCKED:
            self.around.question = None
        elif asker is None or (asker.count and now > question.ticket.sent_at + _ASKED):
            self._withdraw_question(question)

    def lease(self, token: str, now: float, most: int) -> list[Ticket]:
        """Return up to `most` of the next slots for a member, or none during a hold."""
        mind = self.mind
        slots: list[Ticket] = []
        while len(slots) < most and mind.held_until <= now:
            due = now + mind.wait(now)
            if slots and due >= slots[0].sent_at + LEASE:
                break
            if mind.phase is Phase.BLOCKED and due > now:
                break
            slots.append(mind.sent(due))
        if slots and mind.phase is Phase.BLOCKED:
            self.around.question = Question(token, slots[0])
        return slots

    def hear(self, reports: Iterable[Report]) -> None:
        """Pass results to the mind. If it reacts to one, all planned slots become void."""
        mind = self.mind
        for report in reports:
            self._answer(report.ticket.number)
            reacted_at = mind.reacted_at
            mind.heard(report.now, self._known(report.ticket), report.verdict, report.retry_after)
            if mind.reacted_at != reacted_at:
                mind.replan(report.now)

    def withdraw(self, first: Ticket, count: int) -> None:
        """Withdraw `count` slots, from ticket `first` on, that a member won't use."""
        if first.sent_at >= self.around.began:
            self.mind.withdraw(first, count)
            self._answer(first.number + count - 1)

    def _answer(self, number: int) -> None:
        question = self.around.question
        if question is not None and number >= question.ticket.number:
            self.around.question = None

    def _known(self, ticket: Ticket) -> Ticket:
        # The number of a ticket from an earlier run now belongs to another request. 0 belongs to none.
        return ticket if ticket.sent_at >= self.around.began else Ticket(0, ticket.sent_at)

    def _adopt(self) -> None:
        asked = [member.settings for member in self.around.members.values()]
        if asked:
            self.mind.adopt(
                min(settings.max_rate for settings in asked),
                min(settings.utilization for settings in asked),
                max(settings.probe_after for settings in asked),
            )

    def _withdraw_question(self, question: Question) -> None:
        self.mind.withdraw(question.ticket, 1)
        self.around.question = None


def limit_in(text: bytes, wall: float) -> float | None:
    """Return the limit in a state, or None if it contains none or it is too old. Raise MisfitError."""
    found = _read(text)[0].found
    return found[0] if found is not None and _is_fresh(found, wall) else None


def _is_fresh(found: tuple[float, float] | None, wall: float) -> bool:
    return found is not None and abs(wall - found[1]) <= _REMEMBERED and 0 < found[0] < math.inf


def _read(text: bytes) -> tuple[Around, Mind | None]:
    """Return the parts of a state. The mind is None if it is of another version."""
    found = from_bytes(text)
    if not isinstance(found, list) or len(found) != 2:
        raise MisfitError("not a pacer's state")
    around = _AROUND.decode(found[0])
    if not isinstance(around, Around):
        raise MisfitError("not a pacer's state")
    mind = _MIND.decode(found[1]) if around.code == _code() else None
    return around, mind if isinstance(mind, Mind) else None


def _same_version(mind: Mind | None) -> Mind:
    if mind is None:
        raise OtherVersionError(errno.EBUSY, "in use by processes of another version")
    return mind


@functools.cache
def _code() -> int:
    """Return a checksum of the pacer's code. The encoded fields are only valid with the same code."""
    try:
        return zlib.crc32("".join(map(inspect.getsource, _MODULES)).encode())
    except OSError:  # installed without sources
        return 0
