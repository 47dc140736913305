import asyncio
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from adapty_async.cli import main
from adapty_async.cli.exit_status import ExitStatus
from adapty_async.cli.jobs.demo import run_demo
from adapty_async.cli.signals import InterruptHandler
from tests.cli.served import interrupting, started
from tests.waiting import PATIENCE


def process_and_folder(shown: str) -> tuple[Path, Path]:
    """Return the simulator's process, as listed in /proc, and its folder, from the output of the demo."""
    process = re.search(r"\(process (\d+)\)", shown)
    file = re.search(r"written to (\S+)/profiles.csv", shown)
    assert process
    assert file
    return Path("/proc", process[1]), Path(file[1])


async def test_the_demo_deletes_all_and_accounts_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    with InterruptHandler() as interrupts:
        assert await run_demo(interrupts, 40) is ExitStatus.OK
    shown = capsys.readouterr().out
    assert "total                         40  rows" in shown
    assert "Profiles left in the simulator: 0." in shown
    assert "All 40 are accounted for, and 0 are left." in shown
    process, folder = process_and_folder(shown)
    assert not process.exists()
    assert not folder.exists()


async def test_an_interrupted_demo_says_what_is_left_and_cleans_up(capsys: pytest.CaptureFixture[str]) -> None:
    async def shown_demo() -> ExitStatus:
        with InterruptHandler() as interrupts:
            return await run_demo(interrupts, 5000)

    running = asyncio.create_task(shown_demo())
    out = err = ""
    while "of 5,000 rows" not in err and not running.done():
        await asyncio.sleep(0.01)
        out, err = (old + new for old, new in zip((out, err), capsys.readouterr(), strict=True))
    os.kill(os.getpid(), signal.SIGINT)
    assert await running is ExitStatus.INTERRUPTED
    shown = out + capsys.readouterr().out
    assert "stopped: requested" in shown
    assert re.search(r"[1-9][\d,]+ are left", shown)
    process, folder = process_and_folder(shown)
    assert not process.exists()
    assert not folder.exists()


def test_an_interrupt_before_the_job_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\necho $$ > {started}.new; mv {started}.new {started}; exec sleep 60\n")
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with interrupting(started.exists):
        assert main(["demo"]) == 130
    assert not Path("/proc", started.read_text().strip()).exists()
    assert not list(tmp_path.glob("adapty-demo-*"))


def test_a_simulator_that_does_not_start_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["demo"]) == 1
    assert capsys.readouterr() == ("", "adapty-async: the simulator didn't start: adapty-async simulator shows why\n")


def test_the_demo_as_a_process_needs_no_key_and_cleans_up_when_it_is_terminated() -> None:
    with started(["demo"], {}) as process:
        assert process.stderr is not None
        while b"of 20,000 rows" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    simulator, folder = process_and_folder(out.decode())
    assert not simulator.exists()
    assert not folder.exists()
