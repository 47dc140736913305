"""The ids of an input: which are to be sent, and why the others aren't."""

import contextlib
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import attrs

from ...bulk import Decided, Outcome
from ...bulk.jobs import By, name_of
from .damage import damage_in
from .duplicates import Candidate, Positions, Sieve, repeated
from .formats import format_of_name, reader_of
from .reading import NOBODY, Batch, Excluded, Format, InputError, Reader, Reading, Row, Wanted
from .rounding import Rounding
from .sources import OF_STDIN, STDIN, copied, open_source
from .validity import refusal, refusals

_T = TypeVar("_T")

_DUPLICATE: Final = "the same id stands on an earlier line"
_SHOWN: Final = 10


@attrs.define
class Checked:
    """What a file holds, in numbers of rows; of the invalid ones the first few. `excluded` isn't among `invalid`.

    `rounded`: how many rows have an id that a spreadsheet may have rounded. `cleared`, `emptied`: how many attributes
    are set to null, and to an empty text.
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
        """Count a row of which it isn't known yet whether it is a duplicate."""
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
        """Take note that a row is one; with what it would have set to null, and to an empty text."""
        self.duplicates += 1
        self.profiles -= 1
        self.cleared -= cleared
        self.emptied -= emptied


@attrs.frozen
class _Judged:
    """A batch, the position of its first row, and the outcomes of what isn't sent, with the reasons, by their index."""

    start: int
    batch: Batch
    outcomes: dict[int, tuple[Outcome, str]]

    @property
    def stop(self) -> int:
        """The position after its last row."""
        return self.start + len(self.batch.ids)

    def sent(self) -> list[int]:
        """Give the indexes of what is sent, but for duplicates."""
        return [index for index in range(len(self.batch.ids)) if index not in self.outcomes]


