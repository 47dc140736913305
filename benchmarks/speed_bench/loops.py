"""The event loop of the benchmarks: uvloop where it is installed, the same for all who are compared."""

from importlib.metadata import PackageNotFoundError, version

from adapty_async.cli.event_loop import run

__all__ = ["loop_name", "run"]


def loop_name() -> str:
    """Give the name of the loop, with its version."""
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio's loop"
