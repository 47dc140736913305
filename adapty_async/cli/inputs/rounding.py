"""Long numbers of which a spreadsheet has kept 15 digits: each looks like an id, and is another's or nobody's."""

from collections.abc import Iterable
from typing import Final

_KEPT: Final = 15
"""So many significant digits a spreadsheet keeps of a number; the others become 0."""
_FEWEST: Final = 5
"""Fewer may all end in 0 by chance."""


def as_rounded(id_: str) -> str:
    """Give what a spreadsheet leaves of an id that is a long number; nothing where it leaves an id as it is."""
    is_long = len(id_) > _KEPT and id_.isdecimal() and id_.isascii() and id_[0] != "0"
    return id_[:_KEPT].ljust(len(id_), "0") if is_long else ""


class Rounding:
    """Look at the ids of an input for such numbers.

    They are suspect where five rows or more hold an id of 16 digits or more (and of nothing else, the first not 0), and
    all of these ids have nothing but zeros after the fifteenth digit. A single one that hasn't shows that the digits
    were kept.
    """

    def __init__(self) -> None:
        self._count = 0
        self._is_clear = False

    def add(self, ids: Iterable[str]) -> None:
        """Look at some ids."""
        if self._is_clear:
            return
        for id_ in ids:
            if rounded := as_rounded(id_):
                if rounded != id_:
                    self._is_clear = True
                    return
                self._count += 1

    @property
    def suspect(self) -> int:
        """The number of rows with a suspect id."""
        return 0 if self._is_clear or self._count < _FEWEST else self._count
