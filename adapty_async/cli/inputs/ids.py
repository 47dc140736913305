"""The IDs of an input, with an outcome for those that aren't sent."""

import contextlib
import functools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import attrs

from ...bulk import Decided, Outcome
from ...bulk.api import By, name_of
from .damage import damage_in
from .duplicates import Candidate, Positions, Sieve, repeated
from .files import OF_STDIN, STDIN, copied, open_source
from .formats import format_of_name, reader_of
from .rounding import Rounding
from .rows import NOBODY, Batch, Excluded, Format, InputError, Reader, Reading, Row, Wanted
from .validity import refusal, refusals

_T = TypeVar("_T")

_DUPLICATE: Final = "an earlier line has the same ID"
_SHOWN: Final = 10


@attrs.define
class Checked:
    """The number of rows of each kind in a file, and the first invalid rows. `invalid` doesn't include `excluded`.

    `rounded`: rows with an ID that a spreadsheet may have rounded. `cleared`, `emptied`: attributes set to null or to
    an empty text.
    """

    reading: Reading
    rows: int = 0
    profiles: int = 0
    duplicates: int = 0
    invalid: int = 0
    excluded: int = 0
    rounded: int = 0
    cleared: int = 0
    emptied: int = 0
    first_invalid: list[Row] = attrs.Factory(list)

    def enter(self, row: Row) -> None:
        """Count a row before the duplicates are known."""
        self.rows += 1
        if row.outcome is None:
            self.profiles += 1
        elif row.outcome is Outcome.EXCLUDED:
            self.excluded += 1
        else:
            self.invalid += 1
            if len(self.first_invalid) < _SHOWN:
                self.first_invalid.append(row)

    def enter_duplicate(self, cleared: int, emptied: int) -> None:
        """Correct the counts for a duplicate, including the attributes that it would have cleared or emptied."""
        self.duplicates += 1
        self.profiles -= 1
        self.cleared -= cleared
        self.emptied -= emptied


@attrs.frozen
class _Judged:
    """A batch, the position of its first row, and the outcomes and reasons of unsent rows by index."""

    start: int
    batch: Batch
    outcomes: dict[int, tuple[Outcome, str]]

    @property
    def stop(self) -> int:
        """The position after its last row."""
        return self.start + len(self.batch.ids)

    def sent(self) -> list[int]:
        """Return the indexes of the rows to send, duplicates included."""
        return [index for index in range(len(self.batch.ids)) if index not in self.outcomes]


