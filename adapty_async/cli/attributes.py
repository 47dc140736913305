"""The attributes of a profile by the names that columns and options give them, and their values out of texts."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from ..models import InstallationMeta, ProfileAttributes

CUSTOM: Final = "custom_attributes"
META: Final = "installation_meta"

_CUSTOM_LABEL: Final = re.compile(r"custom\.([^:]+?)(:number|:bool)?")
_INTEGER: Final = re.compile(r"-?\d{1,15}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}

Value: TypeAlias = Any
"""What JSON takes; what the API takes of that the models know."""


@attrs.frozen
class Target:
    """Where a value goes. `label`: how it is called here. `group`: the field that it is a part of, where it is one.

    `read`: makes a value of a text, or raises ValueError.
    """

    label: str
    group: str | None
    name: str
    read: Callable[[str], Value] = str


_DEVICE: Final = Target(f"{META}.device_id", META, "device_id")
_SOME_DEVICE: Final = UUID(int=0)


def target_of(label: str) -> Target | None:
    """Give the attribute of that label, None where there is none: `email`, `custom.team`, `custom.age:number`, ..."""
    if label in _PLAIN:
        return Target(label, None, label, _READERS.get(label, str))
    group, _, name = label.partition(".")
    if group == META and name in _META:
        return Target(label, META, name)
    custom = _CUSTOM_LABEL.fullmatch(label)
    if custom is None or not _is_key(custom[1]):
        return None
    return Target(label, CUSTOM, custom[1], _KINDS[custom[2]])


def build(values: Iterable[tuple[Target, Value]]) -> ProfileAttributes:
    """Make the attributes of values; a ValueError names the one at fault, and no value."""
    pairs = list(values)
    try:
        return _built(pairs)
    except (ValueError, TypeError) as error:
        sentence = str(error)
    for target, value in pairs:
        _check_alone(target, value)
    raise ValueError(sentence)


def _check_alone(target: Target, value: Value) -> None:
    pairs = [(target, value)]
    if target.group == META and target.name != _DEVICE.name:
        pairs.append((_DEVICE, _SOME_DEVICE))
    try:
        _built(pairs)
    except (ValueError, TypeError) as error:
        sentence = str(error)
    else:
        return
    if target.group == CUSTOM:
        raise ValueError(f"{target.label}: {sentence.rpartition(': ')[2]}")
    raise ValueError(sentence if target.group is None else f"{META}.{sentence}")


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
    return int(text) if _INTEGER.fullmatch(text) else text  # which the model refuses, in its own words


def _number(text: str) -> Value:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a number as in 7 or -0.5")
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _boolean(text: str) -> Value:
    if text.lower() not in _BOOLEANS:
        raise ValueError("must be true or false")
    return _BOOLEANS[text.lower()]


_PLAIN: Final = {field.name for field in attrs.fields(ProfileAttributes)} - {CUSTOM, META}
_META: Final = {field.name for field in attrs.fields(InstallationMeta)}
_READERS: Final[dict[str, Callable[[str], Value]]] = {"att_status": _integer, "analytics_disabled": _boolean}
_KINDS: Final[dict[str | None, Callable[[str], Value]]] = {None: str, ":number": _number, ":bool": _boolean}
