"""Read IDs from JSON lines whose objects also hold the attributes of the profiles."""

import functools
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final, Never

import attrs

from .attribute_parser import parse_exact_float
from .compression import is_gzip, iter_blocks
from .id_input import IdInput
from .input_types import BATCH_ROWS, Batch, Format, IdColumn, InputSchema
from .line_reader import TOO_LONG, LineReader
from .value_to_text import parse_id, parse_json_integer

_SPACES: Final = re.compile(r"[ \t\n\r]*")
_NOT_UTF8: Final = "the row contains bytes that aren't UTF-8"


@attrs.frozen
class JsonInputSchema(InputSchema):
    """How JSON lines are read as objects. The only name is that of the ID field."""


class JsonLinesWithAttributes(IdInput):
    """The IDs in an open file of JSON lines. The only field of a row's record is its line."""

    @functools.cached_property
    def _reader(self) -> "JsonObjectReader":
        return JsonObjectReader(self.file, self.name, self._id_column)


class JsonObjectReader:
    """Read a file of JSON lines, keeping the text of each object."""

    def __init__(self, file: BinaryIO, name: str, id_column: IdColumn) -> None:
        self._file = file
        self._name = name
        self._field = id_column.wanted_name

    def read_schema(self) -> JsonInputSchema:
        """Return how the file is read."""
        return JsonInputSchema(
            [self._field], 0, has_header=False, format=Format.JSONL, is_compressed=is_gzip(self._file)
        )

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Return the rows in batches, always with their line. Raises InputError."""
        numbered = enumerate(LineReader(iter_blocks(self._file, self._name)), start=1)
        rows = ((number, line.strip()) for number, line in numbered if not line.isspace())
        while read := list(itertools.islice(rows, BATCH_ROWS)):
            yield self._build_batch(read)

    def _build_batch(self, read: Sequence[tuple[int, str]]) -> Batch:
        ids: list[str] = []
        records: list[tuple[str, ...]] = []
        invalid: dict[int, str] = {}
        for index, (_, line) in enumerate(read):
            id_ = ""
            record: tuple[str, ...] = ()
            try:
                values, record = parse_object(line), (line,)
                id_ = self._find_id(values)
            except DuplicateKeyError as error:
                invalid[index], id_ = str(error), self._find_id_despite_duplicate_keys(line)
            except ValueError as error:
                invalid[index] = str(error)
            ids.append(id_)
            records.append(record)
        return Batch([number for number, _ in read], ids, invalid, records.__getitem__)

    def _find_id(self, values: dict[str, Any]) -> str:
        value = values.get(self._field)
        if value is None or value == "":
            raise ValueError(f"the row has no {self._field}")
        id_, reason = parse_id(value)
        if reason:
            raise ValueError(reason)
        return id_

    def _find_id_despite_duplicate_keys(self, line: str) -> str:
        """Return the ID of an object in which another field occurs twice, or "" if the ID is ambiguous."""
        try:
            pairs = json.loads(line, object_pairs_hook=_FieldPairs, parse_int=parse_json_integer)
        except (ValueError, RecursionError):  # the rest of the line isn't JSON
            return ""
        found = [value for name, value in pairs if name == self._field] if isinstance(pairs, _FieldPairs) else []
        return parse_id(found[0])[0] if len(found) == 1 else ""


class _FieldPairs(list[tuple[str, Any]]):
    """The fields of an object, in which one may occur twice."""


class DuplicateKeyError(ValueError):
    """Raised if a field occurs twice in an object."""


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises DuplicateKeyError if a field occurs twice, else ValueError. No message contains a value.
    """
    if text.startswith(TOO_LONG):
        raise ValueError("the line is too long")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(_NOT_UTF8) from None
    try:
        value = _decoder.decode(text)
    except DuplicateKeyError:
        raise
    except (ValueError, RecursionError):
        raise ValueError("the row isn't JSON") from None
    if isinstance(value, str):
        raise ValueError("the line is only an ID: write it as an object with the attributes to set")
    if not isinstance(value, dict):
        raise ValueError("the row isn't a JSON object")
    return value


def iter_raw_fields(text: str) -> Iterator[tuple[str, str]]:
    """Return the fields of an object that `parse_object` accepts. Each value is the original text."""
    at = _skip_spaces(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        start = _skip_spaces(text, _skip_spaces(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield name, text[start:end]
        at = _skip_spaces(text, end)
        if text[at] == ",":
            at = _skip_spaces(text, at + 1)


def _skip_spaces(text: str, start: int) -> int:
    spaces = _SPACES.match(text, start)
    assert spaces is not None  # the pattern also matches an empty string
    return spaces.end()


def _build_unique_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise DuplicateKeyError("a field occurs twice in the row")
    return values


def _refuse_constant(_constant: str) -> Never:
    raise ValueError  # NaN and Infinity are Python's, not JSON's


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_build_unique_dict,
    parse_constant=_refuse_constant,
    parse_int=parse_json_integer,
    parse_float=parse_exact_float,
)
