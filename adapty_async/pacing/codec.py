"""The state of a pacer as JSON, whatever fields it has: pure.

Numbers, strings, None and lists stand as they are; everything else is an object with one key, that names its type.
Nothing but the known types is ever made out of JSON, and only where the fields are those that they have today.
"""

import dis
import functools
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

    The fields of a plain class are those that its `__init__` sets, those of an attrs class its attributes.
    """

    def __init__(self, *types: type[Any]) -> None:
        self._types: Final = {known.__name__: known for known in types}

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
        if isinstance(found, list):
            return [self.decode(item) for item in found]
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
        return {name: self.encode(getattr(value, name)) for name in fields_of(kind)}

    def _decode_content(self, name: str, content: Any) -> Any:
        if name == "tuple":
            return tuple(self.decode(content))
        if name == "deque":
            items, longest = content
            return deque(self.decode(items), maxlen=longest)
        if name == "dict":
            return {self.decode(key): self.decode(item) for key, item in content}
        kind = self._types[name]
        if issubclass(kind, Enum):
            return kind(content)
        if content.keys() != fields_of(kind):
            raise MisfitError(f"a {name} of another version")
        values = {field: self.decode(item) for field, item in content.items()}
        if attrs.has(kind):
            return kind(**values)
        made = kind.__new__(kind)
        vars(made).update(values)
        return made


@functools.cache
def fields_of(kind: type[Any]) -> frozenset[str]:
    """Give the names of a class's fields."""
    if attrs.has(kind):
        return frozenset(field.name for field in attrs.fields(kind))
    constructors = [vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base)]
    return frozenset(
        step.argval
        for constructor in constructors
        for step in dis.get_instructions(constructor)
        if step.opname == "STORE_ATTR"
    )


def to_bytes(encoded: Any) -> bytes:
    """Give the JSON of what was encoded."""
    return json.dumps(encoded, separators=(",", ":")).encode()


def from_bytes(text: bytes) -> Any:
    """Read JSON. Raises MisfitError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MisfitError("no JSON") from error
