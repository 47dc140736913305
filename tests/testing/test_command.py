import asyncio
import contextlib
import io
import json
import runpy
import signal
import socket
import sys
from asyncio.subprocess import PIPE

import aiohttp
import pytest

from adapty_async.testing.command import main
from tests.testing.caller import PROFILE_PATH


class InterruptedOutput(io.StringIO):
    """A standard output whose reader interrupts the process as soon as it has received a line."""

    def flush(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_main_prints_one_line_and_ends_well_when_interrupted() -> None:
    with contextlib.redirect_stdout(InterruptedOutput()) as output:
        assert main(["--api-key", "throw-away"]) == 0
    (line,) = output.getvalue().splitlines()
    assert json.loads(line)["base_url"].startswith("http://127.0.0.1:")
    assert json.loads(line)["api_key"] == "throw-away"


@pytest.mark.parametrize(
    "argv",
    [
        ["--rate", "0"],
        ["--fault", "cut=2"],
        ["--fault", "cut"],
        ["--fault", "fire=1"],
        ["--rate", "fast"],
        ["--unknown"],
    ],
)
def test_main_refuses_what_makes_no_sense(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_main_says_so_where_the_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"can't listen on port {port}" in capsys.readouterr().err


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("adapty_async.testing", run_name="__main__")
    assert end.value.code == 0


def test_importing_the_module_runs_nothing() -> None:
    runpy.run_module("adapty_async.testing.__main__", run_name="imported")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_a_process_serves_until_it_is_interrupted(ending: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapty_async.testing"),
        *("--profiles", "3", "--rate", "1000", "--burst", "5", "--retry-after", "1", "--seed", "7"),
        *("--fault", "unavailable=0", "--fault", "delay=1", "--delay", "0"),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        assert process.stdout is not None
        served = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession(served["base_url"]) as session:
            headers = {
                "Authorization": f"Api-Key {served['api_key']}",
                "adapty-customer-user-id": "user-000002@example.com",
            }
            async with session.delete(PROFILE_PATH, headers=headers) as answer:
                assert answer.status == 204
            async with session.get("/_simulator/state") as answer:
                state = await answer.json()
            process.send_signal(ending)
            assert await process.communicate() == (b"", b"")
    finally:
        if process.returncode is None:
            process.kill()
    assert (state["profiles"], state["answers"]) == (2, {"DELETE": {"204": 1}})
    assert process.returncode == 0
