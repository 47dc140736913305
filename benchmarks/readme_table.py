"""Tables of README that a benchmark keeps up to date: each is known by its first line."""

from pathlib import Path
from typing import Final

README: Final = Path(__file__).parents[1] / "README.md"


def rows_below(head: str, text: str) -> str:
    """Give the table that begins with a certain line."""
    lines = text[text.index(head) :].splitlines()
    return "\n".join(lines[: next((number for number, line in enumerate(lines) if not line), len(lines))])


def replace_table(path: Path, table: str) -> None:
    """Bring the table of a page up to date that begins with the same line."""
    text = path.read_text(encoding="utf-8")
    head, _, _ = table.partition("\n")
    path.write_text(text.replace(rows_below(head, text), table), encoding="utf-8")
