"""The appearance of the benchmarks' pictures."""

from io import BytesIO
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Distinguishable with red-green color blindness and in gray.
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
GREY: Final = "#e4e4e4"
COLOURS: Final = 32


def new_figure(title: str, height: float) -> Figure:
    """Return a figure with a title and a height in inches."""
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. With few colors it is a third of the size."""
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
