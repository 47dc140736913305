"""Detect the format of a file by its name and first bytes, unless `--format` is given."""

import os
import re
from pathlib import Path
from typing import BinaryIO, Final

from .compression import GZIP_MAGIC, is_gzip, read_head
from .csv_rows import CsvReader
from .id_lines import IdLinesReader
from .input_types import Format, IdColumn, InputError, Reader
from .json_lines import JsonLinesReader
from .parquet import ParquetReader

_HEAD_BYTES: Final = 4096
_PARQUET_MAGIC: Final = b"PAR1"
_FORMATS_BY_SUFFIX: Final = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".ids": Format.IDS,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_BZIP2_MAGIC: Final = b"1AY&SY"  # after four bytes that could also start an ID
_JSON_LIST: Final = re.compile(rb'\[\s*[\[{"]')
_MARKUP: Final = re.compile(rb"<(?:!doctype|html|head|body|table|\?xml)\b|<!--", re.IGNORECASE)
_UNSUPPORTED_FORMATS: Final = {
    b"\xff\xfe": "is UTF-16: save it as 'CSV UTF-8'",
    b"\xfe\xff": "is UTF-16: save it as 'CSV UTF-8'",
    b"\0\0\xfe\xff": "is UTF-32: save it as 'CSV UTF-8'",
    b"PK\x05\x06": "is an empty archive: name the file with the IDs",
    b"PK\x03\x04": "is a workbook or an archive: save the sheet with the IDs as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "is a workbook or a document: save the sheet with the IDs as 'CSV UTF-8'",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: decompress it, or use gzip",
    b"\xfd7zXZ\0": "is compressed with xz: decompress it, or use gzip",
    _BZIP2_MAGIC: "is compressed with bzip2: decompress it, or use gzip",
    b"%PDF-": "is a PDF: save the IDs as 'CSV UTF-8'",
    b"SQLite format 3\0": "is an SQLite database: name the file with the IDs",
}


def infer_format(path: Path) -> Format | None:
    """Return the format that a file name implies, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip"):
        suffixes.pop()
    return _FORMATS_BY_SUFFIX.get(suffixes[-1]) if suffixes else None


def create_reader(
    file: BinaryIO, name: str, id_column: IdColumn, *, requested_format: Format | None, implied_format: Format | None
) -> Reader:
    """Return the reader of a file. Raises InputError.

    `requested_format`: the value of --format. `implied_format`: the format that the file name implies. Without both the
    file is CSV, which includes one ID per line.
    """
    chosen = _choose_format(file, name, requested_format=requested_format, implied_format=implied_format)
    if chosen is Format.PARQUET:
        return ParquetReader(file, name, id_column)
    if chosen is Format.JSONL:
        return JsonLinesReader(file, name, id_column)
    if chosen is Format.IDS:
        return IdLinesReader(file, name, id_column)
    return CsvReader(file, name, id_column, chosen)


def _choose_format(
    file: BinaryIO, name: str, *, requested_format: Format | None, implied_format: Format | None
) -> Format:
    try:
        head = read_head(file, _HEAD_BYTES)
        is_packed, tail = is_gzip(file), _read_tail(file)
    except OSError as error:
        raise InputError(f"{name} can't be read completely: {error.strerror}") from None
    _refuse_unsupported_format(head, name)
    is_parquet = head.startswith(_PARQUET_MAGIC) and (tail == _PARQUET_MAGIC or b"\0" in head)
    if is_packed and is_parquet:
        raise InputError(f"{name} is Parquet compressed with gzip: decompress it first")
    if is_parquet != (requested_format is Format.PARQUET) and requested_format is not None:
        raise InputError(
            f"{name} is {'' if is_parquet else 'no '}Parquet, but --format says {requested_format}: leave that out"
        )
    if is_parquet:
        return Format.PARQUET
    if implied_format is Format.PARQUET and requested_format is None:
        raise InputError(f"{name} isn't Parquet, contrary to its name: export it again, or add --format")
    chosen = requested_format or implied_format or Format.CSV
    if requested_format is None and chosen is not Format.JSONL:
        _refuse_json_and_markup(head.removeprefix(b"\xef\xbb\xbf").lstrip(), name, chosen)
    return chosen


def _refuse_json_and_markup(head: bytes, name: str, chosen: Format) -> None:
    """Refuse JSON and markup in a file whose format wasn't given. Raises InputError."""
    if head.startswith(b"{"):
        raise InputError(f"{name} begins like JSON lines: add --format jsonl, or --format {chosen} if it is that")
    if _JSON_LIST.match(head):
        raise InputError(
            f"{name} begins like a JSON list: write each item on its own line, as with jq -c '.[]', and name it .jsonl"
        )
    if _MARKUP.match(head):
        raise InputError(f"{name} is HTML or XML, as some workbooks are: save the sheet with the IDs as 'CSV UTF-8'")


def _refuse_unsupported_format(head: bytes, name: str) -> None:
    for start, what in _UNSUPPORTED_FORMATS.items():
        if head.startswith(start) or (start == _BZIP2_MAGIC and head.startswith(start, 4)):
            raise InputError(f"{name} {what}")
    if head.startswith(GZIP_MAGIC):
        raise InputError(f"{name} is compressed with gzip twice: decompress it once")


def _read_tail(file: BinaryIO) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), len(_PARQUET_MAGIC), max(0, size - len(_PARQUET_MAGIC)))
