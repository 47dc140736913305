"""Conversion between JSON and models. The only module that uses cattrs."""

import contextlib
import functools
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from ipaddress import IPv4Address
from types import GenericAlias, NoneType
from typing import Any, Final, Never, TypeVar, get_args, get_origin
from uuid import UUID

import attrs
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn

from ..errors import InvalidResponseError
from . import AttributeValue, FrozenMapping, OpenEnum, Profile, ProfileAttributes
from .json_reader_compiler import compile_object_reader

_T = TypeVar("_T")
_E = TypeVar("_E", bound=OpenEnum)
_Hook = Callable[[Any, Any], _T]
"""A function with which cattrs reads a value. It is called with the value and its type."""

_READ_ERRORS: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
_ATTRIBUTE_TYPES: Final = frozenset({str, int, bool, NoneType})


def dump_attributes(attributes: ProfileAttributes) -> dict[str, object]:
    """Return the JSON object of a request, with only the attributes that are set."""
    body: dict[str, object] = _write_converter.unstructure(attributes)
    return body


def load_profile(body: bytes) -> Profile:
    """Read the response of a profile call.

    Raises:
        InvalidResponseError: If it can't be read. The message contains at most names of fields.
    """
    try:
        return _read_profile(_parse_json(body)["data"], Profile)
    except _READ_ERRORS:
        pass
    # Raised outside the except block: the caught error holds the body, and `from None` would keep it as the context.
    raise InvalidResponseError(f"the response can't be read: {_find_error(body)}")


def check_empty_body(body: bytes) -> None:
    """Read the response of a call that has no response body.

    Assumed, not documented: a JSON object would also come from the API. An HTML page comes from a proxy or a portal,
    which may answer 200 to any request.

    Raises:
        InvalidResponseError: If the response isn't from the API.
    """
    if not body.strip():
        return
    with contextlib.suppress(*_READ_ERRORS):
        if isinstance(_parse_json(body), dict):
            return
    raise InvalidResponseError("the response can't be read: neither a JSON object nor empty")


def _find_error(body: bytes) -> str:
    try:
        _get_detailed_converter().structure(_parse_json(body), _ProfileResponse)
    except BaseValidationError as error:
        return transform_error(error, format_exception=_describe_error)[0]
    except _READ_ERRORS:
        pass
    return "not a JSON object"


def _describe_error(error: BaseException, _kind: object) -> str:
    return "missing" if isinstance(error, KeyError) else "wrong type or value"


@attrs.frozen
class _ProfileResponse:
    data: Profile


def _parse_json(body: bytes) -> Any:
    return _decoder.decode(body.decode())


def _reject_constant(_constant: str) -> Never:
    raise ValueError  # Python accepts NaN and Infinity, JSON doesn't


def _make_exact_reader(kind: type[_T]) -> _Hook[_T]:
    def read(value: Any, _kind: object) -> _T:
        if type(value) is not kind:
            raise TypeError
        return value

    return read


_read_str: Final = _make_exact_reader(str)


