"""The command `doctor`, on a machine without problems and on machines with one."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from adapty_async.cli.jobs import connectivity
from adapty_async.testing import Fault, Simulator
from adapty_async.testing.responses import SimulatedResponse
from tests.cli.witness import Say


def found(say: Say) -> tuple[int, dict[str, tuple[bool, str]]]:
    status, out, _ = say("doctor", "--json")
    told = json.loads(out)
    assert told["ok"] is (status == 0)
    return status, {check["name"]: (check["ok"], check["text"]) for check in told["checks"]}


def test_where_all_is_well_each_line_says_ok(sim: Simulator, say: Say, tmp_path: Path) -> None:
    status, out, err = say("doctor")
    assert (status, err) == (0, "")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["ok", name]
        for name in (
            "key",
            "address",
            "dns",
            "tls",
            "http",
            "clock",
            "sqlite",
            "disk",
            "state",
            "files",
            "system",
            "versions",
        )
    ]
    told = {name: text for _, name, text in lines}
    assert f"{len(sim.api_key)} characters" in told["key"]
    assert told["clock"] == "agrees with the server's"
    assert "aiohttp 3." in told["versions"]
    assert sim.api_key not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "set ADAPTY_API_KEY"),
        ("public_live_0123456789abcdef", "secret key of the app"),
        ("short", "5 characters, too few"),
        ("two words and more of them", "key"),
    ],
)
def test_a_key_that_can_be_none_is_a_problem(
    sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch, key: str, says: str
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", key)
    status, checks = found(say)
    assert status == 4
    is_well, text = checks["key"]
    assert not is_well
    assert says in text
    assert not key or key not in text
    assert checks["clock"][0]


def test_a_key_file_that_others_may_read_is_a_problem(
    sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"\ufeff{sim.api_key}\r\n")
    monkeypatch.delenv("ADAPTY_API_KEY")
    monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(file))
    file.chmod(0o644)
    status, checks = found(say)
    assert status == 1
    assert "chmod 600" in checks["key"][1]
    file.write_text("secret_live_of_yesterday")
    assert found(say)[0] == 4  # a reason for a job to fail is shown first
    file.write_text(f"\ufeff{sim.api_key}\r\n")
    file.chmod(0o600)
    assert found(say)[0] == 0
    assert f"a key of {len(sim.api_key)} characters" in found(say)[1]["key"][1]


def test_a_key_that_comes_by_a_pipe_is_read_once(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, sim.api_key.encode())
    os.close(write)
    monkeypatch.delenv("ADAPTY_API_KEY")
    monkeypatch.setenv("ADAPTY_API_KEY_FILE", f"/dev/fd/{read}")
    try:
        is_well, text = found(say)[1]["key"]
    finally:
        os.close(read)
    assert is_well, text
    assert f"the file of ADAPTY_API_KEY_FILE contains a key of {len(sim.api_key)} characters" in text


def test_a_key_that_adapty_accepts_is_said_to_be_one(sim: Simulator, say: Say) -> None:
    status, checks = found(say)
    assert status == 0
    assert checks["key"][1].endswith("; Adapty accepts it")
    assert sim.stats.responses["GET", 404] == 1
    assert len(sim.profiles) == 30


def test_a_dead_key_is_exit_4(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_live_of_yesterday")
    status, checks = found(say)
    assert status == 4
    assert not checks["key"][0]
    assert "Adapty doesn't accept the key (401): set ADAPTY_API_KEY" in checks["key"][1]
    assert [name for name, (is_well, _) in checks.items() if not is_well] == ["key"]
    status, out, _ = say("doctor")
    assert status == 4
    assert "secret_live_of_yesterday" not in out


def test_a_key_that_may_not_read_is_exit_4(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim, "_find_rejection", lambda _: SimulatedResponse(403))
    status, checks = found(say)
    assert status == 4
    assert "the key may not read profiles (403)" in checks["key"][1]


def test_where_adapty_fails_it_isnt_known_whether_it_accepts_the_key(sim: Simulator, say: Say) -> None:
    sim.inject(Fault.UNAVAILABLE, method="GET")
    status, checks = found(say)
    assert status == 0
    assert "hasn't confirmed it" in checks["key"][1]


def test_an_address_that_is_none_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTY_BASE_URL", "nonsense")
    status, checks = found(say)
    assert status == 1
    assert "ADAPTY_BASE_URL must look like" in checks["address"][1]
    assert "dns" not in checks


def test_a_server_that_nobody_runs_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTY_BASE_URL", "http://127.0.0.1:1")
    _, checks = found(say)
    assert checks["dns"][0]
    assert not checks["tls"][0]
    assert "check the network and the firewall" in checks["tls"][1]
    assert checks["http"] == (False, "not known: there is no connection")
    assert checks["clock"] == (True, "not known: the server sends no date")


@pytest.fixture
def listening(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen at the address of the server, instead of a simulator."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ADAPTY_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@contextmanager
def answering(listening: socket.socket, answer: bytes) -> Iterator[None]:
    """Respond to the first connection and close it."""

    def run() -> None:
        with listening.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(answer)

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_server_that_accepts_and_never_answers_is_a_problem(
    listening: socket.socket, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectivity, "_TIMEOUT_SECONDS", 0.2)
    status, checks = found(say)
    assert status == 1
    assert [name for name, (is_well, _) in checks.items() if not is_well] == ["http"]
    assert "doesn't answer within" in checks["http"][1]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b""], ids=["another protocol", "closed"])
def test_a_server_that_speaks_no_http_is_a_problem(listening: socket.socket, say: Say, answer: bytes) -> None:
    with answering(listening, answer):
        status, checks = found(say)
    assert status == 1
    assert [name for name, (is_well, _) in checks.items() if not is_well] == ["http"]
    assert "doesn't answer with HTTP" in checks["http"][1]


@pytest.mark.parametrize("date", [b"", b"Date: yesterday\r\n"], ids=["no date", "none that can be read"])
def test_a_server_that_tells_no_time_is_none(listening: socket.socket, say: Say, date: bytes) -> None:
    with answering(listening, b"HTTP/1.1 404 Not Found\r\n" + date + b"Content-Length: 0\r\n\r\n"):
        status, checks = found(say)
    assert status == 0
    assert checks["clock"] == (True, "not known: the server sends no date")


def test_a_name_that_nobody_has_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTY_BASE_URL", "http://nobody.invalid.test")
    _, checks = found(say)
    assert not checks["dns"][0]
    assert "isn't found" in checks["dns"][1]


def test_a_server_that_speaks_no_tls_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTY_BASE_URL", sim.base_url.replace("http:", "https:"))
    assert not found(say)[1]["tls"][0]


@pytest.mark.parametrize(
    ("off", "says"), [(90.0, "seconds ahead of the server's"), (-3600.0, "seconds behind the server's")]
)
def test_a_clock_that_is_off_is_a_problem(
    sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch, off: float, says: str
) -> None:
    class OffClock:
        @staticmethod
        def time() -> float:
            return round(time.time()) + off

    monkeypatch.setattr(connectivity, "time", OffClock)
    is_well, text = found(say)[1]["clock"]
    assert not is_well
    assert says in text
    assert "set the clock" in text


def test_a_full_disk_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
    assert "1 MB are free" in found(say)[1]["disk"][1]


def test_a_folder_that_is_gone_is_a_problem(
    sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert "can't be written" in found(say)[1]["disk"][1]
    finally:
        os.chdir(tmp_path)


def test_without_a_place_for_what_is_shared_it_says_so(
    sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", "")
    assert "set HOME" in found(say)[1]["state"][1]


def test_a_low_limit_of_open_files_is_a_problem(sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapty_async.cli.jobs.doctor.get_descriptor_limit", lambda: 64)
    monkeypatch.setattr("adapty_async.cli.jobs.doctor.get_max_connections", lambda: 20)
    status, checks = found(say)
    assert status == 1
    assert checks["files"] == (
        False,
        "a process may open 64 files, so a job has at most 20 requests in flight: type ulimit -n 1024",
    )
