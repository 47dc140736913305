"""The rows that update and create send: an ID and attributes each, checked before the first request."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from ...bulk import Outcome, SkippedItem
from ...bulk.operations import IdType, dump_canonical_json, make_id_normalizer
from ...models import ProfileAttributes
from .attribute_options import AttributeMapping, AttributePair
from .attribute_parser import build_attributes
from .duplicates import Candidate, DuplicateFinder, PositionSet, find_duplicates
from .id_input import IdInput, InputSummary, create_skipped_item, refuse_empty
from .input_types import BATCH_ROWS, InputError, InputSchema, Row
from .json_lines_with_attributes import JsonLinesWithAttributes
from .rounded_ids import RoundingDetector
from .row_attributes import AttributeReader, CellAttributeReader, JsonAttributeReader

Change: TypeAlias = tuple[str, ProfileAttributes]
_T = TypeVar("_T")

_DUPLICATE_REASON: Final = "an earlier line has the same ID and values"
_NO_ATTRIBUTES: Final = ProfileAttributes()


class _CheckedRow(NamedTuple):
    """A row with its outcome, its attributes, and how many of them are null or an empty text."""

    row: Row
    attributes: ProfileAttributes = _NO_ATTRIBUTES
    cleared_count: int = 0
    emptied_count: int = 0


class ChangeInput:
    """A `JobInput` of the rows of `iter_items` with their attributes.

    Raises InputError if the attributes are ambiguous.

    `may_be_empty`: send rows without attributes too, because a profile can be created without any.
    """

    def __init__(self, id_input: IdInput, attribute_mapping: AttributeMapping, *, may_be_empty: bool) -> None:
        self.by: IdType = id_input.by
        self.name, self.file, self.excluded_ids = id_input.name, id_input.file, id_input.excluded_ids
        self._id_input = id_input
        self._may_be_empty = may_be_empty
        self._name_of = make_id_normalizer(id_input.by)
        self._duplicates: PositionSet | None = None
        self._fixed = attribute_mapping.parse_fixed_pairs()
        self._attribute_reader: AttributeReader = (
            JsonAttributeReader(id_input, attribute_mapping, self._fixed)
            if isinstance(id_input, JsonLinesWithAttributes)
            else CellAttributeReader(id_input, attribute_mapping, self._fixed, may_be_empty=may_be_empty)
        )

    @property
    def description(self) -> str:
        """Describe which attributes are written, without values."""
        fixed = ", ".join(target.label for target, _ in self._fixed)
        parts = (self._attribute_reader.description, f"the same in every row: {fixed}" if fixed else "")
        return f"attributes written: {'; '.join(filter(None, parts)) or 'none'}"

    def read_schema(self) -> InputSchema:
        """Return how the input is read."""
        return self._id_input.read_schema()

    def iter_rows(self) -> Iterator[Row]:
        """Yield the rows from the start of the input. Raises InputError."""
        return (checked_row.row for checked_row in self._mark_duplicate_rows())

    def build_item(self, row: Row) -> Change:
        """Return the ID and the attributes of a row."""
        return row.id, self._read_attributes(row)[1]

    def iter_marked_items(self) -> Iterator[Change | SkippedItem[Change]]:
        """Yield the change of each row, marked if it must not be sent. Raises InputError."""
        return map(_build_marked_item, self._mark_duplicate_rows())

    def iter_items(self) -> Iterator[Change | SkippedItem[Change]]:
        """Yield the change of each row as `iter_marked_items` does, without marking duplicates. Raises InputError."""
        return map(_build_marked_item, self._iter_checked_rows())

    def iter_raw_rows(self) -> Iterator[Row]:
        """Yield the rows. Their only outcome is `invalid`, for unreadable rows. Raises InputError."""
        return self._id_input.iter_raw_rows()

    def iter_raw_ids(self) -> Iterator[str]:
        """Yield the ID of each row, or "" if it can't be read. Raises InputError."""
        return self._id_input.iter_raw_ids()

    def check(self) -> InputSummary:
        """Read and check the whole input. Raises InputError if no row can be sent."""
        input_summary = self._summarize()
        refuse_empty(input_summary, self.name)
        return input_summary

    def find_line(self, position: int) -> int | None:
        """Return the first line of the row at a position (from 0), or None if there is no such row."""
        return self._id_input.find_line(position)

    def explain_invalid(self, row: Row) -> str:
        """Return why the library would refuse to send a row, or an empty string."""
        try:
            self._read_attributes(row)
        except ValueError as error:
            return str(error)
        return ""

    def _mark_duplicate_rows(self) -> Iterator[_CheckedRow]:
        if self._duplicates is None:
            self._summarize()
        assert self._duplicates is not None
        for start, rows in _iter_batches(self._iter_checked_rows()):
            for position in self._duplicates.list_range(start, start + len(rows)):
                checked_row = rows[position - start]
                row = checked_row.row._replace(outcome=Outcome.DUPLICATE, reason=_DUPLICATE_REASON)
                rows[position - start] = checked_row._replace(row=row)
            yield from rows

    def _summarize(self) -> InputSummary:
        """Count the rows by their expected outcome, and find the duplicates.

        Raises InputError if an ID occurs twice with different attributes. Invalid rows count too, because one of them
        might be the row that was intended.
        """
        input_summary, rounding_detector = InputSummary(self.read_schema()), RoundingDetector()
        with DuplicateFinder() as duplicate_finder:
            for start, rows in _iter_batches(self._iter_checked_rows()):
                named: list[int] = []
                rounding_detector.add(checked_row.row.id for checked_row in rows)
                for position, checked_row in enumerate(rows, start):
                    input_summary.count_row(checked_row.row)
                    input_summary.cleared_count += checked_row.cleared_count
                    input_summary.emptied_count += checked_row.emptied_count
                    if checked_row.row.id:
                        named.append(position)
                duplicate_finder.add(named, [self._name_of(rows[position - start].row.id) for position in named])
            candidates = duplicate_finder.find_candidates()
        self._duplicates = self._find_duplicates(candidates)
        for _, checked_row in itertools.chain.from_iterable(self._iter_rows_at(self._duplicates)):
            input_summary.count_duplicate(checked_row.cleared_count, checked_row.emptied_count)
        input_summary.rounded_count = rounding_detector.suspect_count
        return input_summary

    def _find_duplicates(self, candidates: PositionSet) -> PositionSet:
        batches = (
            [self._build_duplicate_candidate(*pair) for pair in pairs] for pairs in self._iter_rows_at(candidates)
        )
        found = find_duplicates(candidates.count, batches)
        if found.conflict is not None:
            self._refuse_conflicting_values(*found.conflict)
        return found.positions

    def _iter_rows_at(self, positions: PositionSet) -> Iterator[list[tuple[int, _CheckedRow]]]:
        """Read the rows at some positions again."""
        for start, rows in _iter_batches(self._id_input.iter_raw_rows()) if positions.count else ():
            wanted = positions.list_range(start, start + len(rows))
            yield [(position, self._check_row(rows[position - start])) for position in wanted]

    def _build_duplicate_candidate(self, position: int, checked_row: _CheckedRow) -> Candidate:
        row, attributes = checked_row.row, checked_row.attributes
        return position, self._name_of(row.id), _hash_attributes(attributes) if row.outcome is None else None

    def _refuse_conflicting_values(self, earlier: int, position: int) -> None:
        unit = self.read_schema().unit
        raise InputError(
            f"{self.name}, {unit} {self.find_line(position)}: the ID is also on {unit} {self.find_line(earlier)}, "
            "with other values: leave out one of the two"
        )

    def _iter_checked_rows(self) -> Iterator[_CheckedRow]:
        """Yield each row with its attributes, or with the reason why it isn't sent."""
        return map(self._check_row, self._id_input.iter_raw_rows())

    def _check_row(self, row: Row) -> _CheckedRow:
        try:
            pairs, attributes = self._read_attributes(row)
        except ValueError as error:
            return _CheckedRow(row._replace(outcome=Outcome.INVALID, reason=str(error)))
        exclude_list = self.excluded_ids.get(self._name_of(row.id)) if self.excluded_ids else None
        if exclude_list is not None:  # keeps its attributes, which the ledger may contain
            return _CheckedRow(row._replace(outcome=Outcome.EXCLUDED, reason=exclude_list), attributes)
        values = [value for _, value in pairs]
        return _CheckedRow(row, attributes, values.count(None), values.count(""))

    def _read_attributes(self, row: Row) -> tuple[list[AttributePair], ProfileAttributes]:
        """Return the attributes of a row. Raises ValueError if the library would refuse them."""
        if reason := self._id_input.explain_invalid(row):
            raise ValueError(reason)
        pairs = [*self._attribute_reader.read_attributes(row), *self._fixed]
        if not pairs and not self._may_be_empty:
            raise ValueError("the row sets no attribute")
        return pairs, build_attributes(pairs)


def _build_marked_item(checked_row: _CheckedRow) -> Change | SkippedItem[Change]:
    row = checked_row.row
    change = (row.id, checked_row.attributes)
    return change if row.outcome is None else create_skipped_item(change, row.outcome, row.reason)


def _iter_batches(rows: Iterable[_T]) -> Iterator[tuple[int, list[_T]]]:
    """Yield batches of rows, with the position of their first row."""
    rest, start = iter(rows), 0
    while batch := list(itertools.islice(rest, BATCH_ROWS)):
        yield start, batch
        start += len(batch)


def _hash_attributes(attributes: ProfileAttributes) -> str:
    """Return a short digest of attributes, so that many can be compared in little memory."""
    return hashlib.blake2b(dump_canonical_json(attributes).encode(), digest_size=16).hexdigest()
