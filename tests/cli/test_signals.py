"""The event loop that a command runs on, and signals while it runs."""

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import uvloop

from adapty_async.cli import signals
from adapty_async.cli.signals import InterruptHandler, install_interrupt_handlers, restore_signal_handlers
from tests.cli.served import environment
from tests.waiting import PATIENCE

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


async def loop(_: InterruptHandler) -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_it_is_uvloops_where_that_is_installed() -> None:
    assert isinstance(signals.run_event_loop(loop), uvloop.Loop)


def test_it_is_asyncios_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert type(signals.run_event_loop(loop)).__module__.startswith("asyncio.")


# Signals


@pytest.fixture(params=["uvloop", "asyncio"])
def _both_loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    with restore_signal_handlers():
        install_interrupt_handlers()
        yield


class Late:
    """Work left over by a command. It sends signals while the loop shuts it down."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_ended = False

    async def start(self, _: InterruptHandler) -> str:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return "done"

    async def start_and_fail(self, interrupts: InterruptHandler) -> str:
        await self.start(interrupts)
        raise ValueError("of the command")

    async def _run(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            for _ in range(3):
                signal.raise_signal(self.signum)
            await asyncio.sleep(0)
            self.is_ended = True


@pytest.mark.usefixtures("_both_loops")
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_that_comes_while_the_loop_closes_is_heard_when_it_is_closed(signum: int) -> None:
    late = Late(signum)
    with pytest.raises(KeyboardInterrupt):
        signals.run_event_loop(late.start)
    assert late.is_ended
    assert late.loop is not None
    assert late.loop.is_closed()


@pytest.mark.usefixtures("_both_loops")
def test_a_signal_that_comes_while_the_loop_closes_hides_no_error() -> None:
    late = Late(signal.SIGTERM)
    with pytest.raises(ValueError, match="of the command"):
        signals.run_event_loop(late.start_and_fail)
    assert late.is_ended


@pytest.mark.usefixtures("_both_loops")
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_that_comes_while_the_loop_is_made_cancels_the_command(
    signum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = signals.get_loop_factory() or asyncio.new_event_loop

    def make_it() -> asyncio.AbstractEventLoop:
        signal.raise_signal(signum)
        return make()

    monkeypatch.setattr(signals, "get_loop_factory", lambda: make_it)
    told: list[str] = []

    async def command(_: InterruptHandler) -> None:
        told.append("begun")
        await asyncio.sleep(60)
        told.append("ended")

    with pytest.raises(asyncio.CancelledError):
        signals.run_event_loop(command)
    assert told == ["begun"]


@pytest.mark.usefixtures("_both_loops")
def test_more_signals_cut_off_nothing_that_the_first_one_has_put_in_order() -> None:
    told: list[str] = []

    async def command(_: InterruptHandler) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            for _again in range(3):
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0.01)
            told.append("in order")

    with pytest.raises(asyncio.CancelledError):
        signals.run_event_loop(command)
    assert told == ["in order"]


@pytest.mark.usefixtures("_both_loops")
def test_a_signal_wakes_a_loop_that_nothing_else_would() -> None:
    def signal_here() -> None:  # if the loop's wait isn't interrupted
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    async def command(_: InterruptHandler) -> None:
        sender = threading.Timer(0.05, signal_here)
        sender.start()
        await asyncio.sleep(PATIENCE)

    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        signals.run_event_loop(command)
    assert time.monotonic() - began < PATIENCE / 2


_FLOODED = """
import asyncio, os, signal, sys, threading
from adapty_async.cli.signals import InterruptHandler, get_loop_factory

async def use():
    with InterruptHandler():
        await asyncio.sleep(0)

async def main():
    for _ in range(1000):
        await asyncio.wait([asyncio.create_task(use())])

for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, lambda *_: None)
threading.Thread(target=threading.Event().wait, daemon=True).start()  # it takes what the main thread blocks
print("ready", flush=True)
with asyncio.Runner(loop_factory=None if sys.argv[1:] else get_loop_factory()) as runner:
    runner.run(main())
os._exit(0)  # before Python sets the system's handlers again
"""


@pytest.mark.parametrize("options", [[], ["asyncio"]], ids=["uvloop", "asyncio"])
def test_however_many_signals_come_none_meets_the_systems_handler(options: list[str]) -> None:
    command = [sys.executable, "-c", _FLOODED, *options]
    with subprocess.Popen(command, env=environment({}), stdout=subprocess.PIPE) as process:  # noqa: S603 - our own interpreter
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + PATIENCE
        for signum in itertools.cycle(SIGNALS):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            process.send_signal(signum)
            time.sleep(0.0001)  # without a pause, the process would only handle signals
        process.kill()
    assert process.returncode == 0


@pytest.mark.usefixtures("_both_loops")
def test_without_a_loop_the_first_signal_is_the_last_that_is_heard() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    for signum in SIGNALS:
        signal.raise_signal(signum)
