"""Read JSON lines: each line is an object with the ID column as a key, or the ID itself."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from .compression import blocks_of, is_gzip
from .id_lines import is_utf8
from .lines import TOO_LONG, TOO_LONG_AND_QUOTED, Lines
from .rows import BATCH, NO_ID, Batch, Format, InputError, Reading, Wanted
from .values import as_text, id_of, plain_ids, whole_number

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_ .-]+")
_ESCAPED_ASCII: Final = re.compile(r"\\u00[2-7]")
_MOST_SEARCHED: Final = 1000
"""The number of lines searched for an object. Its keys become the columns of the input."""


class _Ambiguous(dict[str, Any]):
    """An object with duplicate keys, whose values are ambiguous. `repeated`: these keys."""

    repeated: frozenset[str]


class JsonLinesReader:
    """Read a file of JSON lines. Its columns are the keys of the first object."""

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted) -> None:
        self._file = file
        self._name = name
        self._wanted = wanted

    def reading(self) -> Reading:
        """Return how the file is read. Raises InputError."""
        is_empty = True
        names = [self._wanted.name]
        for line in itertools.islice(Lines(blocks_of(self._file, self._name)), _MOST_SEARCHED):
            if is_empty and line.lstrip().startswith("["):
                raise InputError(
                    f"{self._name} begins like a JSON list: write each item on its own line, as with jq -c '.[]'"
                )
            is_empty = is_empty and line.isspace()
            value = _parsed(line)
            if isinstance(value, dict):
                names = list(dict.fromkeys([*value, self._wanted.name]))
                break
        if is_empty:
            raise InputError(f"{self._name} contains no IDs")
        return Reading(
            names,
            names.index(self._wanted.name),
            has_header=False,
            format=Format.JSONL,
            is_compressed=is_gzip(self._file),
        )

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Yield the rows. Raises InputError."""
        reading = self.reading()
        key, names = self._wanted.name, reading.names
        lines, begun = iter(Lines(blocks_of(self._file, self._name))), 1
        while read := list(itertools.islice(lines, BATCH)):
            batch = _quick(read, begun, key, names) or _slow(read, begun, key, names)
            begun += len(read)
            if batch.ids:
                yield batch


def _quick(lines: Sequence[str], begun: int, key: str, names: Sequence[str]) -> Batch | None:
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
        if not _is_once(key, content, len(values)):
            return None
        found = [value.get(key) for value in values]
    ids = plain_ids(found)
    if ids is None or "0" in ids:  # which may be written as -0
        return None
    return Batch(range(begun, begun + len(lines)), ids, {}, lambda index: _record(values[index], key, names))


def _is_once(key: str, content: str, objects: int) -> bool:
    """Return True if the key occurs exactly once per object and can't be written with escapes."""
    if not _PLAIN_KEY.fullmatch(key) or ("\\u00" in content and _ESCAPED_ASCII.search(content)):
        return False
    return content.count(f'"{key}"') == objects


def _slow(lines: Sequence[str], begun: int, key: str, names: Sequence[str]) -> Batch:
    """Parse each line of an irregular batch."""
    numbers: list[int] = []
    ids: list[str] = []
    values: list[Any] = []
    invalid = {}
    for number, line in enumerate(lines, begun):
        if line.isspace():
            continue
        value, reason = _value(line)
        id_, reason = ("", reason) if reason else _id_in(value, key)
        if reason:
            invalid[len(ids)] = reason
        numbers.append(number)
        ids.append(id_)
        values.append(value)
    return Batch(
        numbers, ids, invalid, lambda index: () if values[index] is None else _record(values[index], key, names)
    )


def _value(line: str) -> tuple[Any, str]:
    """Return the value of a line, and why there is none."""
    if line.startswith((TOO_LONG, TOO_LONG_AND_QUOTED)):
        return None, "the line is too long"
    if not is_utf8(line):
        return None, "the line contains bytes that aren't UTF-8"
    value = _parsed(line)
    if value is _NOTHING:
        return None, "the line isn't JSON"
    return value, ""


_NOTHING: Final = object()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_object, parse_int=whole_number)
    except (ValueError, RecursionError):
        return _NOTHING


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    ambiguous = _Ambiguous(found)
    keys = [key for key, _ in pairs]
    ambiguous.repeated = frozenset(key for key in found if keys.count(key) > 1)
    return ambiguous


def _id_in(value: Any, key: str) -> tuple[str, str]:
    """Return the ID of a line, and why there is none."""
    if isinstance(value, dict):
        if isinstance(value, _Ambiguous) and key in value.repeated:
            return "", f"the object has several {key}"
        if key not in value:
            return "", f"the object has no {key}: if the IDs have another name, add --column"
        value = value[key]
    if value is None or value == "":
        return "", NO_ID
    return id_of(value)


def _record(value: Any, key: str, names: Sequence[str]) -> Sequence[str]:
    """Return the fields of a line in the order of the columns."""
    found = value if isinstance(value, dict) else {key: value}
    return [as_text(found.get(name)) for name in names]
