"""What update and create send: each row an id and the attributes of its profile, checked before anything is sent."""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

from ..bulk import Decided, Outcome
from ..bulk.jobs import By, content_of, name_of
from ..models import ProfileAttributes
from .assignment import Assignment, Pair
from .attributes import build
from .fields import Cells, Fields, Objects
from .inputs import NOBODY, Checked, Excluded, Format, Ids, InputError, Reading, Row, open_ids, skipped
from .inputs.duplicates import Candidate, Positions, Sieve, repeated
from .inputs.ids import refuse_empty
from .inputs.reading import BATCH
from .inputs.rounding import Rounding
from .json_ids import JsonIds
from .listing import Listing
from .operation import UPDATE
from .order import Order

Change: TypeAlias = tuple[str, ProfileAttributes]
_T = TypeVar("_T")

_DUPLICATE: Final = "the same id and values stand on an earlier line"
_NOTHING: Final = ProfileAttributes()


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
        self._fields: Fields = (
            Objects(ids, assignment, self._fixed)
            if isinstance(ids, JsonIds)
            else Cells(ids, assignment, self._fixed, may_be_empty=may_be_empty)
        )

    @property
    def summary(self) -> str:
        """Say which attributes are written; no value."""
        fixed = ", ".join(target.label for target, _ in self._fixed)
        parts = (self._fields.named, f"the same in every row: {fixed}" if fixed else "")
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
        checked, rounding = Checked(self.reading()), Rounding()
        with Sieve() as sieve:
            for start, rows in _batches(self._read()):
                named: list[int] = []
                rounding.add(judged.row.id for judged in rows)
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
        checked.rounded = rounding.suspect
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
        """Give each row with what is to be written, or why it isn't."""
        return map(self._judge, self._ids.as_written())

    def _judge(self, row: Row) -> _Judged:
        try:
            pairs, attributes = self._written(row)
        except ValueError as error:
            return _Judged(row._replace(outcome=Outcome.INVALID, reason=str(error)))
        exclude_list = self.excluded.get(self._name_of(row.id)) if self.excluded else None
        if exclude_list is not None:  # with its attributes, as a ledger may know them
            return _Judged(row._replace(outcome=Outcome.EXCLUDED, reason=exclude_list), attributes)
        values = [value for _, value in pairs]
        return _Judged(row, attributes, values.count(None), values.count(""))

    def _written(self, row: Row) -> tuple[list[Pair], ProfileAttributes]:
        """Give what is to be written. Raises ValueError where the library would not send it."""
        if reason := self._ids.refusal(row):
            raise ValueError(reason)
        pairs = [*self._fields.of(row), *self._fixed]
        if not pairs and not self._may_be_empty:
            raise ValueError("the row sets no attribute")
        return pairs, build(pairs)


def _marked(judged: _Judged) -> Change | Decided[Change]:
    row = judged.row
    change = (row.id, judged.attributes)
    return change if row.outcome is None else skipped(change, row.outcome, row.reason)


def _batches(rows: Iterable[_T]) -> Iterator[tuple[int, list[_T]]]:
    """Give some rows at a time, with the position of the first."""
    rest, start = iter(rows), 0
    while batch := list(itertools.islice(rest, BATCH)):
        yield start, batch
        start += len(batch)


def _digest(attributes: ProfileAttributes) -> str:
    """Give what stands for attributes, short enough for very many of them to be compared."""
    return hashlib.blake2b(content_of(attributes).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def open_listing(
    order: Order,
    file: Path,
    *,
    excluded: Excluded = NOBODY,
    name: str | None = None,
    named: Format | None = None,
) -> Iterator[Listing]:
    """Open the input of an order. `named`: the format, where nobody asked for one. The rest as in `open_ids`."""
    with open_ids(
        file,
        by=order.by,
        column=order.column,
        accept_damaged=order.accept_damaged,
        allow_invisible=order.allows.invisible,
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
                allow_invisible=order.allows.invisible,
                excluded=excluded,
            )
        yield Changes(ids, order.assignment, may_be_empty=order.operation != UPDATE.name)
