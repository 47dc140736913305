"""The result of a part of the benchmark: a table, figures with targets, and charts."""

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Chart:
    """A bar chart in groups, drawn to a file. `bars` contains, by name of each kind of bar, one value per group."""

    file: str
    title: str
    unit: str
    groups: Sequence[str]
    bars: Mapping[str, Sequence[float]]
    logarithmic: bool = False


@attrs.frozen
class Part:
    """The results of one part; `figures` by the names of their targets."""

    title: str
    says: str
    table: Sequence[str]
    figures: Mapping[str, float] = attrs.field(factory=dict)
    charts: Sequence[Chart] = ()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table whose first column is text and whose other columns are figures."""
    shown = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return [shown[0], f"|---|{'---:|' * (len(head) - 1)}", *shown[1:]]
