"""Rare cases of the shared pacer: silent members, careful members, and a file that is replaced."""

import fcntl
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapty_async import SharedPacer
from adapty_async.pacing import Ticket, Verdict
from adapty_async.pacing.shared import local_member
from adapty_async.pacing.shared.state import Member, Settings, SharedState, SlotResult
from adapty_async.pacing.shared.state_file import StateFile
from benchmarks.rate_simulation import BIN
from benchmarks.shared_pacing import Job

from .helpers import kill, members, run, send


class TestWhoIsThere:
    def test_one_in_another_container_is_gone_when_it_has_been_silent_for_five_minutes(
        self, open_pacer: Callable[..., SharedPacer], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        far, near = open_pacer(), open_pacer()
        with monkeypatch.context() as patched:
            patched.setattr(local_member, "_read_pid_namespace", lambda: "pid:[1]")
            send(far, 1000.0)
            kill(far)
        # The process ID is that of our own process, but in another namespace, so it proves nothing.
        send(near, 1001.0)
        assert members(path) == 2
        send(near, 1299.0)
        assert members(path) == 2
        send(near, 1301.0)
        assert members(path) == 1

    def test_one_that_has_been_silent_is_there_again_when_it_says_something(
        self, open_pacer: Callable[..., SharedPacer], path: Path
    ) -> None:
        one, other = open_pacer(), open_pacer()
        send(one, 1000.0)
        send(other, 1001.0)
        assert members(path) == 2
        send(other, 1301.0)
        assert members(path) == 1
        send(one, 1302.0)
        assert members(path) == 2


class TestTheMostCareful:
    @pytest.mark.no_cover  # the same lines run again and again
    def test_nobody_probes_sooner_than_the_most_patient_wants(self, open_pacer: Callable[..., SharedPacer]) -> None:
        tally = run([Job(open_pacer(probe_after=20)), Job(open_pacer(probe_after=3000), begins=30.0)], seconds=85)
        before, after = tally.refused[int(10 / BIN) : int(30 / BIN)], tally.refused[int(31 / BIN) :]
        assert sum(before) > 0
        assert sum(after) == 0


class TestAReaction:
    def test_it_makes_what_was_planned_free_again(self) -> None:
        state = SharedState.start(1000.0, 0.0, 100.0, None)
        settings = Settings(math.inf, 0.98, 200)
        leases = list[list[Ticket]]()
        for number in range(20):
            state.update_member(str(number), Member(1, "", settings, 1000.0), 0.0)
            leases.append(state.lease_slots(str(number), 1000.0, 5))
        assert leases[-1][-1].sent_at == pytest.approx(1000.97)
        for seconds in range(60):  # responses, so that the server isn't taken for closed
            state.record_results([SlotResult(1000.0 + seconds / 1000, leases[0][0], Verdict.ACCEPTED, None)])
        state.record_results(
            [SlotResult(1000.1, ticket, Verdict.THROTTLED, None) for lease in leases[1:3] for ticket in lease]
        )
        assert state.pacer.reacted_up_to == 100
        assert state.pacer.delay(1000.1) < 0.3


class TestBegunAnew:
    def test_a_state_of_after_isnt_taken_for_one_of_before(self, path: Path) -> None:
        one, other = StateFile(path), StateFile(path)
        assert one.read_new_state() is None
        one.store(b"first")
        one.store(b"second")
        assert other.read_new_state() == b"second"
        other.reset()
        other.store(b"third")
        other.store(b"fourth")
        assert one.read_new_state() == b"fourth"
        one.close()
        other.close()


@pytest.fixture
def _nobody_is_signalled() -> Iterator[None]:
    """Ignore the signal with which the system asks for a lease back."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="only Linux makes an opening wait for a regular file")
@pytest.mark.usefixtures("_nobody_is_signalled")
def test_an_opening_that_would_wait_for_somebody_is_none(path: Path, warnings: Callable[[], list[str]]) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    began = time.monotonic()
    with path.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        pacer = SharedPacer(path)
        send(pacer, 1000.0)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    # The system revokes the lease after 45 seconds.
    assert time.monotonic() - began < 40.0
    [warning] = warnings()
    assert "paces alone" in warning
