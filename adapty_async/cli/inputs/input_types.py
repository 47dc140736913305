"""The types shared by all input formats: how a file is read, and its rows in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import attrs

from ...bulk import Outcome
from ...bulk.operations import IdType
from ..exit_status import CommandError

BATCH_ROWS: Final = 512
"""Rows per batch. Larger batches are slower, because they no longer fit into a CPU cache."""
NO_ID: Final = "the row has no ID"
ExcludedIds: TypeAlias = Mapping[str, str]
"""The names (see `make_id_normalizer`) of the IDs that must not be sent, each with the name of its exclude list."""
NO_EXCLUDED_IDS: Final[ExcludedIds] = MappingProxyType({})


class InputError(CommandError):
    """The input is invalid. Nothing is sent."""


class NoIdsError(InputError):
    """A file contains no IDs. `name`: the file."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} contains no IDs")


class Format(StrEnum):
    """The format of an input file."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    IDS = "ids"
    PARQUET = "parquet"

    @property
    def label(self) -> str:
        """The name of the format in messages."""
        return _LABELS[self]

    @property
    def separator(self) -> str:
        """The separator of the columns, or an empty string."""
        return {Format.CSV: ",", Format.TSV: "\t"}.get(self, "")


class ColumnType(StrEnum):
    """The type of a column, for formats with types."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    OTHER = "other"


UNREADABLE_TEXT: Final = "\ufffd"
"""The placeholder for unreadable text in a text column."""


def parse_format(name: str | None) -> Format | None:
    """Return the format with a name, or None."""
    return None if name is None else Format(name)


_LABELS: Final = {
    Format.CSV: "CSV",
    Format.TSV: "TSV",
    Format.JSONL: "JSON lines",
    Format.IDS: "one ID per line",
    Format.PARQUET: "Parquet",
}


class Row(NamedTuple):
    """One row that isn't blank.

    `line`: its first line, from 1. `id`: "" if it can't be read. `outcome`: `invalid`, `duplicate` or `excluded`; None
    if the row is to be sent. `reason`: why it isn't sent; for `excluded` the name of the exclude list. `fields`: the
    fields of the row, empty if they can't be read.
    """

    line: int
    id: str
    outcome: Outcome | None = None
    reason: str = ""
    fields: Sequence[str] = ()


@attrs.frozen
class InputSchema:
    """How a file is read: its columns, the index of the ID column, and whether the file has a header.

    `unit`: the unit in which rows are counted. `column_types`: the types of the columns, for formats with types.
    `has_checksums`: False if the format supports checksums but the file lacks them.
    """

    column_names: Sequence[str]
    id_index: int
    has_header: bool
    format: Format = Format.CSV
    is_compressed: bool = False
    unit: str = "line"
    column_types: Sequence[ColumnType] = ()
    has_checksums: bool = True

    @property
    def is_single_column(self) -> bool:
        """True if a text file has only the ID column, with or without a header."""
        return len(self.column_names) == 1 and self.format in (Format.CSV, Format.TSV, Format.IDS)

    @property
    def format_label(self) -> str:
        """A description of the format for messages."""
        return f"{self.format.label}, compressed by gzip" if self.is_compressed else self.format.label

    @property
    def column_label(self) -> str:
        """A description of the ID column for messages."""
        name = self.column_names[self.id_index]
        if self.format is Format.JSONL:
            return f"{name} of each object, or the whole line if it is only a text"
        if not self.has_header:
            return f"one {name} per line, from the first line"
        above = "" if self.format is Format.PARQUET else "; the first row is the header"
        return f"{name}, {self.id_index + 1} of {len(self.column_names)}{above}"


def get_no_fields(_index: int) -> Sequence[str]:
    """Return no fields, for batches that were read without them."""
    return ()


@attrs.frozen
class Batch:
    """Consecutive rows that aren't blank.

    `lines`: the first line of each row. `ids`: "" for unreadable IDs. `invalid_reasons`: the reasons for invalid rows,
    by index in the batch. `get_fields`: returns the fields of a row, empty if they can't be read.
    """

    lines: Sequence[int]
    ids: Sequence[str]
    invalid_reasons: Mapping[int, str]
    get_fields: Callable[[int], Sequence[str]] = get_no_fields


class Reader(Protocol):
    """Read the rows of one file. It can be read repeatedly from its start."""

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        ...

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows. `with_fields`: include their fields. Raises InputError."""
        ...


@attrs.frozen
class IdColumn:
    """The IDs to read from a file: their type, and the value of --column.

    `in_exclude_list`: the file is an exclude list. `column` is meant for the input, so a list with one ID per line may
    have its header, another one, or none.
    """

    by: IdType
    column: str | None
    in_exclude_list: bool = False

    @property
    def wanted_name(self) -> str:
        """The name of the ID column."""
        return self.column or self.by


ADDED_COLUMNS: Final = ("adapty_outcome", "adapty_reason", "adapty_status", "adapty_line")
"""The columns that a failed rows file adds. The prefix keeps them apart from the columns of the input."""
