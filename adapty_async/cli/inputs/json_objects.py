"""Read IDs from JSON lines whose objects also hold the attributes of the profiles."""

import functools
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final, Never

import attrs

from .attributes import exact_float
from .compression import blocks_of, is_gzip
from .ids import Ids
from .lines import TOO_LONG, Lines
from .rows import BATCH, Batch, Format, Reading, Wanted
from .values import id_of, whole_number

_SPACES: Final = re.compile(r"[ \t\n\r]*")
_NOT_UTF8: Final = "the row contains bytes that aren't UTF-8"


@attrs.frozen
class JsonReading(Reading):
    """How JSON lines are read as objects. The only name is that of the ID field."""


class JsonIds(Ids):
    """The IDs in an open file of JSON lines. The only field of a row's record is its line."""

    @functools.cached_property
    def _reader(self) -> "ObjectsReader":
        return ObjectsReader(self.file, self.name, self._wanted)


class ObjectsReader:
    """Read a file of JSON lines, keeping the text of each object."""

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted) -> None:
        self._file = file
        self._name = name
        self._field = wanted.name

    def reading(self) -> JsonReading:
        """Return how the file is read."""
        return JsonReading([self._field], 0, has_header=False, format=Format.JSONL, is_compressed=is_gzip(self._file))

    def batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Return the rows in batches, always with their line. Raises InputError."""
        numbered = enumerate(Lines(blocks_of(self._file, self._name)), start=1)
        rows = ((number, line.strip()) for number, line in numbered if not line.isspace())
        while read := list(itertools.islice(rows, BATCH)):
            yield self._batch(read)

    def _batch(self, read: Sequence[tuple[int, str]]) -> Batch:
        ids: list[str] = []
        records: list[tuple[str, ...]] = []
        invalid: dict[int, str] = {}
        for index, (_, line) in enumerate(read):
            id_ = ""
            record: tuple[str, ...] = ()
            try:
                values, record = parsed(line), (line,)
                id_ = self._id_in(values)
            except TwiceError as error:
                invalid[index], id_ = str(error), self._id_beside(line)
            except ValueError as error:
                invalid[index] = str(error)
            ids.append(id_)
            records.append(record)
        return Batch([number for number, _ in read], ids, invalid, records.__getitem__)

    def _id_in(self, values: dict[str, Any]) -> str:
        value = values.get(self._field)
        if value is None or value == "":
            raise ValueError(f"the row has no {self._field}")
        id_, reason = id_of(value)
        if reason:
            raise ValueError(reason)
        return id_

    def _id_beside(self, line: str) -> str:
        """Return the ID of an object in which another field occurs twice, or "" if the ID is ambiguous."""
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs, parse_int=whole_number)
        except (ValueError, RecursionError):  # the rest of the line isn't JSON
            return ""
        found = [value for name, value in pairs if name == self._field] if isinstance(pairs, _Pairs) else []
        return id_of(found[0])[0] if len(found) == 1 else ""


class _Pairs(list[tuple[str, Any]]):
    """The fields of an object, in which one may occur twice."""


class TwiceError(ValueError):
    """Raised if a field occurs twice in an object."""


def parsed(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises TwiceError if a field occurs twice, else ValueError. No message contains a value."""
    if text.startswith(TOO_LONG):
        raise ValueError("the line is too long")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(_NOT_UTF8) from None
    try:
        value = _decoder.decode(text)
    except TwiceError:
        raise
    except (ValueError, RecursionError):
        raise ValueError("the row isn't JSON") from None
    if isinstance(value, str):
        raise ValueError("the line is only an ID: write it as an object with the attributes to set")
    if not isinstance(value, dict):
        raise ValueError("the row isn't a JSON object")
    return value


def fields_of(text: str) -> Iterator[tuple[str, str]]:
    """Return the fields of an object that `parsed` accepts. Each value is the original text."""
    at = _beyond_spaces(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        start = _beyond_spaces(text, _beyond_spaces(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield name, text[start:end]
        at = _beyond_spaces(text, end)
        if text[at] == ",":
            at = _beyond_spaces(text, at + 1)


def _beyond_spaces(text: str, at: int) -> int:
    spaces = _SPACES.match(text, at)
    assert spaces is not None  # the pattern also matches an empty string
    return spaces.end()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise TwiceError("a field occurs twice in the row")
    return values


def _refuse(_constant: str) -> Never:
    raise ValueError  # NaN and Infinity are Python's, not JSON's


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_refuse, parse_int=whole_number, parse_float=exact_float
)