class Ids:
    """The ids in an open file, which can be read again and again.

    `accept_damaged`: a damaged id makes its row invalid, not the file. `allow_invisible`: an id may have invisible
    characters in it. `excluded`: the names, as of `name_of`, of the ids that are not to be sent. `format`: as it was
    asked for; `named`: as the file's name tells.
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
        """Tell how the file is read. Raises InputError."""
        return self._reader.reading()

    def rows(self) -> Iterator[Row]:
        """Give the rows, each with what is known of it. Raises InputError where it isn't clear what is an id."""
        if self._repeated is None:
            self._count()
        for judged in self._judged(whole=True):
            outcomes = self._outcomes(judged)
            batch = judged.batch
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                outcome, reason = outcomes.get(index, (None, ""))
                yield Row(line, id_, outcome, reason, batch.record(index))

    def decided(self) -> Iterator[str | Decided[str]]:
        """Give the id of each row, marked where it isn't to be sent. Raises InputError."""
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
        """Give the id of each row; of those that aren't to be sent only the excluded are marked. Raises InputError."""
        for batch in self._batches():
            excluded = self._excluded_in(batch)
            if not excluded:
                yield from batch.ids
                continue
            for index, id_ in enumerate(batch.ids):
                yield skipped(id_, Outcome.EXCLUDED, excluded[index]) if index in excluded else id_

    def as_written(self) -> Iterator[Row]:
        """Give the rows with no outcome but `invalid`, where they can't be read. Raises InputError."""
        for batch in self._batches(whole=True):
            for index, (line, id_) in enumerate(zip(batch.lines, batch.ids, strict=True)):
                reason = batch.invalid.get(index, "")
                yield Row(line, id_, Outcome.INVALID if reason else None, reason, batch.record(index))

    def plain(self) -> Iterator[str]:
        """Give the id of each row, "" where it can't be read. Raises InputError."""
        for batch in self._batches():
            yield from batch.ids

    def check(self) -> Checked:
        """Read the whole file, and tell what of it can be sent. Raises InputError where nothing can."""
        checked = self._count()
        refuse_empty(checked, self.name)
        return checked

    def line_of(self, position: int) -> int | None:
        """Give the line where the row at a position, from 0, begins; None where there is none."""
        for batch in self._batches():
            if position < len(batch.lines):
                return batch.lines[position]
            position -= len(batch.lines)
        return None

    def refusal(self, row: Row) -> str:
        """Say why the library would not send the id of a row; nothing where it would."""
        return refusal(row.id, self.by) if row.outcome is None else row.reason

    @functools.cached_property
    def _reader(self) -> Reader:
        return reader_of(self.file, self.name, self._wanted, asked=self._asked, named=self._named)

    def _count(self) -> Checked:
        """Count the rows by what will become of them, and find the duplicates."""
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
        """Give the positions of what is sent, but for duplicates, and what names the ids."""
        names = list(map(self._name_of, judged.batch.ids))
        if not judged.outcomes:
            return range(judged.start, judged.stop), names
        sent = judged.sent()
        return [judged.start + index for index in sent], [names[index] for index in sent]

    def _those(self, candidates: Positions) -> Iterator[list[Candidate]]:
        """Read again the ids of candidates."""
        start = 0
        for batch in self._batches() if candidates.count else ():
            positions = candidates.within(start, start + len(batch.ids))
            yield [(position, self._name_of(batch.ids[position - start]), "") for position in positions]
            start += len(batch.ids)

    def _outcomes(self, judged: _Judged) -> dict[int, tuple[Outcome, str]]:
        """Give the outcomes of the rows that aren't sent, with the reasons, by the index in the batch."""
        outcomes = dict(judged.outcomes)
        if self._repeated is not None:
            for position in self._repeated.within(judged.start, judged.stop):
                outcomes[position - judged.start] = (Outcome.DUPLICATE, _DUPLICATE)
        return outcomes

    def _judged(self, *, whole: bool = False) -> Iterator[_Judged]:
        """Give the rows, and why some aren't sent, but for duplicates."""
        start = 0
        for batch in self._batches(whole=whole):
            invalid = {**refusals(batch.ids, self.by), **batch.invalid}
            excluded = {index: (Outcome.EXCLUDED, name) for index, name in self._excluded_in(batch).items()}
            outcomes = excluded | {index: (Outcome.INVALID, reason) for index, reason in invalid.items()}
            judged = _Judged(start, batch, outcomes)
            yield judged
            start = judged.stop

    def _excluded_in(self, batch: Batch) -> dict[int, str]:
        """Give the exclude lists of rows, by their index in the batch."""
        if not self.excluded:
            return {}
        names = list(map(self._name_of, batch.ids))
        if self.excluded.keys().isdisjoint(names):
            return {}
        return {index: self.excluded[name] for index, name in enumerate(names) if name in self.excluded}

    def _batches(self, *, whole: bool = False) -> Iterator[Batch]:
        """Give the rows as they stand there, but for what is damaged."""
        headers: frozenset[str] | None = None
        for batch in self._reader.batches(whole=whole):
            self._refuse_change()
            headers = self._headers() if headers is None else headers
            damage = damage_in(batch.ids, headers, allow_invisible=self._allow_invisible)
            if damage and not self._accept_damaged:
                first = min(damage)
                raise InputError(
                    f"{self.name}, {self.reading().unit} {batch.lines[first]}: {damage[first].reason}: "
                    f"{damage[first].todo}; or leave such rows out by --accept-damaged"
                )
            reasons = {index: reason for index, (reason, _) in damage.items()}
            yield attrs.evolve(batch, invalid={**batch.invalid, **reasons}) if damage else batch
        self._refuse_change()

    def _headers(self) -> frozenset[str]:
        """Give what the header of the ids says, or would say."""
        reading = self.reading()
        own = {reading.names[reading.index], self.by}
        return frozenset(own | {"id"} if reading.is_lone else own)

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
    """Open a file of ids; `-` is standard input. `name`: for sentences, not the path. The rest as in `Ids`.

    What can't be read twice is copied first, to a temporary file that only its owner may read and that has no name: it
    is gone with the process, however that ends.
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
    """Mark an item that isn't sent. `reason`: as in `Row`."""
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
    """Refuse an input of which nothing can be sent. Raises InputError."""
    if not checked.rows:
        raise InputError(f"{name} holds no ids")
    if not checked.profiles:
        raise InputError(f"{name} holds no row that can be sent: {_why_none(checked)}")


def _why_none(checked: Checked) -> str:
    if not checked.first_invalid:
        return f"all {checked.rows:,} rows are excluded: nobody is left to send"
    first = checked.first_invalid[0]
    return f"on {checked.reading.unit} {first.line}, {first.reason}"
