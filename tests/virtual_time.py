"""An event loop with virtual time: when nothing is ready, the clock jumps to the next timer.

Hours of pure asyncio code run in milliseconds, with the same result each time. Sockets, threads and subprocesses need
real time: waiting for one of them alone is a deadlock here, and raises an error.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class _JumpingSelector(selectors.DefaultSelector):
    """Turn the wait for a socket into a jump of the clock."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        self.loop.jump(timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Count in `jumps` how often the loop woke up for a timer."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._now = 1000.0  # not 0, like a real clock
        self.jumps = 0
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Advance the time."""
        if seconds > 0:
            self.jumps += 1
            self._now += seconds


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def virtual(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Turn an async test function into a test that runs in virtual time."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


def virtual_loop() -> VirtualTimeLoop:
    """Return the running loop, which has virtual time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop
