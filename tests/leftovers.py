"""Nothing of a call may remain on its event loop."""

import asyncio

from adapty_async.http.deadline_timers import DeadlineTimers


def tasks_left() -> list[str]:
    """Return the names of the running loop's tasks, except the current one and those of a test's server."""
    running = (task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task())
    names = [getattr(coroutine, "__qualname__", repr(coroutine)) for coroutine in running]
    return [name for name in names if not name.startswith(("RawServer.", "RequestHandler."))]


def timers_left() -> list[asyncio.TimerHandle]:
    """Return the timers of the running loop that still have an effect."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return [timer for timer in scheduled if not timer.cancelled() and not _is_idle(timer)]


def _is_idle(timer: asyncio.TimerHandle) -> bool:
    """Return True if the timer is the shared one of attempts that have all ended."""
    owner = getattr(timer._callback, "__self__", None)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return isinstance(owner, DeadlineTimers) and not owner.active_count
