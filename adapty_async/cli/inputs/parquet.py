"""Read Parquet in batches. Only this module uses pyarrow, and imports it on demand."""

import contextlib
import functools
import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from ...installation import how_to_install
from .columns import find
from .compression import Reopened
from .parquet_structure import StructureError, has_checksums
from .rows import BATCH, NO_ID, NO_TEXT, Batch, Format, InputError, Kind, Reading, Wanted, no_record
from .values import as_text, id_of, plain_ids

_PAGE: Final = 1 << 20
"""Bytes to read ahead, instead of a whole column of a row group."""
_CHECKSUM: Final = "CRC checksum verification failed"


class ParquetReader:
    """Read a Parquet file. Its rows are counted from 1."""

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted) -> None:
        self._file = file
        self._name = name
        self._wanted = wanted

    def reading(self) -> Reading:
        """Return how the file is read. Raises InputError."""
        file = self._opened()
        schema = file.schema_arrow
        return Reading(
            schema.names,
            find(schema.names, self._wanted, self._name),
            True,
            Format.PARQUET,
            unit="row",
            kinds=list(map(_kind, schema.types)),
            has_checksums=self._has_checksums,
        )

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        names, key = self.reading().names, self._wanted.name
        begun = 1
        for table in self._tables(None if whole else [key]):
            values = _values(table.column(key))
            yield _batch(values, begun, _records(table, names) if whole else [])
            begun += len(values)

    def _tables(self, columns: Sequence[str] | None) -> Iterator[Any]:
        file, trouble = self._opened(), _trouble()
        rows = 0
        try:
            for table in file.iter_batches(batch_size=BATCH, columns=columns, use_threads=False):
                rows += table.num_rows
                yield table
        except trouble as error:
            what = "a checksum is wrong" if _CHECKSUM in str(error) else type(error).__name__
            sentence = f"{self._name} can't be read completely ({what}): it is truncated or damaged: fetch it again"
        else:
            said = file.metadata.num_rows
            if rows == said:
                return
            sentence = f"{self._name} is damaged: it has {rows:,} rows, but its footer says {said:,}: fetch it again"
        raise InputError(sentence)

    @functools.cached_property
    def _has_checksums(self) -> bool:
        """True if the pages of the ID column have checksums. Raises InputError for an inconsistent file."""
        try:
            return has_checksums(self._file.fileno(), self._wanted.name)
        except StructureError as error:
            sentence = f"{self._name} is damaged: {error}: fetch it again, or export it again"
        except OSError as error:
            sentence = f"{self._name} can't be read completely: {error.strerror}"
        raise InputError(sentence)

    def _opened(self) -> Any:
        arrow = _pyarrow()
        try:
            return arrow.parquet.ParquetFile(
                io.BufferedReader(Reopened(self._file)),
                buffer_size=_PAGE,
                pre_buffer=False,
                page_checksum_verification=True,
            )
        except _trouble() as error:
            sentence = f"{self._name} isn't a readable Parquet file ({type(error).__name__}): export it again"
        raise InputError(sentence)


def _pyarrow() -> Any:
    with contextlib.suppress(ImportError):
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    raise InputError(f"to read Parquet, pyarrow is needed: {how_to_install('parquet')}")


def _trouble() -> tuple[type[BaseException], ...]:
    """Return the exceptions that pyarrow raises for invalid files."""
    return (_pyarrow().ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError)


def _kind(type_: Any) -> Kind:
    types = _pyarrow().types
    if types.is_dictionary(type_):
        return _kind(type_.value_type)
    if types.is_boolean(type_):
        return Kind.BOOL
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return Kind.NUMBER
    has_one_text = types.is_date(type_) or types.is_null(type_) or isinstance(type_, _pyarrow().UuidType)
    is_text = types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)
    return Kind.TEXT if is_text or has_one_text else Kind.OTHER


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return list(map(_value, column))
    return values


def _value(scalar: Any) -> Any:
    """Return one value. If Python can't represent it, return bytes, which are never an ID."""
    try:
        return scalar.as_py()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return b""


def _field(value: Any) -> str:
    return NO_TEXT if value == b"" else as_text(value)


def _records(table: Any, names: Sequence[str]) -> list[Sequence[str]]:
    columns = [list(map(_field, _values(table.column(index)))) for index in range(len(names))]
    return list(zip(*columns, strict=True))


def _batch(values: Sequence[Any], begun: int, records: Sequence[Sequence[str]]) -> Batch:
    ids, invalid = plain_ids(values), {}
    if ids is None:
        found = [("", NO_ID) if value is None or value == "" else id_of(value) for value in values]
        ids = [id_ for id_, _ in found]
        invalid = {index: reason for index, (_, reason) in enumerate(found) if reason}
    return Batch(range(begun, begun + len(values)), ids, invalid, records.__getitem__ if records else no_record)
