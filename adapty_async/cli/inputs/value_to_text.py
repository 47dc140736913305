"""Convert typed values, as in JSON and Parquet, to the texts of IDs and table fields."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID


def convert_plain_ids(values: Sequence[Any]) -> Sequence[str] | None:
    """Return the texts of IDs that are all texts or all integers, else None."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return None if "" in values else values
    return list(map(str, values)) if kinds == {int} else None


def parse_id(value: Any) -> tuple[str, str]:
    """Return the text of an ID, and why it is invalid. Non-integer numbers may have lost digits."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, bool):
        return "", "the ID is true or false"
    if isinstance(value, int):
        return str(value), ""
    if isinstance(value, UUID):
        return str(value), ""
    if isinstance(value, Decimal):
        return (str(value), "") if value.as_tuple().exponent == 0 else ("", "the ID is a number with a fraction")
    if isinstance(value, float):
        return "", "the ID is a floating-point number: export the IDs again, as text"
    if isinstance(value, bytes):
        return "", "the ID is bytes, not text: export the IDs again, as text"
    return "", "the ID is neither text nor a whole number"


def parse_json_integer(text: str) -> int | float:
    """Parse a JSON integer. Return -0 as a float, not as 0, which may be a valid ID."""
    return -0.0 if text == "-0" else int(text)


def format_field(value: Any) -> str:
    """Return a value as text for a CSV field."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and math.isfinite(value):
        return _format_float(value)
    if not isinstance(value, dict | list | bool | int | float):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return ""


def _format_float(value: float) -> str:
    """Return a number without an exponent, because 1.23E+15 in a cell looks like a shortened number."""
    text = repr(value)
    if "e" not in text:
        return text
    return f"{Decimal(value if value.is_integer() else text):f}"
