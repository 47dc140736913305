"""A JSON codec for the state of a pacer.

Numbers, strings, None and lists are encoded as themselves. Every other value is an object with one key, the name of its
type. Decoding creates objects of the known types only.
"""

import json
from collections import deque
from enum import Enum
from typing import Any, Final

import attrs

_PLAIN_TYPES: Final = frozenset({type(None), bool, int, float, str})


class StateDecodeError(ValueError):
    """The decoded data isn't a pacer's state, or is of another version."""


class Codec:
    """Encodes and decodes values made of the given types.

    The fields of an attrs class must match its current definition. For other classes, all attributes are encoded and
    restored unchecked, so writer and reader must have the same version.
    """

    def __init__(self, *types: type[Any]) -> None:
        self._types: Final = {known.__name__: known for known in types}
        self._fields: Final = {
            known: frozenset(field.name for field in attrs.fields(known)) for known in types if attrs.has(known)
        }

    def encode(self, value: Any) -> Any:
        """Return the value in a form that `json` accepts. Raise TypeError if a type is unknown."""
        kind = type(value)
        if kind in _PLAIN_TYPES:
            return value
        if kind is list:
            return [self.encode(item) for item in value]
        return {kind.__name__: self._encode_content(kind, value)}

    def decode(self, encoded: Any) -> Any:
        """Return the value that `encode` encoded. Raise StateDecodeError if it is invalid."""
        try:
            return self._decode(encoded)
        except RecursionError as error:
            raise StateDecodeError("nested too deeply") from error

    def _decode(self, encoded: Any) -> Any:
        if isinstance(encoded, list):
            return [self._decode(item) for item in encoded]
        if not isinstance(encoded, dict):
            return encoded
        if len(encoded) != 1:
            raise StateDecodeError("an object has no type")
        [(name, content)] = encoded.items()
        try:
            return self._decode_content(name, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateDecodeError(f"invalid {name}") from error

    def _encode_content(self, kind: type[Any], value: Any) -> Any:
        if kind is tuple:
            return [self.encode(item) for item in value]
        if kind is deque:
            return [[self.encode(item) for item in value], value.maxlen]
        if kind is dict:
            return [[self.encode(key), self.encode(item)] for key, item in value.items()]
        if self._types.get(kind.__name__) is not kind:
            raise TypeError(f"a pacer's state can't hold a {kind.__name__}")
        if isinstance(value, Enum):
            return value.value
        if kind in self._fields:
            return {name: self.encode(getattr(value, name)) for name in self._fields[kind]}
        return {name: self.encode(field) for name, field in vars(value).items()}

    def _decode_content(self, name: str, content: Any) -> Any:
        if name == "tuple":
            return tuple(self._decode(content))
        if name == "deque":
            items, max_length = content
            return deque(self._decode(items), maxlen=max_length)
        if name == "dict":
            return {self._decode(key): self._decode(item) for key, item in content}
        kind = self._types[name]
        if issubclass(kind, Enum):
            return kind(content)
        values = {field: self._decode(item) for field, item in content.items()}
        if kind not in self._fields:
            made = object.__new__(kind)
            vars(made).update(values)
            return made
        if values.keys() != self._fields[kind]:
            raise StateDecodeError(f"{name} is of another version")
        return kind(**values)


def dump_json(encoded: Any) -> bytes:
    """Return an encoded value as JSON."""
    return json.dumps(encoded, separators=(",", ":")).encode()


def parse_json(data: bytes) -> Any:
    """Parse JSON. Raise StateDecodeError if it is invalid."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StateDecodeError("not JSON") from error
