"""Canonicalize an ID, so that its spelling variants from people, spreadsheets and keyboards match."""

import html
import re
import unicodedata
from typing import Final
from urllib.parse import unquote

from .damaged_ids import is_invisible

_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"

_MARKS: Final = ".!?"
_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,'\u2019]\d{3})+")
_ZERO_FRACTION: Final = re.compile(r"[.,]0+$")

_UUID: Final = re.compile(r"(?:urn:uuid:)?[{]?([0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12})[}]?")
_MIN_UUID_LENGTH: Final = 32

_MAX_DECODINGS: Final = 3
_LOOK_ALIKES: Final = str.maketrans(
    # Cyrillic letters, then Greek ones, then Latin ones that aren't ASCII. They are in lower case: a letter is here if
    # one of its cases looks like the Latin letter. If both cases do, but like different letters, the lower case counts.
    "\u0430\u0432\u0435\u0455\u0456\u0458\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u04af\u04bb\u04cf\u0501\u051b\u051d"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03f3"
    "\u0131\u0251\u0261",
    "abesijkmhopctyxyhldqwabeznikmvoptuxjiag",
)


def canonicalize_id(id_: str) -> str:
    """Return a normalized spelling of an ID.

    It ignores case, white space, invisible characters, the composition of accents and wide letters, the kind of dash,
    quotes around the ID, and marks of punctuation after it. It decodes percent-encoding and HTML entities, and replaces
    Cyrillic and Greek letters by the Latin ones that look like them.

    For numbers it also ignores the script of the digits, leading zeros and a plus, which spreadsheets remove, the
    separators of thousands, which they add, and a fraction of zeros, which data frames add. For UUIDs it ignores dashes
    and braces.
    """
    text = decode_id(id_)
    text = text if text.isascii() else _normalize_unicode(text)
    text = "".join(text.casefold().split()).strip(_QUOTES)
    if len(text) >= _MIN_UUID_LENGTH and (uuid := _UUID.fullmatch(text)):
        text = uuid[1].replace("-", "")
    number = _parse_whole_number(text)
    return (number.lstrip("0") or "0") if number.isdecimal() else text.rstrip(_MARKS) or text


def decode_id(id_: str) -> str:
    """Return an ID without percent-encoding and HTML entities, such as %40 and &#64;. It may be encoded twice."""
    text = id_
    for _ in range(_MAX_DECODINGS):
        decoded = html.unescape(unquote(text)) if "%" in text or "&" in text else text
        if decoded == text:
            break
        text = decoded
    return text


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
    letters = unicodedata.normalize("NFD", folded).translate(_LOOK_ALIKES)
    # In Turkish, the capital of an i has a dot, which case folding separates from it.
    folded = unicodedata.normalize("NFC", letters.replace("i\u0307", "i"))
    shown = (character for character in folded if not is_invisible(character))
    return "".join("-" if unicodedata.category(character) == "Pd" else character for character in shown)
