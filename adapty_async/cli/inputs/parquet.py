"""Read Parquet in batches. Only this module uses pyarrow, and imports it on demand."""

import contextlib
import functools
import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from ...install_command import format_install_command
from ...pluralization import format_count
from .compression import IndependentReader
from .id_column import find_id_column
from .input_types import (
    BATCH_ROWS,
    NO_ID,
    UNREADABLE_TEXT,
    Batch,
    ColumnType,
    Format,
    IdColumn,
    InputError,
    InputSchema,
    get_no_fields,
)
from .parquet_structure import StructureError, has_checksums
from .value_to_text import convert_plain_ids, format_field, parse_id

_READ_AHEAD_BYTES: Final = 1 << 20
"""Bytes to read ahead, instead of a whole column of a row group."""
_CHECKSUM_ERROR: Final = "CRC checksum verification failed"


class ParquetReader:
    """Read a Parquet file. Its rows are counted from 1."""

    def __init__(self, file: BinaryIO, name: str, id_column: IdColumn) -> None:
        self._file = file
        self._name = name
        self._id_column = id_column

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        file = self._open_parquet_file()
        arrow_schema = file.schema_arrow
        return InputSchema(
            arrow_schema.names,
            find_id_column(arrow_schema.names, self._id_column, self._name),
            True,
            Format.PARQUET,
            unit="row",
            column_types=list(map(_classify_type, arrow_schema.types)),
            has_checksums=self._has_checksums,
        )

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        names, key = self.read_schema().column_names, self._id_column.wanted_name
        first_row = 1
        for table in self._iter_tables(None if with_fields else [key]):
            values = _read_values(table.column(key))
            yield _build_batch(values, first_row, _build_row_fields(table, names) if with_fields else [])
            first_row += len(values)

    def _iter_tables(self, columns: Sequence[str] | None) -> Iterator[Any]:
        file, pyarrow_errors = self._open_parquet_file(), _list_pyarrow_errors()
        rows = 0
        try:
            for table in file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                rows += table.num_rows
                yield table
        except pyarrow_errors as error:
            what = "a checksum is wrong" if _CHECKSUM_ERROR in str(error) else type(error).__name__
            message = f"{self._name} can't be read completely ({what}): it is truncated or damaged: fetch it again"
        else:
            stated_rows = file.metadata.num_rows
            if rows == stated_rows:
                return
            message = (
                f"{self._name} is damaged: it has {format_count(rows, 'row')}, but its footer says {stated_rows:,}: "
                "fetch it again"
            )
        raise InputError(message)

    @functools.cached_property
    def _has_checksums(self) -> bool:
        """True if the pages of the ID column have checksums. Raises InputError for an inconsistent file."""
        try:
            return has_checksums(self._file.fileno(), self._id_column.wanted_name)
        except StructureError as error:
            message = f"{self._name} is damaged: {error}: fetch it again, or export it again"
        except OSError as error:
            message = f"{self._name} can't be read completely: {error.strerror}"
        raise InputError(message)

    def _open_parquet_file(self) -> Any:
        arrow = _import_pyarrow()
        try:
            return arrow.parquet.ParquetFile(
                io.BufferedReader(IndependentReader(self._file)),
                buffer_size=_READ_AHEAD_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
        except _list_pyarrow_errors() as error:
            message = f"{self._name} isn't a readable Parquet file ({type(error).__name__}): export it again"
        raise InputError(message)


def _import_pyarrow() -> Any:
    with contextlib.suppress(ImportError):
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    raise InputError(f"to read Parquet, pyarrow is needed: {format_install_command('parquet')}")


def _list_pyarrow_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions that pyarrow raises for invalid files."""
    return (_import_pyarrow().ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError)


def _classify_type(arrow_type: Any) -> ColumnType:
    types = _import_pyarrow().types
    if types.is_dictionary(arrow_type):
        return _classify_type(arrow_type.value_type)
    if types.is_boolean(arrow_type):
        return ColumnType.BOOL
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_decimal(arrow_type):
        return ColumnType.NUMBER
    has_one_text = (
        types.is_date(arrow_type) or types.is_null(arrow_type) or isinstance(arrow_type, _import_pyarrow().UuidType)
    )
    is_text = types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type)
    return ColumnType.TEXT if is_text or has_one_text else ColumnType.OTHER


def _read_values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return list(map(_read_value, column))
    return values


def _read_value(scalar: Any) -> Any:
    """Return one value. If Python can't represent it, return bytes, which are never an ID."""
    try:
        return scalar.as_py()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return b""


def _format_field(value: Any) -> str:
    return UNREADABLE_TEXT if value == b"" else format_field(value)


def _build_row_fields(table: Any, names: Sequence[str]) -> list[Sequence[str]]:
    columns = [list(map(_format_field, _read_values(table.column(index)))) for index in range(len(names))]
    return list(zip(*columns, strict=True))


def _build_batch(values: Sequence[Any], first_row: int, row_fields: Sequence[Sequence[str]]) -> Batch:
    ids, invalid = convert_plain_ids(values), {}
    if ids is None:
        found = [("", NO_ID) if value is None or value == "" else parse_id(value) for value in values]
        ids = [id_ for id_, _ in found]
        invalid = {index: reason for index, (_, reason) in enumerate(found) if reason}
    return Batch(
        range(first_row, first_row + len(values)), ids, invalid, row_fields.__getitem__ if row_fields else get_no_fields
    )
