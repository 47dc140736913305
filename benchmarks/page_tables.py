"""Tables in the documentation that a benchmark updates. Each follows a comment with its name."""

import re
from pathlib import Path
from typing import Final

_DOCS: Final = Path(__file__).parents[1] / "docs"
RATE_LIMITS: Final = _DOCS / "explanation" / "rate-limits.md"
PERFORMANCE: Final = _DOCS / "explanation" / "performance.md"


def table_in(path: Path, name: str) -> str:
    """Return the table of a page below `<!-- table: NAME -->`. Raise ValueError if there is no such comment."""
    return _found(path.read_text(encoding="utf-8"), name)[2]


def replace_table(path: Path, name: str, table: str) -> None:
    """Replace a table of a page. Raise ValueError if there is no such table."""
    text = path.read_text(encoding="utf-8")
    marker, end, _ = _found(text, name)
    path.write_text(f"{text[:marker]}\n\n{table}\n{text[end:]}", encoding="utf-8")


def rows_below(head: str, text: str) -> str:
    """Return the table that starts with the line `head`."""
    lines = text[text.index(head) :].splitlines()
    return "\n".join(lines[: next((number for number, line in enumerate(lines) if not line), len(lines))])


def _found(text: str, name: str) -> tuple[int, int, str]:
    """Return the end of the comment, the end of its table, and the table, which may be empty."""
    found = re.search(rf"^<!-- table: {re.escape(name)} -->()(?:\n+((?:\|.*\n)+)|\n)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no <!-- table: {name} -->")
    return found.end(1), found.end(), (found[2] or "").rstrip("\n")
