"""The pacer that processes share: several on one file, in virtual time, in one process."""

import errno
import fcntl
import gc
import json
import logging
import math
import os
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapty_async import AdaptivePacer, AdaptyClient, SharedPacer
from adapty_async.pacing import MAX_RETRY_AFTER, Pacer, Phase, Ticket, Verdict, membership, shared_state, state_file
from adapty_async.pacing.codec import Codec, MisfitError, fields_of, from_bytes, to_bytes
from benchmarks.rate_simulation import Answer, Tally, TokenBucket, World
from benchmarks.shared_pacing import Job, goodput, refused, simulate, split

DAY = 24 * 3600.0


class Clocks:
    """A wall clock to be set; the steady clock is what the tests hand in."""

    def __init__(self) -> None:
        self.offset = 1_700_000_000.0
        self.now = 1000.0

    def wall(self) -> float:
        return self.now + self.offset


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pacing" / "state"


@pytest.fixture
def open_pacer(path: Path, clocks: Clocks) -> Iterator[Callable[..., SharedPacer]]:
    """Make pacers on one file, and close them at the end."""
    made: list[SharedPacer] = []

    def make(**options: Any) -> SharedPacer:
        made.append(SharedPacer(path, wall_clock=clocks.wall, **options))
        return made[-1]

    yield make
    for pacer in made:
        pacer.close()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give what the logger was told at WARNING or above."""

    def told() -> list[str]:
        found = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert {record.name for record in found} <= {"adapty_async"}
        return [record.getMessage() for record in found]

    return told


def run(jobs: list[Job], rate: float = 50, burst: float = 10, seconds: float = 100, **world: Any) -> Tally:
    return simulate(World(lambda: TokenBucket(rate, burst), seconds, **world), 1, jobs)


def kill(pacer: SharedPacer) -> None:
    """Leave the pacer's membership in the file, as a process does that is killed."""
    assert pacer._membership is not None  # noqa: SLF001 - it has no other way to die
    membership._members_here.discard(pacer._membership._token)  # noqa: SLF001 - likewise


def open_now(pacer: SharedPacer, now: float) -> bool:
    return pacer.wait(now) == 0.0


def send(pacer: SharedPacer, now: float) -> Ticket:
    """Send as soon as it is allowed, from `now` on."""
    for _ in range(1000):
        wait = pacer.wait(now)
        if wait == 0.0:
            return pacer.sent(now)
        now += wait
    pytest.fail("it never opens")


def slot_in_hand(pacer: SharedPacer, now: float) -> float:
    """Let the pacer have a slot that comes later; give its time."""
    while open_now(pacer, now):
        pacer.sent(now)
    return now + pacer.wait(now)


def members(path: Path) -> int:
    """Count who takes part, by the file."""
    file = state_file.StateFile(path)
    text = file.changed()
    file.close()
    assert text is not None
    return len(shared_state.SharedState.reload(text).around.members)


