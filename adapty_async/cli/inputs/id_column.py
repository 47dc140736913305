"""Find the ID column by its name, never by its content."""

import re
from collections.abc import Sequence
from typing import Final

from .input_types import Format, IdColumn, InputError, InputSchema
from .table_detection import ADVICE, refuse_table

_ID_COLUMN_NAMES: Final = ("customer_user_id", "profile_id", "id")
_EXCEL_SEPARATOR_LINE: Final = re.compile(r"sep=.?$", re.IGNORECASE)
# Without a header the first row contains IDs, so messages only show texts that look like column names.
_COLUMN_NAME: Final = re.compile(
    r"ids?|uid|users?|names?|(?:e-?)?mail|customer|profile|member|[a-z]+(?:[ _-][a-z]+)*[ _-](?:ids?|name|number)",
    re.IGNORECASE,
)


def detect_schema(
    first_row: Sequence[str],
    id_column: IdColumn,
    name: str,
    format: Format,  # noqa: A002 - its name everywhere
    *,
    is_compressed: bool,
    lines: Sequence[str],
) -> InputSchema:
    """Derive the reading of a table from its first row. `lines`: the first lines of the file. Raises InputError."""
    if _EXCEL_SEPARATOR_LINE.match(first_row[0]):
        raise InputError(f"{name} begins with a line for Excel, sep=: save it with commas, and without that line")
    if len(first_row) == 1:
        _refuse_wrong_separator(first_row[0], id_column, name, format)
    if len(first_row) == 1 and (id_column.column is None or id_column.in_exclude_list):
        has_header = _is_header(first_row[0], id_column, name)
        if not has_header:
            refuse_table(lines, name, format)
        # A failed rows file uses this name, so that a new job finds its column.
        return InputSchema([id_column.wanted_name], 0, has_header, format, is_compressed)
    return InputSchema(first_row, find_id_column(first_row, id_column, name), True, format, is_compressed)


def find_id_column(names: Sequence[str], id_column: IdColumn, name: str) -> int:
    """Return the index of the wanted column. Raises InputError."""
    count = names.count(id_column.wanted_name)
    if count > 1:
        raise InputError(f"{name} has several columns {id_column.wanted_name}: give each a name of its own")
    if not count:
        advice = (
            f"rename that of the IDs to {id_column.wanted_name}"
            if id_column.in_exclude_list
            else "name it with --column"
        )
        raise InputError(f"{name} has no column {id_column.wanted_name}, but {_describe_columns(names)}: {advice}")
    return names.index(id_column.wanted_name)


def _refuse_wrong_separator(text: str, id_column: IdColumn, name: str, format: Format) -> None:  # noqa: A002 - its name everywhere
    """Refuse a header whose column names were read as one. Raises InputError."""
    for separator, advice in ADVICE.items():
        if separator not in text or id_column.wanted_name not in text.split(separator):
            continue
        if separator == format.separator:
            raise InputError(
                f"{name} has quotes around its whole first line, so that it isn't split into columns: remove "
                "the quotes around whole lines, or export it again"
            )
        raise InputError(f"{name} has columns separated by {separator!r}, read as {format.label}: {advice}")


def _is_header(text: str, id_column: IdColumn, name: str) -> bool:
    """Return True if the first line of a single column is its header. Raises InputError for a near match."""
    if text in (id_column.wanted_name, id_column.by, "id"):
        return True
    if re.sub(r"[\W_]+", "_", text.lower()).strip("_") in _ID_COLUMN_NAMES:
        advice = f"rename it to {id_column.wanted_name}" if id_column.in_exclude_list else f"add --column {text!r}"
        raise InputError(f"{name} begins with {text!r}, but --by says {id_column.by}: if those are the IDs, {advice}")
    return False


def _describe_columns(columns: Sequence[str]) -> str:
    names = (
        repr(name) if _COLUMN_NAME.fullmatch(name) else f"column {number} (not shown: it may be an ID)"
        for number, name in enumerate(columns, start=1)
    )
    return ", ".join(names)
