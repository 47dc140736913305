"""The results as Markdown tables."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.pacing_bench.contenders import CONTENDERS
from benchmarks.pacing_bench.results import Result
from benchmarks.pacing_bench.scenarios import BY_NAME

SHORT_HEAD: Final = f"| hidden limiter or event | {' | '.join(CONTENDERS)} |"


def long_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table of all figures of a contender and their targets."""
    yield "| hidden limiter or event | goodput | at least, aim | 429s | at most | 90 % after | within | also | met |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for result in results:
        asked = result.scenario.asked
        within = f"{asked.within:g} s" if asked.within else ""
        wanted = ", ".join(share(each, 1) for each in (asked.goodput, asked.aim) if each is not None)
        yield row(result.scenario.name, result, wanted, share(asked.refused, 2), within, verdict(result))
        if result.told:
            yield row(f"... the best fixed rate: {result.told_rate:.3g}/s", result.told, "", "", "", "")


def row(name: str, result: Result, goodput: str, refused: str, within: str, met: str) -> str:
    """Return a row of figures with their targets."""
    cells = [name, share(result.goodput, 1), goodput, share(result.refused, 2), refused]
    until_90 = f"{result.until_90:.1f} s" if result.until_90 < math.inf else "never"
    return f"| {' | '.join([*cells, until_90, within, also(result), met])} |"


def also(result: Result) -> str:
    """Return the additional figures."""
    said = [each.says.format(figure) for each, figure in result.also]
    if result.production is not None:
        said.insert(
            0, f"429s of production {share(result.production, 2)}, at most {share(result.scenario.asked.production, 2)}"
        )
    return "; ".join(said)


def verdict(result: Result) -> str:
    """Return whether the targets and the aim are met."""
    asked = result.scenario.asked
    if result.missed:
        comment = " (nor by the best fixed rate)" if result.is_out_of_reach else ""
        return f"**no**: {', '.join(result.missed)}{comment}"
    if not asked.anything:
        return ""
    if not asked.aim:
        return "yes"
    return "yes, and the aim" if result.reaches_aim else "yes, not the aim"


def short_table(results: dict[str, list[Result]]) -> Iterator[str]:
    """Yield a table of goodput and 429s of all contenders in the most informative scenarios."""
    by_name = {
        contender: {result.scenario.name: result for result in summed_up} for contender, summed_up in results.items()
    }
    yield SHORT_HEAD
    yield "|---" * (1 + len(CONTENDERS)) + "|"
    for scenario in BY_NAME.values():
        if scenario.brief:
            found = [by_name[contender].get(scenario.name) for contender in CONTENDERS]
            yield f"| {scenario.name} | {' | '.join(map(brief, found))} |"


def brief(result: Result | None) -> str:
    """Return goodput and 429s, including those of production, as one cell."""
    if result is None:
        return ""
    production = "" if result.production is None else f" ({share(result.production, 1)})"
    return f"{share(result.goodput, 1)}, {share(result.refused, 2)}{production}"


def share(number: float | None, digits: int) -> str:
    """Return a share as a percentage."""
    return "" if number is None else f"{100 * number:.{digits}f} %"