def _read_float(value: Any, _kind: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError
    number = float(value)
    if not math.isfinite(number):  # Python reads 1e999 as infinity
        raise ValueError
    return number


def _read_uuid(value: Any, _kind: object) -> UUID:
    if type(value) is not str:
        raise TypeError
    return UUID(value)


def _read_datetime(value: Any, _kind: object) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is UTC:
        return moment
    # Assumed, not documented: a time without an offset is in UTC.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_custom_attributes(value: Any, _kind: object) -> FrozenMapping[str, Any]:
    if type(value) is not list:
        raise TypeError
    return FrozenMapping(dict(map(_read_custom_attribute, value)))


def _read_custom_attribute(item: Any) -> tuple[str, AttributeValue]:
    if type(item) is not dict:
        raise TypeError
    value = item.get("value")
    if type(value) is float:
        value = _read_float(value, float)
    elif type(value) not in _ATTRIBUTE_TYPES:
        raise TypeError
    return _read_str(item.get("key"), str), value


def _make_enum_hook(kind: type[_E]) -> _Hook[_E]:
    known = {str(member): member for member in kind}

    def read(value: Any, _kind: object) -> _E:
        # Enum's own lookup takes ten times as long, so it is only used for unknown values.
        return known.get(value) or kind(value)

    return read


def _make_tuple_hook(kind: Any, converter: Converter) -> _Hook[tuple[Any, ...]]:
    (item_kind, _) = get_args(kind)
    read_item = converter.get_structure_hook(item_kind)

    def read(value: Any, _kind: object) -> tuple[Any, ...]:
        if type(value) is not list:
            raise TypeError
        return tuple([read_item(item, item_kind) for item in value])

    return read


def _make_detailed_tuple_hook(kind: Any, converter: Converter) -> _Hook[tuple[Any, ...]]:
    list_kind = GenericAlias(list, get_args(kind)[:1])
    read_items = converter.get_structure_hook(list_kind)

    def read(value: Any, _kind: object) -> tuple[Any, ...]:
        if type(value) is not list:
            raise TypeError
        return tuple(read_items(value, list_kind))

    return read


def _make_object_hook(kind: type[_T], converter: Converter) -> _Hook[_T]:
    return compile_object_reader(kind, converter.get_structure_hook)


def _make_detailed_object_hook(kind: type[_T], converter: Converter) -> _Hook[_T]:
    read_fields = make_dict_structure_fn(kind, converter)

    def read(value: Any, _kind: object) -> _T:
        if type(value) is not dict:
            raise TypeError
        # A field that is null counts as absent and gets its default.
        return read_fields({name: field for name, field in value.items() if field is not None}, kind)

    return read


# For objects and tuples. The explaining hooks of cattrs take twice as long, but report which field is wrong.
_HOOK_FACTORIES: Final = (_make_object_hook, _make_tuple_hook)
_DETAILED_HOOK_FACTORIES: Final = (_make_detailed_object_hook, _make_detailed_tuple_hook)

_SCALAR_HOOKS: Final[tuple[tuple[type, _Hook[Any]], ...]] = (
    (str, _read_str),
    (bool, _make_exact_reader(bool)),
    (int, _make_exact_reader(int)),
    (float, _read_float),
    (UUID, _read_uuid),
    (datetime, _read_datetime),
)


def _make_origin_predicate(origin: type) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _make_read_converter(*, is_detailed: bool) -> Converter:
    """Return a converter that reads exact types. cattrs' own hooks convert (None to 'None', "false" to True)."""
    converter = Converter(detailed_validation=is_detailed)
    for kind, hook in _SCALAR_HOOKS:
        converter.register_structure_hook(kind, hook)
    # One by one: cattrs would read a subclass of str as a str before calling a factory.
    for enum in OpenEnum.__subclasses__():
        converter.register_structure_hook(enum, _make_enum_hook(enum))
    object_hook, tuple_hook = _DETAILED_HOOK_FACTORIES if is_detailed else _HOOK_FACTORIES
    converter.register_structure_hook_factory(attrs.has, object_hook)
    converter.register_structure_hook_factory(_make_origin_predicate(tuple), tuple_hook)
    converter.register_structure_hook_func(_make_origin_predicate(FrozenMapping), _read_custom_attributes)
    return converter


@functools.cache
def _get_detailed_converter() -> Converter:
    """Return the converter that finds the fault in a response. It is slower, and most responses have no fault."""
    return _make_read_converter(is_detailed=True)


def _dump_custom_attributes(attributes: FrozenMapping[str, AttributeValue]) -> list[dict[str, object]]:
    return [{"key": key, "value": _dump_custom_value(value)} for key, value in attributes.items()]


def _dump_custom_value(value: AttributeValue) -> AttributeValue:
    # The schema has no boolean here, and the API would convert one to a number.
    return int(value) if isinstance(value, bool) else value


def _make_write_converter() -> Converter:
    writer = Converter(omit_if_default=True)
    writer.register_unstructure_hook(FrozenMapping, _dump_custom_attributes)
    writer.register_unstructure_hook(str, str.__str__)  # writes a member of an enum as plain text
    writer.register_unstructure_hook(date, date.isoformat)
    writer.register_unstructure_hook(UUID, str)
    writer.register_unstructure_hook(IPv4Address, str)
    return writer


_decoder: Final = json.JSONDecoder(parse_constant=_reject_constant)
_write_converter: Final = _make_write_converter()
_read_profile: Final[_Hook[Profile]] = _make_read_converter(is_detailed=False).get_structure_hook(Profile)
