"""What update and create send: each row an id and the attributes of its profile, checked before anything is sent."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ..bulk import Decided, Outcome
from ..bulk.jobs import By, content_of, name_of
from ..models import ProfileAttributes
from .assignment import HOW_NAMED, Assignment, Pair, refuse_both
from .attributes import CUSTOM, META, Target, build, target_of, typed
from .failures import ADDED
from .inputs import EXCLUDED, Checked, Excluded, Format, Ids, InputError, Reading, Row, open_ids
from .inputs.duplicates import Candidate, Positions, Sieve, repeated
from .inputs.ids import refuse_empty
from .inputs.reading import BATCH
from .json_ids import JsonIds, parsed
from .listing import Listing
from .operation import UPDATE
from .order import Order

Change: TypeAlias = tuple[str, ProfileAttributes]
_Values: TypeAlias = Callable[[Row], list[Pair]]
"""Gives what a row says of its profile. Raises ValueError where that can't be sent."""

_T = TypeVar("_T")

_DUPLICATE: Final = "the same id and values stand on an earlier line"
_NOTHING: Final = ProfileAttributes()
# JSON has types of its own, so its fields need no ":number".
_IN_JSON: Final = "as in email, custom.team, or installation_meta.device_id"


class _Judged(NamedTuple):
    """A row with its outcome, what is written, and how much of that is null or an empty text."""

    row: Row
    attributes: ProfileAttributes = _NOTHING
    cleared: int = 0
    emptied: int = 0


