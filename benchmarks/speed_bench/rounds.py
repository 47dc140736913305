"""Interleaved rounds of processes, so that disturbances of the machine affect all contenders."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

ROOT: Final = Path(__file__).parents[2]

Figures: TypeAlias = Mapping[str, float]
"""The figures of one contender in one round, by name."""


@attrs.frozen
class Rounds:
    """The figures of all contenders, by name, for each round."""

    found: Mapping[str, list[Figures]]

    def median(self, figure: str, of: str) -> float:
        """Return the median over the rounds."""
        return statistics.median(self._all(figure, of))

    def ratio(self, figure: str, of: str, to: str) -> float:
        """Return the median of the ratios within a round, of the rounds that both have."""
        pairs = zip(self._all(figure, of), self._all(figure, to), strict=False)
        return statistics.median(one / other for one, other in pairs)

    def _all(self, figure: str, of: str) -> list[float]:
        return [figures[figure] for figures in self.found[of]]


def take_turns(names: Iterable[str], rounds: int, measure: Callable[[str], Figures]) -> Rounds:
    """Measure each contender once per round. The order is reversed in every other round."""
    order = list(names)
    found: dict[str, list[Figures]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            found[name].append(measure(name))
        order.reverse()
    return Rounds(found)


def together(processes: Iterable[Mapping[str, Figures]]) -> Rounds:
    """Combine processes that each measured all contenders into rounds."""
    found: dict[str, list[Figures]] = {}
    for process in processes:
        for name, figures in process.items():
            found.setdefault(name, []).append(figures)
    return Rounds(found)


def run_apart(module: str, *words: object) -> Any:
    """Run a module of this folder as a process and return the JSON that it prints."""
    command = [sys.executable, "-m", f"benchmarks.speed_bench.{module}", *map(str, words)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: S603 - our own interpreter
    return json.loads(said.stdout)
