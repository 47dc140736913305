"""Show the progress on standard error and the summary on standard output. Both contain numbers, never IDs."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Protocol, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ...bulk import BulkReport
from ...bulk.operations import OUTCOME_MEANINGS
from ...escaping import escape_line, escape_lines
from .command_output import Output, echo, get_output, show_note
from .progress import LiveStatus, OutcomeCounts, ProgressView, RateMeter

__all__ = ["Screen", "create_screen", "echo", "format_summary", "show_log_messages", "show_note", "show_progress"]


class Screen(Protocol):
    """Shows the progress of a job. `interval`: seconds between two updates."""

    interval: float

    def show(self, view: ProgressView) -> None:
        """Show the progress of the job."""
        ...

    def show_message(self, text: str, level: str) -> None:
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

    def show(self, view: ProgressView) -> None:
        errors = view.live_status.errors
        last = f"last error {errors[0]}" if errors else ""
        parts = (
            view.done_text,
            view.rate_text,
            view.eta_text,
            view.outcomes_text,
            view.server_text,
            view.waiting_text,
            last,
        )
        echo("; ".join(filter(None, parts)), self._stream)

    def show_message(self, text: str, level: str) -> None:
        echo(text, self._stream)

    def close(self) -> None:
        pass


class QuietScreen:
    """Nothing but errors."""

    interval = 10.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, view: ProgressView) -> None:
        pass

    def show_message(self, text: str, level: str) -> None:
        if level in ("ERROR", "CRITICAL"):
            echo(text, self._stream)

    def close(self) -> None:
        pass


class EventScreen:
    """Events for programs on standard output. Text for people goes to standard error."""

    def __init__(self, output: Output, interval: float = 1.0) -> None:
        self.interval = interval
        self._output = output

    def show(self, view: ProgressView) -> None:
        self._output.emit_event("progress", **view.to_dict())

    def show_message(self, text: str, level: str) -> None:
        self._output.emit_event("log", level=level.lower(), message=text)

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

    def show(self, view: ProgressView) -> None:
        with contextlib.suppress(OSError):
            self._live.update(_render(view), refresh=True)

    def show_message(self, text: str, level: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(escape_lines(text), highlight=False, markup=False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()
            self._console.print()


class _ProgressBar:
    """A bar of all rows: done or excluded, failed or in doubt, and left."""

    def __init__(self, outcome_counts: OutcomeCounts) -> None:
        self._outcome_counts = outcome_counts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        outcome_counts, width = self._outcome_counts, options.max_width
        total = max(outcome_counts.total, 1)
        # Rounded down, so that the bar is full only if all rows are settled, and even a single failed row is visible.
        settled = width * outcome_counts.settled_count // total
        done = width * (outcome_counts.success_count + outcome_counts.by_result["excluded"]) // total
        line = "-" if options.ascii_only else "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
        yield Segment(line * done, console.get_style("bar.complete"))
        yield Segment("x" * (settled - done), console.get_style("red"))
        yield Segment(" " * (width - settled))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)


def _render(view: ProgressView) -> Group:
    outcome_counts = view.live_status.outcome_counts
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_row(_ProgressBar(outcome_counts), view.done_text)
    return Group(bar, *(Text(escape_line(line), no_wrap=True, overflow="ellipsis") for line in view.lines))


def create_screen(stream: TextIO, *, can_redraw: bool = True) -> Screen:
    """Return the screen for a stream.

    It shows only errors with --quiet, events with --json, a progress bar on a terminal, or else lines of text.
    `can_redraw`: whether a progress bar may redraw its lines.
    """
    if get_output().quiet:
        return QuietScreen(stream)
    if get_output().json:
        return EventScreen(get_output())
    is_terminal = can_redraw and stream.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalScreen(stream) if is_terminal else PlainScreen(stream)


class _ScreenLogHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen
        self.addFilter(lambda record: record.name == "adapty_async")  # leaves out the logger of failed attempts

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.show_message(record.getMessage(), record.levelname)


@contextlib.contextmanager
def show_log_messages(screen: Screen) -> Iterator[None]:
    """Show the library's log messages on the screen, such as that the circuit breaker has opened or closed."""
    logger, handler = logging.getLogger("adapty_async"), _ScreenLogHandler(screen)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.asynccontextmanager
async def show_progress(get_live_status: Callable[[], LiveStatus], screen: Screen) -> AsyncIterator[None]:
    """Show the progress while the block runs and when it ends. `get_live_status` returns the live status."""
    loop, meter = asyncio.get_running_loop(), RateMeter()

    async def refresh_repeatedly() -> None:
        while True:
            # In a thread, so that a terminal paused by Ctrl-S delays no request.
            await asyncio.to_thread(screen.show, meter.measure(get_live_status(), loop.time()))
            await asyncio.sleep(screen.interval)

    ticker = loop.create_task(refresh_repeatedly())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait([ticker])
        screen.show(ProgressView(live_status=get_live_status(), rate=None, local_time=datetime.now().astimezone()))
        screen.close()


def format_summary(outcome_counts: OutcomeCounts, report: BulkReport) -> str:
    """Return the summary of a job: a line for each outcome, then the figures of the requests."""
    return "\n".join(_iter_summary_lines(outcome_counts, report))


def _iter_summary_lines(outcome_counts: OutcomeCounts, report: BulkReport) -> Iterator[str]:
    for outcome, meaning in OUTCOME_MEANINGS.items():
        if count := outcome_counts.by_outcome.get(outcome):
            yield _format_line(outcome, f"{count:,}", meaning)
    if rest := outcome_counts.total - sum(outcome_counts.by_outcome.values()):
        yield _format_line("left", f"{rest:,}", "no outcome is known")
    yield _format_line("total", f"{outcome_counts.total:,}", "row" if outcome_counts.total == 1 else "rows")
    yield ""
    yield _format_line("requests", f"{report.requests:,}")
    yield _format_line("retries", f"{report.retries:,}", "of the requests")
    yield _format_line("throttled", f"{report.throttled:,}", "of the requests: answered 429")
    yield _format_line("seconds", f"{_get_duration_seconds(report):,.1f}")
    yield _format_line("rate", f"{report.rate:,.1f}", "requests per second")


def _format_line(name: str, figure: str, meaning: str = "") -> str:
    return f"{name:<20}{figure:>12}  {meaning}".rstrip()


def _get_duration_seconds(report: BulkReport) -> float:
    if report.started is None or report.finished is None:
        return 0.0
    return (report.finished - report.started).total_seconds()
