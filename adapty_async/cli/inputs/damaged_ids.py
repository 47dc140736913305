"""Detect IDs that were damaged before they reached the input. They look valid, but belong to no profile."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

_SHORTENED_NUMBER: Final = re.compile(r"-?\d([.,]\d+)?E\+\d+", re.IGNORECASE)
# Letters and marks that are displayed as nothing: fillers, joiners, variation selectors, the empty Braille pattern.
_INVISIBLE_LETTERS: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Without control characters, which the library refuses itself, and unassigned characters, which a later Unicode version
# may make visible.
_INVISIBLE_CATEGORIES: Final = frozenset({"Cf", "Co", "Zl", "Zp", "Zs"})


class Damage(NamedTuple):
    """The damage of an ID (without the ID), and how to fix a file that is refused for it."""

    reason: str
    advice: str


_SPREADSHEET_DAMAGE: Final = Damage(
    "a spreadsheet has shortened the ID to a number such as 1.23E+15", "export the IDs again, as text"
)
_HEADER_DAMAGE: Final = Damage(
    "the header is repeated, as if files had been joined", "remove the line, or export the IDs again"
)


def find_damage(ids: Sequence[str], headers: AbstractSet[str], *, allow_invisible: bool) -> dict[int, Damage]:
    """Return the damage of IDs by index. `headers`: the possible headers of their column, case-folded."""
    found = dict.fromkeys(_find_shortened_ids(ids), _SPREADSHEET_DAMAGE)
    if may_contain_header(ids, headers):
        found |= {index: _HEADER_DAMAGE for index, id_ in enumerate(ids) if id_.casefold() in headers}
    if not allow_invisible:
        found |= _find_all_invisible(ids)
    return found


def may_contain_header(ids: Sequence[str], headers: AbstractSet[str]) -> bool:
    """Check quickly if a case-folded header is among the IDs. True may also mean that a full check is needed."""
    text = f",{','.join(ids)},".casefold()
    return any(f",{header}," in text for header in headers)


def find_invisible(text: str) -> str:
    """Return the name of the first invisible character in an ID, or an empty string.

    Leading and trailing white space is ignored here, because the library refuses it.
    """
    for character in "" if _is_all_visible(text) else text.strip():
        if is_invisible(character):
            return f"U+{ord(character):04X} ({unicodedata.name(character, 'no name').lower()})"
    return ""


def is_invisible(character: str) -> bool:
    """Return True if a character is invisible or looks like a plain space."""
    if _INVISIBLE_LETTERS.match(character):
        return True
    return character != " " and unicodedata.category(character) in _INVISIBLE_CATEGORIES


def _find_shortened_ids(ids: Sequence[str]) -> Iterator[int]:
    text = ",".join(ids)
    if "E+" in text or "e+" in text:
        yield from (index for index, id_ in enumerate(ids) if "+" in id_ and _SHORTENED_NUMBER.fullmatch(id_))


def _find_all_invisible(ids: Sequence[str]) -> dict[int, Damage]:
    if _is_all_visible("".join(ids)):
        return {}
    named = ((index, find_invisible(id_)) for index, id_ in enumerate(ids))
    return {
        index: Damage(
            f"the ID contains an invisible character, {name}",
            "export the IDs again without it, or send such IDs unchanged with --allow-invisible",
        )
        for index, name in named
        if name
    }


def _is_all_visible(text: str) -> bool:
    """Check quickly. False may also mean that a full check is needed."""
    return text.isprintable() and (text.isascii() or not _INVISIBLE_LETTERS.search(text))
