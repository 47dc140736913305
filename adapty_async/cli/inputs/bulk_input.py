"""The input of a job as rows, one per profile. It can be read repeatedly."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from ...bulk.api import By
from .ids import Checked
from .rows import Excluded, Reading, Row


class Listing(Protocol):
    """The rows of an input: `Ids` if they are only IDs, `Changes` if they have attributes to write.

    All methods that read the input raise InputError if it can't be used.
    """

    by: By
    name: str
    file: BinaryIO
    excluded: Excluded

    def reading(self) -> Reading:
        """Return how the input is read."""
        ...

    def rows(self) -> Iterator[Row]:
        """Read the input from its start. Rows to send have no outcome."""
        ...

    def decided(self) -> Iterator[Any]:
        """Return the item of each row. Rows that aren't sent are marked as skipped."""
        ...

    def ids(self) -> Iterator[Any]:
        """Return the item of each row. Excluded rows are marked as skipped, duplicates aren't."""
        ...

    def as_written(self) -> Iterator[Row]:
        """Return the rows. Only those that can't be read have an outcome, `invalid`."""
        ...

    def plain(self) -> Iterator[str]:
        """Return the ID of each row, or "" if it can't be read."""
        ...

    def check(self) -> Checked:
        """Read the whole input. Return how many rows can be sent."""
        ...

    def line_of(self, position: int) -> int | None:
        """Return the line on which a row starts, or None if there is no such row. Positions count from 0."""
        ...

    def refusal(self, row: Row) -> str:
        """Return the reason why a row isn't sent, or "" if it is sent."""
        ...
