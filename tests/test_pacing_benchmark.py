"""A short form of the pacing benchmark, and its table in the documentation."""

import math
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from adapty_async.pacing import Ticket, Verdict
from benchmarks import pacing
from benchmarks.pacing_bench.contenders import OURS, Cubic, figures_of, told_figures
from benchmarks.pacing_bench.figures import Also, Asked, Figures, Scenario
from benchmarks.pacing_bench.loopback import LIMITS, run
from benchmarks.pacing_bench.pictures import PICTURES, picture
from benchmarks.pacing_bench.results import Result, run_all
from benchmarks.pacing_bench.scenarios import BY_NAME, SCENARIOS, bucket, steady
from benchmarks.pacing_bench.table import SHORT_HEAD, verdict
from benchmarks.page_tables import RATE_LIMITS, replace_table, rows_below, table_in

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "pacing"

GOOD = Figures(goodput=0.99, refused=0.01, production=0.01, until_90=3.0, also=(1.0,))


def asked(asked: Asked) -> Scenario:
    return Scenario("one", bucket(50, 10, 60), steady(50), asked)


@pytest.mark.no_cover  # the same lines run again and again
class TestOurPacer:
    @pytest.mark.parametrize("name", ["50/s, burst 10", "100/s falling to 30/s", "all 503 for 60 s"])
    def test_it_does_what_is_asked(self, name: str) -> None:
        assert not Result(BY_NAME[name], figures_of(OURS, BY_NAME[name], seeds=1)).missed

    def test_the_same_seeds_give_the_same_figures(self) -> None:
        (first,), (again,) = ([each for _, each in run_all([OURS], "remembered", 2, jobs)] for jobs in (1, 2))
        assert [result.runs for result in first] == [result.runs for result in again]

    async def test_it_finds_the_limit_over_real_sockets_too(self) -> None:
        goodput, refused = await run(LIMITS[0], started=1.0, seconds=2.0)
        assert goodput > 0.1
        assert refused < 0.5


def test_the_cubic_one_goes_as_botocore_does() -> None:
    pacer = Cubic(clock=1000.3)
    rates = []
    for number in range(400):
        now = 0.02 * number
        ticket = pacer.acquire(now) if pacer.delay(now) == 0 else Ticket(number, now)
        pacer.record(now + 0.01, ticket, Verdict.THROTTLED if number in {40, 41, 120, 300} else Verdict.ACCEPTED)
        if number % 40 == 39:
            rates.append(pacer.rate)
    # Recorded from ClientRateLimiter of botocore 1.44.8 at the same times; without a limit before the first 429.
    recorded = [math.inf, 26.8769, 29.6299, 26.2765, 28.8829, 29.5977, 29.6499, 24.0209, 28.0562, 29.5768]
    assert rates == pytest.approx(recorded, abs=1e-4)


class TestJudging:
    @pytest.mark.parametrize(
        ("bars", "missed"),
        [
            (Asked(0.99, 0.99, refused=0.01, production=0.01, within=3.0), []),
            (Asked(0.991), ["goodput"]),
            (Asked(refused=0.009), ["429s"]),
            (Asked(refused=0.0), ["429s"]),
            (Asked(production=0.009), ["production"]),
            (Asked(within=2.9), ["90 %"]),
            (Asked(also=(Also("{:.0f} too early", lambda _: 1.0, at_most=0),)), ["1 too early"]),
        ],
    )
    def test_each_bar_counts(self, bars: Asked, missed: list[str]) -> None:
        assert Result(asked(bars), [GOOD]).missed == missed

    def test_shares_are_means_and_of_promises_the_worst_seed_counts(self) -> None:
        bars = Asked(refused=0.02, within=4.0, also=(Also("{:.0f} too early", lambda _: 0.0, at_most=1),))
        worse = GOOD._replace(refused=0.03, until_90=5.0, also=(2.0,))
        assert Result(asked(bars), [worse, GOOD]).missed == ["90 %", "2 too early"]

    def test_the_verdict_tells_bar_and_aim_apart(self) -> None:
        verdicts = [verdict(Result(asked(bars), [GOOD])) for bars in (Asked(), Asked(0.9), Asked(0.9, 0.95))]
        assert verdicts == ["", "yes", "yes, and the aim"]
        assert verdict(Result(asked(Asked(0.9, 0.995)), [GOOD])) == "yes, not the aim"

    def test_a_rate_that_knows_is_refused_no_more_than_is_asked(self) -> None:
        rate, (figures,) = told_figures(asked(Asked(refused=0.0)), seeds=1)
        assert rate == 50
        assert figures.refused == 0

    @pytest.mark.parametrize(("goodput", "status"), [(0.9, 0), (0.999, 1)])
    def test_a_check_fails_where_a_bar_is_not_met(
        self, goodput: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def found(*_: object) -> Iterator[tuple[str, list[Result]]]:
            yield OURS, [Result(asked(Asked(goodput)), [GOOD._replace(also=())])]

        monkeypatch.setattr(pacing, "run_all", found)
        monkeypatch.setattr(sys, "argv", ["pacing.py", "--check"])
        assert pacing.main() == status
        assert ("not met: one: goodput" in capsys.readouterr().err) == bool(status)


class TestWhatIsShown:
    def test_the_documentation_shows_the_table_of_the_results(self) -> None:
        shown = table_in(RATE_LIMITS, "pacing")
        assert shown == rows_below(SHORT_HEAD, (RESULTS / "table.md").read_text(encoding="utf-8"))
        assert shown.count("\n") == 1 + sum(scenario.brief for scenario in SCENARIOS)

    @pytest.mark.parametrize("before", ["", "\n| old |\n|---|\n| a |\n", "| old |\n"])
    def test_a_page_is_brought_up_to_date(self, before: str, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"Before.\n\n<!-- table: one -->\n{before}\nAfter.\n\n<!-- table: two -->\n", encoding="utf-8")
        replace_table(page, "one", f"{SHORT_HEAD}\n| new |")
        replace_table(page, "two", "| b |")
        assert table_in(page, "one") == f"{SHORT_HEAD}\n| new |"
        written = f"Before.\n\n<!-- table: one -->\n\n{SHORT_HEAD}\n| new |\n\nAfter.\n\n<!-- table: two -->\n\n| b |\n"
        assert page.read_text(encoding="utf-8") == written

    def test_a_page_without_a_place_for_the_table_is_an_error(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("<!-- table: one -->\n", encoding="utf-8")
        with pytest.raises(ValueError, match="no <!-- table: on -->"):
            replace_table(page, "on", "| a |")

    def test_every_picture_is_there_and_small(self) -> None:
        assert {path.name for path in RESULTS.glob("*.png")} == set(PICTURES)
        assert all((RESULTS / name).stat().st_size < 80_000 for name in PICTURES)

    def test_a_picture_can_be_drawn(self) -> None:
        drawn = BytesIO()
        picture("Falling", BY_NAME["100/s falling to 30/s"]).savefig(drawn)
        assert drawn.getvalue().startswith(b"\x89PNG")
