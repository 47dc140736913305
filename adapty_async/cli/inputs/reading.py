"""What every format gives: how it is read, and its rows in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import attrs

from ...bulk import Outcome
from ...bulk.jobs import By
from ..exits import CommandError

BATCH: Final = 512
"""So many rows are read at once: more are slower, for what they are made of no longer fits into a cache."""
NO_ID: Final = "the row has no id"
Excluded: TypeAlias = Mapping[str, str]
"""What names the ids that are not to be sent, as of `name_of`, each with the name of its exclude list."""
NOBODY: Final[Excluded] = MappingProxyType({})


class InputError(CommandError):
    """The input can't be used: nothing of it is sent."""


class Format(StrEnum):
    """How a file writes its rows down."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    IDS = "ids"
    PARQUET = "parquet"

    @property
    def label(self) -> str:
        """Its name for people."""
        return _TITLES[self]

    @property
    def separator(self) -> str:
        """What stands between its columns, where they are columns of text."""
        return {Format.CSV: ",", Format.TSV: "\t"}.get(self, "")


class Kind(StrEnum):
    """What stands in a column, where the format tells."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    OTHER = "other"


NO_TEXT: Final = "\ufffd"
"""What stands for a text that can't be read, in the field of a column of texts."""


def format_of(name: str | None) -> Format | None:
    """Give the format of that name, None for none."""
    return None if name is None else Format(name)


_TITLES: Final = {
    Format.CSV: "CSV",
    Format.TSV: "TSV",
    Format.JSONL: "JSON lines",
    Format.IDS: "one id a line",
    Format.PARQUET: "Parquet",
}


class Row(NamedTuple):
    """One row that isn't blank. `line`: where it begins, from 1. `id`: "" where it can't be read.

    `outcome`: `invalid`, `duplicate` or `excluded`, with the reason, which is the name of the exclude list; None: it is
    to be sent. `record`: the fields of the row, none where they can't be read.
    """

    line: int
    id: str
    outcome: Outcome | None = None
    reason: str = ""
    record: Sequence[str] = ()


@attrs.frozen
class Reading:
    """How a file is read: its columns, which of them holds the ids, and whether they are named in it.

    `unit`: what its rows are counted in. `kinds`: of the columns, where the format tells. `has_checksums`: what the
    format has against damage is there, if it has anything.
    """

    names: Sequence[str]
    index: int
    has_header: bool
    format: Format = Format.CSV
    is_compressed: bool = False
    unit: str = "line"
    kinds: Sequence[Kind] = ()
    has_checksums: bool = True

    @property
    def is_lone(self) -> bool:
        """Whether the ids stand in the only column of a text, which may have a name above it."""
        return len(self.names) == 1 and self.format in (Format.CSV, Format.TSV, Format.IDS)

    @property
    def title(self) -> str:
        """The format for people."""
        return f"{self.format.label}, compressed by gzip" if self.is_compressed else self.format.label

    @property
    def column(self) -> str:
        """The column of the ids for people."""
        name = self.names[self.index]
        if self.format is Format.JSONL:
            return f"{name} of each object, or the text where a line is nothing but that"
        if not self.has_header:
            return f"one {name} a line, from the first line on"
        above = "" if self.format is Format.PARQUET else "; the first row is the header"
        return f"{name}, {self.index + 1} of {len(self.names)}{above}"


def no_record(_index: int) -> Sequence[str]:
    """Give the fields of a row where nobody wants them."""
    return ()


@attrs.frozen
class Batch:
    """Some rows that aren't blank, in their order.

    `lines`: where they begin; `ids`: "" where one can't be read, for the reason in `invalid`, by its index in the
    batch. `record`: gives the fields of a row, none where they can't be read.
    """

    lines: Sequence[int]
    ids: Sequence[str]
    invalid: Mapping[int, str]
    record: Callable[[int], Sequence[str]] = no_record


class Reader(Protocol):
    """Read the rows of one file, from its start as often as is wanted."""

    def reading(self) -> Reading:
        """Tell how the file is read. Raises InputError."""
        ...

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Give the rows. `whole`: with their fields. Raises InputError."""
        ...


@attrs.frozen
class Wanted:
    """Which ids are wanted of a file: what they are, and the column that was named."""

    by: By
    column: str | None

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.column or self.by
