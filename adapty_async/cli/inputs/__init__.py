"""Ids out of a file, whatever its format: batch by batch, in bounded memory, and never a guess what a row means."""

from .formats import format_of_name
from .ids import EXCLUDED, Checked, Ids, open_ids
from .reading import NO_TEXT, Excluded, Format, InputError, Kind, Reading, Row, format_of
from .sources import OF_STDIN, STDIN, open_source

__all__ = [
    "EXCLUDED",
    "NO_TEXT",
    "OF_STDIN",
    "STDIN",
    "Checked",
    "Excluded",
    "Format",
    "Ids",
    "InputError",
    "Kind",
    "Reading",
    "Row",
    "format_of",
    "format_of_name",
    "open_ids",
    "open_source",
]
