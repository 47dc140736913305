"""Exclude lists: files of IDs that must not be sent, such as those of people under legal hold.

If a list doesn't match the IDs in the input, the wrong profiles are deleted. Therefore each list is compared with the
input before the first request.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from ...bulk.operations import IdType, make_id_normalizer
from ..exit_status import CommandError
from ..options import Allowances
from .id_canonicalization import canonicalize_id, decode_id
from .id_input import open_id_input
from .input_types import ExcludedIds, Format, InputError, NoIdsError, Row
from .job_input import JobInput
from .rounded_ids import RoundingDetector, round_like_spreadsheet

_SEPARATORS: Final = re.compile(r"""[\s;,&|^~:<>()\[\]{}"'/\\#=*\u2022\u00b7]+""")
"""Separators between an ID and other text in a cell, as in Ann <ann@example.com>."""


@attrs.frozen
class ExcludeList:
    """One exclude list.

    An ID's name is the result of `make_id_normalizer`. `lines_by_name`: the line of each ID, by name.
    `names_by_spelling`: names by normalized spelling, if the two differ. `names_by_part`: names by the normalized
    spelling of each part of an ID, because an ID with separators may be a table row, a name with an address, or two
    IDs. `is_single_column`: the list has one ID per line, so that the parts of a line are ambiguous. `rounded_count`:
    the number of IDs that a spreadsheet may have rounded.
    """

    name: str
    file: Path
    unit: str
    lines_by_name: Mapping[str, int]
    names_by_spelling: Mapping[str, str]
    names_by_part: Mapping[str, str]
    is_single_column: bool
    rounded_count: int

    def describe_place(self, name: str) -> str:
        """Return the place of an ID for messages."""
        return f"--exclude: {self.file}, {self.unit} {self.lines_by_name[name]}"

    def find_id_name(self, spelling: str) -> str | None:
        """Return the name of the ID with a normalized spelling, or None."""
        return spelling if spelling in self.lines_by_name else self.names_by_spelling.get(spelling)


@attrs.define
class _ListMatches:
    """The IDs of one list that are in the input.

    `exact_names`: exact matches of IDs that have parts or may be rounded. `other_spelling`: an ID in another spelling.
    `parts`: parts of IDs. `rounded_ids`: rounded IDs. The last three have the position in the input.
    """

    has_match: bool = False
    exact_names: set[str] = attrs.Factory(set)
    other_spelling: tuple[str, int] | None = None
    parts: dict[str, int] = attrs.Factory(dict)
    rounded_ids: dict[str, int] = attrs.Factory(dict)


@attrs.frozen
class ExcludeLists:
    """The exclude lists of a job."""

    lists: Sequence[ExcludeList]

    @property
    def excluded_ids(self) -> ExcludedIds:
        """The names of all IDs, each with the name of the first list that contains it."""
        named: dict[str, str] = {}
        for each in reversed(self.lists):
            named |= dict.fromkeys(each.lines_by_name, each.name)
        return named

    @property
    def has_rounded_ids(self) -> bool:
        """True if a spreadsheet may have rounded the IDs of a list."""
        return any(each.rounded_count for each in self.lists)

    def check(self, job_input: JobInput, allowances: Allowances) -> None:
        """Compare each list with the input. Raises CommandError if a list may not match the intended IDs."""
        if not self.lists or (allowances.unmatched_exclude and not any(each.names_by_part for each in self.lists)):
            return
        for each, found in zip(self.lists, self._find_matches(job_input), strict=True):
            _refuse_partial_matches(each, found, job_input)
            if not allowances.unmatched_exclude:
                _refuse_spelling_variant(each, found, job_input)
                _refuse_rounded_ids(each, found, job_input)
                _refuse_unmatched_list(each, found, job_input)

    def _find_matches(self, job_input: JobInput) -> Sequence[_ListMatches]:
        name_of_id = make_id_normalizer(job_input.by)
        found = [_ListMatches() for _ in self.lists]
        for position, id_ in enumerate(job_input.iter_raw_ids()):
            name, spelling, rounded = name_of_id(id_), canonicalize_id(id_), round_like_spreadsheet(id_)
            for each, so_far in zip(self.lists, found, strict=True):
                if name in each.lines_by_name:
                    so_far.has_match = True
                    if name == rounded or (each.names_by_part and _split_parts(name)):
                        so_far.exact_names.add(name)
                elif other := each.find_id_name(spelling):
                    so_far.other_spelling = so_far.other_spelling or (other, position)
                elif spelling in each.names_by_part:
                    so_far.parts.setdefault(each.names_by_part[spelling], position)
                elif rounded in each.lines_by_name:
                    so_far.rounded_ids.setdefault(rounded, position)
        return found


