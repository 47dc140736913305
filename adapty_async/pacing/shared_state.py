"""What processes that share an API key share, and how it changes: pure.

One pacer is the mind of them all; its schedule is the only one. Each member takes a *lease*, the next slots of
the schedule, and so two that are hungry alternate. What it doesn't use it gives back. A reaction to a refusal voids
all slots that are planned.
"""

import errno
import functools
import inspect
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from . import adaptive, base, measuring, mind, strays
from .base import Phase, Ticket, Verdict
from .codec import Codec, MisfitError, from_bytes, to_bytes
from .mind import Mind

LEASE: Final = 0.05
"""Seconds of the schedule that a member takes at once, if that is a slot at least."""

# The next run begins at this share of the limit that was found, if it was within this time.
_CAREFUL: Final = 0.8
_REMEMBERED: Final = 24 * 3600.0
# The clocks of one boot drift apart; a reboot takes longer than this.
_DRIFT: Final = 5.0
# A member that says nothing for so long isn't waited for; it is one again as soon as it says something.
_SILENT: Final = 300.0
# While everything is blocked, one request asks whether it still is: it must have left within this time.
_ASKED: Final = 1.0

_NO_TICKET: Final = Ticket(0, -math.inf)


@attrs.frozen
class Settings:
    """What a member asks for; of all members the most careful counts."""

    max_rate: float
    utilization: float
    probe_after: int