class Ids:
    """The IDs in an open file, which can be read repeatedly.

    `accept_damaged`: treat rows with a damaged ID as invalid instead of refusing the file. `allow_invisible`: allow
    invisible characters in IDs. `excluded`: the names (see `name_of`) of IDs that must not be sent. `format`: the value
    of --format. `named`: the format that the file name implies.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        by: By,
        column: str | None = None,
        accept_damaged: bool = False,
        allow_invisible: bool = False,
        excluded: Excluded = NOBODY,
        format: Format | None = None,  # noqa: A002 - its name everywhere
        named: Format | None = None,
    ) -> None:
        self.by: By = by
        self.name = name
        self.file = file
        self.excluded = excluded
        self._wanted = Wanted(by, column)
        self._accept_damaged = accept_damaged
        self._allow_invisible = allow_invisible
        self._asked = format
        self._named = named
        self._name_of = name_of(by)
        self._stamp = self._fingerprint()
        self._repeated: Positions | None = None

    def reading(self) -> Reading:
        """Return how the file is read. Raises InputError."""
        return self._reader.reading()

    def rows(self) -> Iterator[Row]:
        """Yield the rows with their outcomes. Raises InputError if the IDs are ambiguous."""
        if self._repeated is None:
            self._count()
        for judged in self._judged(whole=True):
            outcomes = self._outcomes(judged)
            batch = judged.batch
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                outcome, reason = outcomes.get(index, (None, ""))
                yield Row(line, id_, outcome, reason, batch.record(index))

    def decided(self) -> Iterator[str | Decided[str]]:
        """Yield the ID of each row, marked if it must not be sent. Raises InputError."""
        if self._repeated is None:
            self._count()
        for judged in self._judged():
            outcomes = self._outcomes(judged)
            if not outcomes:
                yield from judged.batch.ids
                continue
            for index, id_ in enumerate(judged.batch.ids):
                yield skipped(id_, *outcomes[index]) if index in outcomes else id_

    def ids(self) -> Iterator[str | Decided[str]]:
        """Yield the ID of each row. Of the rows not to be sent, only excluded ones are marked. Raises InputError."""
        for batch in self._batches():
            excluded = self._excluded_in(batch)
            if not excluded:
                yield from batch.ids
                continue
            for index, id_ in enumerate(batch.ids):
                yield skipped(id_, Outcome.EXCLUDED, excluded[index]) if index in excluded else id_

    def as_written(self) -> Iterator[Row]:
        """Yield the rows. Their only outcome is `invalid`, for unreadable rows. Raises InputError."""
        for batch in self._batches(whole=True):
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                reason = batch.invalid.get(index, "")
                yield Row(line, id_, Outcome.INVALID if reason else None, reason, batch.record(index))

    def plain(self) -> Iterator[str]:
        """Yield the ID of each row, or "" if it can't be read. Raises InputError."""
        for batch in self._batches():
            yield from batch.ids

    def check(self) -> Checked:
        """Read and check the whole file. Raises InputError if no row can be sent."""
        checked = self._count()
        refuse_empty(checked, self.name)
        return checked

    def line_of(self, position: int) -> int | None:
        """Return the first line of the row at a position (from 0), or None if there is no such row."""
        for batch in self._batches():
            if position < len(batch.lines):
                return batch.lines[position]
            position -= len(batch.lines)
        return None

    def refusal(self, row: Row) -> str:
        """Return why the library would refuse to send the ID of a row, or an empty string."""
        return refusal(row.id, self.by) if row.outcome is None else row.reason

    @functools.cached_property
    def _reader(self) -> Reader:
        return reader_of(self.file, self.name, self._wanted, asked=self._asked, named=self._named)

    def _count(self) -> Checked:
        """Count the rows by their expected outcome, and find the duplicates."""
        checked, rounding = Checked(self.reading()), Rounding()
        with Sieve() as sieve:
            for judged in self._judged():
                checked.rows = judged.stop
                rounding.add(judged.batch.ids)
                _enter_invalid(checked, judged)
                positions, names = self._sent(judged)
                checked.profiles += len(positions)
                sieve.add(positions, names)
            candidates = sieve.candidates()
        self._repeated = repeated(candidates.count, self._those(candidates)).positions
        checked.duplicates = self._repeated.count
        checked.profiles -= checked.duplicates
        checked.rounded = rounding.suspect
        return checked

    def _sent(self, judged: _Judged) -> tuple[list[int] | range, list[str]]:
        """Return the positions and names of the IDs to send, duplicates included."""
        names = list(map(self._name_of, judged.batch.ids))
        if not judged.outcomes:
            return range(judged.start, judged.stop), names
        sent = judged.sent()
        return [judged.start + index for index in sent], [names[index] for index in sent]

    def _those(self, candidates: Positions) -> Iterator[list[Candidate]]:
        """Read the IDs of candidates again."""
        start = 0
        for batch in self._batches() if candidates.count else ():
            positions = candidates.within(start, start + len(batch.ids))
            yield [(position, self._name_of(batch.ids[position - start]), "") for position in positions]
            start += len(batch.ids)

    def _outcomes(self, judged: _Judged) -> dict[int, tuple[Outcome, str]]:
        """Return the outcomes and reasons of unsent rows, by index in the batch."""
        outcomes = dict(judged.outcomes)
        if self._repeated is not None:
            for position in self._repeated.within(judged.start, judged.stop):
                outcomes[position - judged.start] = (Outcome.DUPLICATE, _DUPLICATE)
        return outcomes

    def _judged(self, *, whole: bool = False) -> Iterator[_Judged]:
        """Yield the rows with the outcomes of invalid and excluded ones, but not of duplicates."""
        start = 0
        for batch in self._batches(whole=whole):
            invalid = {**refusals(batch.ids, self.by), **batch.invalid}
            excluded = {index: (Outcome.EXCLUDED, name) for index, name in self._excluded_in(batch).items()}
            outcomes = excluded | {index: (Outcome.INVALID, reason) for index, reason in invalid.items()}
            judged = _Judged(start, batch, outcomes)
            yield judged
            start = judged.stop

    def _excluded_in(self, batch: Batch) -> dict[int, str]:
        """Return the names of the exclude lists of rows, by index in the batch."""
        if not self.excluded:
            return {}
        names = list(map(self._name_of, batch.ids))
        if self.excluded.keys().isdisjoint(names):
            return {}
        return {index: self.excluded[name] for index, name in enumerate(names) if name in self.excluded}

    def _batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Yield the rows unchanged. Refuse damaged IDs, or mark them as invalid."""
        headers: frozenset[str] | None = None
        columns: Sequence[str] = ()
        for batch in self._reader.batches(whole=whole):
            self._refuse_change()
            if headers is None:
                headers, columns = self._headers(), self.reading().names
            self._refuse_other_order(batch, columns)
            damage = damage_in(batch.ids, headers, allow_invisible=self._allow_invisible)
            if damage and not self._accept_damaged:
                first = min(damage)
                raise InputError(
                    f"{self.name}, {self.reading().unit} {batch.lines[first]}: {damage[first].reason}: "
                    f"{damage[first].todo}; or skip such rows with --accept-damaged"
                )
            reasons = {index: reason for index, (reason, _) in damage.items()}
            yield attrs.evolve(batch, invalid={**batch.invalid, **reasons}) if damage else batch
        self._refuse_change()

    def _headers(self) -> frozenset[str]:
        """Return the possible headers of the ID column."""
        reading = self.reading()
        own = {reading.names[reading.index], self.by}
        return frozenset(own | {"id"} if reading.is_lone else own)

    def _refuse_other_order(self, batch: Batch, columns: Sequence[str]) -> None:
        """Refuse a header in another order of columns. In the rows after it the IDs are in another column."""
        if set(columns).isdisjoint(batch.ids):
            return
        own = self.reading().names[self.reading().index]
        for index, id_ in enumerate(batch.ids):
            if id_ != own and id_ in columns and own in batch.record(index):
                raise InputError(
                    f"{self.name}, {self.reading().unit} {batch.lines[index]}: the header is repeated with its columns "
                    "in another order, as if files had been joined: export the IDs again"
                )

    def _fingerprint(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def _refuse_change(self) -> None:
        if self._fingerprint() != self._stamp:
            raise InputError(f"{self.name} has changed while it was read: run the command again")


@contextlib.contextmanager
def open_ids(
    path: Path,
    *,
    by: By,
    column: str | None = None,
    accept_damaged: bool = False,
    allow_invisible: bool = False,
    excluded: Excluded = NOBODY,
    name: str | None = None,
    format: Format | None = None,  # noqa: A002 - its name everywhere
) -> Iterator[Ids]:
    """Open a file of IDs; `-` is standard input. `name`: used in messages instead of the path. The rest as in `Ids`.

    An input that can't be read twice is first copied to an unnamed temporary file. Only its owner may read the copy,
    and it is deleted when the process ends for any reason.
    """
    name = name or (OF_STDIN if path == STDIN else str(path))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(path))
        if path == STDIN or not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            source = stack.enter_context(copied(source, name))
        yield Ids(
            source,
            name,
            by=by,
            column=column,
            accept_damaged=accept_damaged,
            allow_invisible=allow_invisible,
            excluded=excluded,
            format=format,
            named=format_of_name(path),
        )


def skipped(item: _T, outcome: Outcome, reason: str) -> Decided[_T]:
    """Return an item marked as not to be sent. `reason`: as in `Row`."""
    return Decided(item, outcome, exclude_list=reason if outcome is Outcome.EXCLUDED else None)


def _enter_invalid(checked: Checked, judged: _Judged) -> None:
    for index, (outcome, reason) in sorted(judged.outcomes.items()):
        if outcome is Outcome.EXCLUDED:
            checked.excluded += 1
            continue
        checked.invalid += 1
        if len(checked.first_invalid) < _SHOWN:
            batch = judged.batch
            checked.first_invalid.append(Row(batch.lines[index], batch.ids[index], Outcome.INVALID, reason))


def refuse_empty(checked: Checked, name: str) -> None:
    """Raise InputError if no row of the input can be sent."""
    if not checked.rows:
        raise InputError(f"{name} contains no IDs")
    if not checked.profiles:
        raise InputError(f"{name} contains no row that can be sent: {_why_none(checked)}")


def _why_none(checked: Checked) -> str:
    if not checked.first_invalid:
        return f"all {checked.rows:,} rows are excluded"
    first = checked.first_invalid[0]
    return f"on {checked.reading.unit} {first.line}, {first.reason}"
