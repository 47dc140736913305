"""The state of a pacer as JSON, whatever fields it has: pure.

Numbers, strings, None and lists stand as they are; everything else is an object with one key, that names its type.
Nothing but the known types is ever made out of JSON.
"""

import json
from collections import deque
from enum import Enum
from typing import Any, Final

import attrs

_PLAIN: Final = frozenset({type(None), bool, int, float, str})


class MisfitError(ValueError):
    """What was read is none of ours, or of another version."""


class Codec:
    """Encode what is made of these types, and decode it again.

    Of attrs classes the fields must be those of today. Of others whatever an object has is taken, so that what was
    written must be of the same version as who reads it.
    """

    def __init__(self, *types: type[Any]) -> None:
        self._types: Final = {known.__name__: known for known in types}
        self._fields: Final = {
            known: frozenset(field.name for field in attrs.fields(known)) for known in types if attrs.has(known)
        }

    def encode(self, value: Any) -> Any:
        """Give what JSON takes. Raises TypeError where a type is unknown."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is list:
            return [self.encode(item) for item in value]
        return {kind.__name__: self._encode_content(kind, value)}

    def decode(self, found: Any) -> Any:
        """Give the value back. Raises MisfitError where it isn't one."""
        try:
            return self._decode(found)
        except RecursionError as error:
            raise MisfitError("it is too deep") from error

    def _decode(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._decode(item) for item in found]
        if not isinstance(found, dict):
            return found
        if len(found) != 1:
            raise MisfitError("an object without a type")
        [(name, content)] = found.items()
        try:
            return self._decode_content(name, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MisfitError(f"no {name}") from error

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
            items, longest = content
            return deque(self._decode(items), maxlen=longest)
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
            raise MisfitError(f"a {name} of another version")
        return kind(**values)


def to_bytes(encoded: Any) -> bytes:
    """Give the JSON of what was encoded."""
    return json.dumps(encoded, separators=(",", ":")).encode()


def from_bytes(text: bytes) -> Any:
    """Read JSON. Raises MisfitError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MisfitError("no JSON") from error
