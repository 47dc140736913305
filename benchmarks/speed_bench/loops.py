"""The event loop of the benchmarks: uvloop where it is installed, the same for all who are compared."""

import asyncio
import importlib.util
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any, TypeVar

_T = TypeVar("_T")

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end."""
    if not HAS_UVLOOP:
        return asyncio.run(main)
    import uvloop  # here, since it need not be installed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def loop_name() -> str:
    """Give the name of the loop, with its version."""
    return f"uvloop {version('uvloop')}" if HAS_UVLOOP else "asyncio's loop"
