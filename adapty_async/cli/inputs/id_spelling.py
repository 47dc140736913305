"""Normalize spellings of an ID, which people, spreadsheets and keyboards may change."""

import re
import unicodedata
from typing import Final

from .damaged_ids import is_invisible

_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"

_MARKS: Final = ".!?"
_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,'\u2019]\d{3})+")
_ZERO_FRACTION: Final = re.compile(r"[.,]0+$")

_UUID: Final = re.compile(r"(?:urn:uuid:)?[{]?([0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12})[}]?")
_MIN_UUID_LENGTH: Final = 32


def canonicalize_id(id_: str) -> str:
    """Return a normalized spelling of an ID.

    It ignores case, white space, invisible characters, the composition of accents and wide letters, the kind of dash,
    quotes around the ID, and marks of punctuation after it. For numbers it also ignores the script of the digits,
    leading zeros and a plus, which spreadsheets remove, the separators of thousands, which they add, and a fraction of
    zeros, which data frames add. For UUIDs it ignores dashes and braces.
    """
    text = id_ if id_.isascii() else _normalize_unicode(id_)
    text = "".join(text.casefold().split()).strip(_QUOTES)
    if len(text) >= _MIN_UUID_LENGTH and (uuid := _UUID.fullmatch(text)):
        text = uuid[1].replace("-", "")
    number = _parse_whole_number(text)
    return (number.lstrip("0") or "0") if number.isdecimal() else text.rstrip(_MARKS) or text


def _parse_whole_number(text: str) -> str:
    """Return the digits of a whole number. For another text, the result isn't decimal."""
    if not text or not (text[0].isdecimal() or text[0] == "+"):
        return ""
    number = (text if text.isascii() else "".join(map(_digit, text))).removeprefix("+").rstrip(_MARKS)
    whole = _ZERO_FRACTION.sub("", number)
    grouped = next(filter(_GROUPED.fullmatch, (whole, number)), None)  # 1.000 may be either
    return whole if grouped is None else re.sub(r"\D", "", grouped)


def _digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _normalize_unicode(text: str) -> str:
    # Case folding may decompose a letter such as U+0130.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    shown = (character for character in folded if not is_invisible(character))
    return "".join("-" if unicodedata.category(character) == "Pd" else character for character in shown)
