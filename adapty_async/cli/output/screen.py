"""Show the progress on standard error and the summary on standard output. Both contain numbers, never IDs."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Final, Protocol, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ...bulk import BulkReport, Outcome
from ...escaping import one_line, printable
from .events import Output, current, tell
from .progress import Meter, Sight, Standing, View

__all__ = ["Screen", "saying", "screen_for", "showing", "summary", "tell"]

_MEANINGS: Final = {
    Outcome.DELETED: "Adapty accepted the deletion",
    Outcome.UPDATED: "Adapty accepted the update",
    Outcome.CREATED: "Adapty accepted the creation",
    Outcome.FETCHED: "Adapty returned the profile",
    Outcome.DELETED_UNCONFIRMED: "absent after a request whose answer was lost: most likely deleted by it",
    Outcome.ALREADY_ABSENT: "Adapty has no such profile",
    Outcome.NOT_FOUND: "Adapty has no such profile",
    Outcome.DUPLICATE: "the same id as on an earlier line",
    Outcome.EXCLUDED: "on an exclude list: not sent",
    Outcome.INVALID: "can't be read, or can't be an id: not sent",
    Outcome.FAILED: "rejected by Adapty, or still failing at the last attempt",
    Outcome.IN_DOUBT: "sent, but no answer shows the result",
    Outcome.NOT_ATTEMPTED: "not sent",
}


class Screen(Protocol):
    """Shows the progress of a job. `interval`: seconds between two updates."""

    interval: float

    def show(self, view: View) -> None:
        """Show the progress of the job."""
        ...

    def say(self, text: str, level: str) -> None:
        """Show a line of text. `level`: a level name of `logging`."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class PlainScreen:
    """Lines of text, for logs and pipes."""

    def __init__(self, stream: TextIO, interval: float = 10.0) -> None:
        self.interval = interval
        self._stream = stream

    def show(self, view: View) -> None:
        errors = view.sight.errors
        last = f"last error {errors[0]}" if errors else ""
        parts = (view.done, view.pace, view.end, view.outcomes, view.requests, view.waiting, last)
        tell("; ".join(filter(None, parts)), self._stream)

    def say(self, text: str, level: str) -> None:
        tell(text, self._stream)

    def close(self) -> None:
        pass


class EventScreen:
    """Events for programs on standard output. Text for people goes to standard error."""

    def __init__(self, output: Output, interval: float = 1.0) -> None:
        self.interval = interval
        self._output = output

    def show(self, view: View) -> None:
        self._output.emit("progress", **view.as_json())

    def say(self, text: str, level: str) -> None:
        self._output.emit("log", level=level.lower(), message=text)

    def close(self) -> None:
        pass


class TerminalScreen:
    """A progress bar with a few lines below it, updated in place. A terminal that is closed doesn't end the job."""

    def __init__(self, stream: TextIO, interval: float = 0.25) -> None:
        self.interval = interval
        self._console = Console(file=stream)
        # Only `show` draws: rich's own thread would draw even if nothing has changed.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        with contextlib.suppress(OSError):
            self._live.start()

    def show(self, view: View) -> None:
        with contextlib.suppress(OSError):
            self._live.update(_drawn(view), refresh=True)

    def say(self, text: str, level: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(printable(text), highlight=False, markup=False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()
            self._console.print()


class _Bar:
    """A bar of all rows: done or excluded, failed or in doubt, and left."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        standing, width = self._standing, options.max_width
        total = max(standing.total, 1)
        # Rounded down, so that the bar is full only if all rows are settled, and even a single failed row is visible.
        settled = width * standing.settled // total
        done = width * (standing.done + standing.parts["excluded"]) // total
        line = "-" if options.ascii_only else "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
        yield Segment(line * done, console.get_style("bar.complete"))
        yield Segment("x" * (settled - done), console.get_style("red"))
        yield Segment(" " * (width - settled))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)


def _drawn(view: View) -> Group:
    standing = view.sight.standing
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_row(_Bar(standing), view.done)
    return Group(bar, *(Text(one_line(line), no_wrap=True, overflow="ellipsis") for line in view.lines))


def screen_for(stream: TextIO) -> Screen:
    """Return the screen for a stream: events with --json, a progress bar on a terminal, or else lines of text."""
    if current().json:
        return EventScreen(current())
    is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalScreen(stream) if is_terminal else PlainScreen(stream)


class _Saying(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen
        self.addFilter(lambda record: record.name == "adapty_async")  # leaves out the logger of failed attempts

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), record.levelname)


@contextlib.contextmanager
def saying(screen: Screen) -> Iterator[None]:
    """Show the library's log messages on the screen, such as that the circuit breaker has opened or closed."""
    logger, handler = logging.getLogger("adapty_async"), _Saying(screen)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.asynccontextmanager
async def showing(look: Callable[[], Sight], screen: Screen) -> AsyncIterator[None]:
    """Show the progress while the block runs and when it ends. `look` returns the live status."""
    loop, meter = asyncio.get_running_loop(), Meter()

    async def keep_showing() -> None:
        while True:
            # In a thread, so that a terminal paused by Ctrl-S delays no request.
            await asyncio.to_thread(screen.show, meter.view(look(), loop.time()))
            await asyncio.sleep(screen.interval)

    ticker = loop.create_task(keep_showing())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait([ticker])
        screen.show(View(sight=look(), rate=None, hour=datetime.now().astimezone()))
        screen.close()


def summary(standing: Standing, report: BulkReport) -> str:
    """Return the summary of a job: a line for each outcome, then the figures of the requests."""
    return "\n".join(_lines(standing, report))


def _lines(standing: Standing, report: BulkReport) -> Iterator[str]:
    for outcome, meaning in _MEANINGS.items():
        if count := standing.counts.get(outcome):
            yield _line(outcome, f"{count:,}", meaning)
    if rest := standing.total - sum(standing.counts.values()):
        yield _line("left", f"{rest:,}", "no outcome is known")
    yield _line("total", f"{standing.total:,}", "rows")
    yield ""
    yield _line("requests", f"{report.requests:,}")
    yield _line("retries", f"{report.retries:,}", "of the requests")
    yield _line("throttled", f"{report.throttled:,}", "of the requests: answered 429")
    yield _line("seconds", f"{_seconds(report):,.1f}")
    yield _line("rate", f"{report.rate:,.1f}", "requests per second")


def _line(name: str, figure: str, meaning: str = "") -> str:
    return f"{name:<20}{figure:>12}  {meaning}".rstrip()


def _seconds(report: BulkReport) -> float:
    if report.started is None or report.finished is None:
        return 0.0
    return (report.finished - report.started).total_seconds()
