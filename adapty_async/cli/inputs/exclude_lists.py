"""Exclude lists: files of IDs that must not be sent, such as those of people under legal hold.

If a list doesn't match the IDs in the input, the wrong profiles are deleted. Therefore each list is compared with the
input before the first request.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from ...bulk.api import By, name_of
from ..exit_codes import CommandError
from .allowances import Allowances
from .bulk_input import Listing
from .ids import open_ids
from .rounding import Rounding, as_rounded
from .rows import Excluded, Format, InputError, Row
from .spelling import spelled

_SEPARATORS: Final = re.compile(r"""[\s;,&|^~:<>()\[\]{}"'/\\#=*\u2022\u00b7]+""")
"""Separators between an ID and other text in a cell, as in Ann <ann@example.com>."""


@attrs.frozen
class ExcludeList:
    """One exclude list.

    An ID's name is the result of `name_of`. `lines`: the line of each ID, by name. `spellings`: names by normalized
    spelling, if the two differ. `cells`: names by the normalized spelling of each part of an ID, because an ID with
    separators may be a table row, a name with an address, or two IDs. `is_lone`: the list has one ID per line, so that
    the parts of a line are ambiguous. `rounded`: the number of IDs that a spreadsheet may have rounded.
    """

    name: str
    file: Path
    unit: str
    lines: Mapping[str, int]
    spellings: Mapping[str, str]
    cells: Mapping[str, str]
    is_lone: bool
    rounded: int

    def place(self, name: str) -> str:
        """Return the place of an ID for messages."""
        return f"--exclude: {self.file}, {self.unit} {self.lines[name]}"

    def in_other_spelling(self, spelling: str) -> str | None:
        """Return the name of the ID with a normalized spelling, or None."""
        return spelling if spelling in self.lines else self.spellings.get(spelling)


@attrs.define
class _Found:
    """The IDs of one list that are in the input.

    `matched`: exact matches of IDs that have parts or may be rounded. `other`: an ID in another spelling. `cells`:
    parts of IDs. `rounded`: rounded IDs. The last three have the position in the input.
    """

    has_match: bool = False
    matched: set[str] = attrs.Factory(set)
    other: tuple[str, int] | None = None
    cells: dict[str, int] = attrs.Factory(dict)
    rounded: dict[str, int] = attrs.Factory(dict)


@attrs.frozen
class Exclusion:
    """The exclude lists of a job."""

    lists: Sequence[ExcludeList]

    @property
    def excluded(self) -> Excluded:
        """The names of all IDs, each with the name of the first list that contains it."""
        named: dict[str, str] = {}
        for each in reversed(self.lists):
            named |= dict.fromkeys(each.lines, each.name)
        return named

    @property
    def is_rounded(self) -> bool:
        """True if a spreadsheet may have rounded the IDs of a list."""
        return any(each.rounded for each in self.lists)

    def check(self, ids: Listing, allows: Allowances) -> None:
        """Compare each list with the input. Raises CommandError if a list may not match the intended IDs."""
        if not self.lists or (allows.unmatched_exclude and not any(each.cells for each in self.lists)):
            return
        for each, found in zip(self.lists, self._compare(ids), strict=True):
            _refuse_parts(each, found, ids)
            if not allows.unmatched_exclude:
                _refuse_other_spelling(each, found, ids)
                _refuse_rounded(each, found, ids)
                _refuse_unmatched(each, found, ids)

    def _compare(self, ids: Listing) -> Sequence[_Found]:
        name_of_id = name_of(ids.by)
        found = [_Found() for _ in self.lists]
        for position, id_ in enumerate(ids.plain()):
            name, spelling, rounded = name_of_id(id_), spelled(id_), as_rounded(id_)
            for each, so_far in zip(self.lists, found, strict=True):
                if name in each.lines:
                    so_far.has_match = True
                    if name == rounded or (each.cells and _SEPARATORS.search(name)):
                        so_far.matched.add(name)
                elif other := each.in_other_spelling(spelling):
                    so_far.other = so_far.other or (other, position)
                elif spelling in each.cells:
                    so_far.cells.setdefault(each.cells[spelling], position)
                elif rounded in each.lines:
                    so_far.rounded.setdefault(rounded, position)
        return found


