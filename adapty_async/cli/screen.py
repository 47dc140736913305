"""What a command shows: progress on standard error, the summary on standard output. Numbers, never an id."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Final, Protocol, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from ..bulk import BulkReport, Outcome
from .books import Keeper, Standing

_MEANINGS: Final = {
    Outcome.DELETED: "Adapty accepted the deletion",
    Outcome.UPDATED: "Adapty accepted the update",
    Outcome.CREATED: "Adapty accepted the creation",
    Outcome.FETCHED: "Adapty gave the profile",
    Outcome.DELETED_UNCONFIRMED: "absent after a request whose answer was lost: most likely deleted by it",
    Outcome.ALREADY_ABSENT: "Adapty has no such profile",
    Outcome.NOT_FOUND: "Adapty has no such profile",
    Outcome.DUPLICATE: "the same id as on an earlier line",
    Outcome.INVALID: "can't be read, or can't be an id: not sent",
    Outcome.FAILED: "refused by Adapty, or still failing at the last try",
    Outcome.IN_DOUBT: "sent, but no answer tells what became of it",
    Outcome.NOT_ATTEMPTED: "not sent",
}


def tell(text: str, stream: TextIO) -> None:
    """Print a text where anybody reads; a pipe that nobody reads any more ends no job."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # What is left in the stream's buffer goes there too when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Screen(Protocol):
    """Where progress is shown. `interval`: seconds from one look to the next."""

    interval: float

    def show(self, standing: Standing, now: float) -> None:
        """Show where the job stands at `now`, in seconds of a steady clock."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...

    def close(self) -> None:
        """Show nothing more."""
        ...


class PlainScreen:
    """Lines of text, for logs and pipes."""

    def __init__(self, stream: TextIO, interval: float = 10.0) -> None:
        self.interval = interval
        self._stream = stream
        self._last: tuple[float, int] | None = None

    def show(self, standing: Standing, now: float) -> None:
        parts = (f"{standing.done:,} of {standing.total:,} rows", self._pace(standing, now), _outcomes(standing))
        tell("; ".join(filter(None, parts)), self._stream)

    def say(self, text: str) -> None:
        tell(text, self._stream)

    def close(self) -> None:
        pass

    def _pace(self, standing: Standing, now: float) -> str:
        """Tell the rate since the last line, and the time left at that rate."""
        last, self._last = self._last, (now, standing.done)
        if last is None or now <= last[0] or standing.done == last[1]:
            return ""
        rate = (standing.done - last[1]) / (now - last[0])
        left = timedelta(seconds=round((standing.total - standing.done) / rate))
        return f"{rate:,.1f}/s, {left} left"


class TerminalScreen:
    """A progress bar with the outcomes below it. A terminal that has gone away ends no job."""

    def __init__(self, stream: TextIO, interval: float = 0.1) -> None:
        self.interval = interval
        self._progress = _Progress(Console(file=stream))
        self._bar = self._progress.add_task("", total=None)
        self._progress.start()

    def show(self, standing: Standing, now: float) -> None:
        self._progress.outcomes = _outcomes(standing)
        with contextlib.suppress(OSError):
            self._progress.update(self._bar, total=standing.total, completed=standing.done, refresh=True)

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._progress.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()
            self._progress.console.print()


class _Progress(Progress):
    def __init__(self, console: Console) -> None:
        self.outcomes = ""
        # Drawn by `show` alone: rich's own thread would draw counts that are being changed.
        columns = (BarColumn(None), _Done(), _Rate(), _Left())
        super().__init__(*columns, console=console, expand=True, auto_refresh=False)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.outcomes)


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f} of {task.total or 0:,.0f}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.1f}/s")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{timedelta(seconds=round(seconds))} left")


def screen_for(stream: TextIO) -> Screen:
    """Give a terminal the progress bar, and anything else lines."""
    is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalScreen(stream) if is_terminal else PlainScreen(stream)


class _Saying(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage())


@contextlib.contextmanager
def saying(screen: Screen) -> Iterator[None]:
    """Say what the library logs, such as that the job is parked, and that it goes on."""
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
async def showing(keeper: Keeper, screen: Screen) -> AsyncIterator[None]:
    """Show the progress while the block runs, and at its end."""
    loop = asyncio.get_running_loop()

    async def keep_showing() -> None:
        while True:
            # In a thread, so that a terminal that is held (Ctrl-S) holds no request.
            await asyncio.to_thread(screen.show, keeper.standing, loop.time())
            await asyncio.sleep(screen.interval)

    ticker = loop.create_task(keep_showing())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait([ticker])
        screen.show(keeper.standing, loop.time())
        screen.close()


def summary(standing: Standing, report: BulkReport) -> str:
    """Say what became of the rows, a line an outcome, and what it took."""
    return "\n".join(_lines(standing, report))


def _lines(standing: Standing, report: BulkReport) -> Iterator[str]:
    for outcome, meaning in _MEANINGS.items():
        if count := standing.counts.get(outcome):
            yield _line(outcome, f"{count:,}", meaning)
    yield _line("total", f"{standing.done:,}", "rows")
    yield ""
    yield _line("requests", f"{report.requests:,}")
    yield _line("retries", f"{report.retries:,}", "of the requests")
    yield _line("throttled", f"{report.throttled:,}", "of the requests: answered 429")
    yield _line("seconds", f"{_seconds(report):,.1f}")
    yield _line("rate", f"{report.rate:,.1f}", "requests a second")


def _line(name: str, figure: str, meaning: str = "") -> str:
    return f"{name:<20}{figure:>12}  {meaning}".rstrip()


def _seconds(report: BulkReport) -> float:
    if report.started is None or report.finished is None:
        return 0.0
    return (report.finished - report.started).total_seconds()


def _outcomes(standing: Standing) -> str:
    shown = ((outcome, standing.counts.get(outcome)) for outcome in _MEANINGS)
    return ", ".join(f"{count:,} {outcome}" for outcome, count in shown if count)
