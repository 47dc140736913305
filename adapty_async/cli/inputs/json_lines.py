"""Read JSON lines: each line is an object with the ID column as a key, or the ID itself."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from .compression import is_gzip, iter_blocks
from .id_lines import is_utf8
from .input_types import BATCH_ROWS, NO_ID, Batch, Format, IdColumn, InputError, InputSchema, NoIdsError
from .line_reader import TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE, LineReader
from .value_to_text import convert_plain_ids, format_field, parse_id, parse_json_integer

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_ .-]+")
_ESCAPED_ASCII: Final = re.compile(r"\\u00[2-7]")
_MAX_SEARCHED_LINES: Final = 1000
"""The number of lines searched for an object. Its keys become the columns of the input."""


class _AmbiguousObject(dict[str, Any]):
    """An object with duplicate keys, whose values are ambiguous. `duplicate_keys`: these keys."""

    duplicate_keys: frozenset[str]


class JsonLinesReader:
    """Read a file of JSON lines. Its columns are the keys of the first object."""

    def __init__(self, file: BinaryIO, name: str, id_column: IdColumn) -> None:
        self._file = file
        self._name = name
        self._id_column = id_column

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        is_empty = True
        names = [self._id_column.wanted_name]
        for line in itertools.islice(LineReader(iter_blocks(self._file, self._name)), _MAX_SEARCHED_LINES):
            if is_empty and line.lstrip().startswith("["):
                raise InputError(
                    f"{self._name} begins like a JSON list: write each item on its own line, as with jq -c '.[]'"
                )
            is_empty = is_empty and line.isspace()
            value = _parse_json(line)
            if isinstance(value, dict):
                names = list(dict.fromkeys([*value, self._id_column.wanted_name]))
                break
        if is_empty:
            raise NoIdsError(self._name)
        return InputSchema(
            names,
            names.index(self._id_column.wanted_name),
            has_header=False,
            format=Format.JSONL,
            is_compressed=is_gzip(self._file),
        )

    def iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        schema = self.read_schema()
        key, names = self._id_column.wanted_name, schema.column_names
        lines, first_line = iter(LineReader(iter_blocks(self._file, self._name))), 1
        while read := list(itertools.islice(lines, BATCH_ROWS)):
            batch = _parse_regular_batch(read, first_line, key, names) or _parse_irregular_batch(
                read, first_line, key, names
            )
            first_line += len(read)
            if batch.ids:
                yield batch


def _parse_regular_batch(lines: Sequence[str], first_line: int, key: str, names: Sequence[str]) -> Batch | None:
    """Parse a batch of plain objects or plain texts at once, which is three times as fast, or return None."""
    content = "".join(lines)
    # Each line is wrapped in a list. Without a bracket, no line can end the list of another.
    if "]" in content or not (content.isascii() or is_utf8(content)):
        return None
    try:
        values = [value for (value,) in json.loads(f"[[{'],['.join(lines)}]]")]
    except (ValueError, RecursionError):
        return None
    found = values
    if set(map(type, values)) == {dict}:
        if not _has_key_once(key, content, len(values)):
            return None
        found = [value.get(key) for value in values]
    ids = convert_plain_ids(found)
    if ids is None or "0" in ids:  # which may be written as -0
        return None
    return Batch(
        range(first_line, first_line + len(lines)), ids, {}, lambda index: _build_fields(values[index], key, names)
    )


def _has_key_once(key: str, content: str, object_count: int) -> bool:
    """Return True if the key occurs exactly once per object and can't be written with escapes."""
    if not _PLAIN_KEY.fullmatch(key) or ("\\u00" in content and _ESCAPED_ASCII.search(content)):
        return False
    return content.count(f'"{key}"') == object_count


def _parse_irregular_batch(lines: Sequence[str], first_line: int, key: str, names: Sequence[str]) -> Batch:
    """Parse each line of an irregular batch."""
    numbers: list[int] = []
    ids: list[str] = []
    values: list[Any] = []
    invalid = {}
    for number, line in enumerate(lines, first_line):
        if line.isspace():
            continue
        value, reason = _parse_line(line)
        id_, reason = ("", reason) if reason else _find_id(value, key)
        if reason:
            invalid[len(ids)] = reason
        numbers.append(number)
        ids.append(id_)
        values.append(value)
    return Batch(
        numbers, ids, invalid, lambda index: () if values[index] is None else _build_fields(values[index], key, names)
    )


def _parse_line(line: str) -> tuple[Any, str]:
    """Return the value of a line, and why there is none."""
    if line.startswith((TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE)):
        return None, "the line is too long"
    if not is_utf8(line):
        return None, "the line contains bytes that aren't UTF-8"
    value = _parse_json(line)
    if value is _NOT_JSON:
        return None, "the line isn't JSON"
    return value, ""


_NOT_JSON: Final = object()


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_build_object, parse_int=parse_json_integer)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    ambiguous = _AmbiguousObject(found)
    keys = [key for key, _ in pairs]
    ambiguous.duplicate_keys = frozenset(key for key in found if keys.count(key) > 1)
    return ambiguous


def _find_id(value: Any, key: str) -> tuple[str, str]:
    """Return the ID of a line, and why there is none."""
    if isinstance(value, dict):
        if isinstance(value, _AmbiguousObject) and key in value.duplicate_keys:
            return "", f"the object has several {key}"
        if key not in value:
            return "", f"the object has no {key}: if the IDs have another name, add --column"
        value = value[key]
    if value is None or value == "":
        return "", NO_ID
    return parse_id(value)


def _build_fields(value: Any, key: str, names: Sequence[str]) -> Sequence[str]:
    """Return the fields of a line in the order of the columns."""
    found = value if isinstance(value, dict) else {key: value}
    return [format_field(found.get(name)) for name in names]
