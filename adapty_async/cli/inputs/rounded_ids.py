"""Detect numeric IDs that a spreadsheet has rounded to 15 digits. They look valid, but are different IDs."""

from collections.abc import Iterable
from typing import Final

_KEPT_DIGITS: Final = 15
"""The significant digits that a spreadsheet keeps of a number. The others become 0."""
_MIN_ROWS: Final = 5
"""Fewer IDs may all end in 0 by chance."""


def round_like_spreadsheet(id_: str) -> str:
    """Return a long numeric ID as a spreadsheet rounds it, or an empty string for other IDs."""
    is_long = len(id_) > _KEPT_DIGITS and id_.isdecimal() and id_.isascii() and id_[0] != "0"
    return id_[:_KEPT_DIGITS].ljust(len(id_), "0") if is_long else ""


class RoundingDetector:
    """Check the IDs of an input for rounded numbers.

    The check applies to IDs that consist of 16 or more digits and don't begin with 0. They are suspect if at least five
    rows have such an ID, and all of them have only zeros after the 15th digit. One exception shows that the digits were
    kept.
    """

    def __init__(self) -> None:
        self._count = 0
        self._is_clear = False

    def add(self, ids: Iterable[str]) -> None:
        """Check IDs."""
        if self._is_clear:
            return
        for id_ in ids:
            if rounded := round_like_spreadsheet(id_):
                if rounded != id_:
                    self._is_clear = True
                    return
                self._count += 1

    @property
    def suspect_count(self) -> int:
        """The number of rows with a suspect id."""
        return 0 if self._is_clear or self._count < _MIN_ROWS else self._count