class Changes:
    """The rows of `ids` with what is to be written: a `Listing`. Raises InputError where it isn't clear what that is.

    `may_be_empty`: a row that sets nothing is sent nevertheless, as a profile can be created without attributes.
    """

    def __init__(self, ids: Ids, assignment: Assignment, *, may_be_empty: bool) -> None:
        self.by: By = ids.by
        self.name, self.file, self.excluded = ids.name, ids.file, ids.excluded
        self._ids = ids
        self._may_be_empty = may_be_empty
        self._name_of = name_of(ids.by)
        self._repeated: Positions | None = None
        self._fixed = assignment.fixed_pairs()
        self._values: _Values
        if isinstance(ids, JsonIds):
            _refuse_for_cells(assignment, ids.name)
            self._named = "the fields of each row" if assignment.names is None else ", ".join(assignment.names)
            self._values = _Objects(ids, assignment, self._fixed)
        else:
            cells = _Cells(ids, assignment, self._fixed, may_be_empty=may_be_empty)
            self._named = ", ".join(target.label for _, target in cells.columns)
            self._values = cells

    @property
    def summary(self) -> str:
        """Say which attributes are written; no value."""
        fixed = ", ".join(target.label for target, _ in self._fixed)
        parts = (self._named, f"the same in every row: {fixed}" if fixed else "")
        return f"what is written: {'; '.join(filter(None, parts)) or 'no attribute'}"

    def reading(self) -> Reading:
        """Tell how the input is read."""
        return self._ids.reading()

    def rows(self) -> Iterator[Row]:
        """Read the input from its start. Raises InputError."""
        return (judged.row for judged in self._judged())

    def item(self, row: Row) -> Change:
        """Give the id of a row, and the attributes."""
        return row.id, self._written(row)[1]

    def decided(self) -> Iterator[Change | Decided[Change]]:
        """Give the change of each row, marked where it isn't to be sent. Raises InputError."""
        return map(_marked, self._judged())

    def ids(self) -> Iterator[Change | Decided[Change]]:
        """Give the change of each row as `decided` does, but for the duplicates. Raises InputError."""
        return map(_marked, self._read())

    def as_written(self) -> Iterator[Row]:
        """Give the rows with no outcome but `invalid`, where they can't be read. Raises InputError."""
        return self._ids.as_written()

    def plain(self) -> Iterator[str]:
        """Give the id of each row, "" where it can't be read. Raises InputError."""
        return self._ids.plain()

    def check(self) -> Checked:
        """Read the whole input, and tell what of it can be sent. Raises InputError where nothing can."""
        checked = self._count()
        refuse_empty(checked, self.name)
        return checked

    def line_of(self, position: int) -> int | None:
        """Give the line where the row at a position, from 0, begins; None where there is none."""
        return self._ids.line_of(position)

    def refusal(self, row: Row) -> str:
        """Say why the library would not send a row; nothing where it would."""
        try:
            self._written(row)
        except ValueError as error:
            return str(error)
        return ""

    def _judged(self) -> Iterator[_Judged]:
        if self._repeated is None:
            self._count()
        assert self._repeated is not None
        for start, rows in _batches(self._read()):
            for position in self._repeated.within(start, start + len(rows)):
                judged = rows[position - start]
                row = judged.row._replace(outcome=Outcome.DUPLICATE, reason=_DUPLICATE)
                rows[position - start] = judged._replace(row=row)
            yield from rows

    def _count(self) -> Checked:
        """Count the rows by what will become of them, and find the duplicates.

        Raises InputError where an id stands there twice and what is to be written differs: a row that can't be sent
        says something, too, and might be the one that was meant.
        """
        checked = Checked(self.reading())
        with Sieve() as sieve:
            for start, rows in _batches(self._read()):
                named: list[int] = []
                for position, judged in enumerate(rows, start):
                    checked.enter(judged.row)
                    checked.cleared += judged.cleared
                    checked.emptied += judged.emptied
                    if judged.row.id:
                        named.append(position)
                sieve.add(named, [self._name_of(rows[position - start].row.id) for position in named])
            candidates = sieve.candidates()
        self._repeated = self._find_repeated(candidates)
        for _, judged in itertools.chain.from_iterable(self._those(self._repeated)):
            checked.enter_duplicate(judged.cleared, judged.emptied)
        return checked

    def _find_repeated(self, candidates: Positions) -> Positions:
        batches = ([self._candidate(*pair) for pair in pairs] for pairs in self._those(candidates))
        found = repeated(candidates.count, batches)
        if found.conflict is not None:
            self._refuse_other_values(*found.conflict)
        return found.positions

    def _those(self, positions: Positions) -> Iterator[list[tuple[int, _Judged]]]:
        """Read again the rows at some positions."""
        for start, rows in _batches(self._ids.as_written()) if positions.count else ():
            wanted = positions.within(start, start + len(rows))
            yield [(position, self._judge(rows[position - start])) for position in wanted]

    def _candidate(self, position: int, judged: _Judged) -> Candidate:
        row, attributes = judged.row, judged.attributes
        return position, self._name_of(row.id), _digest(attributes) if row.outcome is None else None

    def _refuse_other_values(self, earlier: int, position: int) -> None:
        unit = self.reading().unit
        raise InputError(
            f"{self.name}, {unit} {self.line_of(position)}: the id stands on {unit} {self.line_of(earlier)} as well, "
            "and what is to be written differs: leave one of the two out"
        )

    def _read(self) -> Iterator[_Judged]:
        """Give each row with what is to be written; `invalid` is what can't be sent, and what is excluded."""
        return map(self._judge, self._ids.as_written())

    def _judge(self, row: Row) -> _Judged:
        try:
            pairs, attributes = self._written(row)
        except ValueError as error:
            return _Judged(_invalid(row, str(error)))
        if self.excluded and self._name_of(row.id) in self.excluded:
            return _Judged(_invalid(row, EXCLUDED), attributes)  # which a ledger may know from before
        values = [value for _, value in pairs]
        return _Judged(row, attributes, values.count(None), values.count(""))

    def _written(self, row: Row) -> tuple[list[Pair], ProfileAttributes]:
        """Give what is to be written. Raises ValueError where the library would not send it."""
        if reason := self._ids.refusal(row):
            raise ValueError(reason)
        pairs = [*self._values(row), *self._fixed]
        if not pairs and not self._may_be_empty:
            raise ValueError("the row sets no attribute")
        return pairs, build(pairs)


def _invalid(row: Row, reason: str) -> Row:
    return row._replace(outcome=Outcome.INVALID, reason=reason)


def _marked(judged: _Judged) -> Change | Decided[Change]:
    row = judged.row
    change = (row.id, judged.attributes)
    return change if row.outcome is None else Decided(change, row.outcome)


def _batches(rows: Iterable[_T]) -> Iterator[tuple[int, list[_T]]]:
    """Give some rows at a time, with the position of the first."""
    rest, start = iter(rows), 0
    while batch := list(itertools.islice(rest, BATCH)):
        yield start, batch
        start += len(batch)


def _digest(attributes: ProfileAttributes) -> str:
    """Give what stands for attributes, short enough for very many of them to be compared."""
    return hashlib.blake2b(content_of(attributes).encode(), digest_size=16).hexdigest()


