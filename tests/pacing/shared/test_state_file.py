"""The file of a shared pacer: which files are trusted, and that none of its problems makes a job fail."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapty_async import SharedPacer
from adapty_async.pacing import Verdict
from adapty_async.pacing.shared import state_file

from .helpers import members, send, works_alone


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
    path.write_bytes(state_file._HEADER_FORMAT.pack(state_file._MAGIC, state_file.VERSION + 1))  # noqa: SLF001 - a newer format
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
        assert "starting with a new one" in warning
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
        subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])  # noqa: S603 - ours


def spoil(path: Path, how: str) -> None:
    if how == "scribbled":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"?" * (size - 4096))
        return
    if how == "older":
        with path.open("r+b") as file:
            file.write(state_file._HEADER_FORMAT.pack(state_file._MAGIC, 0))  # noqa: SLF001 - the older format
        return
    opened = state_file.StateFile(path)
    text = opened.read_new_state()
    assert text is not None
    around, mind = json.loads(text)
    if how == "other fields":
        around["Coordination"]["unknown"] = 1
    elif how == "other mind":
        around["Coordination"]["code_checksum"] += 1
    opened.store(b"?" if how == "no JSON" else json.dumps([around, mind]).encode())
    opened.close()


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
        one.record(1000.2, ticket, Verdict.UNKNOWN, 30.0)
        assert one.delay(1000.3) == pytest.approx(29.9)
        assert one.rate == pytest.approx(20.0)  # the other one continues, too
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
                assert 0.0 <= pacer.delay(now) <= 0.005
                now += 0.002
            assert 1001.9 < now < 1002.2
            works_alone(pacer, now)
        assert len(warnings()) == 1

    def test_a_retry_after_that_couldnt_be_told_is_obeyed_by_who_goes_alone(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        ticket = send(pacer, 1000.0)
        now = 1001.0
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            pacer.record(now, ticket, Verdict.THROTTLED, 30.0)
            while not warnings():
                assert pacer.delay(now) > 0.0
                now += 0.002
            assert pacer.delay(now) == pytest.approx(1031.0 - now)

    def test_a_lock_that_is_let_go_of_in_time_is_none_the_worse(
        self, open_pacer: Callable[..., SharedPacer], path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        pacer = open_pacer()
        now = 1001.0
        for _ in range(5):
            with path.open("a+b") if path.exists() else open(os.devnull, "rb") as file:  # noqa: PTH123 - it has no lock yet
                if path.exists():
                    path.chmod(0o600)
                    fcntl.flock(file, fcntl.LOCK_EX)
                    assert 0.0 < pacer.delay(now) <= 0.002
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
            one.record(1000.3, ticket, Verdict.THROTTLED, 30.0)
            assert 0.0 < one.delay(1000.3) <= 0.002
        assert one.delay(1000.302) == pytest.approx(29.998)
        assert other.delay(1000.5) == pytest.approx(29.8)

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


class TestWhateverTheFileHolds:
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        flips=st.lists(
            st.tuples(
                st.one_of(st.integers(0, 60), st.integers(4090, 7000), st.integers(0, 140_000)), st.binary(max_size=9)
            ),
            max_size=5,
        ),
        size=st.one_of(st.none(), st.integers(0, 140_000)),
    )
    def test_nobody_fails(self, tmp_path: Path, flips: list[tuple[int, bytes]], size: int | None) -> None:
        path = tmp_path / "state"
        path.unlink(missing_ok=True)
        at_work = SharedPacer(path)
        for second in range(3):
            at_work.record(1000.2 + second, send(at_work, 1000.0 + second), Verdict.ACCEPTED)
        with path.open("r+b") as file:
            for place, scribble in flips:
                file.seek(place)
                file.write(scribble)
            if size is not None:
                file.truncate(size)
        comes_later = SharedPacer(path)
        now = 1003.0
        for pacer in (at_work, comes_later, at_work):
            ticket = send(pacer, now)
            pacer.record(ticket.sent_at + 0.1, ticket, Verdict.THROTTLED, 1.0)
            now = ticket.sent_at + 0.1
            assert 1.0 <= pacer.delay(now) <= 1.3
            now += 2.0
        at_work.close()
        comes_later.close()


class StateBytes:
    """The bytes of a state file, for writing to it directly."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write_a_part(self, length: int) -> None:
        """Start to write the next state, like a process that is then killed."""
        file = state_file.StateFile(self._path)
        text = file.read_new_state()
        assert text is not None
        place = state_file._COPY_OFFSETS[file._next_copy]  # noqa: SLF001 - the place of the next state
        head = state_file._COPY_HEADER_FORMAT.pack(file._revision + 1, len(text), 12345)  # noqa: SLF001 - see above
        with self._path.open("r+b") as written:
            written.seek(place)
            written.write((head + text)[:length])
        file.close()
