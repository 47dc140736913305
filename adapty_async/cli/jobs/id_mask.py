"""Mask an ID so that only those who know it can recognize it."""

from typing import Final

from ...escaping import escape_line
from ...pluralization import format_count

_MIN_SHOWN_LENGTH: Final = 8


def mask_id(id_: str) -> str:
    """Return the first and last character of an ID, and its length. Of a short ID, return only the length."""
    ends = "…" if len(id_) < _MIN_SHOWN_LENGTH else escape_line(f"{id_[0]}…{id_[-1]}")
    return f"{ends} ({format_count(len(id_), 'character')})"
