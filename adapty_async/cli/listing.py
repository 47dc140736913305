"""What a command sends: rows that can be read again and again, each of a profile."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from ..bulk.jobs import By
from .inputs import Checked, Excluded, Reading, Row


class Listing(Protocol):
    """The rows of an input. `Ids` is one of profiles that are only named, `Changes` of such as are to be written.

    What reads it raises InputError where the input can't be used.
    """

    by: By
    name: str
    file: BinaryIO
    excluded: Excluded

    def reading(self) -> Reading:
        """Tell how the input is read."""
        ...

    def rows(self) -> Iterator[Row]:
        """Read the input from its start; without an outcome is what is to be sent."""
        ...

    def decided(self) -> Iterator[Any]:
        """Give the item of each row, marked where it isn't to be sent."""
        ...

    def ids(self) -> Iterator[Any]:
        """Give the item of each row as `decided` does, but for the duplicates."""
        ...

    def as_written(self) -> Iterator[Row]:
        """Give the rows with no outcome but `invalid`, where they can't be read."""
        ...

    def plain(self) -> Iterator[str]:
        """Give the id of each row, "" where it can't be read."""
        ...

    def check(self) -> Checked:
        """Read the whole input, and tell what of it can be sent."""
        ...

    def line_of(self, position: int) -> int | None:
        """Give the line where the row at a position, from 0, begins; None where there is none."""
        ...

    def refusal(self, row: Row) -> str:
        """Say why a row isn't sent; nothing where it is."""
        ...
