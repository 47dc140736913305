"""What a part of the benchmark gives: a table, the figures that have a bar, and what is drawn of it."""

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Chart:
    """Bars in groups, drawn to a file: `bars` holds, by the name of each kind of bar, one value a group."""

    file: str
    title: str
    unit: str
    groups: Sequence[str]
    bars: Mapping[str, Sequence[float]]
    logarithmic: bool = False


@attrs.frozen
class Part:
    """The results of one part; `figures` by the names of their bars."""

    title: str
    says: str
    table: Sequence[str]
    figures: Mapping[str, float] = attrs.field(factory=dict)
    charts: Sequence[Chart] = ()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Give a table whose first column is text, and whose others are figures."""
    shown = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return [shown[0], f"|---|{'---:|' * (len(head) - 1)}", *shown[1:]]
