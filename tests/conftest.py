"""Fixtures for all tests."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis
import pytest
from aiohttp.http_writer import StreamWriter
from aioresponses import aioresponses

from adapty_async import AdaptyClient
from adapty_async.cli.signals import restore_signal_handlers
from adapty_async.testing import Simulator

# How long an example takes to create or to run depends on the machine.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# A background process of a shell ignores SIGINT, and so would the commands that these tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same for SIGHUP under nohup. The handler is a function, which no subprocess inherits, because these tests must
# continue.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Commands that these tests start would compile the package each time, which takes a third of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Ledgers are synced thousands of times, which takes half a second each if all tests wait for one disk. Those that are
# about the disk simulate it.
_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a private folder in it
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# When aiohttp is imported, it loads the certificates of this file, which takes a tenth of a second. No test needs them.
os.environ.pop("SSL_CERT_FILE", None)


def pytest_collection_finish() -> None:
    """Exclude the tests from garbage collection: they exist until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Restore the signals that a command handles, because the process continues with the next test."""
    with restore_signal_handlers():
        yield


@pytest.fixture(scope="session", autouse=True)
def _state_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Separate the state of the commands in the tests from that of the user's commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


class _Response(aiohttp.ClientResponse):
    """Add the stream writer, which aiohttp >= 3.14 requires and aioresponses 0.7.9 doesn't pass."""

    def __init__(self, *args: Any, loop: Any, **others: Any) -> None:
        super().__init__(*args, loop=loop, stream_writer=StreamWriter(None, loop), **others)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no protocol, because nothing is written


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Respond instead of aiohttp, without opening a socket."""
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
    """Create a client of the simulator."""
    async with AdaptyClient(simulator.api_key, base_url=simulator.base_url) as connected:
        yield connected