def _refuse_partial_matches(exclude_list: ExcludeList, matches: _ListMatches, job_input: JobInput) -> None:
    for name, position in matches.parts.items():
        if name not in matches.exact_names:
            advice = (
                "write each ID alone, or use commas and a header above the ID column; if all of it is an "
                "ID, write the list as JSON lines (.jsonl)"
                if exclude_list.is_single_column
                else "write each ID alone; if all of it is an ID, add --allow-unmatched-exclude"
            )
            raise CommandError(
                f"{exclude_list.describe_place(name)}: only a part of it is the ID "
                f"{_describe_position(job_input, position)}, so that nothing would be "
                f"excluded: {advice}"
            )


def _refuse_spelling_variant(exclude_list: ExcludeList, matches: _ListMatches, job_input: JobInput) -> None:
    if matches.other_spelling is not None:
        name, position = matches.other_spelling
        raise CommandError(
            f"{exclude_list.describe_place(name)}: it differs from the ID "
            f"{_describe_position(job_input, position)} only by case, white space, encoding, "
            "look-alike letters or the like: write it as in that file; if they are two IDs, add "
            "--allow-unmatched-exclude"
        )


def _refuse_rounded_ids(exclude_list: ExcludeList, matches: _ListMatches, job_input: JobInput) -> None:
    for name, position in matches.rounded_ids.items():
        if name not in matches.exact_names:
            raise CommandError(
                f"{exclude_list.describe_place(name)}: a spreadsheet may have rounded it from the ID "
                f"{_describe_position(job_input, position)}, for it "
                "keeps 15 digits of a number: export the list again, as text; if they are two IDs, add "
                "--allow-unmatched-exclude"
            )


def _refuse_unmatched_list(exclude_list: ExcludeList, matches: _ListMatches, job_input: JobInput) -> None:
    if not matches.has_match:
        count = len(exclude_list.lines_by_name)
        none, is_ = ("the only ID", "isn't") if count == 1 else (f"none of the {count:,} IDs", "is")
        raise CommandError(
            f"--exclude: {none} in {exclude_list.file} {is_} in {job_input.name}: check that they have "
            "the same type and spelling; if nothing is to be excluded, add --allow-unmatched-exclude"
        )


def _describe_position(job_input: JobInput, position: int) -> str:
    return f"on {job_input.read_schema().unit} {job_input.find_line(position)} of {job_input.name}"


def read_exclude_lists(
    files: Mapping[str, Path], *, by: IdType, column: str | None, allowances: Allowances
) -> ExcludeLists:
    """Read the lists, by name. Raises CommandError.

    A list with an ambiguous row is refused, because that row might be an ID that must not be sent.
    """
    try:
        return ExcludeLists([_read_exclude_list(name, file, by, column, allowances) for name, file in files.items()])
    except NoIdsError as error:
        message = f"{error}: name the right file, or leave out the option if nothing is to be excluded"
        status = error.status
    except InputError as error:
        message, status = str(error), error.status
    raise CommandError(f"--exclude: {message}", status)


def _read_exclude_list(name: str, file: Path, by: IdType, column: str | None, allowances: Allowances) -> ExcludeList:
    if not file.exists():
        raise InputError(f"{file} doesn't exist: check its name, or restore it, because its IDs must not be sent")
    name_of_id, rounding = make_id_normalizer(by), RoundingDetector()
    lines: dict[str, int] = {}
    spellings: dict[str, str] = {}
    cells: dict[str, str] = {}
    # A damaged ID must not be skipped here: it is refused below, like any other ambiguous row.
    with open_id_input(
        file, by=by, column=column, skip_damaged=True, allow_invisible=allowances.invisible, is_exclude_list=True
    ) as id_input:
        schema = id_input.read_schema()
        # An ID in JSON lines is unambiguous.
        may_have_parts = schema.is_single_column or not (schema.format is Format.JSONL or allowances.unmatched_exclude)
        for row in id_input.iter_raw_rows():
            if reason := id_input.explain_invalid(row):
                raise InputError(f"{id_input.name}, {schema.unit} {row.line}: {reason}: correct it")
            rounding.add([row.id])
            id_name = name_of_id(row.id)
            lines.setdefault(id_name, row.line)
            if (spelling := canonicalize_id(row.id)) != id_name:
                spellings[spelling] = id_name
            if may_have_parts:
                cells |= {canonicalize_id(part): id_name for part in _split_parts(row.id)}
    if not lines:
        raise NoIdsError(str(file))
    return ExcludeList(
        name, file, schema.unit, lines, spellings, cells, schema.is_single_column, rounding.suspect_count
    )


def _split_parts(id_: str) -> set[str]:
    """Return the parts of an ID, also of the decoded one, or an empty set if it has no separators."""
    texts = (text for text in {id_, decode_id(id_)} if _SEPARATORS.search(text))
    return {part for text in texts for part in _SEPARATORS.split(text) if part}


def is_excluded(job_input: JobInput, row: Row) -> bool:
    """Return True if an exclude list contains a row, regardless of its earlier outcome."""
    return bool(job_input.excluded_ids) and make_id_normalizer(job_input.by)(row.id) in job_input.excluded_ids
