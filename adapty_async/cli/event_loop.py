"""The event loop of a command: uvloop's where it is installed. The library leaves the choice to whoever uses it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .interrupts import Interrupts
from .signals import postponed

_T = TypeVar("_T")


def run(main: Callable[[Interrupts], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end, as asyncio.run does, with the signals that come meanwhile.

    None of them raises within the loop, which may not close in order then: `main` is cancelled, but for what it asks
    of the `Interrupts`, and one that comes when it has ended is heard when the loop is closed.
    """
    with postponed() as came, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_hearing(main, came))


async def _hearing(main: Callable[[Interrupts], Coroutine[Any, Any, _T]], came: list[int]) -> _T:
    with Interrupts() as interrupts:
        if came:
            interrupts.hear()
        return await main(interrupts)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes the loop; None for asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return None
    return new_event_loop
