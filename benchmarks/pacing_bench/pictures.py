"""Pictures of single runs: accepted and allowed requests over time, with 429s as dots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing import BLUE, GREY, VERMILION, new_figure, save
from benchmarks.pacing_bench.contenders import CONTENDERS, OURS
from benchmarks.pacing_bench.figures import Run, Scenario
from benchmarks.pacing_bench.scenarios import BY_NAME
from benchmarks.pacing_bench.table import share
from benchmarks.rate_simulation import BIN

PICTURES: Final = {
    "burst-10.png": ("A limit of 50/s, burst 10", "50/s, burst 10"),
    "falling.png": ("A limit that falls from 100/s to 30/s", "100/s falling to 30/s"),
    "rising.png": ("A limit that rises from 30/s to 100/s", "30/s rising to 100/s"),
    "retry-after.png": ("50/s, burst 10, each 429 with Retry-After: 1", "50/s, burst 10, Retry-After 1"),
    "outage.png": ("50/s, burst 10, and a minute in which every response is a 503", "all 503 for 60 s"),
    "production.png": ("50/s, of which production takes 20/s, at random", "Poisson production, background()"),
}
"""The title and the scenario of each file."""

POINTS: Final = 150
"""The maximum number of points of a curve. More would be noise at this width."""


def draw(folder: Path) -> None:
    """Draw all pictures."""
    for name, (title, scenario) in PICTURES.items():
        save(picture(title, BY_NAME[scenario]), folder / name)


def picture(title: str, scenario: Scenario) -> Figure:
    """Draw one run of each contender."""
    figure = new_figure(title, 5.8)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for panel, contender in zip(panels.flat, CONTENDERS, strict=True):
        run = Run(scenario.for_anybody, CONTENDERS[contender](scenario, 0))
        name = "AdaptivePacer.background()" if contender == OURS and "background" in scenario.name else contender
        show(panel, name, run)
    for panel in panels[1]:
        panel.set_xlabel("seconds")
    for panel in panels[:, 0]:
        panel.set_ylabel("requests per second")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def show(panel: Axes, name: str, run: Run) -> None:
    """Draw one run."""
    tally = run.tally
    together = max(1, round(len(tally.accepted) / POINTS))
    times = [number * BIN for number in range(0, len(tally.accepted), together)]
    allowed = [run.allowed_at(when) for when in times]
    top = 1.7 * max(allowed)
    first, last = run.scenario.leave_out
    if last:
        panel.axvspan(first, last, color=GREY, label="not counted", linewidth=0)
    panel.step(times, allowed, where="post", color="black", linewidth=1, linestyle="--", label="allowed")
    panel.plot(times, rates(tally.accepted, together), color=BLUE, linewidth=1.4, label="accepted")
    refused = [(when, min(rate, top)) for when, rate in zip(times, rates(tally.refused, together), strict=True) if rate]
    panel.plot(
        [when for when, _ in refused],
        [rate for _, rate in refused],
        "o",
        color=VERMILION,
        markersize=3,
        markeredgewidth=0,
        label="429s",
        zorder=3,
        clip_on=False,
    )
    panel.set_title(name, loc="left", fontsize=11, pad=18)
    panel.text(0, 1.03, caption(run), transform=panel.transAxes, fontsize=9)
    panel.set_xlim(0, len(tally.accepted) * BIN)
    panel.set_ylim(0, top)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color=GREY, linewidth=0.6)
    panel.set_axisbelow(True)


def rates(counts: Sequence[int], together: int) -> list[float]:
    """Return requests per second, averaged over `together` bins."""
    chunks = [counts[first : first + together] for first in range(0, len(counts), together)]
    return [sum(chunk) / len(chunk) / BIN for chunk in chunks]


def caption(run: Run) -> str:
    """Return the figures of a run as text."""
    production = "" if run.production is None else f", of production {share(run.production, 1)}"
    return f"goodput {share(run.goodput, 1)}, 429s {share(run.refused, 1)}{production}"