def _refuse_parts(each: ExcludeList, found: _Found, ids: Listing) -> None:
    for name, position in found.cells.items():
        if name not in found.matched:
            todo = (
                "write each ID alone, or use commas and a header above the ID column; if all of it is an "
                "ID, write the list as JSON lines (.jsonl)"
                if each.is_lone
                else "write each ID alone; if all of it is an ID, add --allow-unmatched-exclude"
            )
            raise CommandError(
                f"{each.place(name)}: only a part of it is the ID {_at(ids, position)}, so that nothing would be "
                f"excluded: {todo}"
            )


def _refuse_other_spelling(each: ExcludeList, found: _Found, ids: Listing) -> None:
    if found.other is not None:
        name, position = found.other
        raise CommandError(
            f"{each.place(name)}: it differs from the ID {_at(ids, position)} only by case, white space or the like: "
            "write it as in that file; if they are two IDs, add --allow-unmatched-exclude"
        )


def _refuse_rounded(each: ExcludeList, found: _Found, ids: Listing) -> None:
    for name, position in found.rounded.items():
        if name not in found.matched:
            raise CommandError(
                f"{each.place(name)}: a spreadsheet may have rounded it from the ID {_at(ids, position)}, for it "
                "keeps 15 digits of a number: export the list again, as text; if they are two IDs, add "
                "--allow-unmatched-exclude"
            )


def _refuse_unmatched(each: ExcludeList, found: _Found, ids: Listing) -> None:
    if not found.has_match:
        raise CommandError(
            f"--exclude: none of the {len(each.lines):,} IDs in {each.file} is in {ids.name}: check that they have "
            "the same type and spelling; if nothing is to be excluded, add --allow-unmatched-exclude"
        )


def _at(ids: Listing, position: int) -> str:
    return f"on {ids.reading().unit} {ids.line_of(position)} of {ids.name}"


def read_exclusion(files: Mapping[str, Path], *, by: By, column: str | None, allows: Allowances) -> Exclusion:
    """Read the lists, by name. Raises CommandError.

    A list with an ambiguous row is refused, because that row might be an ID that must not be sent.
    """
    try:
        return Exclusion([_read(name, file, by, column, allows) for name, file in files.items()])
    except InputError as error:
        sentence, status = str(error), error.status
    raise CommandError(f"--exclude: {sentence}", status)


def _read(name: str, file: Path, by: By, column: str | None, allows: Allowances) -> ExcludeList:
    if not file.exists():
        raise InputError(f"{file} doesn't exist: check its name, or restore it, because its IDs must not be sent")
    name_of_id, rounding = name_of(by), Rounding()
    lines: dict[str, int] = {}
    spellings: dict[str, str] = {}
    cells: dict[str, str] = {}
    # A damaged ID must not be skipped here: it is refused below, like any other ambiguous row.
    with open_ids(file, by=by, column=column, accept_damaged=True, allow_invisible=allows.invisible) as ids:
        reading = ids.reading()
        # An ID in JSON lines is unambiguous.
        may_have_parts = reading.is_lone or not (reading.format is Format.JSONL or allows.unmatched_exclude)
        for row in ids.as_written():
            if reason := ids.refusal(row):
                raise InputError(f"{ids.name}, {reading.unit} {row.line}: {reason}: correct it")
            rounding.add([row.id])
            who = name_of_id(row.id)
            lines.setdefault(who, row.line)
            if (spelling := spelled(row.id)) != who:
                spellings[spelling] = who
            if may_have_parts and _SEPARATORS.search(row.id):
                cells |= {spelled(cell): who for cell in _SEPARATORS.split(row.id) if cell.strip()}
    if not lines:
        raise InputError(f"{file} contains no IDs: leave out the option if nothing is to be excluded")
    return ExcludeList(name, file, reading.unit, lines, spellings, cells, reading.is_lone, rounding.suspect)


def is_excluded(ids: Listing, row: Row) -> bool:
    """Return True if an exclude list contains a row, regardless of its earlier outcome."""
    return bool(ids.excluded) and name_of(ids.by)(row.id) in ids.excluded
