"""The names of profile attributes in columns and options, and the parsing of their values."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args
from uuid import UUID

import attrs

from ...models import InstallationMeta, Platform, ProfileAttributes
from .rows import NO_TEXT, Kind

CUSTOM: Final = "custom_attributes"
META: Final = "installation_meta"

_CUSTOM_LABEL: Final = re.compile(r"custom\.([^:]+?)(:number|:bool)?")
_INTEGER: Final = re.compile(r"-?\d{1,15}", re.ASCII)
_TOO_LONG: Final = "has more digits than Adapty stores for a number: make it a text"
_DECIMAL: Final = re.compile(r"-?(0|[1-9]\d{0,308})(\.\d+)?", re.ASCII)
"""A JSON number without an exponent: spreadsheets shorten long numbers to 1.23E+15."""
_MOST_PLACES: Final = 1100
"""More decimal places than any float has."""
_BOOLEANS: Final = {"true": True, "false": False}

Value: TypeAlias = Any
"""Any JSON value. The models know which of them the API accepts."""


@attrs.frozen
class Target:
    """An attribute that a value is written to.

    `label`: its name in columns and options. `group`: the field that contains it, if any. `read`: converts a text to a
    value, or raises ValueError.
    """

    label: str
    group: str | None
    name: str
    read: Callable[[str], Value] = str


_DEVICE: Final = Target(f"{META}.device_id", META, "device_id")
_SOME_DEVICE: Final = UUID(int=0)


@functools.lru_cache(maxsize=1024)  # JSON lines repeat the labels in every row
def target_of(label: str) -> Target | None:
    """Return the attribute with a label such as `email`, `custom.team` or `custom.age:number`, or None."""
    if label in _PLAIN:
        return Target(label, None, label, _READERS.get(label, str))
    group, _, name = label.partition(".")
    if group == META and name in _META:
        return Target(label, META, name)
    custom = _CUSTOM_LABEL.fullmatch(label)
    if custom is None or not _is_key(custom[1]):
        return None
    return Target(label, CUSTOM, custom[1], _KINDS[custom[2]])


def typed(target: Target, kind: Kind) -> Target:
    """Return the attribute of a column that has a type."""
    if kind is Kind.OTHER:
        return attrs.evolve(target, read=_unfit)
    if target.group != CUSTOM and kind is not Kind.TEXT:
        return target
    return attrs.evolve(target, read=_TYPED.get((kind, target.read), target.read))


def typed_label(label: str, kind: Kind) -> str:
    """Return the name for a column whose fields, written as texts, keep their type when read again."""
    target = target_of(label)
    is_custom = target is not None and target.group == CUSTOM and target.read is str
    return f"{label}:{kind}" if is_custom and kind in (Kind.NUMBER, Kind.BOOL) else label


def build(values: Iterable[tuple[Target, Value]]) -> ProfileAttributes:
    """Build attributes from values. Raises ValueError, which names the invalid attribute but not its value."""
    pairs = list(values)
    _refuse_rounded(pairs)
    try:
        return _built(pairs)
    except (ValueError, TypeError) as error:
        sentence = str(error)
    for target, value in pairs:
        _check_alone(target, value)
    raise ValueError(sentence)


class RoundedFloat(float):
    """A number that a float can't hold exactly: sending it would send a different number."""


def exact_float(text: str) -> float:
    """Parse a JSON number that isn't an integer. Return a RoundedFloat if a float can't hold every digit."""
    value = float(text)
    return value if not math.isfinite(value) or _is_exact(value, text) else RoundedFloat(value)


def _is_exact(value: float, text: str) -> bool:
    """Return True if a float has exactly the value of a text."""
    try:
        number = Decimal(text)
    except ArithmeticError:  # the exponent is out of range
        return False
    places = max(-int(number.as_tuple().exponent), 0)
    # For some powers of two, the shortest text isn't the closest one.
    return Decimal(repr(value)) == number or (places < _MOST_PLACES and Decimal(f"{value:.{places}f}") == number)


def _refuse_rounded(pairs: Iterable[tuple[Target, Value]]) -> None:
    """Refuse numbers that the API would change, because it stores floats."""
    for target, value in pairs:
        if isinstance(value, RoundedFloat) or (type(value) is int and _is_rounded(value)):
            raise ValueError(f"{target.label} {_TOO_LONG}")


