"""The attributes in a row: the cells of a table, or the fields of a JSON object."""

from collections.abc import Iterator
from typing import Any, Final, Protocol

from .attribute_options import ATTRIBUTE_NAME_HINT, AttributeMapping, AttributePair, refuse_duplicate_targets
from .attribute_parser import CUSTOM_GROUP, META_GROUP, AttributeTarget, apply_column_type, parse_attribute_label
from .id_input import IdInput
from .input_types import ADDED_COLUMNS, InputError, InputSchema, Row
from .json_lines_with_attributes import JsonLinesWithAttributes, parse_object

# JSON values have types, so their fields need no ":number".
_JSON_NAME_HINT: Final = "as in email, custom.team, or installation_meta.device_id"


class AttributeReader(Protocol):
    """The attributes in the rows of an input. `description`: their names, for messages."""

    description: str

    def read_attributes(self, row: Row) -> list[AttributePair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        ...


class CellAttributeReader:
    """The attributes in the columns of a table, by column name."""

    def __init__(
        self, id_input: IdInput, attribute_mapping: AttributeMapping, fixed: list[AttributePair], *, may_be_empty: bool
    ) -> None:
        schema = id_input.read_schema()
        self._attribute_mapping = attribute_mapping
        self._columns = _find_attribute_columns(schema, attribute_mapping, id_input.name) if schema.has_header else []
        targets = [target for _, target in self._columns]
        self.description = ", ".join(target.label for target in targets)
        missing = set(attribute_mapping.names or ()).difference(
            *(_list_accepted_names(target.label) for target in targets)
        )
        if missing:
            raise InputError(f"{id_input.name} has no column {min(missing)}: see --attributes")
        refuse_duplicate_targets(fixed, targets)
        if not targets and not fixed and not may_be_empty:
            raise InputError(
                f"{id_input.name} has no column with an attribute: name columns {ATTRIBUTE_NAME_HINT}, or use "
                "--set KEY=VALUE"
            )

    def read_attributes(self, row: Row) -> list[AttributePair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        record, mapping = row.fields, self._attribute_mapping
        return [
            (target, mapping.parse_value(target, record[at]))
            for at, target in self._columns
            if record[at] or mapping.has_empty_cell_value
        ]


def _find_attribute_columns(
    schema: InputSchema, attribute_mapping: AttributeMapping, file_name: str
) -> list[tuple[int, AttributeTarget]]:
    """Find the attribute columns. Raises InputError for other columns unless --attributes selects columns."""
    columns: dict[tuple[str | None, str], tuple[int, AttributeTarget]] = {}
    for at, name in enumerate(schema.column_names):
        names = attribute_mapping.names
        wanted = name not in ADDED_COLUMNS if names is None else not _list_accepted_names(name).isdisjoint(names)
        if at == schema.id_index or not wanted:
            continue
        target = parse_attribute_label(name)
        if target is None:
            raise InputError(
                f"{file_name} has a column {name!r}, which isn't an attribute ({ATTRIBUTE_NAME_HINT}): use "
                "--attributes to select the columns to send"
            )
        if schema.column_types:
            target = apply_column_type(target, schema.column_types[at])
        if columns.setdefault((target.group, target.name), (at, target)) != (at, target):
            raise InputError(f"{file_name} has several columns for {target.label}: give one of them another name")
    return list(columns.values())


def _list_accepted_names(label: str) -> set[str]:
    """Return the names that --attributes accepts for a column: with and without its type."""
    return {label, label.removesuffix(":number").removesuffix(":bool")}


def _refuse_cell_options(attribute_mapping: AttributeMapping, file_name: str) -> None:
    """Refuse options that have no effect on JSON lines. Raises InputError."""
    written = {"--null": "null", "--empty": '""'}
    for option in attribute_mapping.list_cell_options():
        raise InputError(
            f"{file_name} is JSON lines, where {option} has no effect: write {written[option]} into the "
            f"objects themselves, and leave {option} out"
        )


class JsonAttributeReader:
    """The attributes in JSON lines: fields with their names, or structured as in requests to the API."""

    def __init__(
        self, id_input: JsonLinesWithAttributes, attribute_mapping: AttributeMapping, fixed: list[AttributePair]
    ) -> None:
        _refuse_cell_options(attribute_mapping, id_input.name)
        self.description = (
            "the fields of each row" if attribute_mapping.names is None else ", ".join(attribute_mapping.names)
        )
        self._field = id_input.read_schema().column_names[0]
        self._file = id_input.name
        self._names = attribute_mapping.names
        self._fixed = fixed

    def read_attributes(self, row: Row) -> list[AttributePair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        values = parse_object(row.fields[0])
        ignored = {self._field, *ADDED_COLUMNS}
        pairs: list[AttributePair] = []
        for name, value in values.items():
            if name not in ignored:
                pairs += self._read_field(row, name, value)
        labels = [(target.group, target.name) for target, _ in pairs]
        if len(set(labels)) < len(labels):
            raise ValueError("an attribute is in the row twice")
        refuse_duplicate_targets(self._fixed, [target for target, _ in pairs])
        return pairs

    def _read_field(self, row: Row, name: str, value: Any) -> Iterator[AttributePair]:
        if name not in (CUSTOM_GROUP, META_GROUP):
            if self._is_selected(name):
                yield self._parse_label(row, name), value
            return
        prefix = "custom." if name == CUSTOM_GROUP else f"{META_GROUP}."
        takes_all = self._is_selected(name)
        if takes_all or any(wanted.startswith(prefix) for wanted in self._names or ()):
            for key, part in _parse_group(name, value).items():
                if takes_all or self._is_selected(f"{prefix}{key}"):
                    yield self._parse_label(row, f"{prefix}{key}"), part

    def _is_selected(self, name: str) -> bool:
        return self._names is None or name in self._names

    def _parse_label(self, row: Row, label: str) -> AttributeTarget:
        target = None if ":" in label else parse_attribute_label(label)
        if target is None:
            raise InputError(
                f"{self._file}, line {row.line} has a field that isn't an attribute ({_JSON_NAME_HINT}): use "
                "--attributes to select the fields to send"
            )
        return target


def _parse_group(name: str, value: Any) -> dict[str, Any]:
    """Read a group of attributes: an object, or a list of keys and values as in requests to the API."""
    if isinstance(value, dict):
        return value
    is_list = name == CUSTOM_GROUP and isinstance(value, list)
    if not is_list or not all(isinstance(part, dict) and set(part) == {"key", "value"} for part in value):
        raise ValueError(f"{name} must be an object; leave it out to change none")
    parts = {str(part["key"]): part["value"] for part in value}
    if len(parts) < len(value):
        raise ValueError(f"a key is in {name} twice")
    return parts
