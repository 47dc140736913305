"""The targets of the figures."""

from collections.abc import Iterator, Mapping
from typing import Final

import attrs


@attrs.frozen
class Bar:
    """The maximum or minimum of a figure. `aim` is an optional stricter goal."""

    what: str
    bar: float
    aim: float | None = None
    at_least: bool = False
    unit: str = ""

    def is_met_by(self, figure: float) -> bool:
        """Return True if the figure meets the target."""
        return self._holds(figure, self.bar)

    def verdict(self, figure: float) -> str:
        """Return whether the target and the aim are met."""
        if not self.is_met_by(figure):
            return "**no**"
        if self.aim is None:
            return "yes"
        return "yes, and the aim" if self._holds(figure, self.aim) else "yes, not the aim"

    def row(self, figure: float) -> str:
        """Return a row of the table."""
        asked = f"at {'least' if self.at_least else 'most'} {self.bar:g}{self.unit}"
        aim = "" if self.aim is None else f"{self.aim:g}"
        return f"| {self.what} | {figure:.2f}{self.unit} | {asked} | {aim} | {self.verdict(figure)} |"

    def _holds(self, figure: float, limit: float) -> bool:
        return figure >= limit if self.at_least else figure <= limit


_ALL: Final = "bulk deletion with retries, outcomes, pacer and ledger"

BARS: Final[dict[str, Bar]] = {
    "bulk / workers": Bar(f"{_ALL} / a hand-written aiohttp loop, throughput", 0.90, 1.0, at_least=True),
    "bulk / gather": Bar("the same / gather with a semaphore", 0.90, at_least=True),
    "bulk / aiohttp-retry": Bar("the same / aiohttp-retry", 0.90, at_least=True),
    "bulk / httpx": Bar("the same / httpx", 8.0, at_least=True),
    "bulk / requests": Bar("the same / requests in threads", 5.0, at_least=True),
    "delete": Bar("`profiles.delete` / bare `session.delete`, CPU", 1.1, 0.95),
    "get": Bar("`profiles.get` with its model / bare `session.get` and json.loads, CPU", 1.2, 1.05),
    "p99 of deletes": Bar("100 callers of `profiles.delete` / of `session.delete`, p99 of the latency", 1.15),
    "p99 of gets": Bar("100 callers of `profiles.get` / of `session.get` and json.loads, p99 of the latency", 1.15),
    "load 1.7 kB": Bar("loading a profile of 1.7 kB / json.loads", 3.5, 2.7),
    "load 200 purchases": Bar("loading a profile of 200 purchases / json.loads", 4.0, 3.0),
    "scale, CPU": Bar("CPU per item of a job of 1 million items / of 10,000", 1.05),
    "scale, memory": Bar("memory of a job of 1 million items, minus that of 10,000", 32, unit=" MiB"),
    "import": Bar("`import adapty_async` without using its names / `import aiohttp, attrs, cattrs, tenacity`", 1.15),
}

HEAD: Final = "| comparison | measured | target | aim | met |"


def asked_table(figures: Mapping[str, float]) -> Iterator[str]:
    """Yield a table of the measured figures and their targets."""
    yield HEAD
    yield "|---|---:|---:|---:|---|"
    yield from (bar.row(figures[name]) for name, bar in BARS.items() if name in figures)


def misses(figures: Mapping[str, float]) -> Iterator[str]:
    """Yield the targets that are missed."""
    for name, bar in BARS.items():
        if name in figures and not bar.is_met_by(figures[name]):
            yield f"{bar.what}: {figures[name]:.2f}{bar.unit}, the target is {bar.bar:g}{bar.unit}"
