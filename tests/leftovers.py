"""What a call may leave behind on its event loop: nothing."""

import asyncio


def tasks_left() -> list[str]:
    """Name what the tasks of the running loop run, but for the current one and those of a test's server."""
    running = (task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task())
    names = [getattr(coroutine, "__qualname__", repr(coroutine)) for coroutine in running]
    return [name for name in names if not name.startswith("RawServer.")]


def timers_left() -> list[asyncio.TimerHandle]:
    """Give the timers of the running loop that will still fire."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return [timer for timer in scheduled if not timer.cancelled()]
