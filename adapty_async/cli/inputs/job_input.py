"""The input of a job as rows, one per profile. It can be read repeatedly."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from ...bulk.operations import IdType
from .id_input import InputSummary
from .input_types import ExcludedIds, InputSchema, Row


class JobInput(Protocol):
    """The rows of an input: `IdInput` if they are only IDs, `ChangeInput` if they have attributes to write.

    All methods that read the input raise InputError if it can't be used.
    """

    by: IdType
    name: str
    file: BinaryIO
    excluded_ids: ExcludedIds

    def read_schema(self) -> InputSchema:
        """Return how the input is read."""
        ...

    def iter_rows(self) -> Iterator[Row]:
        """Read the input from its start. Rows to send have no outcome."""
        ...

    def iter_marked_items(self) -> Iterator[Any]:
        """Return the item of each row. Rows that aren't sent are marked as skipped."""
        ...

    def iter_items(self) -> Iterator[Any]:
        """Return the item of each row. Excluded rows are marked as skipped, duplicates aren't."""
        ...

    def iter_raw_rows(self) -> Iterator[Row]:
        """Return the rows. Only those that can't be read have an outcome, `invalid`."""
        ...

    def iter_raw_ids(self) -> Iterator[str]:
        """Return the ID of each row, or "" if it can't be read."""
        ...

    def check(self) -> InputSummary:
        """Read the whole input. Return how many rows can be sent."""
        ...

    def find_line(self, position: int) -> int | None:
        """Return the line on which a row starts, or None if there is no such row. Positions count from 0."""
        ...

    def explain_invalid(self, row: Row) -> str:
        """Return the reason why a row isn't sent, or "" if it is sent."""
        ...
