"""On which event loop a command runs."""

import asyncio
import sys

import pytest
import uvloop

from adapty_async.cli import event_loop


async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_it_is_uvloops_where_that_is_installed() -> None:
    assert isinstance(event_loop.run(loop()), uvloop.Loop)


def test_it_is_asyncios_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert type(event_loop.run(loop())).__module__.startswith("asyncio.")
