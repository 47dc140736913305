"""The IDs of an input, with an outcome for those that aren't sent."""

import contextlib
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import attrs

from ...bulk import Outcome, SkippedItem
from ...bulk.operations import IdType, make_id_normalizer
from .damaged_ids import find_damage, may_contain_header
from .duplicates import Candidate, DuplicateFinder, PositionSet, find_duplicates
from .format_detection import create_reader, infer_format
from .id_validation import explain_invalid_id, find_invalid_ids
from .input_source import STDIN_LABEL, STDIN_PATH, copy_to_temp_file, open_source
from .input_types import (
    NO_EXCLUDED_IDS,
    Batch,
    ExcludedIds,
    Format,
    IdColumn,
    InputError,
    InputSchema,
    NoIdsError,
    Reader,
    Row,
)
from .rounded_ids import RoundingDetector

_T = TypeVar("_T")

_DUPLICATE_REASON: Final = "an earlier line has the same ID"
_MAX_SHOWN_ROWS: Final = 10


@attrs.define
class InputSummary:
    """The number of rows of each kind in a file, and the first invalid rows.

    `invalid_count` doesn't include `excluded_count`.

    `rounded_count`: rows with an ID that a spreadsheet may have rounded. `cleared_count`, `emptied_count`: attributes
    set to null or to an empty text.
    """

    schema: InputSchema
    row_count: int = 0
    profile_count: int = 0
    duplicate_count: int = 0
    invalid_count: int = 0
    excluded_count: int = 0
    rounded_count: int = 0
    cleared_count: int = 0
    emptied_count: int = 0
    first_invalid_rows: list[Row] = attrs.Factory(list)

    def count_row(self, row: Row) -> None:
        """Count a row before the duplicates are known."""
        self.row_count += 1
        if row.outcome is None:
            self.profile_count += 1
        elif row.outcome is Outcome.EXCLUDED:
            self.excluded_count += 1
        else:
            self.invalid_count += 1
            if len(self.first_invalid_rows) < _MAX_SHOWN_ROWS:
                self.first_invalid_rows.append(row)

    def count_duplicate(self, cleared_count: int, emptied_count: int) -> None:
        """Correct the counts for a duplicate, including the attributes that it would have cleared or emptied."""
        self.duplicate_count += 1
        self.profile_count -= 1
        self.cleared_count -= cleared_count
        self.emptied_count -= emptied_count


@attrs.frozen
class _CheckedBatch:
    """A batch, the position of its first row, and the outcomes and reasons of unsent rows by index."""

    start: int
    batch: Batch
    outcomes: dict[int, tuple[Outcome, str]]

    @property
    def stop(self) -> int:
        """The position after its last row."""
        return self.start + len(self.batch.ids)

    def list_indexes_to_send(self) -> list[int]:
        """Return the indexes of the rows to send, duplicates included."""
        return [index for index in range(len(self.batch.ids)) if index not in self.outcomes]


