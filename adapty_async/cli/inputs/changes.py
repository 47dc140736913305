"""The rows that update and create send: an ID and attributes each, checked before the first request."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from ...bulk import Decided, Outcome
from ...bulk.api import By, content_of, name_of
from ...models import ProfileAttributes
from .attribute_mapping import Assignment, Pair
from .attribute_readers import Cells, Fields, Objects
from .attributes import build
from .duplicates import Candidate, Positions, Sieve, repeated
from .ids import Checked, Ids, refuse_empty, skipped
from .json_objects import JsonIds
from .rounding import Rounding
from .rows import BATCH, InputError, Reading, Row

Change: TypeAlias = tuple[str, ProfileAttributes]
_T = TypeVar("_T")

_DUPLICATE: Final = "an earlier line has the same ID and values"
_NOTHING: Final = ProfileAttributes()


class _Judged(NamedTuple):
    """A row with its outcome, its attributes, and how many of them are null or an empty text."""

    row: Row
    attributes: ProfileAttributes = _NOTHING
    cleared: int = 0
    emptied: int = 0


class Changes:
    """A `Listing` of the rows of `ids` with their attributes. Raises InputError if the attributes are ambiguous.

    `may_be_empty`: send rows without attributes too, because a profile can be created without any.
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
        """Describe which attributes are written, without values."""
        fixed = ", ".join(target.label for target, _ in self._fixed)
        parts = (self._fields.named, f"the same in every row: {fixed}" if fixed else "")
        return f"attributes written: {'; '.join(filter(None, parts)) or 'none'}"

    def reading(self) -> Reading:
        """Return how the input is read."""
        return self._ids.reading()

    def rows(self) -> Iterator[Row]:
        """Yield the rows from the start of the input. Raises InputError."""
        return (judged.row for judged in self._judged())

    def item(self, row: Row) -> Change:
        """Return the ID and the attributes of a row."""
        return row.id, self._written(row)[1]

    def decided(self) -> Iterator[Change | Decided[Change]]:
        """Yield the change of each row, marked if it must not be sent. Raises InputError."""
        return map(_marked, self._judged())

    def ids(self) -> Iterator[Change | Decided[Change]]:
        """Yield the change of each row as `decided` does, without marking duplicates. Raises InputError."""
        return map(_marked, self._read())

    def as_written(self) -> Iterator[Row]:
        """Yield the rows. Their only outcome is `invalid`, for unreadable rows. Raises InputError."""
        return self._ids.as_written()

    def plain(self) -> Iterator[str]:
        """Yield the ID of each row, or "" if it can't be read. Raises InputError."""
        return self._ids.plain()

    def check(self) -> Checked:
        """Read and check the whole input. Raises InputError if no row can be sent."""
        checked = self._count()
        refuse_empty(checked, self.name)
        return checked

    def line_of(self, position: int) -> int | None:
        """Return the first line of the row at a position (from 0), or None if there is no such row."""
        return self._ids.line_of(position)

    def refusal(self, row: Row) -> str:
        """Return why the library would refuse to send a row, or an empty string."""
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
        """Count the rows by their expected outcome, and find the duplicates.

        Raises InputError if an ID occurs twice with different attributes. Invalid rows count too, because one of them
        might be the row that was intended.
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
        """Read the rows at some positions again."""
        for start, rows in _batches(self._ids.as_written()) if positions.count else ():
            wanted = positions.within(start, start + len(rows))
            yield [(position, self._judge(rows[position - start])) for position in wanted]

    def _candidate(self, position: int, judged: _Judged) -> Candidate:
        row, attributes = judged.row, judged.attributes
        return position, self._name_of(row.id), _digest(attributes) if row.outcome is None else None

    def _refuse_other_values(self, earlier: int, position: int) -> None:
        unit = self.reading().unit
        raise InputError(
            f"{self.name}, {unit} {self.line_of(position)}: the ID is also on {unit} {self.line_of(earlier)}, "
            "with other values: leave out one of the two"
        )

    def _read(self) -> Iterator[_Judged]:
        """Yield each row with its attributes, or with the reason why it isn't sent."""
        return map(self._judge, self._ids.as_written())

    def _judge(self, row: Row) -> _Judged:
        try:
            pairs, attributes = self._written(row)
        except ValueError as error:
            return _Judged(row._replace(outcome=Outcome.INVALID, reason=str(error)))
        exclude_list = self.excluded.get(self._name_of(row.id)) if self.excluded else None
        if exclude_list is not None:  # keeps its attributes, which the ledger may contain
            return _Judged(row._replace(outcome=Outcome.EXCLUDED, reason=exclude_list), attributes)
        values = [value for _, value in pairs]
        return _Judged(row, attributes, values.count(None), values.count(""))

    def _written(self, row: Row) -> tuple[list[Pair], ProfileAttributes]:
        """Return the attributes of a row. Raises ValueError if the library would refuse them."""
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
    """Yield batches of rows, with the position of their first row."""
    rest, start = iter(rows), 0
    while batch := list(itertools.islice(rest, BATCH)):
        yield start, batch
        start += len(batch)


def _digest(attributes: ProfileAttributes) -> str:
    """Return a short digest of attributes, so that many can be compared in little memory."""
    return hashlib.blake2b(content_of(attributes).encode(), digest_size=16).hexdigest()
