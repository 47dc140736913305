"""What the models share: UNSET, open enums, frozen mappings, the redacting base, rules for fields."""

import re
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, Literal, Never, Self, TypeVar

import attrs

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_K = TypeVar("_K")
_V = TypeVar("_V")

Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]


class Unset(Enum):
    """Type of `UNSET`: one member, so that type checkers narrow `value is UNSET`."""

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""A field of a request that is left out; None is sent as null."""


class OpenEnum(StrEnum):
    """Base of enums that the API extends: an unknown string becomes a member without a name."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # Made anew each time, never kept: what a server sends must not grow a table of this process.
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = ""
        member._value_ = value
        return member

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._value_!r})"


def _refuse_change(*_: object, **__: object) -> Never:
    raise TypeError("a FrozenMapping can't be changed: make a dict of it")


# A dict, so that attrs.asdict and json see its items: of another mapping json.dumps(..., default=str) writes the repr.
# types.MappingProxyType can't be pickled or hashed either.
class FrozenMapping(dict[_K, _V]):
    """A copy of a mapping that can't be changed: hashable, and equal to any mapping with the same items."""

    __slots__ = ()

    def __init__(self, items: Mapping[_K, _V]) -> None:
        super().__init__(items)

    __setitem__ = __delitem__ = __ior__ = _refuse_change
    update = setdefault = pop = popitem = clear = _refuse_change

    def __hash__(self) -> int:  # type: ignore[override] # it can't change
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type["FrozenMapping[_K, _V]"], tuple[dict[_K, _V]]]:
        return FrozenMapping, (dict(self),)

    def copy(self) -> "FrozenMapping[_K, _V]":
        """Return the mapping itself, which can't be changed."""
        return self

    def __repr__(self) -> str:
        return f"FrozenMapping(<{len(self)} items>)"


@attrs.frozen(repr=False)
class Model:
    """Base of every model: its repr names the fields that are set, and no value, for values are personal."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(set_fields(self))})"


def set_fields(model: Model) -> list[str]:
    """Name the fields of a model that are not `UNSET`."""
    names = (field.name for field in attrs.fields(type(model)))
    return [name for name in names if getattr(model, name) is not UNSET]


def rule(
    kinds: type | tuple[type, ...],
    must: str,
    holds: Callable[[Any], bool] = lambda value: True,
    but_not: type | tuple[type, ...] = (),
) -> Validator:
    """Make a validator: TypeError where a value is none of `kinds`, ValueError where it doesn't hold."""

    def validate(_model: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if not isinstance(value, kinds) or isinstance(value, but_not):
            raise TypeError(f"{field.name} must be {must}")
        if not holds(value):
            raise ValueError(f"{field.name} must be {must}")

    return validate


def unless_unset(check: Validator) -> Validator:
    """Let `UNSET` pass beside what `check` allows."""

    def validate(model: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if value is not UNSET:
            check(model, field, value)

    return validate


def nullable(check: Validator) -> Validator:
    """Let `UNSET` and None pass beside what `check` allows."""
    return unless_unset(attrs.validators.optional(check))


def is_uuid_text(text: str) -> bool:
    """Tell whether the text is a UUID in its canonical form of 36 characters, in either case."""
    return _UUID.fullmatch(text) is not None


def is_encodable(text: str) -> bool:
    """Tell whether UTF-8 can carry the text: a lone surrogate can't be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
