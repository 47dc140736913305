"""Pacers on one file in one process, in virtual time."""

from pathlib import Path
from typing import Any

import pytest

from adapty_async import SharedPacer
from adapty_async.pacing import Ticket, Verdict
from adapty_async.pacing.shared import local_member, state, state_file
from benchmarks.rate_simulation import Tally, TokenBucket, World
from benchmarks.shared_pacing import Job, simulate


class Clocks:
    """A wall clock that can be set. Tests pass in the times of the monotonic clock."""

    def __init__(self) -> None:
        self.offset = 1_700_000_000.0
        self.now = 1000.0

    def wall(self) -> float:
        return self.now + self.offset


def run(jobs: list[Job], rate: float = 50, burst: float = 10, seconds: float = 100, **world: Any) -> Tally:
    return simulate(World(lambda: TokenBucket(rate, burst), seconds, **world), 1, jobs)


def kill(pacer: SharedPacer) -> None:
    """Leave the pacer's membership in the file, like a killed process."""
    assert pacer._member is not None  # noqa: SLF001 - there is no other way to simulate a kill
    local_member._local_tokens.discard(pacer._member._token)  # noqa: SLF001 - see above


def open_now(pacer: SharedPacer, now: float) -> bool:
    return pacer.delay(now) == 0.0


def send(pacer: SharedPacer, now: float) -> Ticket:
    """Send as soon as possible from `now` on."""
    for _ in range(1000):
        wait = pacer.delay(now)
        if wait == 0.0:
            return pacer.acquire(now)
        now += wait
    pytest.fail("it never opens")


def slot_in_hand(pacer: SharedPacer, now: float) -> float:
    """Send until the pacer has a slot in the future. Return the time of the slot."""
    while open_now(pacer, now):
        pacer.acquire(now)
    return now + pacer.delay(now)


def members(path: Path) -> int:
    """Return the number of members in the file."""
    file = state_file.StateFile(path)
    text = file.read_new_state()
    file.close()
    assert text is not None
    return len(state.SharedState.reload(text).coordination.members)


def works_alone(pacer: SharedPacer, now: float = 1000.0) -> None:
    """Check that the pacer works without the file."""
    ticket = send(pacer, now)
    pacer.record(now + 0.1, ticket, Verdict.ACCEPTED)
    assert 0.0 < pacer.delay(now + 0.1) < 1.0
    pacer.record(now + 1.1, send(pacer, now + 1.0), Verdict.THROTTLED, 30.0)
    assert pacer.delay(now + 1.1) == pytest.approx(30.0)
