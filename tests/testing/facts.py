"""The documented facts about the profile operations, and checks of JSON values and requests against them."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

_FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("profile_facts.json").read_text())

STATUSES: dict[str, list[int]] = _FACTS["statuses"]

# Headers that every HTTP client sends and that the facts don't mention.
_OF_HTTP = {"host", "user-agent", "accept", "accept-encoding", "content-length"}


def fields(schema: str) -> list[str]:
    """Return the names of the fields of a schema."""
    return list(_FACTS["schemas"][schema]["properties"])


def violations(value: Any, schema: str) -> list[str]:
    """Return the deviations of a JSON value from a schema, with their places."""
    return _violations(value, {"$ref": schema}, schema)


def request_violations(method: str, path: str, headers: Mapping[str, str], body: bytes) -> list[str]:
    """Return the deviations of a request from the operation of its method, including anything undocumented."""
    operation = _FACTS["requests"][method]
    names = [name.lower() for name in headers]
    found = [f"header {name}: repeated" for name in set(names) if names.count(name) > 1]
    allowed = {*_OF_HTTP, "authorization", *_FACTS["ids"], *operation["headers"]}
    if operation["body"]:
        allowed.add("content-type")
    found += [f"header {name}: not documented" for name in set(names) - allowed]
    if path != _FACTS["path"]:
        found.append("path: not documented")
    if not headers.get("Authorization", "").removeprefix(_FACTS["authorization"]).startswith("secret_"):
        found.append("header authorization: missing or not of the form")
    if not set(names) & set(_FACTS["ids"]):
        found.append("no id")
    if "adapty-platform" in headers:
        found += violations(headers["adapty-platform"], "Platform")
    return found + (_of_body(headers, body, operation["body"]) if operation["body"] else ["a body"] * bool(body))


def _of_body(headers: Mapping[str, str], body: bytes, schema: str) -> list[str]:
    found = [] if headers.get("Content-Type") == _FACTS["media_type"] else ["header content-type: not the media type"]
    try:
        value = json.loads(body)
    except ValueError:
        return [*found, "body: no JSON"]
    return found + violations(value, schema) + _undocumented(value, {"$ref": schema}, schema)


def _undocumented(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """Return the fields that aren't in a schema."""
    schema = _FACTS["schemas"][schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, list):
        return [each for item in value for each in _undocumented(item, schema.get("items", {}), f"{where}[]")]
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    found = [f"{where}.{name}: not documented" for name in value if name not in known]
    return sum((_undocumented(value[name], known[name], f"{where}.{name}") for name in known.keys() & value), found)


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
