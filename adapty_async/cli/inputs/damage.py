"""Ids that something on their way has damaged: each is a text like any other, and nobody's id."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

_SHORTENED: Final = re.compile(r"-?\d([.,]\d+)?E\+\d+", re.IGNORECASE)
# Letters and marks by their category, but shown as nothing: fillers, joiners, variation selectors, the empty Braille.
_SHOWN_AS_NOTHING: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Control characters aren't among them, for the library refuses them in its own words; nor is what is unassigned, which
# a later Unicode may show.
_INVISIBLE_CATEGORIES: Final = frozenset({"Cf", "Co", "Zl", "Zp", "Zs"})


class Damage(NamedTuple):
    """What is wrong with an id, without the id, and what to do where it refuses the file."""

    reason: str
    todo: str


_OF_SPREADSHEET: Final = Damage(
    "a spreadsheet has shortened the id to a number, as in 1.23E+15", "export the ids again, as text"
)
_OF_HEADER: Final = Damage(
    "the header stands here again, as where files were joined", "remove the line, or export the ids again"
)


def damage_in(ids: Sequence[str], headers: AbstractSet[str], *, allow_invisible: bool) -> dict[int, Damage]:
    """Say which of some ids are damaged, by their indexes. `headers`: what the header of their column may say."""
    found = dict.fromkeys(_shortened(ids), _OF_SPREADSHEET)
    if not headers.isdisjoint(ids):
        found |= {index: _OF_HEADER for index, id_ in enumerate(ids) if id_ in headers}
    if not allow_invisible:
        found |= _with_invisible(ids)
    return found


def invisible_in(text: str) -> str:
    """Name the first character of an id that nobody sees; nothing where there is none.

    White space at its ends isn't meant: the library refuses that.
    """
    for character in "" if _is_all_visible(text) else text.strip():
        if is_invisible(character):
            return f"U+{ord(character):04X} ({unicodedata.name(character, 'no name').lower()})"
    return ""


def is_invisible(character: str) -> bool:
    """Tell whether nobody sees a character, or takes it for a plain space."""
    if _SHOWN_AS_NOTHING.match(character):
        return True
    return character != " " and unicodedata.category(character) in _INVISIBLE_CATEGORIES


def _shortened(ids: Sequence[str]) -> Iterator[int]:
    text = ",".join(ids)
    if "E+" in text or "e+" in text:
        yield from (index for index, id_ in enumerate(ids) if "+" in id_ and _SHORTENED.fullmatch(id_))


def _with_invisible(ids: Sequence[str]) -> dict[int, Damage]:
    if _is_all_visible("".join(ids)):
        return {}
    named = ((index, invisible_in(id_)) for index, id_ in enumerate(ids))
    return {
        index: Damage(
            f"the id has an invisible character in it, {name}",
            "export the ids again without it, or send such ids as they are by --allow-invisible",
        )
        for index, name in named
        if name
    }


def _is_all_visible(text: str) -> bool:
    """Tell at a glance; False also where that isn't clear."""
    return text.isprintable() and (text.isascii() or not _SHOWN_AS_NOTHING.search(text))
