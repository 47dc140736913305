"""Find the ID column by its name, never by its content."""

import re
from collections.abc import Sequence
from typing import Final

from .dialects import ADVICE, refuse_table
from .rows import Format, InputError, Reading, Wanted

_NAMES: Final = ("customer_user_id", "profile_id", "id")
_OF_EXCEL: Final = re.compile(r"sep=.?$", re.IGNORECASE)
# Without a header the first row contains IDs, so messages only show texts that look like column names.
_COLUMN_NAME: Final = re.compile(
    r"ids?|uid|users?|names?|(?:e-?)?mail|customer|profile|member|[a-z]+(?:[ _-][a-z]+)*[ _-](?:ids?|name|number)",
    re.IGNORECASE,
)


def reading_of(
    first: Sequence[str],
    wanted: Wanted,
    name: str,
    format: Format,  # noqa: A002 - its name everywhere
    *,
    is_compressed: bool,
    lines: Sequence[str],
) -> Reading:
    """Derive the reading of a table from its first row. `lines`: the first lines of the file. Raises InputError."""
    if _OF_EXCEL.match(first[0]):
        raise InputError(f"{name} begins with a line for Excel, sep=: save it with commas, and without that line")
    if len(first) == 1:
        _refuse_undivided(first[0], wanted, name, format)
    if len(first) == 1 and wanted.column is None:
        has_header = _is_header(first[0], wanted, name)
        if not has_header:
            refuse_table(lines, name, format)
        # A failed rows file uses this name, so that a new job finds its column.
        return Reading([wanted.by], 0, has_header, format, is_compressed)
    return Reading(first, find(first, wanted, name), True, format, is_compressed)


def find(names: Sequence[str], wanted: Wanted, name: str) -> int:
    """Return the index of the wanted column. Raises InputError."""
    count = names.count(wanted.name)
    if count > 1:
        raise InputError(f"{name} has several columns {wanted.name}: give each a name of its own")
    if not count:
        raise InputError(f"{name} has no column {wanted.name}, but {_shown(names)}: name it with --column")
    return names.index(wanted.name)


def _refuse_undivided(text: str, wanted: Wanted, name: str, format: Format) -> None:  # noqa: A002 - its name everywhere
    """Refuse a header whose column names were read as one. Raises InputError."""
    for separator, advice in ADVICE.items():
        if separator not in text or wanted.name not in text.split(separator):
            continue
        if separator == format.separator:
            raise InputError(
                f"{name} has quotes around its whole first line, so that it isn't split into columns: remove "
                "the quotes around whole lines, or export it again"
            )
        raise InputError(f"{name} has columns separated by {separator!r}, read as {format.label}: {advice}")


def _is_header(text: str, wanted: Wanted, name: str) -> bool:
    """Return True if the first line of a single column is its header. Raises InputError for a near match."""
    if text in (wanted.by, "id"):
        return True
    if re.sub(r"[\W_]+", "_", text.lower()).strip("_") in _NAMES:
        raise InputError(
            f"{name} begins with {text!r}, but --by says {wanted.by}: if those are the IDs, add --column {text!r}"
        )
    return False


def _shown(columns: Sequence[str]) -> str:
    names = (
        repr(name) if _COLUMN_NAME.fullmatch(name) else f"column {number} (not shown: it may be an ID)"
        for number, name in enumerate(columns, start=1)
    )
    return ", ".join(names)
