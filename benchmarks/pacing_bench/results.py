"""The results of many runs, compared with the targets."""

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
    """The result of a contender in a scenario.

    Shares are means over the seeds; for all other figures the worst seed counts. `told` is the result of a FixedPacer
    that knows the best rate, `told_rate`.
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
        """The share of 429s among all requests."""
        return statistics.fmean(run.refused for run in self.runs)

    @property
    def production(self) -> float | None:
        """The share of 429s among the requests of other users of the key, or None without any."""
        shares = [run.production for run in self.runs if run.production is not None]
        return statistics.fmean(shares) if shares else None

    @property
    def until_90(self) -> float:
        """Seconds until 90% of the limit."""
        return max(run.until_90 for run in self.runs)

    @property
    def also(self) -> list[tuple[Also, float]]:
        """The additional figures."""
        return [
            (each, max(run.also[number] for run in self.runs)) for number, each in enumerate(self.scenario.asked.also)
        ]

    @property
    def missed(self) -> list[str]:
        """The targets that are missed."""
        asked = self.scenario.asked
        at_most = [
            ("429s", self.refused, asked.refused),
            ("production", self.production, asked.production),
            ("90 %", self.until_90, asked.within),
            *((each.says.format(figure), figure, each.at_most) for each, figure in self.also),
        ]
        missed = [what for what, figure, bar in at_most if figure is not None and bar is not None and figure > bar]
        return [*(["goodput"] if self.goodput < (asked.goodput or 0.0) else []), *missed]

    @property
    def reaches_aim(self) -> bool:
        """True if the goodput reaches its aim."""
        return self.goodput >= (self.scenario.asked.aim or 0.0)

    @property
    def is_out_of_reach(self) -> bool:
        """True if even the best fixed rate misses a target."""
        return self.told is not None and bool(self.told.missed)


def run_all(contenders: Iterable[str], wanted: str, seeds: int, jobs: int) -> Iterator[tuple[str, list[Result]]]:
    """Run the scenarios whose names contain `wanted`, and yield the results of each contender."""
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
    """Run a scenario in another process. It is passed by name, because worlds can't be pickled."""
    scenario = BY_NAME[name]
    told = told_figures(scenario, seeds) if scenario.told and contender == OURS else None
    return figures_of(contender, scenario, seeds), told


def _sum_up(scenario: Scenario, runs: list[Figures], told: _Told | None) -> Result:
    if told is None:
        return Result(scenario, runs)
    rate, figures = told
    return Result(scenario, runs, Result(scenario.for_anybody, figures), rate)
