"""Rounds of processes, interleaved: what the machine does meanwhile hits all who are compared."""

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
"""What one was measured at in one round, by the names of the figures."""


@attrs.frozen
class Rounds:
    """What all were measured at, by their names, round by round."""

    found: Mapping[str, list[Figures]]

    def median(self, figure: str, of: str) -> float:
        """Give the median of the rounds."""
        return statistics.median(self._all(figure, of))

    def ratio(self, figure: str, of: str, to: str) -> float:
        """Give the median of the ratios within a round, of those rounds that both have."""
        pairs = zip(self._all(figure, of), self._all(figure, to), strict=False)
        return statistics.median(one / other for one, other in pairs)

    def _all(self, figure: str, of: str) -> list[float]:
        return [figures[figure] for figures in self.found[of]]


def take_turns(names: Iterable[str], rounds: int, measure: Callable[[str], Figures]) -> Rounds:
    """Measure each once a round; who was first in one round is last in the next."""
    order = list(names)
    found: dict[str, list[Figures]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            found[name].append(measure(name))
        order.reverse()
    return Rounds(found)


def together(processes: Iterable[Mapping[str, Figures]]) -> Rounds:
    """Make rounds of processes that each measured all."""
    found: dict[str, list[Figures]] = {}
    for process in processes:
        for name, figures in process.items():
            found.setdefault(name, []).append(figures)
    return Rounds(found)


def run_apart(module: str, *words: object) -> Any:
    """Run a module of this folder as a process, and give what it prints as JSON."""
    command = [sys.executable, "-m", f"benchmarks.speed_bench.{module}", *map(str, words)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: S603 - our own interpreter
    return json.loads(said.stdout)
