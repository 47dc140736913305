import asyncio
import io
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from rich.text import Text

from adapty_async.bulk import BulkReport, Outcome
from adapty_async.cli.books import Books, Standing
from adapty_async.cli.inputs import Row
from adapty_async.cli.screen import PlainScreen, TerminalScreen, screen_for, showing, summary, tell

REPORT = BulkReport(
    counts=Counter(),
    failures=(),
    started=datetime(2030, 1, 1, tzinfo=UTC),
    finished=datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=1234.56),
    requests=20_202,
    retries=202,
    throttled=7,
    rate=554.54,
    latency=None,
    stopped=None,
    input_exhausted=True,
)


class Terminal(io.StringIO):
    """A terminal, or one that has gone away."""

    is_gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")


def shown(terminal: Terminal) -> str:
    """Give what a terminal shows, without its control sequences."""
    return Text.from_ansi(re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", terminal.getvalue())).plain


def standing(done: int, total: int = 20_000) -> Standing:
    return Standing(total, {Outcome.DELETED: done})


def test_plain_lines_tell_done_rate_time_left_and_outcomes() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    screen.show(standing(0), 100.0)
    screen.show(standing(5_000), 110.0)
    screen.show(Standing(20_000, {Outcome.DELETED: 9_999, Outcome.FAILED: 1}), 120.0)
    screen.say("Stopping")
    screen.close()
    assert stream.getvalue().splitlines() == [
        "0 of 20,000 rows",
        "5,000 of 20,000 rows; 500.0/s, 0:00:30 left; 5,000 deleted",
        "10,000 of 20,000 rows; 500.0/s, 0:00:20 left; 9,999 deleted, 1 failed",
        "Stopping",
    ]


def test_plain_lines_make_no_rate_of_nothing() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    for now in (1.0, 1.0, 2.0):
        screen.show(standing(7), now)
    assert stream.getvalue().splitlines() == ["7 of 20,000 rows; 7 deleted"] * 3


def test_a_terminal_shows_a_bar_done_rate_time_left_and_outcomes() -> None:
    terminal = Terminal()
    screen = TerminalScreen(terminal)
    screen.show(standing(0), 0.0)
    screen.show(standing(5_000), 1.0)
    screen.say("Stopping")
    screen.show(Standing(20_000, {Outcome.DELETED: 19_999, Outcome.FAILED: 1}), 2.0)
    screen.close()
    text = shown(terminal)
    assert "━━━" in text
    assert "5,000 of 20,000" in text
    assert re.search(r"[1-9][\d,.]+/s", text)
    assert "0:00:0" in text
    assert "Stopping" in text
    assert "19,999 deleted, 1 failed" in text


def test_a_terminal_that_has_gone_away_raises_nothing() -> None:
    terminal = Terminal()
    screen = TerminalScreen(terminal)
    terminal.is_gone = True
    screen.show(standing(1), 0.0)
    screen.say("Stopping")
    screen.close()


def test_a_stream_is_shown_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(screen_for(io.StringIO()), PlainScreen)
    on_terminal = screen_for(Terminal())
    on_terminal.close()
    assert isinstance(on_terminal, TerminalScreen)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen_for(Terminal()), PlainScreen)


def test_a_stream_that_nobody_reads_any_more_raises_nothing_now_or_later() -> None:
    with Path("/dev/full").open("w") as stream:
        tell("hello", stream)
        tell("again", stream)


async def test_progress_is_shown_again_and_again_and_at_the_end() -> None:
    stream = io.StringIO()
    books = Books(3)
    async with showing(books, PlainScreen(stream, interval=0.001)):
        while stream.getvalue().count("\n") < 3:  # noqa: ASYNC110 - the screen is another thread's
            await asyncio.sleep(0)
        books.enter(Row(1, "u1"), Outcome.DELETED)
    assert stream.getvalue().splitlines()[-1].startswith("1 of 3 rows")


async def test_a_block_that_raises_leaves_no_progress_behind() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        async with showing(Books(1), PlainScreen(stream)):
            raise ZeroDivisionError
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_summary_has_a_line_for_each_outcome_and_figure() -> None:
    counts = {Outcome.DELETED: 19_000, Outcome.DUPLICATE: 900, Outcome.IN_DOUBT: 100}
    lines = [line.split(maxsplit=2) for line in summary(Standing(20_000, counts), REPORT).splitlines() if line]
    assert [line[:2] for line in lines] == [
        ["deleted", "19,000"],
        ["duplicate", "900"],
        ["in_doubt", "100"],
        ["total", "20,000"],
        ["requests", "20,202"],
        ["retries", "202"],
        ["throttled", "7"],
        ["seconds", "1,234.6"],
        ["rate", "554.5"],
    ]
    assert "accepted the deletion" in lines[0][2]


def test_the_summary_explains_every_outcome_a_deletion_can_have_and_claims_no_more_than_it_knows() -> None:
    others = {Outcome.UPDATED, Outcome.CREATED, Outcome.FETCHED, Outcome.SUCCEEDED, Outcome.NOT_FOUND}
    counts = {outcome: 1 for outcome in Outcome if outcome not in others}
    text = summary(Standing(len(counts), counts), REPORT)
    assert all(outcome in text for outcome in counts)
    assert "erase" not in text


def test_the_summary_of_what_never_began_took_no_time() -> None:
    report = attrs.evolve(REPORT, started=None, finished=None)
    assert re.search(r"seconds +0\.0", summary(standing(0), report))