class IdInput:
    """The IDs in an open file, which can be read repeatedly.

    `skip_damaged`: treat rows with a damaged ID as invalid instead of refusing the file. `allow_invisible`: allow
    invisible characters in IDs. `excluded_ids`: the names (see `make_id_normalizer`) of IDs that must not be sent.
    `is_exclude_list`: the IDs are those of an exclude list. `format`: the value of --format. `implied_format`: the
    format that the file name implies.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        by: IdType,
        column: str | None = None,
        skip_damaged: bool = False,
        allow_invisible: bool = False,
        excluded_ids: ExcludedIds = NO_EXCLUDED_IDS,
        is_exclude_list: bool = False,
        format: Format | None = None,  # noqa: A002 - its name everywhere
        implied_format: Format | None = None,
    ) -> None:
        self.by: IdType = by
        self.name = name
        self.file = file
        self.excluded_ids = excluded_ids
        self._id_column = IdColumn(by, column, is_exclude_list)
        self._skip_damaged = skip_damaged
        self._allow_invisible = allow_invisible
        self._requested_format = format
        self._implied_format = implied_format
        self._name_of = make_id_normalizer(by)
        self._stamp = self._read_file_stamp()
        self._duplicates: PositionSet | None = None

    def read_schema(self) -> InputSchema:
        """Return how the file is read. Raises InputError."""
        return self._reader.read_schema()

    def iter_rows(self) -> Iterator[Row]:
        """Yield the rows with their outcomes. Raises InputError if the IDs are ambiguous."""
        if self._duplicates is None:
            self._summarize()
        for checked_batch in self._iter_checked_batches(with_fields=True):
            outcomes = self._find_outcomes(checked_batch)
            batch = checked_batch.batch
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                outcome, reason = outcomes.get(index, (None, ""))
                yield Row(line, id_, outcome, reason, batch.get_fields(index))

    def iter_marked_items(self) -> Iterator[str | SkippedItem[str]]:
        """Yield the ID of each row, marked if it must not be sent. Raises InputError."""
        if self._duplicates is None:
            self._summarize()
        for checked_batch in self._iter_checked_batches():
            outcomes = self._find_outcomes(checked_batch)
            if not outcomes:
                yield from checked_batch.batch.ids
                continue
            for index, id_ in enumerate(checked_batch.batch.ids):
                yield create_skipped_item(id_, *outcomes[index]) if index in outcomes else id_

    def iter_items(self) -> Iterator[str | SkippedItem[str]]:
        """Yield the ID of each row. Of the rows not to be sent, only excluded ones are marked. Raises InputError."""
        for batch in self._iter_batches():
            excluded = self._find_excluded_rows(batch)
            if not excluded:
                yield from batch.ids
                continue
            for index, id_ in enumerate(batch.ids):
                yield create_skipped_item(id_, Outcome.EXCLUDED, excluded[index]) if index in excluded else id_

    def iter_raw_rows(self) -> Iterator[Row]:
        """Yield the rows. Their only outcome is `invalid`, for unreadable rows. Raises InputError."""
        for batch in self._iter_batches(with_fields=True):
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                reason = batch.invalid_reasons.get(index, "")
                yield Row(line, id_, Outcome.INVALID if reason else None, reason, batch.get_fields(index))

    def iter_raw_ids(self) -> Iterator[str]:
        """Yield the ID of each row, or "" if it can't be read. Raises InputError."""
        for batch in self._iter_batches():
            yield from batch.ids

    def check(self) -> InputSummary:
        """Read and check the whole file. Raises InputError if no row can be sent."""
        input_summary = self._summarize()
        refuse_empty(input_summary, self.name)
        return input_summary

    def find_line(self, position: int) -> int | None:
        """Return the first line of the row at a position (from 0), or None if there is no such row."""
        for batch in self._iter_batches():
            if position < len(batch.lines):
                return batch.lines[position]
            position -= len(batch.lines)
        return None

    def explain_invalid(self, row: Row) -> str:
        """Return why the library would refuse to send the ID of a row, or an empty string."""
        return explain_invalid_id(row.id, self.by) if row.outcome is None else row.reason

    @functools.cached_property
    def _reader(self) -> Reader:
        return create_reader(
            self.file,
            self.name,
            self._id_column,
            requested_format=self._requested_format,
            implied_format=self._implied_format,
        )

    def _summarize(self) -> InputSummary:
        """Count the rows by their expected outcome, and find the duplicates."""
        input_summary, rounding_detector = InputSummary(self.read_schema()), RoundingDetector()
        with DuplicateFinder() as duplicate_finder:
            for checked_batch in self._iter_checked_batches():
                input_summary.row_count = checked_batch.stop
                rounding_detector.add(checked_batch.batch.ids)
                _count_unsent_rows(input_summary, checked_batch)
                positions, names = self._list_duplicate_candidates(checked_batch)
                input_summary.profile_count += len(positions)
                duplicate_finder.add(positions, names)
            candidates = duplicate_finder.find_candidates()
        self._duplicates = find_duplicates(candidates.count, self._iter_candidates(candidates)).positions
        input_summary.duplicate_count = self._duplicates.count
        input_summary.profile_count -= input_summary.duplicate_count
        input_summary.rounded_count = rounding_detector.suspect_count
        return input_summary

    def _list_duplicate_candidates(self, checked_batch: _CheckedBatch) -> tuple[list[int] | range, list[str]]:
        """Return the positions and names of the IDs to send, duplicates included."""
        names = list(map(self._name_of, checked_batch.batch.ids))
        if not checked_batch.outcomes:
            return range(checked_batch.start, checked_batch.stop), names
        sent = checked_batch.list_indexes_to_send()
        return [checked_batch.start + index for index in sent], [names[index] for index in sent]

    def _iter_candidates(self, candidates: PositionSet) -> Iterator[list[Candidate]]:
        """Read the IDs of candidates again."""
        start = 0
        for batch in self._iter_batches() if candidates.count else ():
            positions = candidates.list_range(start, start + len(batch.ids))
            yield [(position, self._name_of(batch.ids[position - start]), "") for position in positions]
            start += len(batch.ids)

    def _find_outcomes(self, checked_batch: _CheckedBatch) -> dict[int, tuple[Outcome, str]]:
        """Return the outcomes and reasons of unsent rows, by index in the batch."""
        outcomes = dict(checked_batch.outcomes)
        if self._duplicates is not None:
            for position in self._duplicates.list_range(checked_batch.start, checked_batch.stop):
                outcomes[position - checked_batch.start] = (Outcome.DUPLICATE, _DUPLICATE_REASON)
        return outcomes

    def _iter_checked_batches(self, *, with_fields: bool = False) -> Iterator[_CheckedBatch]:
        """Yield the rows with the outcomes of invalid and excluded ones, but not of duplicates."""
        start = 0
        for batch in self._iter_batches(with_fields=with_fields):
            invalid = {**find_invalid_ids(batch.ids, self.by), **batch.invalid_reasons}
            excluded = {index: (Outcome.EXCLUDED, name) for index, name in self._find_excluded_rows(batch).items()}
            outcomes = excluded | {index: (Outcome.INVALID, reason) for index, reason in invalid.items()}
            checked_batch = _CheckedBatch(start, batch, outcomes)
            yield checked_batch
            start = checked_batch.stop

    def _find_excluded_rows(self, batch: Batch) -> dict[int, str]:
        """Return the names of the exclude lists of rows, by index in the batch."""
        if not self.excluded_ids:
            return {}
        names = list(map(self._name_of, batch.ids))
        if self.excluded_ids.keys().isdisjoint(names):
            return {}
        return {index: self.excluded_ids[name] for index, name in enumerate(names) if name in self.excluded_ids}

    def _iter_batches(self, *, with_fields: bool = False) -> Iterator[Batch]:
        """Yield the rows unchanged. Refuse damaged IDs, or mark them as invalid."""
        headers: frozenset[str] | None = None
        columns: frozenset[str] = frozenset()
        for batch in self._reader.iter_batches(with_fields=with_fields):
            self._refuse_changed_file()
            if headers is None:
                headers = self._list_headers()
                columns = frozenset(map(str.casefold, self.read_schema().column_names))
            self._refuse_reordered_header(batch, columns)
            damage = find_damage(batch.ids, headers, allow_invisible=self._allow_invisible)
            if damage and not self._skip_damaged:
                first = min(damage)
                raise InputError(
                    f"{self.name}, {self.read_schema().unit} {batch.lines[first]}: {damage[first].reason}: "
                    f"{damage[first].advice}; or skip such rows with --skip-damaged"
                )
            reasons = {index: reason for index, (reason, _) in damage.items()}
            yield attrs.evolve(batch, invalid_reasons={**batch.invalid_reasons, **reasons}) if damage else batch
        self._refuse_changed_file()

    def _list_headers(self) -> frozenset[str]:
        """Return the possible headers of the ID column, case-folded."""
        schema = self.read_schema()
        own = {schema.column_names[schema.id_index].casefold(), self.by}
        return frozenset(own | {"id"} if schema.is_single_column else own)

    def _refuse_reordered_header(self, batch: Batch, columns: frozenset[str]) -> None:
        """Refuse a header in another order of columns, which are case-folded.

        In the rows after it the IDs are in another column.
        """
        if not may_contain_header(batch.ids, columns):
            return
        schema = self.read_schema()
        own = schema.column_names[schema.id_index].casefold()
        for index, id_ in enumerate(map(str.casefold, batch.ids)):
            if id_ != own and id_ in columns and own in map(str.casefold, batch.get_fields(index)):
                raise InputError(
                    f"{self.name}, {schema.unit} {batch.lines[index]}: the header is repeated with its columns "
                    "in another order, as if files had been joined: export the IDs again"
                )

    def _read_file_stamp(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def _refuse_changed_file(self) -> None:
        if self._read_file_stamp() != self._stamp:
            raise InputError(f"{self.name} has changed while it was read: run the command again")


@contextlib.contextmanager
def open_id_input(
    path: Path,
    *,
    by: IdType,
    column: str | None = None,
    skip_damaged: bool = False,
    allow_invisible: bool = False,
    excluded_ids: ExcludedIds = NO_EXCLUDED_IDS,
    is_exclude_list: bool = False,
    name: str | None = None,
    format: Format | None = None,  # noqa: A002 - its name everywhere
) -> Iterator[IdInput]:
    """Open a file of IDs; `-` is standard input.

    `name`: used in messages instead of the path. The rest as in `IdInput`.

    An input that can't be read twice is first copied to an unnamed temporary file. Only its owner may read the copy,
    and it is deleted when the process ends for any reason.
    """
    name = name or (STDIN_LABEL if path == STDIN_PATH else str(path))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(path))
        if path == STDIN_PATH or not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            source = stack.enter_context(copy_to_temp_file(source, name))
        yield IdInput(
            source,
            name,
            by=by,
            column=column,
            skip_damaged=skip_damaged,
            allow_invisible=allow_invisible,
            excluded_ids=excluded_ids,
            is_exclude_list=is_exclude_list,
            format=format,
            implied_format=infer_format(path),
        )


