"""Parse the names of profile attributes in columns and options, and their values."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args
from uuid import UUID

import attrs

from ...models import InstallationMeta, Platform, ProfileAttributes
from .input_types import UNREADABLE_TEXT, ColumnType

CUSTOM_GROUP: Final = "custom_attributes"
META_GROUP: Final = "installation_meta"

_CUSTOM_LABEL: Final = re.compile(r"custom\.([^:]+?)(:number|:bool)?")
_INTEGER: Final = re.compile(r"-?\d{1,15}", re.ASCII)
_TOO_MANY_DIGITS: Final = "has more digits than Adapty stores for a number: make it a text"
_DECIMAL: Final = re.compile(r"-?(0|[1-9]\d{0,308})(\.\d+)?", re.ASCII)
"""A JSON number without an exponent: spreadsheets shorten long numbers to 1.23E+15."""
_MAX_DECIMAL_PLACES: Final = 1100
"""More decimal places than any float has."""
_BOOLEANS: Final = {"true": True, "false": False}

Value: TypeAlias = Any
"""Any JSON value. The models know which of them the API accepts."""


@attrs.frozen
class AttributeTarget:
    """An attribute that a value is written to.

    `label`: its name in columns and options. `group`: the field that contains it, if any. `parse`: converts a text to a
    value, or raises ValueError.
    """

    label: str
    group: str | None
    name: str
    parse: Callable[[str], Value] = str


_DEVICE_ID: Final = AttributeTarget(f"{META_GROUP}.device_id", META_GROUP, "device_id")
_PLACEHOLDER_DEVICE_ID: Final = UUID(int=0)


@functools.lru_cache(maxsize=1024)  # JSON lines repeat the labels in every row
def parse_attribute_label(label: str) -> AttributeTarget | None:
    """Return the attribute with a label such as `email`, `custom.team` or `custom.age:number`, or None."""
    if label in _PROFILE_FIELDS:
        return AttributeTarget(label, None, label, _FIELD_PARSERS.get(label, str))
    group, _, name = label.partition(".")
    if group == META_GROUP and name in _META_FIELDS:
        return AttributeTarget(label, META_GROUP, name)
    custom = _CUSTOM_LABEL.fullmatch(label)
    if custom is None or not _is_custom_key(custom[1]):
        return None
    return AttributeTarget(label, CUSTOM_GROUP, custom[1], _SUFFIX_PARSERS[custom[2]])


def apply_column_type(target: AttributeTarget, column_type: ColumnType) -> AttributeTarget:
    """Return the attribute of a column that has a type."""
    if column_type is ColumnType.OTHER:
        return attrs.evolve(target, parse=_refuse_column_type)
    if target.group != CUSTOM_GROUP and column_type is not ColumnType.TEXT:
        return target
    return attrs.evolve(target, parse=_COLUMN_PARSERS.get((column_type, target.parse), target.parse))


def add_type_to_label(label: str, column_type: ColumnType) -> str:
    """Return the name for a column whose fields, written as texts, keep their type when read again."""
    target = parse_attribute_label(label)
    is_custom = target is not None and target.group == CUSTOM_GROUP and target.parse is str
    return f"{label}:{column_type}" if is_custom and column_type in (ColumnType.NUMBER, ColumnType.BOOL) else label


def build_attributes(values: Iterable[tuple[AttributeTarget, Value]]) -> ProfileAttributes:
    """Build attributes from values. Raises ValueError, which names the invalid attribute but not its value."""
    pairs = list(values)
    _refuse_rounded_numbers(pairs)
    try:
        return _construct_attributes(pairs)
    except (ValueError, TypeError) as error:
        message = str(error)
    for target, value in pairs:
        _check_value(target, value)
    raise ValueError(message)


class RoundedFloat(float):
    """A number that a float can't hold exactly: sending it would send a different number."""


def parse_exact_float(text: str) -> float:
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
    return Decimal(repr(value)) == number or (places < _MAX_DECIMAL_PLACES and Decimal(f"{value:.{places}f}") == number)


def _refuse_rounded_numbers(pairs: Iterable[tuple[AttributeTarget, Value]]) -> None:
    """Refuse numbers that the API would change, because it stores floats."""
    for target, value in pairs:
        if isinstance(value, RoundedFloat) or (type(value) is int and _is_rounded(value)):
            raise ValueError(f"{target.label} {_TOO_MANY_DIGITS}")


def _is_rounded(value: int) -> bool:
    try:
        return float(value) != value
    except OverflowError:  # the model refuses it with another message
        return False


