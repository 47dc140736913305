"""Many runs, summed up and held against what is asked."""

import math
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

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


def results(
    contenders: Iterable[str], wanted: str, seeds: int, jobs: int, *, told: bool = True
) -> Iterator[tuple[str, list[Result]]]:
    """Run the scenarios whose names hold `wanted`, and give the results of each contender.

    `told`: find out as well what a rate that knows could have, where that is of interest.
    """
    chosen = [scenario for scenario in BY_NAME.values() if wanted in scenario.name]
    with ProcessPoolExecutor(jobs) as pool:
        best = {
            scenario.name: pool.submit(_told, scenario.name, seeds)
            for scenario in chosen
            if told and scenario.told and OURS in contenders
        }
        runs = {
            (contender, scenario.name): pool.submit(_run, contender, scenario.name, seeds)
            for contender in contenders
            for scenario in chosen
            if contender == OURS or not scenario.alone
        }
        for contender in contenders:
            summed_up = []
            for scenario in chosen:
                if (contender, scenario.name) not in runs:
                    continue
                result = Result(asked_of(contender, scenario), runs[contender, scenario.name].result())
                if contender == OURS and scenario.name in best:
                    rate, figures = best[scenario.name].result()
                    result = replace(result, told=Result(scenario.for_anybody, figures), told_rate=rate)
                summed_up.append(result)
            yield contender, summed_up


# What another process runs: names travel to it, for worlds can't be pickled.


def _run(contender: str, name: str, seeds: int) -> list[Figures]:
    return figures_of(contender, BY_NAME[name], seeds)


def _told(name: str, seeds: int) -> tuple[float, list[Figures]]:
    return told_figures(BY_NAME[name], seeds)
