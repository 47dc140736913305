"""The event loop of the benchmarks: uvloop if it is installed, the same for all contenders."""

import asyncio
from collections.abc import Coroutine
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from adapty_async.cli.signals import get_loop_factory

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine until it ends, like asyncio.run."""
    with asyncio.Runner(loop_factory=get_loop_factory()) as runner:
        return runner.run(main)


def loop_name() -> str:
    """Return the name and the version of the loop."""
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio's loop"
