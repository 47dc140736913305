"""Text from outside made harmless where it is shown: names of files and columns, notes, what a server says.

Each kind of output has one function. None of them hides anything: what a terminal would obey, or wouldn't show, becomes
an escape sequence as Python writes it.
"""

import json
import re
import shlex
import unicodedata
from typing import Any, Final

_ACTIVE: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control and format characters, bidirectional ones among them, lone surrogates, separators."""
_FORMULAS: Final = ("=", "+", "-", "@")
# Addresses, too: many renderers make links of them unasked.
_MARKUP: Final = re.compile(r"[\\`*\[\]~|@]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


def printable(text: str) -> str:
    """Return lines of text, tabs included, for a terminal: they contain no control sequence, and are in their order."""
    return "".join(map(_in_lines, text))


def _in_lines(character: str) -> str:
    return character if character in "\n\t" else _shown(character)


def one_line(text: str) -> str:
    """Return a text for a line of a terminal, or of a log."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ACTIVE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return a value as JSON that a terminal shows as it is; whoever parses it gets the value as it was."""
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    return "\n".join(line if line.isprintable() else "".join(map(_in_json, line)) for line in text.split("\n"))


def _in_json(character: str) -> str:
    if unicodedata.category(character) not in _ACTIVE:
        return character
    # What isn't ASCII is escaped by json itself: a character beyond U+FFFF by two.
    return rf"\u{ord(character):04x}" if character.isascii() else json.dumps(character)[1:-1]


def in_csv(text: str) -> str:
    """Return a text for a cell of ours in a CSV file: no spreadsheet takes it for a formula."""
    line = one_line(text)
    return f"'{line}" if line.startswith(_FORMULAS) else line


def in_markdown(text: str) -> str:
    """Return a text for a cell of a Markdown table: it stays in its cell, and contains no link, markup or HTML."""
    line = one_line(" ".join(text.split()))
    return _MARKUP.sub(r"\\\g<0>", line).replace("&", "&amp;").replace("<", "&lt;")


def in_shell(argument: str) -> str:
    """Return an argument as a shell reads it, on one line."""
    if argument.isprintable():
        return shlex.quote(argument)
    # bash, zsh and POSIX.1-2024 know such quotes; bytes, for not all of them know \u.
    quoted = "".join(_in_quotes(character) for character in argument)
    return f"$'{quoted}'"


def _in_quotes(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if unicodedata.category(character) not in _ACTIVE:
        return character
    is_byte = "\udc80" <= character <= "\udcff"  # of a file's name that isn't UTF-8
    data = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)
