"""The charts as pictures, with the groups of bars from top to bottom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from benchmarks.drawing import BLUE, GREY, VERMILION, new_figure, save
from benchmarks.speed_bench.part import Chart

# A dark and a light shade of each color, for related bars.
COLOURS: Final = (BLUE, "#7fb8d8", VERMILION, "#eaae7f")
_GROUP: Final = 0.8
"""The share of the height that a group's bars take."""


def draw(charts: Sequence[Chart], folder: Path) -> None:
    """Draw all charts."""
    for chart in charts:
        save(picture(chart), folder / chart.file)


def picture(chart: Chart) -> Figure:
    """Draw one chart."""
    thickness = _GROUP / len(chart.bars)
    figure = new_figure(chart.title, 1.6 + 0.22 * len(chart.groups) * (len(chart.bars) + 1))
    panel = figure.subplots()
    for number, (name, values) in enumerate(chart.bars.items()):
        places = [group + (number + 0.5) * thickness - _GROUP / 2 for group in range(len(values))]
        bars = panel.barh(places, values, height=0.9 * thickness, color=COLOURS[number], label=name)
        panel.bar_label(bars, fmt=_shown, padding=3, fontsize=8)
    panel.set_yticks(range(len(chart.groups)), chart.groups)
    panel.invert_yaxis()
    panel.set_xscale("log" if chart.logarithmic else "linear")
    panel.xaxis.set_major_formatter(lambda value, _: _shown(value))
    panel.margins(x=0.12)
    panel.set_xlabel(chart.unit)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color=GREY, linewidth=0.6)
    panel.set_axisbelow(True)
    if len(chart.bars) > 1:
        figure.legend(loc="outside lower center", ncols=len(chart.bars), frameon=False)
    return figure


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