def _check_value(target: AttributeTarget, value: Value) -> None:
    pairs = [(target, value)]
    if target.group == META_GROUP and target.name != _DEVICE_ID.name:
        pairs.append((_DEVICE_ID, _PLACEHOLDER_DEVICE_ID))
    try:
        _construct_attributes(pairs)
        return
    except (ValueError, TypeError):  # its text uses the names of the library, not those of the input
        pass
    raise ValueError(f"{target.label} must be {_describe_allowed_values(target, value)}")


def _describe_allowed_values(target: AttributeTarget, value: Value) -> str:
    """Describe the values that an attribute accepts."""
    if target.group == META_GROUP:
        return _EXPECTED_VALUES.get(target.name, "a text")
    if target.group is None:
        return _EXPECTED_VALUES.get(target.name, "a text that isn't empty; null clears it")
    if isinstance(value, str):
        return "a text of at most 50 characters of UTF-8"
    return "a finite number" if isinstance(value, int | float) else "a text, a number, true, false or null"


def _construct_attributes(pairs: list[tuple[AttributeTarget, Value]]) -> ProfileAttributes:
    fields: dict[str, Any] = {}
    custom: dict[str, Value] = {}
    meta: dict[str, Value] = {}
    groups = {None: fields, CUSTOM_GROUP: custom, META_GROUP: meta}
    for target, value in pairs:
        groups[target.group][target.name] = value
    if custom:
        fields[CUSTOM_GROUP] = custom
    if meta:
        fields[META_GROUP] = _build_installation(meta)
    return ProfileAttributes(**fields)


def _build_installation(parts: Mapping[str, Value]) -> InstallationMeta:
    if _DEVICE_ID.name not in parts:
        raise ValueError(f"{META_GROUP} needs {_DEVICE_ID.label}")
    return InstallationMeta(**parts)


def _is_custom_key(name: str) -> bool:
    try:
        ProfileAttributes(custom_attributes={name: None})
    except ValueError:
        return False
    return True


def _parse_integer(text: str) -> Value:
    return int(text) if _INTEGER.fullmatch(text) else text  # the model refuses the text with its own message


def _parse_number(text: str) -> Value:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a number as in 7 or -0.5; a value with a leading zero, such as 007, is a text")
    whole, _, fraction = text.partition(".")
    if not fraction.strip("0"):
        return int(whole)
    value = float(text)
    if not _is_exact(value, text):
        raise ValueError(_TOO_MANY_DIGITS)
    return value


def _parse_column_number(text: str) -> Value:
    # Any other text in a number column is a non-finite float. It is refused later, naming the attribute.
    return _parse_number(text) if _DECIMAL.fullmatch(text) else float(text)


def _parse_column_text(text: str) -> Value:
    if text == UNREADABLE_TEXT:
        raise ValueError("can't be read: it isn't UTF-8")
    return text


def _refuse_column_type(_text: str) -> Value:
    raise ValueError("must be a text, a number, true or false, or a date, and its column has another type")


def _parse_boolean(text: str) -> Value:
    if text.lower() not in _BOOLEANS:
        raise ValueError("must be true or false")
    return _BOOLEANS[text.lower()]


_PROFILE_FIELDS: Final = {field.name for field in attrs.fields(ProfileAttributes)} - {CUSTOM_GROUP, META_GROUP}
_META_FIELDS: Final = {field.name for field in attrs.fields(InstallationMeta)}
_UUID_HINT: Final = "a UUID of 36 characters"
_EXPECTED_VALUES: Final = {
    "gender": "f, m or o",
    "email": "of the form name@domain",
    "birthday": "a date as in 2000-12-31",
    "ip_v4_address": "an address as in 192.0.2.1",
    "store_account_token": _UUID_HINT,
    "att_status": "0, 1, 2 or 3",
    "analytics_disabled": "true or false",
    "device_id": _UUID_HINT,
    "platform": f"one of {', '.join(get_args(Platform))}",
}
_FIELD_PARSERS: Final[dict[str, Callable[[str], Value]]] = {
    "att_status": _parse_integer,
    "analytics_disabled": _parse_boolean,
}
_COLUMN_PARSERS: Final[dict[tuple[ColumnType, Callable[[str], Value]], Callable[[str], Value]]] = {
    (ColumnType.TEXT, str): _parse_column_text,
    (ColumnType.NUMBER, str): _parse_column_number,
    (ColumnType.NUMBER, _parse_number): _parse_column_number,
    (ColumnType.BOOL, str): _parse_boolean,
}
_SUFFIX_PARSERS: Final[dict[str | None, Callable[[str], Value]]] = {
    None: str,
    ":number": _parse_number,
    ":bool": _parse_boolean,
}
