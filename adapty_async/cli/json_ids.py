"""Ids out of JSON lines: one object a line, which holds the attributes of its profile as well."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Never

import attrs

from ..bulk import Outcome
from .csv_records import lines_of
from .inputs import SHORTENED, Ids, Reading, Row

_WATCHED: Final = 1000


@attrs.frozen
class JsonReading(Reading):
    """How JSON lines are read: no columns, but a field of ids, the only name."""


class JsonIds(Ids):
    """The ids in an open file of JSON lines. The only field of a row's record is its line."""

    def reading(self) -> JsonReading:
        """Tell which field holds the ids."""
        return JsonReading([self._field], 0, has_header=True)

    @property
    def _field(self) -> str:
        return self._column or self.by

    def _rows(self) -> Iterator[Row]:
        for number, text in enumerate(lines_of(self.file, self.name)):
            if number % _WATCHED == 0:
                self._refuse_change()
            if not text.isspace():
                yield self._json_row(number + 1, text.strip())
        self._refuse_change()

    def _json_row(self, line: int, text: str) -> Row:
        try:
            values = parsed(text)
        except ValueError as error:
            return Row(line, "", Outcome.INVALID, str(error))
        id_ = values.get(self._field)
        if not isinstance(id_, str) or not id_:
            return Row(line, "", Outcome.INVALID, f"the row has no {self._field} that is a text, in quotes", (text,))
        if SHORTENED.fullmatch(id_):
            return self._damaged(line, id_, [text])
        return Row(line, id_, None, "", (text,))


def is_json_lines(file: BinaryIO, name: str) -> bool:
    """Tell whether the first line that isn't blank is a JSON object. Raises InputError."""
    for text in lines_of(file, name):
        if not text.isspace():
            try:
                parsed(text)
            except ValueError:
                return False
            return True
    return False


def parsed(text: str) -> dict[str, Any]:
    """Read a JSON object, in which nothing stands twice. Raises ValueError, without a value in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the row has bytes in it that are no UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except _TwiceError:
        raise ValueError("a field of the row stands there twice") from None
    except (ValueError, RecursionError):
        raise ValueError("the row is no JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the row is no JSON object")
    return value


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _TwiceError
    return values


def _refuse(_constant: str) -> Never:
    raise ValueError  # NaN and Infinity are Python's, not JSON's
