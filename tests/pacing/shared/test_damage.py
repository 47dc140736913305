"""Damage to the file of a shared pacer: writers are killed, and the file is truncated or given away."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async import SharedPacer
from adapty_async.pacing import Verdict
from adapty_async.pacing.shared import state_file
from benchmarks.shared_pacing import Job

from ...full_disk import full_disk
from .helpers import Clocks, members, run, send, works_alone

ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """Raised in place of a kill, after which a process does nothing."""


class Writes:
    """Write this many bytes, then kill the writer in the middle of the next write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, descriptor: int, data: bytes, place: int) -> int:
        part = data[: self.left]
        self.left -= len(part)
        written = self._write(descriptor, part, place) if part else 0
        if len(part) < len(data):
            raise Killed
        return written


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


def no_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def older_file(path: Path) -> None:
    begun(path)
    with path.open("r+b") as file:
        file.write(state_file._HEADER_FORMAT.pack(state_file._MAGIC, 0))  # noqa: SLF001 - the older format


def scribbled_file(path: Path) -> None:
    begun(path)
    with path.open("r+b") as file:
        for place in state_file._COPY_OFFSETS:  # noqa: SLF001 - the places of the states
            file.seek(place)
            file.write(b"?" * 100)


def begun(path: Path) -> None:
    pacer = SharedPacer(path, wall_clock=Clocks().wall)
    for second in range(3):
        send(pacer, 1000.0 + second)
    pacer.close()


# Every byte of the header, of the empty places and of the start of the state, then every 97th byte.
CUTS = [*range(64), *range(64, 4000, 97)]


@pytest.mark.parametrize("before", [no_file, older_file, scribbled_file])
def test_whoever_is_killed_while_beginning_leaves_a_file_that_the_next_one_takes(
    path: Path, clocks: Clocks, writes: Writes, before: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    kills = 0
    for cut in CUTS:
        writes.left = 2**20
        before(path)
        writes.left = cut
        pacer = SharedPacer(path, wall_clock=clocks.wall)
        try:
            send(pacer, 1000.0)
        except Killed:
            kills += 1
        writes.left = 2**20
        pacer.close()  # it doesn't write to a file that it hasn't written to
        caplog.clear()
        following = SharedPacer(path, wall_clock=clocks.wall)
        send(following, 1000.0)
        assert members(path) >= 1, cut
        assert all("starting with a new one" in record.getMessage() for record in caplog.records), cut
        assert len(caplog.records) <= 1, cut
        following.close()
    assert kills > 64


def test_a_file_of_zeros_is_a_new_one(path: Path, warnings: Callable[[], list[str]]) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    os.truncate(path, 8192)
    pacer = SharedPacer(path)
    send(pacer, 1000.0)
    assert members(path) == 1
    assert warnings() == []
    pacer.close()


def test_zeros_before_anything_else_are_none_of_ours(path: Path, warnings: Callable[[], list[str]]) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(bytes(100) + b"a disk")
    works_alone(SharedPacer(path))
    assert path.read_bytes() == bytes(100) + b"a disk"
    assert len(warnings()) == 1


class TestWhileInUse:
    @pytest.mark.parametrize("size", [0, 1, 15, 16, 30, 40, 4096, 4100])
    def test_a_file_that_is_cut_short_begins_anew_with_one_warning_and_what_is_known(
        self, open_pacer: Callable[..., SharedPacer], path: Path, size: int, warnings: Callable[[], list[str]]
    ) -> None:
        one, other = open_pacer(), open_pacer()
        run([Job(one)], seconds=20)
        send(other, 21.0)
        os.truncate(path, size)
        send(one, 22.0)
        send(other, 22.0)
        assert members(path) == 2
        assert one.rate == other.rate == pytest.approx(40, rel=0.03)
        [warning] = warnings()
        assert "starting with a new one" in warning

    def test_a_retry_after_outlives_that(
        self, open_pacer: Callable[..., SharedPacer], path: Path, clocks: Clocks
    ) -> None:
        pacer = open_pacer()
        pacer.record(1000.1, send(pacer, 1000.0), Verdict.THROTTLED, 30.0)
        os.truncate(path, 0)
        clocks.offset -= 3600.0  # the clock is set in between
        pacer.record(1005.0, pacer.acquire(1005.0), Verdict.UNKNOWN, 1.0)
        assert pacer.delay(1005.0) == pytest.approx(25.1 + 1 / 5)  # plus one slot at 5 per second

    @pytest.mark.parametrize("how", ["opened to others", "given another name", "newer"])
    def test_a_file_that_is_no_more_to_be_trusted_is_left_with_one_warning(
        self, open_pacer: Callable[..., SharedPacer], path: Path, how: str, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        if how == "opened to others":
            path.chmod(0o644)
        elif how == "given another name":
            path.with_name("another").hardlink_to(path)
        else:
            with path.open("r+b") as file:
                file.write(state_file._HEADER_FORMAT.pack(state_file._MAGIC, state_file.VERSION + 1))  # noqa: SLF001 - the newer format
        before = path.read_bytes()
        works_alone(pacer, 1001.0)
        assert path.read_bytes() == before
        [warning] = warnings()
        assert "paces alone" in warning

    def test_a_file_that_is_another_users_now_is_left_too(
        self,
        open_pacer: Callable[..., SharedPacer],
        monkeypatch: pytest.MonkeyPatch,
        warnings: Callable[[], list[str]],
    ) -> None:
        pacer = open_pacer()
        send(pacer, 1000.0)
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        works_alone(pacer, 1001.0)
        [warning] = warnings()
        assert "owned by another user" in warning


class TestARealDisk:
    @pytest.mark.parametrize("size", [0, 10, 16, 30, 4100, 4112, 5000, 135_180, 136_000])
    @pytest.mark.parametrize("is_begun", [False, True], ids=["at first", "later"])
    def test_what_is_full_is_one_warning_and_of_use_when_there_is_room(
        self, open_pacer: Callable[..., SharedPacer], is_begun: bool, size: int, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        if is_begun:
            send(pacer, 1000.0)
        with full_disk(size):
            for second in range(1, 5):  # at least two transactions, because they alternate between the places
                send(pacer, 1000.0 + second)
            works_alone(pacer, 1005.0)
            pacer.close()
        [warning] = warnings()
        assert "paces alone" in warning
        send(open_pacer(), 1009.0)
        assert all("starting with a new one" in warning for warning in warnings()[1:])
        assert len(warnings()) <= 2

    def test_what_may_only_be_read_is_one_warning(self) -> None:
        program = """
import sys
from pathlib import Path
from adapty_async import SharedPacer
from tests.unprivileged import permissions_holding

folder = Path(sys.argv[1])
(folder / "file").touch(0o400)
folder.chmod(0o555)
with permissions_holding():
    for name in ("file", "none", "folder/none"):
        pacer = SharedPacer(folder / name)
        assert pacer.delay(1000.0) == 0.0
        assert pacer.acquire(1000.0).number == 1
        assert pacer.delay(1000.0) > 0.0
        pacer.close()
"""
        with tempfile.TemporaryDirectory() as folder:  # not in tmp_path, which pytest couldn't remove then
            ended = subprocess.run(  # noqa: S603 - ours
                [sys.executable, "-c", program, folder], capture_output=True, text=True, check=False, cwd=ROOT
            )
        assert ended.returncode == 0, ended.stderr
        assert [line.rpartition(" can't be shared ")[2] for line in ended.stderr.splitlines()] == [
            "(Permission denied): this process paces alone"
        ] * 3
