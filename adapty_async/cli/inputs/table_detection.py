"""Refuse files that are read as one ID per line but look like a table in another dialect, JSON or binary data.

An ID may contain any character. A separator alone proves nothing, even if it is in every line, as in auth0|5f7c8ec7. A
file is a table if nearly every line has the same number of columns and it has a feature that IDs don't have: a header,
quotes around the cells, a column of whole IDs, or a separator at the end of each line.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from .input_types import Format, InputError

SAMPLE_LINES: Final = 500
"""The number of lines that are examined."""
ADVICE: Final = {
    ";": "save it with commas ('CSV UTF-8')",
    "\t": "name it .tsv, or add --format tsv",
    "|": "save it with commas ('CSV UTF-8')",
    ",": "name it .csv, or add --format csv",
}
_NEARLY_ALL_RATIO: Final = 0.9
_MAX_UNREADABLE_RATIO: Final = 0.3
_UNREADABLE: Final = re.compile(r"[\0-\x08\x0e-\x1f\x7f\udc80-\udcff]")
_QUOTED_LINE: Final = re.compile(r'"(?:[^"]|"")*"')
_LINE_IN_QUOTES: Final = re.compile(r"""(["'])(?:(?!\1).|\1\1)*\1[,;]?""")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.\w{2,}")
_UUID: Final = re.compile(r"[{]?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[}]?", re.IGNORECASE)
_HEADER_CELL: Final = re.compile(r"[^\W\d_][^@=:\\]{0,39}")
# Column names in lists of people, in the languages of the lists seen so far.
_KNOWN_HEADERS: Final = re.compile(
    r"ids?|uids?|uuid|guid|.*[ _-](?:id|name|no|nr|date)|users?|users?name|names?|(?:e-?)?mail.*|customers?|profiles?|"
    r"members?|accounts?|phone|reason|comments?|notes?|status|state|date|country|language|type|"
    r"kunden?|kundennummer|nutzer|benutzer|nummer|nr\.?|vorname|nachname|grund|datum|bemerkung|kommentar|notiz|telefon|"
    r"land|"
    r"client|nom|prénom|motif|raison|pays|commentaire|courriel|"
    r"correo.*|nombre|cliente|usuario|motivo|razón|fecha|país|comentario|data|nome|utente",
    re.IGNORECASE,
)


def refuse_table(lines: Sequence[str], name: str, format: Format) -> None:  # noqa: A002 - its name everywhere
    """Refuse a file whose first lines aren't one ID per line. Raises InputError."""
    texts = [_strip_line_quotes(line.strip("\r\n"), format) for line in lines if not line.isspace()]
    if not texts:
        return
    _refuse_binary("".join(texts), name)
    _refuse_json(texts[0], name)
    if quote := _find_surrounding_quote(texts):
        raise InputError(
            f"{name} has {quote} around every line, read as part of the IDs: save it without, or as CSV; if they are "
            "part of the IDs, write them as JSON lines (.jsonl)"
        )
    for separator, advice in ADVICE.items():
        if _is_table([_split_cells(text, separator) for text in texts], texts, separator):
            if separator == format.separator:
                advice = "remove the quotes around whole lines, or export it again"
            raise InputError(
                f"{name} looks like a table with columns separated by {separator!r}, read as {format.label}: {advice}; "
                f"if these are IDs with {separator!r}, write them as JSON lines (.jsonl)"
            )


def _refuse_binary(text: str, name: str) -> None:
    if len(_UNREADABLE.findall(text)) > _MAX_UNREADABLE_RATIO * len(text):
        raise InputError(
            f"{name} isn't UTF-8 text: it has another encoding, such as UTF-16 without a byte order mark, or "
            "contains binary data such as NUL: save the IDs as 'CSV UTF-8'"
        )


def _refuse_json(first: str, name: str) -> None:
    try:
        is_json = first.strip() in ("[", "{") or isinstance(json.loads(first), dict | list)
    except (ValueError, RecursionError):
        return
    if is_json:
        raise InputError(
            f"{name} begins like JSON: write each item on its own line, as with jq -c '.[]', and name it .jsonl"
        )


def _strip_line_quotes(line: str, format: Format) -> str:  # noqa: A002 - its name everywhere
    """Return a CSV or TSV line without the quotes around the whole line, if there are any."""
    is_quoted = format.separator and _QUOTED_LINE.fullmatch(line)
    return line[1:-1].replace('""', '"') if is_quoted else line


def _split_cells(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=separator), [""])
    except csv.Error:  # too long
        return [text]


def _is_table(rows: Sequence[Sequence[str]], texts: Sequence[str], separator: str) -> bool:
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width == 1 or count < _NEARLY_ALL_RATIO * len(rows):
        return False
    if separator == "\t":  # no valid ID contains a tab
        return True
    first, *others = (row for row in rows if len(row) == width)
    return (
        (len(rows) > 1 and _is_nearly_all(not row[-1] for row in rows))
        or _is_nearly_all(f'"{separator}"' in text for text in texts)
        or (separator in ";," and any(map(_is_id_column, zip(first, *others, strict=True))))
        or _is_header([cell.strip() for cell in first], others)
    )


def _is_id_column(column: Sequence[str]) -> bool:
    """Return True if a column contains only email addresses and UUIDs, optionally below a header."""
    cells = column[1:] if len(column) > 1 and _HEADER_CELL.fullmatch(column[0]) else column
    return _is_nearly_all(bool(_EMAIL.fullmatch(cell) or _UUID.fullmatch(cell)) for cell in cells)


def _is_header(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return True if the first row is a header."""
    named = [cell for cell in cells if cell]
    if len(named) < 2 or not all(map(_HEADER_CELL.fullmatch, named)):
        return False
    columns = list(zip(*rows, strict=True)) or [()] * len(cells)
    if any(cell and cell in column for cell, column in zip(cells, columns, strict=True)):
        return False
    if any(map(_KNOWN_HEADERS.fullmatch, named)):
        return True
    return not _has_digit_or_at_sign("".join(named)) and any(
        column and _is_nearly_all(map(_has_digit_or_at_sign, column)) for column in columns
    )


def _has_digit_or_at_sign(text: str) -> bool:
    return "@" in text or any(map(str.isdigit, text))


def _find_surrounding_quote(texts: Sequence[str]) -> str:
    """Return the quote around nearly every line, or an empty string."""
    quoted = [bool(_LINE_IN_QUOTES.fullmatch(text)) for text in texts]
    return texts[quoted.index(True)][0] if len(texts) > 1 and _is_nearly_all(quoted) else ""


def _is_nearly_all(found: Iterable[bool]) -> bool:
    each = list(found)
    return sum(each) >= _NEARLY_ALL_RATIO * len(each)
