"""Many runs, summed up and held against what is asked."""

import math
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from benchmarks.pacing_bench.contenders import OURS, asked_of, figures_of, told_figures
from benchmarks.pacing_bench.figures import Also, Figures, Scenario
from benchmarks.pacing_bench.scenarios import BY_NAME


@dataclass(frozen=True)
class Result:
    """The runs of a contender in a scenario: shares are means over the seeds, of all else the worst counts.

    `told`: the same of a FixedPacer that knows the best rate, `told_rate`.
    """

    scenario: Scenario
    runs: list[Figures]
    told: "Result | None" = None
    told_rate: float = math.nan

    @property
    def goodput(self) -> float:
        """Accepted / allowed."""
        return statistics.fmean(run.goodput for run in self.runs)

    @property
    def refused(self) -> float:
        """Refused / sent."""
        return statistics.fmean(run.refused for run in self.runs)

    @property
    def production(self) -> float | None:
        """Refused / sent of those who use the same key; None where nobody does."""
        shares = [run.production for run in self.runs if run.production is not None]
        return statistics.fmean(shares) if shares else None

    @property
    def until_90(self) -> float:
        """Seconds."""
        return max(run.until_90 for run in self.runs)

    @property
    def also(self) -> list[tuple[Also, float]]:
        """What else is asked, and its figure."""
        return [
            (each, max(run.also[number] for run in self.runs)) for number, each in enumerate(self.scenario.asked.also)
        ]

    @property
    def missed(self) -> list[str]:
        """The bars that aren't met."""
        asked = self.scenario.asked
        at_most = [
            ("refused", self.refused, asked.refused),
            ("production", self.production, asked.production),
            ("90 %", self.until_90, asked.within),
            *((each.says.format(figure), figure, each.at_most) for each, figure in self.also),
        ]
        missed = [what for what, figure, bar in at_most if figure is not None and bar is not None and figure > bar]
        return [*(["goodput"] if self.goodput < (asked.goodput or 0.0) else []), *missed]

    @property
    def reaches_aim(self) -> bool:
        """Whether the goodput is what it should be at best."""
        return self.goodput >= (self.scenario.asked.aim or 0.0)

    @property
    def is_out_of_reach(self) -> bool:
        """Whether even a rate that knows misses a bar."""
        return self.told is not None and bool(self.told.missed)


def run_all(contenders: Iterable[str], wanted: str, seeds: int, jobs: int) -> Iterator[tuple[str, list[Result]]]:
    """Run the scenarios whose names hold `wanted`, and give the results of each contender."""
    chosen = [scenario for scenario in BY_NAME.values() if wanted in scenario.name]
    with ProcessPoolExecutor(jobs) as pool:
        pending = {
            contender: [
                (scenario, pool.submit(_run, contender, scenario.name, seeds))
                for scenario in chosen
                if contender == OURS or not scenario.alone
            ]
            for contender in contenders
        }
        for contender, runs in pending.items():
            yield contender, [_sum_up(asked_of(contender, scenario), *run.result()) for scenario, run in runs]


_Told = tuple[float, list[Figures]]


def _run(contender: str, name: str, seeds: int) -> tuple[list[Figures], _Told | None]:
    """Run a scenario in another process; its name travels there, for worlds can't be pickled."""
    scenario = BY_NAME[name]
    told = told_figures(scenario, seeds) if scenario.told and contender == OURS else None
    return figures_of(contender, scenario, seeds), told


def _sum_up(scenario: Scenario, runs: list[Figures], told: _Told | None) -> Result:
    if told is None:
        return Result(scenario, runs)
    rate, figures = told
    return Result(scenario, runs, Result(scenario.for_anybody, figures), rate)
