"""Fixtures that all tests share."""

import gc
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import hypothesis
import pytest
from aiohttp.http_writer import StreamWriter
from aioresponses import aioresponses

from adapty_async import AdaptyClient
from adapty_async.cli.signals import hearing_afterwards
from adapty_async.testing import Simulator

# How long an example takes, to make or to run, is the machine's affair.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# What a shell runs in the background ignores SIGINT, and so would the commands that are interrupted here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# As what runs under nohup ignores SIGHUP. By a function, for these tests shall go on: no process inherits that.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at thousands of tests again and again: they stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Leave the next test the signals that a command takes for itself: here it isn't the whole process."""
    with hearing_afterwards():
        yield


@pytest.fixture(scope="session", autouse=True)
def _state_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the commands of the tests from what the commands of the user share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


class _Response(aiohttp.ClientResponse):
    """Put in the stream writer, which aiohttp >= 3.14 wants and aioresponses 0.7.9 doesn't pass."""

    def __init__(self, *args: Any, loop: Any, **others: Any) -> None:
        super().__init__(*args, loop=loop, stream_writer=StreamWriter(None, loop), **others)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no protocol, for nothing is written


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Answer in aiohttp's place: no socket is opened."""
    monkeypatch.setattr("aioresponses.core.ClientResponse", _Response)
    with aioresponses() as answers:
        yield answers


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the simulator of the API."""
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AdaptyClient]:
    """Make a client of the simulator."""
    async with AdaptyClient(simulator.api_key, base_url=simulator.base_url) as connected:
        yield connected
