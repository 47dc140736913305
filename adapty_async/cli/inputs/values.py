"""Values of formats that know numbers: as ids, and as fields of a table."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID


def plain_ids(values: Sequence[Any]) -> Sequence[str] | None:
    """Give the texts of many ids at once; None where some are odd."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return None if "" in values else values
    return list(map(str, values)) if kinds == {int} else None


def id_of(value: Any) -> tuple[str, str]:
    """Give the text of an id, or why it is none: a number with a fraction or exponent may have lost its last digits."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, bool):
        return "", "the id is true or false"
    if isinstance(value, int):
        return str(value), ""
    if isinstance(value, UUID):
        return str(value), ""
    if isinstance(value, Decimal):
        return (str(value), "") if value.as_tuple().exponent == 0 else ("", "the id is a number with a fraction")
    if isinstance(value, float):
        return "", "the id is a floating-point number: export the ids again, as text"
    if isinstance(value, bytes):
        return "", "the id is bytes, not text: export the ids again, as text"
    return "", "the id is neither text nor a whole number"


def whole_number(text: str) -> int | float:
    """Read a whole number of JSON; -0 is the float that it is elsewhere, not 0, which may be somebody's id."""
    return -0.0 if text == "-0" else int(text)


def as_text(value: Any) -> str:
    """Give what stands for a value in a field of CSV."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and math.isfinite(value):
        return _digits_of(value)
    if not isinstance(value, dict | list | bool | int | float):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return ""


def _digits_of(value: float) -> str:
    """Write a number without an exponent, which in a cell is what a spreadsheet has left of another."""
    text = repr(value)
    if "e" not in text:
        return text
    return f"{Decimal(value if value.is_integer() else text):f}"
