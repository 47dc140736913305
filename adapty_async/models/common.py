"""Parts shared by the models: UNSET, open enums, frozen mappings, a base class with a safe repr, validators."""

import re
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, Literal, Never, Self, TypeVar

import attrs

_UUID_PATTERN: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_K = TypeVar("_K")
_V = TypeVar("_V")

Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]


class Unset(Enum):
    """The type of `UNSET`. It has one member, so that type checkers narrow `value is UNSET`."""

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""The value of a request's field that isn't sent. None is sent as null."""


class OpenEnum(StrEnum):
    """The base of enums that the API may extend: an unknown string becomes a member without a name."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # Created on each call and not cached: values from a server must not use up memory of this process.
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = ""
        member._value_ = value
        return member

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._value_!r})"


def _reject_change(*_: object, **__: object) -> Never:
    raise TypeError("a FrozenMapping is immutable: copy it to a dict")


# A dict, so that attrs.asdict and json handle its items: for another mapping, json.dumps(..., default=str) writes the
# repr. types.MappingProxyType can't be pickled or hashed.
class FrozenMapping(dict[_K, _V]):
    """An immutable, hashable copy of a mapping. It equals any mapping with the same items."""

    __slots__ = ()

    def __init__(self, items: Mapping[_K, _V]) -> None:
        super().__init__(items)

    __setitem__ = __delitem__ = __ior__ = _reject_change
    update = setdefault = pop = popitem = clear = _reject_change

    def __hash__(self) -> int:  # type: ignore[override] # hashable because it is immutable
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type["FrozenMapping[_K, _V]"], tuple[dict[_K, _V]]]:
        return FrozenMapping, (dict(self),)

    def copy(self) -> "FrozenMapping[_K, _V]":
        """Return the mapping itself, which is immutable."""
        return self

    def __repr__(self) -> str:
        return f"FrozenMapping(<{len(self)} items>)"


@attrs.frozen(repr=False)
class Model:
    """The base of all models. The repr shows which fields are set, but no values, because these are personal data."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(list_set_fields(self))})"


def list_set_fields(model: Model) -> list[str]:
    """Return the names of the fields that are not `UNSET`."""
    names = (field.name for field in attrs.fields(type(model)))
    return [name for name in names if getattr(model, name) is not UNSET]


def make_validator(
    types: type | tuple[type, ...],
    requirement: str,
    predicate: Callable[[Any], bool] = lambda value: True,
    excluded_types: type | tuple[type, ...] = (),
) -> Validator:
    """Return a validator.

    It raises TypeError if a value is none of `types`, ValueError if `predicate` returns False.
    """

    def validate(_model: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if not isinstance(value, types) or isinstance(value, excluded_types):
            raise TypeError(f"{field.name} must be {requirement}")
        if not predicate(value):
            raise ValueError(f"{field.name} must be {requirement}")

    return validate


def allow_unset(validator: Validator) -> Validator:
    """Return a validator that accepts `UNSET` and the values that `validator` accepts."""

    def validate(model: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if value is not UNSET:
            validator(model, field, value)

    return validate


def allow_none(validator: Validator) -> Validator:
    """Return a validator that accepts `UNSET`, None and the values that `validator` accepts."""
    return allow_unset(attrs.validators.optional(validator))


def is_uuid_text(text: str) -> bool:
    """Return True if the text is a UUID in its canonical form of 36 characters, in upper or lower case."""
    return _UUID_PATTERN.fullmatch(text) is not None


def is_encodable(text: str) -> bool:
    """Return True if the text can be encoded as UTF-8. A lone surrogate can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
