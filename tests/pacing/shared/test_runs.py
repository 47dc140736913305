"""What the shared pacer remembers between runs, and the format of its file."""

import fcntl
import gc
import math
import os
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapty_async import AdaptyClient, SharedPacer
from adapty_async.pacing import Pacer, Phase, Ticket, Verdict
from benchmarks.shared_pacing import Job, goodput

from .helpers import Clocks, kill, members, open_now, run, send, works_alone

DAY = 24 * 3600.0


class TestRemembered:
    def find(self, pacer: SharedPacer) -> None:
        """Find a limit of 50/s."""
        run([Job(pacer)], seconds=20)
        pacer.close()

    def test_the_next_run_is_at_nine_tenths_within_three_seconds(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks
    ) -> None:
        self.find(open_pacer())
        clocks.offset += 3600.0
        tally = run([Job(open_pacer()), Job(open_pacer())], seconds=10)
        assert goodput(tally, 50, 3, 8) >= 0.9

    @pytest.mark.parametrize("later", [60.0, DAY - 100.0])
    def test_it_begins_at_four_fifths_of_what_was_found(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks, later: float, warnings: Callable[[], list[str]]
    ) -> None:
        self.find(open_pacer())
        clocks.offset += later
        pacer = open_pacer()
        pacer.delay(1.0)
        assert pacer.rate == pytest.approx(0.8 * 50, rel=0.03)
        assert warnings() == []

    def test_max_rate_is_kept_then_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        self.find(open_pacer())
        pacer = open_pacer(max_rate=20.0)
        pacer.delay(50.0)
        assert pacer.rate == 20.0

    def test_after_a_day_it_is_forgotten_with_one_warning(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks, warnings: Callable[[], list[str]]
    ) -> None:
        self.find(open_pacer())
        clocks.offset += DAY + 100.0
        pacer = open_pacer()
        pacer.delay(50.0)
        assert pacer.rate == 5.0
        [warning] = warnings()
        assert "more than a day old" in warning
        open_pacer().delay(50.0)
        assert len(warnings()) == 1

    def test_it_survives_a_reboot_and_the_times_of_before_are_forgotten(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks
    ) -> None:
        one = open_pacer()
        run([Job(one)], seconds=20)
        kill(one)
        clocks.offset += 3600.0  # the monotonic clock restarts
        pacer = open_pacer()
        assert open_now(pacer, 2.0)
        assert pacer.rate == pytest.approx(40, rel=0.03)
        assert pacer.snapshot().sent == 1

    @pytest.mark.parametrize("reboot", [False, True])
    def test_a_retry_after_that_still_runs_is_obeyed(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks, reboot: bool
    ) -> None:
        one = open_pacer()
        one.record(1000.0, send(one, 1000.0), Verdict.THROTTLED, 3600.0)
        one.close()
        clocks.now = 200.0 if reboot else 1100.0
        clocks.offset += 900.0 if reboot else 0.0  # the monotonic clock has restarted
        assert open_pacer().delay(clocks.now) == pytest.approx(3500.0)

    def test_a_wall_clock_that_is_put_forward_a_little_shortens_no_retry_after(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks
    ) -> None:
        one = open_pacer()
        one.record(1000.0, send(one, 1000.0), Verdict.THROTTLED, 30.0)
        one.close()
        clocks.offset += 4.0
        assert open_pacer().delay(1000.0) == pytest.approx(30.0)

    def test_who_finds_others_at_work_joins_them(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one = open_pacer()
        run([Job(one)], seconds=30)
        other = open_pacer(start_rate=1.0)
        send(other, 31.0)
        assert other.rate > 45.0

    def test_a_finder_that_was_killed_is_no_company(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one = open_pacer()
        run([Job(one)], seconds=30)
        kill(one)
        other = open_pacer()
        send(other, 31.0)
        assert other.rate == pytest.approx(40, rel=0.03)


class TestItsForm:
    def test_it_is_a_pacer(self, open_pacer: Callable[..., SharedPacer]) -> None:
        pacer = open_pacer(start_rate=8)
        assert isinstance(pacer, Pacer)
        assert weakref.WeakKeyDictionary({pacer: 1})[pacer] == 1
        assert repr(pacer) == "<SharedPacer start, 8/s>"
        assert (pacer.rate, pacer.estimate, pacer.snapshot().sent) == (8.0, None, 0)
        assert AdaptyClient("secret", pacer=pacer)

    def test_it_numbers_its_tickets_and_dates_them(self, open_pacer: Callable[..., SharedPacer]) -> None:
        pacer = open_pacer()
        assert pacer.acquire(10.0) == Ticket(1, 10.0)  # without a request
        assert pacer.acquire(12.0) == Ticket(2, 12.0)
        assert pacer.delay(12.0) == pytest.approx(0.18)

    def test_nothing_is_done_before_the_first_use(self, open_pacer: Callable[..., SharedPacer], path: Path) -> None:
        open_pacer()
        assert not path.parent.exists()

    def test_a_path_is_that_of_where_it_was_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        pacer = SharedPacer("state")
        monkeypatch.chdir("/")
        pacer.delay(1000.0)
        pacer.close()
        assert (tmp_path / "state").exists()

    def test_it_is_closed_twice_harmlessly_and_goes_on_alone(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        ticket = send(pacer, 1000.0)
        pacer.close()
        pacer.close()
        assert members(path) == 0
        pacer.record(1000.1, ticket, Verdict.ACCEPTED)
        works_alone(pacer, 1001.0)
        assert warnings() == []

    def test_once_alone_it_takes_no_ticket_of_before_for_its_own(self, open_pacer: Callable[..., SharedPacer]) -> None:
        pacer = open_pacer(start_rate=100.0)
        before = [send(pacer, 1000.0 + number / 100) for number in range(50)]
        pacer.close()
        own = send(pacer, 1001.0)
        for ticket in before:
            pacer.record(1001.1, ticket, Verdict.THROTTLED)
        assert pacer.snapshot().phase is Phase.START
        pacer.record(1001.1, own, Verdict.THROTTLED)
        assert pacer.snapshot().phase is Phase.BLOCKED

    def test_one_that_nobody_holds_is_closed(self, path: Path) -> None:
        pacer = SharedPacer(path)
        send(pacer, 1000.0)
        assert members(path) == 1
        del pacer
        gc.collect()
        assert members(path) == 0

    def test_where_another_has_the_lock_it_leaves_a_moment_later(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            pacer.close()
            pacer.delay(1001.0)
            assert members(path) == 1
        assert pacer.delay(1001.0) == 0.0
        assert members(path) == 0
        assert warnings() == []

    def test_nothing_sleeps_while_another_has_the_lock(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
    ) -> None:
        closed, dropped = SharedPacer(path), SharedPacer(path)
        tickets = [send(closed, 1000.0), send(dropped, 1000.0)]
        slept = list[float]()
        monkeypatch.setattr(time, "sleep", slept.append)
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for number, ticket in enumerate(tickets):
                (closed, dropped)[number].record(1000.1, ticket, Verdict.THROTTLED, 30.0)
                assert (closed, dropped)[number].delay(1000.2) > 0.0
            closed.close()
            del dropped
            gc.collect()
        closed.close()
        assert slept == []
        assert warnings() == []

    def test_closed_again_it_leaves_too(self, open_pacer: Callable[..., SharedPacer], path: Path) -> None:
        pacer = open_pacer()
        ticket = send(pacer, 1000.0)
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            pacer.record(1000.1, ticket, Verdict.THROTTLED, 30.0)
            pacer.close()
        pacer.close()
        assert members(path) == 0
        assert open_pacer().delay(1000.1) == pytest.approx(30.0)

    def test_one_that_is_never_let_leave_gives_up(
        self, open_pacer: Callable[..., SharedPacer], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        tries = list[int]()

        def busy(*_: object) -> None:
            tries.append(1)
            raise BlockingIOError

        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", busy)
            pacer.close()
            for _ in range(100):
                pacer.delay(1001.0)
            tried = len(tries)
            pacer.delay(1001.0)
        assert 0 < tried == len(tries)

    def test_it_serves_several_threads(self, open_pacer: Callable[..., SharedPacer]) -> None:
        pacer = open_pacer(start_rate=10_000.0)
        numbers = list[int]()

        def work() -> None:
            for step in range(5000):
                now = 1000.0 + step / 10_000
                if pacer.delay(now) == 0.0:
                    ticket = pacer.acquire(now)
                    numbers.append(ticket.number)
                    pacer.record(now, ticket, Verdict.ACCEPTED)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor() as threads:
                for worked in [threads.submit(work) for _ in range(3)]:
                    worked.result()
        finally:
            sys.setswitchinterval(before)
        assert len(numbers) >= 1000
        assert len(set(numbers)) == len(numbers)

    def test_a_forked_child_takes_part_by_itself(
        self, open_pacer: Callable[..., SharedPacer], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", os.getppid)
            send(pacer, 1001.0)
            assert members(path) == 2
            pacer.close()
            assert members(path) == 1

    @pytest.mark.parametrize("rate", [0, -1.0, math.inf, math.nan])
    @pytest.mark.parametrize("name", ["start_rate", "max_rate"])
    def test_a_rate_that_is_none_is_a_value_error(self, path: Path, name: str, rate: float) -> None:
        with pytest.raises(ValueError, match="positive, finite number of requests per second"):
            SharedPacer(path, **{name: rate})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="positive, finite number of requests per second"):
            SharedPacer.background(path, max_rate=rate)

    @pytest.mark.parametrize("utilization", [0.0, -0.1, 1.01, math.nan])
    def test_a_utilization_outside_its_range_is_a_value_error(self, path: Path, utilization: float) -> None:
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            SharedPacer(path, utilization=utilization)

    def test_a_wake_up_that_is_late_by_as_much_as_loops_usually_are_loses_no_rate(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        pacer, now, times = open_pacer(start_rate=100.0), 1000.0, list[float]()
        for _ in range(200):
            wait = pacer.delay(now)
            now += wait + 0.015 if wait > 1e-6 else 0.0
            times.append(pacer.acquire(now).sent_at)
        assert times[-1] - times[0] <= 199 / 100 + 0.02

    @given(pauses=st.lists(st.floats(0, 0.5), min_size=1, max_size=40), rate=st.sampled_from([3.0, 50.0, 400.0]))
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_no_idleness_whatever_is_followed_by_a_burst(
        self, tmp_path: Path, pauses: list[float], rate: float
    ) -> None:
        pacer, now, times = SharedPacer(tmp_path / "state", start_rate=rate), 1000.0, list[float]()
        for pause in pauses:
            now += pause
            for _ in range(5):
                now += pacer.delay(now)
                times.append(pacer.acquire(now).sent_at)
        pacer.close()
        for first, began in enumerate(times):
            for last, ended in enumerate(times[first:], first):
                # Lateness is made up for at the lease and at the send.
                assert last - first <= rate * (ended - began + 0.04) + 1e-6


class TestPaths:
    @pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
    def test_a_path_that_no_file_can_have_is_a_value_error(self, tmp_path: Path, name: str) -> None:
        for make in (SharedPacer, SharedPacer.background):
            with pytest.raises(ValueError, match="contains a character that isn't allowed in paths"):
                make(tmp_path / name)

    def test_where_the_current_folder_is_gone_it_paces_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        monkeypatch.chdir(folder)
        folder.rmdir()
        pacer = SharedPacer("state")
        works_alone(pacer)
        assert len(warnings()) == 1