class TestTogether:
    @pytest.mark.parametrize(
        ("farther", "begins"), [(0.0, 0.0), (0.4, 0.0), (0.0, 40.0)], ids=["alike", "one far away", "one later"]
    )
    def test_two_come_near_the_limit_and_share_it_evenly(
        self, open_pacer: Callable[..., SharedPacer], farther: float, begins: float
    ) -> None:
        jobs = [Job(open_pacer()), Job(open_pacer(), farther=farther, begins=begins)]
        tally = run(jobs, seconds=120)
        assert goodput(tally, 50, 20, 120) >= 0.98
        assert refused(tally) <= 0.006
        assert 0.48 <= split(jobs, max(20.0, begins), 120) <= 0.52

    def test_three_share_it_evenly_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        jobs = [Job(open_pacer()) for _ in range(3)]
        tally = run(jobs)
        assert goodput(tally, 50, 20, 100) >= 0.98
        assert 0.31 <= split(jobs, 20, 100) <= 0.36

    @pytest.mark.parametrize(("rate", "burst", "seconds", "under_way"), [(50, 10, 120, 64), (1000, 50, 40, 400)])
    def test_one_alone_is_as_good_as_an_adaptive_pacer(
        self, open_pacer: Callable[..., SharedPacer], rate: float, burst: float, seconds: float, under_way: int
    ) -> None:
        tallies = [
            run([Job(pacer)], rate, burst, seconds, under_way=under_way) for pacer in (AdaptivePacer(), open_pacer())
        ]
        alone, shared = (goodput(tally, rate, 20, seconds) for tally in tallies)
        assert shared >= alone - 0.005
        assert refused(tallies[1]) <= refused(tallies[0]) + 0.002

    @pytest.mark.parametrize("how", ["killed", "idle", "closed"])
    def test_when_one_ends_the_other_takes_over_at_once(self, open_pacer: Callable[..., SharedPacer], how: str) -> None:
        ended, goes_on = open_pacer(), open_pacer()

        def look(now: float) -> float:
            if now >= 40 and how == "killed":
                kill(ended)
            elif now >= 40 and how == "closed":
                ended.close()
            return 0.1

        jobs = [Job(ended, ends=40.0), Job(goes_on)]
        tally = run(jobs, delay=look)
        assert goodput(tally, 50, 41, 45) >= 0.97
        assert goodput(tally, 50, 41, 100) >= 0.98
        assert refused(tally) <= 0.006

    def test_one_that_has_little_to_send_takes_little_from_the_other(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        hungry, sparing = open_pacer(), open_pacer()
        now, counts, answers = 0.0, [0, 0], deque[tuple[float, SharedPacer, Ticket]]()
        due = 0.0
        while now < 100.0:
            while answers and answers[0][0] <= now:
                _, pacer, ticket = answers.popleft()
                pacer.heard(now, ticket, Verdict.ACCEPTED)
            for who, pacer in enumerate((hungry, sparing)):
                if (who == 0 or now >= due) and pacer.wait(now) <= 1e-6:
                    answers.append((now + 0.05, pacer, pacer.sent(now)))
                    counts[who] += 1
                    due = now + 0.3 if who else due
            if hungry.rate >= 40:
                break
            now += 0.001
        began, counts = now, [0, 0]
        rate = hungry.rate
        while now < began + 1.0:
            for who, pacer in enumerate((hungry, sparing)):
                if (who == 0 or now >= due) and pacer.wait(now) <= 1e-6:
                    pacer.sent(now)
                    counts[who] += 1
                    due = now + 0.3 if who else due
            now += 0.001
        assert counts[1] >= 3
        assert sum(counts) >= 0.93 * rate

    def test_no_process_sends_before_a_retry_after_is_over(self, open_pacer: Callable[..., SharedPacer]) -> None:
        tally = run([Job(open_pacer()), Job(open_pacer())], seconds=200, retry_after=lambda _: 1.0)
        assert tally.too_early == 0
        assert goodput(tally, 50, 20, 200) >= 0.94
        assert refused(tally) <= 0.0015

    def test_where_everything_is_refused_they_ask_with_single_requests_only(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        def fault(now: float, _: float) -> Answer | None:
            return Answer(Verdict.THROTTLED) if 30 <= now < 90 else None

        tally = run([Job(open_pacer()), Job(open_pacer())], seconds=130, fault=fault)
        assert sum(tally.sent[64:180]) <= 30
        assert goodput(tally, 50, 122, 130) >= 0.9


class TestWhatOneHearsAllObey:
    def test_a_retry_after_revokes_the_slots_that_others_have_in_hand(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        one, other = open_pacer(start_rate=100), open_pacer(start_rate=100)
        ticket = send(one, 1000.0)
        slot = slot_in_hand(other, 1000.0)
        one.heard(1000.0, ticket, Verdict.UNKNOWN, 30.0)
        assert other.wait(slot) == pytest.approx(1030.0 - slot)
        assert one.wait(slot) == pytest.approx(1030.0 - slot)
        assert not open_now(other, 1029.9)
        send(other, 1030.0)

    def test_a_reaction_to_a_refusal_revokes_them_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(start_rate=100), open_pacer(start_rate=100)
        ticket = send(one, 1000.0)
        slot = slot_in_hand(other, 1000.0)
        one.heard(1000.0, ticket, Verdict.THROTTLED)
        assert other.phase is not Phase.BLOCKED  # it hasn't looked yet
        assert not open_now(other, slot)
        assert other.phase is Phase.BLOCKED

    def test_the_rate_that_one_finds_is_the_rate_of_all(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        run([Job(one)], seconds=30)
        send(other, 31.0)
        assert other.estimate == pytest.approx(50, rel=0.03)
        assert other.rate == pytest.approx(one.rate)
        assert other.snapshot().sent >= one.snapshot().sent

    def test_while_blocked_only_one_of_them_asks(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        one.heard(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        question = send(one, 1000.1)
        assert other.wait(question.sent_at) > 0
        other_waits = [other.wait(question.sent_at + seconds) for seconds in (0.1, 1.0, 5.0, 20.0)]
        assert all(0 < wait <= 0.25 for wait in other_waits)
        one.heard(question.sent_at + 21.0, question, Verdict.ACCEPTED)
        assert send(other, question.sent_at + 21.0).sent_at < question.sent_at + 22.0

    @pytest.mark.parametrize("sent", [True, False], ids=["asked", "about to ask"])
    def test_the_question_of_a_dead_process_holds_nobody_up(
        self, open_pacer: Callable[..., SharedPacer], sent: bool
    ) -> None:
        one, other = open_pacer(), open_pacer()
        one.heard(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        assert open_now(one, 1001.0)
        if sent:
            one.sent(1001.0)
        assert other.wait(1001.0) > 0
        kill(one)
        assert send(other, 1001.0).sent_at <= 1006.0

    def test_a_question_that_is_never_asked_holds_nobody_up(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        one.heard(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        assert open_now(one, 1001.0)
        assert send(other, 1001.0).sent_at <= 1003.0

    def test_the_most_careful_settings_count_while_their_owner_is_there(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        one = open_pacer()
        run([Job(one)], seconds=30)
        careful = open_pacer(utilization=0.7, probe_after=3000, max_rate=34.0)
        send(careful, 31.0)
        assert careful.rate == 34.0
        careful.close()
        send(one, 32.0)
        assert one.rate > 45.0

    def test_background_leaves_room(self, path: Path, clocks: Clocks) -> None:
        with_max = SharedPacer.background(path, max_rate=20.0, wall_clock=clocks.wall)
        run([Job(with_max)], seconds=30)
        assert with_max.rate == 20.0
        with_max.close()


class TestRemembered:
    def find(self, pacer: SharedPacer) -> None:
        """Let it find a limit of 50/s."""
        run([Job(pacer)], seconds=40)
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
        pacer.wait(1.0)
        assert pacer.rate == pytest.approx(0.8 * 50, rel=0.03)
        assert warnings() == []

    def test_max_rate_is_kept_then_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        self.find(open_pacer())
        pacer = open_pacer(max_rate=20.0)
        pacer.wait(50.0)
        assert pacer.rate == 20.0

    def test_after_a_day_it_is_forgotten_with_one_warning(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks, warnings: Callable[[], list[str]]
    ) -> None:
        self.find(open_pacer())
        clocks.offset += DAY + 100.0
        pacer = open_pacer()
        pacer.wait(50.0)
        assert pacer.rate == 5.0
        [warning] = warnings()
        assert "more than a day old" in warning
        open_pacer().wait(50.0)
        assert len(warnings()) == 1

    def test_it_survives_a_reboot_and_the_times_of_before_are_forgotten(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks
    ) -> None:
        one = open_pacer()
        run([Job(one)], seconds=40)
        kill(one)
        clocks.offset += 3600.0  # the steady clock begins anew
        pacer = open_pacer()
        assert open_now(pacer, 2.0)
        assert pacer.rate == pytest.approx(40, rel=0.03)
        assert pacer.snapshot().sent == 1

    @pytest.mark.parametrize("reboot", [False, True])
    def test_a_retry_after_that_still_runs_is_obeyed(
        self, open_pacer: Callable[..., SharedPacer], clocks: Clocks, reboot: bool
    ) -> None:
        one = open_pacer()
        one.heard(1000.0, send(one, 1000.0), Verdict.THROTTLED, 3600.0)
        one.close()
        clocks.now = 200.0 if reboot else 1100.0
        clocks.offset += 900.0 if reboot else 0.0  # the steady clock began anew
        assert open_pacer().wait(clocks.now) == pytest.approx(3500.0)

    def test_who_finds_others_at_work_joins_them(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one = open_pacer()
        run([Job(one)], seconds=40)
        other = open_pacer(start_rate=1.0)
        send(other, 41.0)
        assert other.rate > 45.0

    def test_a_finder_that_was_killed_is_no_company(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one = open_pacer()
        run([Job(one)], seconds=40)
        kill(one)
        other = open_pacer()
        send(other, 41.0)
        assert other.rate == pytest.approx(40, rel=0.03)


def foreign(path: Path) -> None:
    path.write_bytes(b"somebody's diary\n" * 100)
    path.chmod(0o600)


def shorter_foreign(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o600)


def link(path: Path) -> None:
    target = path.with_name("target")
    target.touch(0o600)
    path.symlink_to(target)


def hard_link(path: Path) -> None:
    path.with_name("target").touch(0o600)
    path.hardlink_to(path.with_name("target"))


def readable_to_others(path: Path) -> None:
    path.touch()
    path.chmod(0o640)


def too_large(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 2**20)


def newer(path: Path) -> None:
    path.write_bytes(state_file._HEAD.pack(state_file._MAGIC, state_file.VERSION + 1))  # noqa: SLF001 - as it will be
    path.chmod(0o600)


NOT_OURS = [
    foreign,
    shorter_foreign,
    link,
    hard_link,
    readable_to_others,
    too_large,
    newer,
    Path.mkdir,
    os.mkfifo,
]


def contents(path: Path) -> Any:
    about = path.lstat()
    return about.st_mode, about.st_size, path.read_bytes() if path.is_file() else None


def works_alone(pacer: SharedPacer, now: float = 1000.0) -> None:
    """Check that the pacer paces, by itself."""
    ticket = send(pacer, now)
    pacer.heard(now + 0.1, ticket, Verdict.ACCEPTED)
    assert 0.0 < pacer.wait(now + 0.1) < 1.0
    pacer.heard(now + 1.1, send(pacer, now + 1.0), Verdict.THROTTLED, 30.0)
    assert pacer.wait(now + 1.1) == pytest.approx(30.0)


class TestTrust:
    @pytest.mark.parametrize("make", NOT_OURS, ids=lambda make: make.__name__)
    def test_what_isnt_ours_is_left_alone_with_one_warning(
        self,
        open_pacer: Callable[..., SharedPacer],
        path: Path,
        make: Callable[[Path], None],
        warnings: Callable[[], list[str]],
    ) -> None:
        path.parent.mkdir()
        make(path)
        before = contents(path)
        works_alone(open_pacer())
        assert contents(path) == before
        [warning] = warnings()
        assert "paces alone" in warning
        assert "None" not in warning

    def test_another_users_file_is_left_alone(
        self,
        open_pacer: Callable[..., SharedPacer],
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        warnings: Callable[[], list[str]],
    ) -> None:
        send(open_pacer(), 1000.0)
        before = contents(path)
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        works_alone(open_pacer())
        assert contents(path) == before
        assert len(warnings()) == 1

    def test_a_folder_that_cant_be_made_is_no_failure(self, tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
        (tmp_path / "file").touch()
        works_alone(SharedPacer(tmp_path / "file" / "state"))
        assert len(warnings()) == 1

    def test_the_file_and_its_folder_are_private(self, open_pacer: Callable[..., SharedPacer], path: Path) -> None:
        send(open_pacer(), 1000.0)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_an_empty_file_of_ours_is_a_new_one(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        path.parent.mkdir()
        path.touch(0o600)
        send(open_pacer(), 1000.0)
        assert members(path) == 1
        assert warnings() == []

    @pytest.mark.parametrize("how", ["scribbled", "older", "no JSON", "other fields", "other mind"])
    def test_a_file_of_ours_that_cant_be_used_is_begun_anew_with_one_warning(
        self, open_pacer: Callable[..., SharedPacer], path: Path, how: str, warnings: Callable[[], list[str]]
    ) -> None:
        first = open_pacer(start_rate=40.0)
        send(first, 1000.0)
        first.close()
        spoil(path, how)
        second = open_pacer()
        send(second, 1001.0)
        assert second.rate == 5.0
        [warning] = warnings()
        assert "begins anew" in warning
        send(open_pacer(), 1001.0)
        assert members(path) == 2
        assert len(warnings()) == 1

    def test_those_with_another_version_at_work_are_left_alone(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        send(open_pacer(), 1000.0)
        spoil(path, "other mind")
        before = path.read_bytes()
        works_alone(open_pacer())
        assert path.read_bytes() == before
        assert len(warnings()) == 1

    def test_no_file_locks_no_sharing(
        self,
        open_pacer: Callable[..., SharedPacer],
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        warnings: Callable[[], list[str]],
    ) -> None:
        monkeypatch.setattr(state_file, "fcntl", None)
        works_alone(open_pacer())
        assert not path.exists()
        assert len(warnings()) == 1

    def test_without_the_module_of_the_locks_all_can_be_imported(self) -> None:
        program = "import sys; sys.modules['fcntl'] = None; from adapty_async import SharedPacer; SharedPacer('x')"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])  # noqa: S603 - ours


def spoil(path: Path, how: str) -> None:
    if how == "scribbled":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"?" * (size - 4096))
        return
    if how == "older":
        with path.open("r+b") as file:
            file.write(state_file._HEAD.pack(state_file._MAGIC, 0))  # noqa: SLF001 - as it was before
        return
    file = state_file.StateFile(path)
    text = file.changed()
    assert text is not None
    around, mind = json.loads(text)
    if how == "other fields":
        around["Around"]["unknown"] = 1
    elif how == "other mind":
        mind["AdaptivePacer"]["_unknown"] = 1
    file.store(b"?" if how == "no JSON" else json.dumps([around, mind]).encode())
    file.close()


class TestWhenTheFileFails:
    def test_a_full_disk_is_one_warning(
        self,
        open_pacer: Callable[..., SharedPacer],
        monkeypatch: pytest.MonkeyPatch,
        warnings: Callable[[], list[str]],
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        works_alone(pacer, 1001.0)
        [warning] = warnings()
        assert "No space left on device" in warning

    def test_a_disk_that_takes_a_part_is_full_too(
        self, open_pacer: Callable[..., SharedPacer], monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setattr(os, "pwrite", lambda *_: 1)
        works_alone(open_pacer())
        assert len(warnings()) == 1

    @pytest.mark.parametrize("how", ["cut short", "removed"])
    def test_a_file_that_is_spoilt_while_in_use_is_one_warning(
        self, open_pacer: Callable[..., SharedPacer], path: Path, how: str, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        if how == "removed":
            path.unlink()
        else:
            os.truncate(path, 8)
        works_alone(pacer, 1001.0)
        assert len(warnings()) == 1

    def test_what_others_told_before_is_kept(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        one, other = open_pacer(start_rate=40.0), open_pacer(start_rate=40.0)
        send(other, 1000.0)
        ticket = send(one, 1000.0)
        path.unlink()
        one.heard(1000.2, ticket, Verdict.UNKNOWN, 30.0)
        assert one.wait(1000.3) == pytest.approx(29.9)
        assert one.rate == pytest.approx(20.0)  # the other one goes on too
        assert len(warnings()) == 1

    def test_while_another_has_the_lock_it_asks_again_soon_and_after_a_second_it_goes_alone(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        now = 1001.0
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            while not warnings():
                assert 0.0 <= pacer.wait(now) <= 0.005
                now += 0.002
            assert 1001.9 < now < 1002.2
            works_alone(pacer, now)
        assert len(warnings()) == 1

    def test_a_lock_that_is_let_go_of_in_time_is_none_the_worse(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        now = 1001.0
        for _ in range(5):
            with path.open("a+b") if path.exists() else open(os.devnull, "rb") as file:  # noqa: PTH123 - no lock yet
                if path.exists():
                    path.chmod(0o600)
                    fcntl.flock(file, fcntl.LOCK_EX)
                    assert 0.0 < pacer.wait(now) <= 0.002
            ticket = send(pacer, now)
            now = ticket.sent_at + 30.0
            assert ticket.number > 0
        assert warnings() == []

    def test_a_refusal_that_couldnt_be_told_is_told_next(
        self, open_pacer: Callable[..., SharedPacer], path: Path
    ) -> None:
        one, other = open_pacer(), open_pacer()
        ticket = send(one, 1000.0)
        send(other, 1000.0)
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            one.heard(1000.3, ticket, Verdict.THROTTLED, 30.0)
            assert 0.0 < one.wait(1000.3) <= 0.002
        assert one.wait(1000.302) == pytest.approx(29.998)
        assert other.wait(1000.5) == pytest.approx(29.8)

    def test_of_a_writer_that_was_killed_the_state_before_is_left(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer(start_rate=40.0)
        for second in range(5):
            send(pacer, 1000.0 + second)
        spoilt = StateBytes(path)
        for length in (1, 20, 100):
            spoilt.write_a_part(length)
            joins = open_pacer()
            send(joins, 1005.0)
            assert joins.rate == pacer.rate
        assert warnings() == []


class StateBytes:
    """The bytes of a state file, to be written to by hand."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write_a_part(self, length: int) -> None:
        """Begin to write the next state, and be killed."""
        file = state_file.StateFile(self._path)
        text = file.changed()
        assert text is not None
        place = state_file._PLACES[file._next_place]  # noqa: SLF001 - where the next one would be
        head = state_file._PLACE.pack(file._revision + 1, len(text), 12345)  # noqa: SLF001 - likewise
        with self._path.open("r+b") as written:
            written.seek(place)
            written.write((head + text)[:length])
        file.close()


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
        assert pacer.sent(10.0) == Ticket(1, 10.0)  # without having asked
        assert pacer.sent(12.0) == Ticket(2, 12.0)
        assert pacer.wait(12.0) == pytest.approx(0.18)

    def test_nothing_is_done_before_the_first_use(self, open_pacer: Callable[..., SharedPacer], path: Path) -> None:
        open_pacer()
        assert not path.parent.exists()

    def test_a_path_is_that_of_where_it_was_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        pacer = SharedPacer("state")
        monkeypatch.chdir("/")
        pacer.wait(1000.0)
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
        pacer.heard(1000.1, ticket, Verdict.ACCEPTED)
        works_alone(pacer, 1001.0)
        assert warnings() == []

    def test_one_that_nobody_holds_is_closed(self, path: Path) -> None:
        pacer = SharedPacer(path)
        send(pacer, 1000.0)
        assert members(path) == 1
        del pacer
        gc.collect()
        assert members(path) == 0

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
        with pytest.raises(ValueError, match="positive, finite number of requests a second"):
            SharedPacer(path, **{name: rate})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="positive, finite number of requests a second"):
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
            wait = pacer.wait(now)
            now += wait + 0.015 if wait > 1e-6 else 0.0
            times.append(pacer.sent(now).sent_at)
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
                now += pacer.wait(now)
                times.append(pacer.sent(now).sent_at)
        pacer.close()
        for first, began in enumerate(times):
            for last, ended in enumerate(times[first:], first):
                assert (
                    last - first <= rate * (ended - began + 0.04) + 1e-6
                )  # lateness is forgiven at the lease, and at the send


events = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), st.floats(0.0, 3.0)),
    st.tuples(
        st.sampled_from(list(Verdict)),
        st.integers(0, 1),
        st.floats(0.0, 3.0),
        st.integers(0, 5),
        st.one_of(st.none(), st.floats(), st.floats(0.0, 100.0)),
    ),
    st.tuples(st.sampled_from(["close", "kill"]), st.integers(0, 1), st.floats(0.0, 3.0)),
)


class TestWhateverHappens:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(script=st.lists(events, max_size=60))
    def test_waits_and_rates_stay_what_they_must_be_and_every_retry_after_is_obeyed(
        self, tmp_path: Path, script: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.clear()
        state = tmp_path / "state"
        state.unlink(missing_ok=True)
        clocks = Clocks()
        made = [SharedPacer(state, max_rate=80.0, probe_after=5, wall_clock=clocks.wall) for _ in range(2)]
        pacers, now, told_until = list(made), 1000.0, -math.inf
        tickets: list[list[Ticket]] = [[], []]
        for what, who, pause, *rest in script:
            now += pause
            pacer = pacers[who]
            if what == "send":
                if pacer.wait(now) == 0.0:
                    assert now >= told_until
                    tickets[who].append(pacer.sent(now))
            elif what in {"close", "kill"}:
                if what == "kill" and pacer._membership is not None:  # noqa: SLF001 - whether there is what to kill
                    kill(pacer)
                else:
                    pacer.close()
                pacers[who] = SharedPacer(state, max_rate=80.0, probe_after=5, wall_clock=clocks.wall)
                made.append(pacers[who])
            elif tickets[who]:
                back, retry_after = rest
                pacer.heard(now, tickets[who][-1 - back % len(tickets[who])], what, retry_after)
                if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
                    told_until = max(told_until, now + retry_after)
            assert 0.0 <= pacers[who].wait(now) < math.inf
            assert 0.0 < pacers[who].rate <= 80.0
        for pacer in made:
            pacer.close()
        assert caplog.records == []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Point:
    x: float
    y: object


class Box:
    def __init__(self) -> None:
        self.lid = 0.0
        self._content: object = None


class Larger(Box):
    def __init__(self) -> None:
        super().__init__()
        self.extra: object = 1


CODEC = Codec(Colour, Point, Box, Larger)


def larger(values: tuple[float, object, object]) -> Larger:
    made = Larger()
    made.lid, made._content, made.extra = values  # noqa: SLF001 - to fill it
    return made


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(list(Colour))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=7)),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(Point, st.floats(), inner),
        st.tuples(st.floats(), inner, inner).map(larger),
    ),
    max_leaves=15,
)

jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["tuple", "deque", "dict", "Colour", "Point", "Box", "os", "x"]), inner),
    ),
    max_leaves=10,
)


def shown(value: Any) -> Any:
    """Give something that is equal where two values are: a nan equals none."""
    if isinstance(value, Box):
        return type(value), {name: shown(part) for name, part in vars(value).items()}
    if isinstance(value, Point):
        return Point, shown(value.x), shown(value.y)
    if isinstance(value, deque):
        return deque, value.maxlen, [shown(item) for item in value]
    if isinstance(value, list | tuple):
        return type(value), [shown(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: shown(item) for key, item in value.items()}
    return type(value), repr(value)


class TestCodec:
    @given(values)
    def test_what_is_encoded_is_decoded_to_the_same(self, value: object) -> None:
        assert shown(CODEC.decode(from_bytes(to_bytes(CODEC.encode(value))))) == shown(value)

    @given(jsons)
    def test_anything_else_is_a_misfit_or_harmless(self, found: object) -> None:
        try:
            value = CODEC.decode(found)
        except MisfitError:
            return
        assert type(value) in {type(None), bool, int, float, str, list, tuple, deque, dict, Colour, Point, Box}

    @given(st.binary(max_size=200))
    def test_what_is_no_json_is_a_misfit(self, text: bytes) -> None:
        try:
            CODEC.decode(from_bytes(text))
        except MisfitError:
            return

    def test_json_that_is_too_deep_is_a_misfit(self) -> None:
        with pytest.raises(MisfitError):
            CODEC.decode(from_bytes(b"[" * 100_000))

    @pytest.mark.parametrize("found", [{"Box": {}}, {"Box": {"lid": 0.0, "_content": 1, "more": 2}}, {"Point": [1]}])
    def test_other_fields_than_todays_are_a_misfit(self, found: object) -> None:
        with pytest.raises(MisfitError):
            CODEC.decode(found)

    def test_a_type_that_isnt_known_is_refused_both_ways(self) -> None:
        with pytest.raises(TypeError, match="can't hold a Clocks"):
            CODEC.encode(Clocks())
        with pytest.raises(MisfitError):
            CODEC.decode({"Clocks": {}})

    def test_the_fields_are_those_that_an_object_has(self) -> None:
        assert fields_of(Larger) == vars(Larger()).keys()
        assert fields_of(AdaptivePacer) == vars(AdaptivePacer()).keys()

    def test_a_pacer_that_is_decoded_goes_on_as_the_one_that_was_encoded(self) -> None:
        one = AdaptivePacer()
        state = shared_state.SharedState.begin(0.0, 0.0, 5.0, None)
        state.mind = one
        run([Job(one)], seconds=60, retry_after=lambda number: 1.0 if number % 2 else None)
        other = shared_state.SharedState.reload(state.encode()).mind
        assert vars(other).keys() == vars(one).keys()
        tallies = [run([Job(pacer)], seconds=100) for pacer in (one, other)]
        assert tallies[0] == tallies[1]


class TestTheMind:
    def test_what_is_withdrawn_counts_as_never_sent(self) -> None:
        from adapty_async.pacing.measuring import Interval

        sent, planned = (Interval(0.0, 1, empty=True) for _ in range(2))
        sent.point(5.0, 251)
        sent.end(10.0, 501, rate=60.0)
        planned.point(5.0, 271)
        planned.withdraw(251, 20)  # before the point
        planned.withdraw(400, 30)
        planned.end(10.0, 551, rate=60.0)
        assert planned.accepted == sent.accepted
        assert planned.fit(1.0) == sent.fit(1.0)

    def test_the_end_of_the_schedule_is_free_again_when_it_is_withdrawn(self) -> None:
        pacer = AdaptivePacer(start_rate=10.0)
        tickets = [pacer.sent(now) for now in (1.0, 1.1, 1.2)]
        pacer.withdraw(tickets[0], 1)
        assert pacer.wait(1.0) == pytest.approx(0.28)
        pacer.withdraw(tickets[1], 2)
        assert pacer.wait(1.0) == pytest.approx(0.1)

    def test_careful_settings_are_adopted_at_once_and_let_go_of(self) -> None:
        pacer = AdaptivePacer()
        run([Job(pacer)], seconds=30)
        assert pacer.phase is Phase.CRUISE or pacer.phase is Phase.PROBE
        pacer.adopt(30.0, 0.7, 3000)
        assert pacer.rate <= 30.0
        pacer.adopt(math.inf, 0.98, 200)
        assert pacer.rate <= 50.0
