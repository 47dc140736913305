"""How the pictures of the benchmarks look."""

from io import BytesIO
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Told apart also by those who don't see red and green, and in grey.
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
GREY: Final = "#e4e4e4"
COLOURS: Final = 32


def new_figure(title: str, height: float) -> Figure:
    """Give a figure with its title, so many inches high."""
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write it as PNG. In few colours it is a third of the size."""
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
