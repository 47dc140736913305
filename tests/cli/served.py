"""Shared helpers of the command line's tests: a simulator in another thread, and the command as a process."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread

from aiohttp import web

import adapty_async
from adapty_async.testing import Simulator, prefilled_customer_user_id
from tests.waiting import PATIENCE

ROOT = Path(adapty_async.__file__).parents[1]
AT_ONCE = ("--pace", "100000")


class Patient(Simulator):
    """A simulator that waits for a slow test. It sends `most` responses; None means any number."""

    most: int | None = None

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        while self.most is not None and self.stats.responses.total() >= self.most:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.001)
        return await super()._handle_api_request(request)


@contextlib.contextmanager
def served(simulator: Simulator) -> Iterator[Simulator]:
    """Run a simulator in a thread of its own, so that the command can use the main thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result(PATIENCE)
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def settings_for(simulator: Simulator) -> dict[str, str]:
    """Return the environment variables that point the command at a simulator."""
    return {"ADAPTY_API_KEY": simulator.api_key, "ADAPTY_BASE_URL": simulator.base_url}


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment for a process of the command: this process's own, with only the given settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTY_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "TERM": "xterm", **settings}


@contextlib.contextmanager
def started(
    arguments: Sequence[str], settings: dict[str, str], **options: object
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command as a process. End the process with the block, even if the block raises."""
    command = [sys.executable, "-m", "adapty_async", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment(settings), **streams)  # type: ignore[call-overload]  # noqa: S603 - our own interpreter
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ids_file(folder: Path, profiles: int) -> Path:
    """Write a CSV file with the IDs that a simulator starts with."""
    path = folder / "people.csv"
    ids = (prefilled_customer_user_id(number) for number in range(1, profiles + 1))
    path.write_text("\n".join(["customer_user_id", *ids]), encoding="utf-8")
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for another thread or process, however slow the machine is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


@contextlib.contextmanager
def interrupting(condition: Callable[[], bool], signum: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal as soon as a condition is true."""

    with meanwhile(condition, lambda: os.kill(os.getpid(), signum)):
        yield


@contextlib.contextmanager
def acting_after(sim: Patient, answers: int, act: Callable[[], object]) -> Iterator[None]:
    """Act in another thread after a number of further responses, and before many more arrive."""
    most = sim.stats.responses.total() + answers

    def act_and_let_go() -> None:
        try:
            act()
        finally:
            sim.most = None

    sim.most = most
    with meanwhile(lambda: sim.stats.responses.total() >= most, act_and_let_go):
        yield


def interrupting_after(sim: Patient, answers: int) -> contextlib.AbstractContextManager[None]:
    """Send this process a signal after a number of further responses."""
    return acting_after(sim, answers, lambda: os.kill(os.getpid(), signal.SIGINT))


@contextlib.contextmanager
def meanwhile(condition: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Act in another thread as soon as a condition is true."""

    def wait_and_act() -> None:
        wait_until(condition)
        act()

    thread = Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
