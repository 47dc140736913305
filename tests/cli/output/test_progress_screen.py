import asyncio
import io
import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from adapty_async.bulk import BulkReport, Latency, Outcome
from adapty_async.bulk.operations import OUTCOME_MEANINGS
from adapty_async.cli.jobs.outcome_counter import OutcomeCounter
from adapty_async.cli.output.command_output import Output, show_note, use_output
from adapty_async.cli.output.progress import LiveStatus, OutcomeCounts, ProgressView, RateMeter
from adapty_async.cli.output.progress_screen import (
    EventScreen,
    PlainScreen,
    TerminalScreen,
    _ProgressBar,
    create_screen,
    echo,
    format_summary,
    show_progress,
)
from adapty_async.pacing import Phase, Snapshot

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
    stop_reason=None,
    input_exhausted=True,
)


class Terminal(io.StringIO):
    """A terminal, or one that has been closed."""

    is_gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


IDLE = attrs.evolve(REPORT, requests=0)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")


def shown(terminal: Terminal) -> str:
    """Return the text on a terminal, without control sequences."""
    return Text.from_ansi(re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", terminal.getvalue())).plain


def standing(done: int, total: int = 20_000) -> OutcomeCounts:
    return OutcomeCounts(total, {Outcome.DELETED: done})


def view(
    standing: OutcomeCounts,
    rate: float | None = None,
    hour: datetime = datetime(2030, 1, 1, 23, 30, tzinfo=UTC),
    report: BulkReport = IDLE,
    pacing: Snapshot | None = None,
    **sight: Any,
) -> ProgressView:
    seen = LiveStatus(outcome_counts=standing, **sight).with_requests(report)
    return ProgressView(
        live_status=seen if pacing is None else seen.with_pacer_state(pacing), rate=rate, local_time=hour
    )


PACING = Snapshot(Phase.CRUISE, rate=49.0, estimate=50.2, hold_until=-math.inf, sent=100, throttled=3)
BUSY = attrs.evolve(
    REPORT,
    requests=1000,
    throttled=4,
    in_flight=12,
    awaiting_retry=3,
    latency=Latency(p50=0.0812, p90=1, p99=1, max=1),
)
FULL = view(
    OutcomeCounts(20_000, {Outcome.DELETED: 9_999, Outcome.FAILED: 1}),
    rate=5.0,
    report=BUSY,
    pacing=PACING,
    errors=("23:29:58  ServerError 503, 2 times", "23:10:00  AdaptyTimeoutError"),
)


def test_plain_lines_tell_done_pace_end_outcomes_requests_and_the_last_error() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    screen.show(view(standing(0)))
    screen.show(view(standing(5_000), rate=500.0))
    screen.show_message("Stopping", "INFO")
    screen.show(FULL)
    screen.close()
    parts = [FULL.done_text, FULL.rate_text, FULL.eta_text, FULL.outcomes_text, FULL.server_text, FULL.waiting_text]
    last = "; ".join([*parts, f"last error {FULL.live_status.errors[0]}"])
    assert stream.getvalue().splitlines() == [
        "0 of 20,000 rows",
        "5,000 of 20,000 rows; 500.0/s; 0:00:30 left, until 23:30; 5,000 deleted",
        "Stopping",
        last,
    ]
    assert FULL.rate_text == "5.0/s, the limit is 50.2/s"
    assert FULL.eta_text == "0:33:20 left, until 00:03 on 02 January"
    assert FULL.done_text == "9,999 of 20,000 rows"
    assert FULL.outcomes_text == "9,999 deleted, 1 failed, 10,000 left"
    assert FULL.server_text == "0.4% rate-limited, 12 in flight, latency 81 ms"
    assert FULL.waiting_text == "3 rows wait for a retry"


@pytest.mark.parametrize(
    ("phase", "estimate", "said"),
    [
        (Phase.START, None, "5.0/s, looking for the limit"),
        (Phase.BLOCKED, 50.0, "5.0/s, all requests rate-limited: waiting"),
        (Phase.PROBE, 1234.56, "5.0/s, the limit is 1,234.6/s"),
        (Phase.CRUISE, None, "5.0/s"),
        (Phase.STEADY, None, "5.0/s"),
    ],
)
def test_it_is_told_what_is_known_of_the_limit(phase: Phase, estimate: float | None, said: str) -> None:
    assert view(standing(1), 5.0, pacing=attrs.evolve(PACING, phase=phase, estimate=estimate)).rate_text == said


def test_a_paused_job_has_no_end_and_says_how_it_goes_on() -> None:
    paused = view(standing(1), 5.0, is_paused=True)
    assert "SIGUSR2" in paused.rate_text
    assert paused.time_left is None
    assert paused.eta_text == ""


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    meter = RateMeter()
    seen = {now: meter.measure(LiveStatus(outcome_counts=standing(done)), now).rate for now, done in RATES}
    assert seen == {100.0: None, 100.5: None, 101.0: 7.0, 105.0: 3.0, 111.0: 4.0, 115.0: 4.0, 200.0: None}


RATES = [(100.0, 0), (100.5, 0), (101.0, 7), (105.0, 15), (111.0, 47), (115.0, 55), (200.0, 55)]


def test_an_event_has_all_figures_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    screen = EventScreen(Output(json=True))
    screen.show(FULL)
    screen.show(view(standing(0)))
    screen.show_message("the job is parked", "WARNING")
    screen.close()
    full, empty, said = map(json.loads, capsys.readouterr().out.splitlines())
    assert datetime.fromisoformat(full.pop("at")).tzinfo is not None
    assert full == {
        "event": "progress",
        "total": 20_000,
        "done": 9_999,
        "failed": 1,
        "in_doubt": 0,
        "excluded": 0,
        "left": 10_000,
        "awaiting_retry": 3,
        "counts": {"deleted": 9_999, "failed": 1},
        "rate": 5.0,
        "mean_rate": None,
        "limit": 50.2,
        "phase": "cruise",
        "requests": 1000,
        "throttled": 4,
        "under_way": 12,
        "latency": 0.0812,
        "seconds_left": 2000,
        "ends": "2030-01-02T00:03:20+00:00",
        "paused": False,
        "errors": ["23:29:58  ServerError 503, 2 times", "23:10:00  AdaptyTimeoutError"],
    }
    assert empty.keys() == {"at", *full}
    assert (empty["rate"], empty["ends"]) == (None, None)
    assert (said["event"], said["level"], said["message"]) == ("log", "warning", "the job is parked")


def test_a_terminal_shows_a_bar_and_all_that_plain_lines_tell() -> None:
    terminal = Terminal()
    screen = TerminalScreen(terminal)
    screen.show(view(standing(0)))
    screen.show_message("Stopping", "INFO")
    screen.show(FULL)
    screen.close()
    text = shown(terminal)
    for part in (
        "━━━",
        "9,999 of 20,000",
        "Stopping",
        FULL.outcomes_text,
        FULL.rate_text,
        FULL.eta_text,
        FULL.server_text,
    ):
        assert part in text
    assert all(error in text for error in FULL.live_status.errors)


def test_a_terminal_is_written_over_and_never_scrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    screen = TerminalScreen(terminal)
    for _ in range(50):
        screen.show(FULL)
    screen.close()
    written = terminal.getvalue()
    drawn = written.split("\x1b[1A")  # moves up once for each line drawn below
    assert written.count("\n") - (len(drawn) - 1) <= 9
    assert all(len(line) <= 40 for line in shown(terminal).splitlines())


def test_a_terminal_that_has_gone_away_raises_nothing() -> None:
    terminal = Terminal()
    screen = TerminalScreen(terminal)
    terminal.is_gone = True
    screen.show(view(standing(1)))
    screen.show_message("Stopping", "INFO")
    screen.close()


def test_a_stream_is_shown_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(create_screen(io.StringIO()), PlainScreen)
    on_terminal = create_screen(Terminal())
    on_terminal.close()
    assert isinstance(on_terminal, TerminalScreen)
    with use_output(Output(json=True)):
        assert isinstance(create_screen(Terminal()), EventScreen)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(create_screen(Terminal()), PlainScreen)


def test_a_stream_that_nobody_reads_any_more_raises_nothing_now_or_later() -> None:
    with Path("/dev/full").open("w") as stream:
        echo("hello", stream)
        echo("again", stream)


async def test_progress_is_shown_again_and_again_and_at_the_end() -> None:
    stream = io.StringIO()
    books = OutcomeCounter(3)
    async with show_progress(
        lambda: LiveStatus(outcome_counts=books.outcome_counts), PlainScreen(stream, interval=0.001)
    ):
        while stream.getvalue().count("\n") < 3:  # noqa: ASYNC110 - the screen belongs to another thread
            await asyncio.sleep(0)
        books.count(Outcome.DELETED)
    assert stream.getvalue().splitlines()[-1].startswith("1 of 3 rows")


async def test_a_block_that_raises_leaves_no_progress_behind() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        async with show_progress(lambda: LiveStatus(outcome_counts=standing(1)), PlainScreen(stream)):
            raise ZeroDivisionError
    assert asyncio.all_tasks() == {asyncio.current_task()}


TROUBLED = OutcomeCounts(
    3000,
    {
        Outcome.DELETED: 1500,
        Outcome.DUPLICATE: 84,
        Outcome.ALREADY_ABSENT: 100,
        Outcome.FAILED: 600,
        Outcome.INVALID: 16,
        Outcome.IN_DOUBT: 100,
        Outcome.EXCLUDED: 50,
        Outcome.NOT_ATTEMPTED: 150,
    },
)


def test_the_figures_add_up_and_only_what_is_done_as_ordered_is_called_done() -> None:
    assert TROUBLED.by_result == {"done": 1684, "failed": 616, "in_doubt": 100, "excluded": 50, "left": 550}
    assert sum(TROUBLED.by_result.values()) == TROUBLED.total
    shown = view(TROUBLED, rate=10.0)
    assert shown.done_text == "1,684 of 3,000 rows"
    assert shown.time_left == timedelta(seconds=55)
    counted = sum(int(part.split()[0].replace(",", "")) for part in shown.outcomes_text.split(", "))
    assert counted == TROUBLED.total
    words = (line.split()[:2] for line in format_summary(TROUBLED, IDLE).partition("\n\n")[0].splitlines())
    figures = {name: int(figure.replace(",", "")) for name, figure in words}
    assert figures.pop("total") == sum(figures.values()) == 3000


@given(
    st.dictionaries(st.sampled_from(list(Outcome)), st.integers(0, 2000)),
    st.integers(0, 3000),
    st.sets(st.sampled_from([Outcome.FETCHED, Outcome.NOT_FOUND])),
)
def test_the_figures_add_up_whatever_became_of_the_rows(
    counts: dict[Outcome, int], rest: int, wanted: set[Outcome]
) -> None:
    standing = OutcomeCounts(sum(counts.values()) + rest, counts, wanted)
    assert sum(standing.by_result.values()) == standing.total
    assert min(standing.by_result.values()) >= 0


@pytest.mark.parametrize(
    ("standing", "bar"),
    [
        (OutcomeCounts(20, {Outcome.DELETED: 20}), "━" * 20),
        (OutcomeCounts(20, {Outcome.DELETED: 10}), "━" * 10),
        (OutcomeCounts(20, {Outcome.DELETED: 10, Outcome.FAILED: 6, Outcome.IN_DOUBT: 4}), "━" * 10 + "x" * 10),
        (OutcomeCounts(20, {Outcome.DELETED: 10, Outcome.EXCLUDED: 10}), "━" * 20),
        (OutcomeCounts(20, {Outcome.DELETED: 10, Outcome.NOT_ATTEMPTED: 10}), "━" * 10),
        (OutcomeCounts(3000, {Outcome.DELETED: 2999, Outcome.FAILED: 1}), "━" * 19 + "x"),
        (OutcomeCounts(0, {}), ""),
    ],
)
def test_the_bar_is_full_of_what_is_done_only_where_all_is(standing: OutcomeCounts, bar: str) -> None:
    console = Console(file=io.StringIO(), width=20, force_terminal=False)
    with console.capture() as captured:
        console.print(_ProgressBar(standing))
    assert captured.get().strip() == bar


def test_the_summary_has_a_line_for_each_outcome_and_figure() -> None:
    counts = {Outcome.DELETED: 19_000, Outcome.DUPLICATE: 900, Outcome.IN_DOUBT: 100}
    lines = [
        line.split(maxsplit=2) for line in format_summary(OutcomeCounts(20_000, counts), REPORT).splitlines() if line
    ]
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
    text = format_summary(OutcomeCounts(len(counts), counts), REPORT)
    assert all(f"1  {OUTCOME_MEANINGS[outcome]}\n" in text for outcome in counts)
    assert all(outcome in text for outcome in counts)
    assert "erase" not in text


def test_the_summary_of_what_never_began_took_no_time() -> None:
    report = attrs.evolve(REPORT, started=None, finished=None)
    assert re.search(r"seconds +0\.0", format_summary(standing(0), report))


def test_a_quiet_screen_shows_errors_alone() -> None:
    shown = io.StringIO()
    with use_output(Output(quiet=True, json=True)):
        screen = create_screen(shown)
    screen.show(view(standing(1)))
    for level in ("INFO", "WARNING", "ERROR"):
        screen.show_message(f"of {level}", level)
    screen.close()
    assert shown.getvalue() == "of ERROR\n"


def test_a_screen_that_cannot_redraw_prints_lines() -> None:
    assert isinstance(create_screen(Terminal(), can_redraw=False), PlainScreen)


@pytest.mark.parametrize(("quiet", "shown"), [(False, "a note\n"), (True, "")])
def test_a_note_is_left_out_where_it_shall_be_quiet(
    quiet: bool, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with use_output(Output(quiet=quiet)):
        show_note("a note")
    assert capsys.readouterr().err == shown