def _is_rounded(value: int) -> bool:
    try:
        return float(value) != value
    except OverflowError:  # the model refuses it with another message
        return False


def _check_alone(target: Target, value: Value) -> None:
    pairs = [(target, value)]
    if target.group == META and target.name != _DEVICE.name:
        pairs.append((_DEVICE, _SOME_DEVICE))
    try:
        _built(pairs)
        return
    except (ValueError, TypeError):  # its text uses the names of the library, not those of the input
        pass
    raise ValueError(f"{target.label} must be {_wanted_of(target, value)}")


def _wanted_of(target: Target, value: Value) -> str:
    """Describe the values that an attribute accepts."""
    if target.group == META:
        return _WANTED.get(target.name, "a text")
    if target.group is None:
        return _WANTED.get(target.name, "a text that isn't empty; null clears it")
    if isinstance(value, str):
        return "a text of at most 50 characters of UTF-8"
    return "a finite number" if isinstance(value, int | float) else "a text, a number, true, false or null"


def _built(pairs: list[tuple[Target, Value]]) -> ProfileAttributes:
    fields: dict[str, Any] = {}
    custom: dict[str, Value] = {}
    meta: dict[str, Value] = {}
    groups = {None: fields, CUSTOM: custom, META: meta}
    for target, value in pairs:
        groups[target.group][target.name] = value
    if custom:
        fields[CUSTOM] = custom
    if meta:
        fields[META] = _installation(meta)
    return ProfileAttributes(**fields)


def _installation(parts: Mapping[str, Value]) -> InstallationMeta:
    if _DEVICE.name not in parts:
        raise ValueError(f"{META} needs {_DEVICE.label}")
    return InstallationMeta(**parts)


def _is_key(name: str) -> bool:
    try:
        ProfileAttributes(custom_attributes={name: None})
    except ValueError:
        return False
    return True


def _integer(text: str) -> Value:
    return int(text) if _INTEGER.fullmatch(text) else text  # the model refuses the text with its own message


def _number(text: str) -> Value:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a number as in 7 or -0.5; a value with a leading zero, such as 007, is a text")
    whole, _, fraction = text.partition(".")
    if not fraction.strip("0"):
        return int(whole)
    value = float(text)
    if not _is_exact(value, text):
        raise ValueError(_TOO_LONG)
    return value


def _typed_number(text: str) -> Value:
    # Any other text in a number column is a non-finite float. It is refused later, naming the attribute.
    return _number(text) if _DECIMAL.fullmatch(text) else float(text)


def _readable(text: str) -> Value:
    if text == NO_TEXT:
        raise ValueError("can't be read: it isn't UTF-8")
    return text


def _unfit(_text: str) -> Value:
    raise ValueError("must be a text, a number, true or false, or a date, and its column has another type")


def _boolean(text: str) -> Value:
    if text.lower() not in _BOOLEANS:
        raise ValueError("must be true or false")
    return _BOOLEANS[text.lower()]


_PLAIN: Final = {field.name for field in attrs.fields(ProfileAttributes)} - {CUSTOM, META}
_META: Final = {field.name for field in attrs.fields(InstallationMeta)}
_A_UUID: Final = "a UUID of 36 characters"
_WANTED: Final = {
    "gender": "f, m or o",
    "email": "of the form name@domain",
    "birthday": "a date as in 2000-12-31",
    "ip_v4_address": "an address as in 192.0.2.1",
    "store_account_token": _A_UUID,
    "att_status": "0, 1, 2 or 3",
    "analytics_disabled": "true or false",
    "device_id": _A_UUID,
    "platform": f"one of {', '.join(get_args(Platform))}",
}
_READERS: Final[dict[str, Callable[[str], Value]]] = {"att_status": _integer, "analytics_disabled": _boolean}
_TYPED: Final[dict[tuple[Kind, Callable[[str], Value]], Callable[[str], Value]]] = {
    (Kind.TEXT, str): _readable,
    (Kind.NUMBER, str): _typed_number,
    (Kind.NUMBER, _number): _typed_number,
    (Kind.BOOL, str): _boolean,
}
_KINDS: Final[dict[str | None, Callable[[str], Value]]] = {None: str, ":number": _number, ":bool": _boolean}
