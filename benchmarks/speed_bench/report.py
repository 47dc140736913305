"""The files of the results: table.md, the pictures, and the table in the documentation."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.page_tables import PERFORMANCE, replace_table
from benchmarks.speed_bench.bars import asked_table
from benchmarks.speed_bench.loops import loop_name
from benchmarks.speed_bench.part import Part
from benchmarks.speed_bench.pictures import draw

_COMPARED: Final = ("adapty-async", "aiohttp", "aiohttp-retry", "httpx", "requests", "pydantic", "msgspec")

HOW: Final = """\
Everything is sent over loopback to {server}, which responds at once, so the figures compare
the costs of the clients. All clients run on the same event loop. Figures are medians. Ratios are medians of the ratios
of each round, because a disturbance of the machine affects both sides of a ratio. A real server is much slower, and a
rate limit slower still."""


def write(folder: Path, parts: Sequence[Part], server: str, page: Path = PERFORMANCE) -> None:
    """Write table.md and the pictures, and update the page about performance."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = [chart for part in parts for chart in part.charts]
    draw(charts, folder)
    (folder / "table.md").write_text("\n".join(document(parts, server)) + "\n", encoding="utf-8")
    replace_table(page, "speed", "\n".join(asked_table(all_figures(parts))))


def document(parts: Sequence[Part], server: str) -> Iterator[str]:
    """Yield the lines of table.md."""
    yield "# Speed of the client and of bulk jobs\n"
    yield f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.\n"
    yield HOW.format(server=server)
    yield "\n## Summary\n"
    yield from asked_table(all_figures(parts))
    for part in parts:
        yield from section(part)


def section(part: Part) -> Iterator[str]:
    """Yield the lines of one part."""
    yield f"\n## {part.title}\n"
    yield f"{part.says}\n"
    yield from part.table
    for chart in part.charts:
        yield f"\n![{chart.title}]({chart.file})"


def all_figures(parts: Sequence[Part]) -> dict[str, float]:
    """Return the figures of all parts that have a target."""
    return {name: figure for part in parts for name, figure in part.figures.items()}


def machine() -> str:
    """Return a description of the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in _COMPARED)
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, {loop_name()}, {versions}"
