"""The documented facts of the profile operations, and a checker of JSON values against them."""

import json
import re
from collections.abc import Callable
from datetime import date, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

_FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("profile_facts.json").read_text())

STATUSES: dict[str, list[int]] = _FACTS["statuses"]


def fields(schema: str) -> list[str]:
    """Return the names of the fields of a schema."""
    return list(_FACTS["schemas"][schema]["properties"])


def violations(value: Any, schema: str) -> list[str]:
    """Return where and how a JSON value departs from a schema."""
    return _violations(value, {"$ref": schema}, schema)


def _violations(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    if "$ref" in schema:
        return _violations(value, _FACTS["schemas"][schema["$ref"]], where)
    if "anyOf" in schema:
        return min((_violations(value, choice, where) for choice in schema["anyOf"]), key=len)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_TYPES[name](value) for name in types):
        return [f"{where}: not {' or '.join(types)}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: not in the enum"]
    if isinstance(value, str):
        return _of_string(value, schema, where)
    if isinstance(value, list):
        found = [f"{where}: too many"] if len(value) > schema.get("maxItems", len(value)) else []
        return sum((_violations(item, schema["items"], f"{where}[]") for item in value), found)
    if isinstance(value, dict):
        found = [f"{where}.{name}: missing" for name in schema.get("required", []) if name not in value]
        known = schema["properties"].keys() & value.keys()
        return sum((_violations(value[name], schema["properties"][name], f"{where}.{name}") for name in known), found)
    return []


def _of_string(value: str, schema: dict[str, Any], where: str) -> list[str]:
    found = []
    if "format" in schema and not _has_format(value, schema["format"]):
        found.append(f"{where}: not of the format {schema['format']}")
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        found.append(f"{where}: not of the pattern")
    if len(value) > schema.get("maxLength", len(value)):
        found.append(f"{where}: too long")
    return found


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _has_format(value: str, name: str) -> bool:
    try:
        return _FORMATS[name](value)
    except ValueError:
        return False


_FORMATS: dict[str, Callable[[str], bool]] = {
    "email": lambda value: value.count("@") == 1 and all(value.split("@")) and len(value.split()) == 1,
    "date": lambda value: date.fromisoformat(value).isoformat() == value,
    "date-time": lambda value: datetime.fromisoformat(value).tzinfo is not None,
    "ipv4": lambda value: str(IPv4Address(value)) == value,
    "uuid": lambda value: str(UUID(value)) == value.lower(),
}