class _Cells:
    """The cells of a CSV file: an attribute is a column with its name."""

    def __init__(self, ids: Ids, assignment: Assignment, fixed: list[Pair], *, may_be_empty: bool) -> None:
        reading = ids.reading()
        self._assignment = assignment
        self.columns = _columns(reading, assignment, ids.name) if reading.has_header else []
        named = {name for _, target in self.columns for name in _names_of(target.label)}
        missing = set(assignment.names or ()) - named
        if missing:
            raise InputError(f"{ids.name} has no column {min(missing)}: see --attributes")
        refuse_both(fixed, [target for _, target in self.columns])
        if not self.columns and not fixed and not may_be_empty:
            raise InputError(
                f"{ids.name} has no column with an attribute: name columns {HOW_NAMED}, or use --set KEY=VALUE"
            )

    def __call__(self, row: Row) -> list[Pair]:
        record, assignment = row.record, self._assignment
        return [
            (target, assignment.read(target, record[at]))
            for at, target in self.columns
            if record[at] or assignment.reads_empty
        ]


def _columns(reading: Reading, assignment: Assignment, file: str) -> list[tuple[int, Target]]:
    """Find the columns with attributes. Raises InputError where a column is none, and nobody said which are."""
    ignored = set(ADDED) if set(ADDED) <= set(reading.names) else set[str]()
    columns: dict[tuple[str | None, str], tuple[int, Target]] = {}
    for at, name in enumerate(reading.names):
        names = assignment.names
        wanted = name not in ignored if names is None else not _names_of(name).isdisjoint(names)
        if at == reading.index or not wanted:
            continue
        target = target_of(name)
        if target is None:
            raise InputError(
                f"{file} has a column {name!r}, which is no attribute ({HOW_NAMED}): say by --attributes which columns "
                "are to be sent"
            )
        if reading.kinds:
            target = typed(target, reading.kinds[at])
        if columns.setdefault((target.group, target.name), (at, target)) != (at, target):
            raise InputError(f"{file} has several columns for {target.label}: give one of them another name")
    return list(columns.values())


def _names_of(label: str) -> set[str]:
    """Give the names by which --attributes may know a column: with its type, and without."""
    return {label, label.removesuffix(":number").removesuffix(":bool")}


def _refuse_for_cells(assignment: Assignment, file: str) -> None:
    """Refuse what would be asked for in vain of JSON lines. Raises InputError."""
    written = {"--null": "null", "--empty": '""'}
    for option in assignment.for_cells():
        raise InputError(
            f"{file} is JSON lines, where {option} says nothing: write {written[option]} into the objects themselves, "
            f"and leave {option} out"
        )


class _Objects:
    """The objects of JSON lines: an attribute is a field with its name, or as the API has it in its own requests."""

    def __init__(self, ids: JsonIds, assignment: Assignment, fixed: list[Pair]) -> None:
        self._field = ids.reading().names[0]
        self._file = ids.name
        self._names = assignment.names
        self._fixed = fixed

    def __call__(self, row: Row) -> list[Pair]:
        values = parsed(row.record[0])
        ignored = {self._field, *(ADDED if set(ADDED) <= set(values) else ())}
        pairs: list[Pair] = []
        for name, value in values.items():
            if name not in ignored:
                pairs += self._pairs(row, name, value)
        labels = [(target.group, target.name) for target, _ in pairs]
        if len(set(labels)) < len(labels):
            raise ValueError("an attribute stands in the row twice")
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
                f"{self._file}, line {row.line} has a field that is no attribute ({_IN_JSON}): say by --attributes "
                "which fields are to be sent"
            )
        return target


def _parts(name: str, value: Any) -> dict[str, Any]:
    """Read a group of attributes: an object, or a list of keys and values as in the API's own requests."""
    if isinstance(value, dict):
        return value
    is_list = name == CUSTOM and isinstance(value, list)
    if not is_list or not all(isinstance(part, dict) and set(part) == {"key", "value"} for part in value):
        raise ValueError(f"{name} must be an object; leave it out to change none")
    parts = {str(part["key"]): part["value"] for part in value}
    if len(parts) < len(value):
        raise ValueError(f"a key stands in {name} twice")
    return parts


@contextlib.contextmanager
def open_listing(
    order: Order,
    file: Path,
    *,
    excluded: Excluded = frozenset(),
    name: str | None = None,
    named: Format | None = None,
) -> Iterator[Listing]:
    """Open the input of an order. `named`: the format, where nobody asked for one. The rest as in `open_ids`."""
    with open_ids(
        file,
        by=order.by,
        column=order.column,
        accept_damaged=order.accept_damaged,
        excluded=excluded,
        format=order.format or named,
        name=name,
    ) as ids:
        if order.assignment is None:
            yield ids
            return
        if ids.reading().format is Format.JSONL:
            ids = JsonIds(
                ids.file,
                ids.name,
                by=order.by,
                column=order.column,
                accept_damaged=order.accept_damaged,
                excluded=excluded,
            )
        yield Changes(ids, order.assignment, may_be_empty=order.operation != UPDATE.name)
