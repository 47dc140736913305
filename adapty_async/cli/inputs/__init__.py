"""Read IDs from files of several formats, in batches and bounded memory, without guessing the meaning of a row."""

from .formats import format_of_name
from .ids import Checked, Ids, open_ids, skipped
from .reading import NO_TEXT, NOBODY, Excluded, Format, InputError, Kind, Reading, Row, format_of
from .sources import OF_STDIN, STDIN, open_source

__all__ = [
    "NOBODY",
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
    "skipped",
]
