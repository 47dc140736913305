"""The attributes in a row: the cells of a table, or the fields of a JSON object."""

from collections.abc import Iterator
from typing import Any, Final, Protocol

from .attribute_mapping import HOW_NAMED, Assignment, Pair, refuse_both
from .attributes import CUSTOM, META, Target, target_of, typed
from .ids import Ids
from .json_objects import JsonIds, parsed
from .rows import ADDED, InputError, Reading, Row

# JSON values have types, so their fields need no ":number".
_IN_JSON: Final = "as in email, custom.team, or installation_meta.device_id"


class Fields(Protocol):
    """The attributes in the rows of an input. `named`: their names, for messages."""

    named: str

    def of(self, row: Row) -> list[Pair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        ...


class Cells:
    """The attributes in the columns of a table, by column name."""

    def __init__(self, ids: Ids, assignment: Assignment, fixed: list[Pair], *, may_be_empty: bool) -> None:
        reading = ids.reading()
        self._assignment = assignment
        self._columns = _columns(reading, assignment, ids.name) if reading.has_header else []
        targets = [target for _, target in self._columns]
        self.named = ", ".join(target.label for target in targets)
        missing = set(assignment.names or ()).difference(*(_names_of(target.label) for target in targets))
        if missing:
            raise InputError(f"{ids.name} has no column {min(missing)}: see --attributes")
        refuse_both(fixed, targets)
        if not targets and not fixed and not may_be_empty:
            raise InputError(
                f"{ids.name} has no column with an attribute: name columns {HOW_NAMED}, or use --set KEY=VALUE"
            )

    def of(self, row: Row) -> list[Pair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        record, assignment = row.record, self._assignment
        return [
            (target, assignment.read(target, record[at]))
            for at, target in self._columns
            if record[at] or assignment.reads_empty
        ]


def _columns(reading: Reading, assignment: Assignment, file: str) -> list[tuple[int, Target]]:
    """Find the attribute columns. Raises InputError for other columns unless --attributes selects columns."""
    columns: dict[tuple[str | None, str], tuple[int, Target]] = {}
    for at, name in enumerate(reading.names):
        names = assignment.names
        wanted = name not in ADDED if names is None else not _names_of(name).isdisjoint(names)
        if at == reading.index or not wanted:
            continue
        target = target_of(name)
        if target is None:
            raise InputError(
                f"{file} has a column {name!r}, which isn't an attribute ({HOW_NAMED}): use --attributes to select the "
                "columns to send"
            )
        if reading.kinds:
            target = typed(target, reading.kinds[at])
        if columns.setdefault((target.group, target.name), (at, target)) != (at, target):
            raise InputError(f"{file} has several columns for {target.label}: give one of them another name")
    return list(columns.values())


def _names_of(label: str) -> set[str]:
    """Return the names that --attributes accepts for a column: with and without its type."""
    return {label, label.removesuffix(":number").removesuffix(":bool")}


def _refuse_for_cells(assignment: Assignment, file: str) -> None:
    """Refuse options that have no effect on JSON lines. Raises InputError."""
    written = {"--null": "null", "--empty": '""'}
    for option in assignment.for_cells():
        raise InputError(
            f"{file} is JSON lines, where {option} has no effect: write {written[option]} into the objects themselves, "
            f"and leave {option} out"
        )


class Objects:
    """The attributes in JSON lines: fields with their names, or structured as in requests to the API."""

    def __init__(self, ids: JsonIds, assignment: Assignment, fixed: list[Pair]) -> None:
        _refuse_for_cells(assignment, ids.name)
        self.named = "the fields of each row" if assignment.names is None else ", ".join(assignment.names)
        self._field = ids.reading().names[0]
        self._file = ids.name
        self._names = assignment.names
        self._fixed = fixed

    def of(self, row: Row) -> list[Pair]:
        """Return the attributes of a row. Raises ValueError if one can't be sent."""
        values = parsed(row.record[0])
        ignored = {self._field, *ADDED}
        pairs: list[Pair] = []
        for name, value in values.items():
            if name not in ignored:
                pairs += self._pairs(row, name, value)
        labels = [(target.group, target.name) for target, _ in pairs]
        if len(set(labels)) < len(labels):
            raise ValueError("an attribute is in the row twice")
        refuse_both(self._fixed, [target for target, _ in pairs])
        return pairs

    def _pairs(self, row: Row, name: str, value: Any) -> Iterator[Pair]:
        if name not in (CUSTOM, META):
            if self._takes(name):
                yield self._target(row, name), value
            return
        prefix = "custom." if name == CUSTOM else f"{META}."
        takes_all = self._takes(name)
        if takes_all or any(wanted.startswith(prefix) for wanted in self._names or ()):
            for key, part in _parts(name, value).items():
                if takes_all or self._takes(f"{prefix}{key}"):
                    yield self._target(row, f"{prefix}{key}"), part

    def _takes(self, name: str) -> bool:
        return self._names is None or name in self._names

    def _target(self, row: Row, label: str) -> Target:
        target = None if ":" in label else target_of(label)
        if target is None:
            raise InputError(
                f"{self._file}, line {row.line} has a field that isn't an attribute ({_IN_JSON}): use --attributes "
                "to select the fields to send"
            )
        return target


def _parts(name: str, value: Any) -> dict[str, Any]:
    """Read a group of attributes: an object, or a list of keys and values as in requests to the API."""
    if isinstance(value, dict):
        return value
    is_list = name == CUSTOM and isinstance(value, list)
    if not is_list or not all(isinstance(part, dict) and set(part) == {"key", "value"} for part in value):
        raise ValueError(f"{name} must be an object; leave it out to change none")
    parts = {str(part["key"]): part["value"] for part in value}
    if len(parts) < len(value):
        raise ValueError(f"a key is in {name} twice")
    return parts
