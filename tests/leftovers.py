"""What a call may leave behind on its event loop: nothing."""

import asyncio


def tasks_left() -> list[str]:
    """Name the tasks of the running loop but the current one."""
    return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def timers_left() -> list[asyncio.TimerHandle]:
    """Give the timers of the running loop that will still fire."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return [timer for timer in scheduled if not timer.cancelled()]