def create_skipped_item(item: _T, outcome: Outcome, reason: str) -> SkippedItem[_T]:
    """Return an item marked as not to be sent. `reason`: as in `Row`."""
    return SkippedItem(item, outcome, exclude_list=reason if outcome is Outcome.EXCLUDED else None)


def _count_unsent_rows(input_summary: InputSummary, checked_batch: _CheckedBatch) -> None:
    for index, (outcome, reason) in sorted(checked_batch.outcomes.items()):
        if outcome is Outcome.EXCLUDED:
            input_summary.excluded_count += 1
            continue
        input_summary.invalid_count += 1
        if len(input_summary.first_invalid_rows) < _MAX_SHOWN_ROWS:
            batch = checked_batch.batch
            input_summary.first_invalid_rows.append(Row(batch.lines[index], batch.ids[index], Outcome.INVALID, reason))


def refuse_empty(input_summary: InputSummary, name: str) -> None:
    """Raise InputError if no row of the input can be sent."""
    if not input_summary.row_count:
        raise NoIdsError(name)
    if not input_summary.profile_count:
        raise InputError(f"{name} contains no row that can be sent: {_explain_empty(input_summary)}")


def _explain_empty(input_summary: InputSummary) -> str:
    if not input_summary.first_invalid_rows:
        rows = input_summary.row_count
        return "its only row is excluded" if rows == 1 else f"all {rows:,} rows are excluded"
    first = input_summary.first_invalid_rows[0]
    return f"on {input_summary.schema.unit} {first.line}, {first.reason}"