@attrs.define
class Member:
    """A pacer that takes part. Of its slots `count`, from ticket `first` on, aren't known to be used.

    `pid` is the process's in the namespace `among`: in a container it may be anybody's.
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
    """The one request that is let out while everything is blocked, and whose it is."""

    token: str
    ticket: Ticket


@attrs.frozen
class Report:
    """An answer: what `heard` was told."""

    now: float
    ticket: Ticket
    verdict: Verdict
    retry_after: float | None


@attrs.define
class Around:
    """What is known besides the mind.

    `code`: which version of the pacer thinks there. `began`: when the run did, on the steady clock. `offset`: seconds
    from the steady clock to that of the wall. `written`: seconds since 1970. `found`: the limit that was found, and
    when, likewise.
    """

    code: int
    began: float
    offset: float
    written: float
    found: tuple[float, float] | None
    members: dict[str, Member]
    question: Question | None = None


_MODULES: Final = (adaptive, base, measuring, mind, strays)
_PARTS: Final = [
    part
    for module in _MODULES
    for part in vars(module).values()
    if isinstance(part, type) and part.__module__ == module.__name__
]
_MIND: Final = Codec(*_PARTS)
_AROUND: Final = Codec(Around, Member, Settings, Question, Ticket)


class OtherVersionError(OSError):
    """Processes with another version of the pacer are at work."""


class SharedState:
    """The mind and its members. Raises MisfitError where `text` holds none."""

    def __init__(self, mind: Mind, around: Around) -> None:
        self.mind = mind
        self.around = around

    @classmethod
    def begin(cls, now: float, wall: float, rate: float, found: tuple[float, float] | None) -> "SharedState":
        """Begin a run at `rate`, or near the limit that was found not long ago."""
        if not _is_fresh(found, wall):
            found = None
        if found is not None:
            rate = _CAREFUL * found[0]
        return cls(Mind(rate), Around(_code(), now, wall - now, wall, found, {}))

    @classmethod
    def resume(cls, text: bytes, now: float, wall: float, rate: float, is_alive: IsAlive) -> "SharedState":
        """Join the run of those who are there; where nobody is, begin one with what the last has left.

        Raises MisfitError, and OtherVersionError where the state is of use to those who are there only.
        """
        around, mind = _read(text)
        if not abs(wall - around.written) <= _REMEMBERED:
            raise MisfitError("it is more than a day old")
        is_this_boot = abs(around.offset - (wall - now)) <= _DRIFT
        if is_this_boot and any(is_alive(token, member) for token, member in around.members.items()):
            return cls(_same_version(mind), around)
        if mind is None:
            raise MisfitError("it is of another version")
        shift = 0.0 if is_this_boot else around.offset - (wall - now)
        return cls(mind, around).begin_anew(now, wall, rate, shift)

    @classmethod
    def reload(cls, text: bytes) -> "SharedState":
        """Take over what another member has written. Raises MisfitError and OtherVersionError."""
        around, mind = _read(text)
        return cls(_same_version(mind), around)

    def begin_anew(self, now: float, wall: float, rate: float, shift: float = 0.0) -> "SharedState":
        """Begin another run with what is remembered of this one, whose times were `shift` seconds smaller."""
        state = self.begin(now, wall, rate, self.around.found)
        reopens = self.mind.snapshot().reopens + shift
        state.mind.heard(now, Ticket(0, now), Verdict.UNKNOWN, reopens - now)
        return state

    def encode(self) -> bytes:
        """Give what `resume` and `reload` take."""
        return to_bytes([_AROUND.encode(self.around), _MIND.encode(self.mind)])

    def attend(self, token: str, member: Member, wall: float) -> None:
        """Let a member take part, or go on to, as what it is now."""
        around, now = self.around, member.seen
        around.members[token] = member
        around.written, around.offset = wall, wall - now
        if self.mind.estimate:
            around.found = (self.mind.estimate, wall)
        self._adopt()

    def leave(self, token: str) -> None:
        """Let a member go; what it got and hasn't told of may have been sent."""
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
        """Let those go who are no more, and don't wait for a question that was never asked."""
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
        """Give a member the next slots, at most so many; none while all is held back."""
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
        """Tell the mind of answers; where it reacts to one, all that is planned is void."""
        mind = self.mind
        for report in reports:
            self._answer(report.ticket.number)
            reacted_at = mind.reacted_at
            mind.heard(report.now, self._known(report.ticket), report.verdict, report.retry_after)
            if mind.reacted_at != reacted_at:
                mind.replan(report.now)

    def withdraw(self, first: Ticket, count: int) -> None:
        """Take slots back that a member won't use: `count`, from ticket `first` on."""
        if first.sent_at >= self.around.began:
            self.mind.withdraw(first, count)
            self._answer(first.number + count - 1)

    def _answer(self, number: int) -> None:
        question = self.around.question
        if question is not None and number >= question.ticket.number:
            self.around.question = None

    def _known(self, ticket: Ticket) -> Ticket:
        # A ticket of an earlier run has the number of another one now; 0 has none.
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
    """Give the limit that a state remembers, None where there is none or it is too old. Raises MisfitError."""
    found = _read(text)[0].found
    return found[0] if found is not None and _is_fresh(found, wall) else None


def _is_fresh(found: tuple[float, float] | None, wall: float) -> bool:
    return found is not None and abs(wall - found[1]) <= _REMEMBERED and 0 < found[0] < math.inf


def _read(text: bytes) -> tuple[Around, Mind | None]:
    """Read a state; its mind may be of another version."""
    found = from_bytes(text)
    if not isinstance(found, list) or len(found) != 2:
        raise MisfitError("it is no state")
    around = _AROUND.decode(found[0])
    if not isinstance(around, Around):
        raise MisfitError("it is no state")
    mind = _MIND.decode(found[1]) if around.code == _code() else None
    return around, mind if isinstance(mind, Mind) else None


def _same_version(mind: Mind | None) -> Mind:
    if mind is None:
        raise OtherVersionError(errno.EBUSY, "processes with another version use it")
    return mind


@functools.cache
def _code() -> int:
    """Give a number for the code of the pacer: its fields mean the same only where it is the same."""
    try:
        return zlib.crc32("".join(map(inspect.getsource, _MODULES)).encode())
    except OSError:  # installed without sources
        return 0
