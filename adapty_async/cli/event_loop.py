"""The event loop of a command: uvloop if it is installed. The library leaves the choice to its caller."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .interrupts import Interrupts
from .signals import postponed

_T = TypeVar("_T")


def run(main: Callable[[Interrupts], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine as asyncio.run does, and handle the signals that arrive during the run.

    Signals raise no exception inside the loop, because the loop might then not close properly. Instead `main` is
    cancelled, unless it uses the `Interrupts` to handle them. A signal that arrives after `main` has ended is handled
    when the loop is closed.
    """
    with postponed() as came, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_hearing(main, came))


async def _hearing(main: Callable[[Interrupts], Coroutine[Any, Any, _T]], came: list[int]) -> _T:
    with Interrupts() as interrupts:
        if came:
            interrupts.hear()
        return await main(interrupts)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of the event loop, or None for asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return None
    return new_event_loop
