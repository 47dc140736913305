"""Escaping of untrusted text for output: names of files and columns, notes, texts from a server.

There is one function per kind of output. None of them hides anything: control characters and invisible characters
become Python escape sequences.
"""

import json
import re
import shlex
import unicodedata
from typing import Any, Final

_UNSAFE_CATEGORIES: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control and format characters (bidirectional ones included), lone surrogates, separators."""
_FORMULA_PREFIXES: Final = ("=", "+", "-", "@")
# Addresses as well, because many renderers turn them into links.
_MARKUP: Final = re.compile(r"[\\`*\[\]~|@]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


def escape_lines(text: str) -> str:
    """Return lines of text for a terminal, with tabs but without control or bidirectional characters."""
    return "".join(map(_escape_line_character, text))


def _escape_line_character(character: str) -> str:
    return character if character in "\n\t" else _escape_character(character)


def escape_line(text: str) -> str:
    """Return a text for one line of a terminal or a log."""
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def dump_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return a value as JSON that is safe for a terminal. A parser gets the original value."""
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    return "\n".join(
        line if line.isprintable() else "".join(map(_escape_json_character, line)) for line in text.split("\n")
    )


def _escape_json_character(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    # json escapes non-ASCII characters itself, those beyond U+FFFF as a pair.
    return rf"\u{ord(character):04x}" if character.isascii() else json.dumps(character)[1:-1]


def escape_csv(text: str) -> str:
    """Return a text for a CSV cell that no spreadsheet reads as a formula."""
    line = escape_line(text)
    return f"'{line}" if line.startswith(_FORMULA_PREFIXES) else line


def escape_markdown(text: str) -> str:
    """Return a text for a cell of a Markdown table, without line breaks, links, markup or HTML."""
    line = escape_line(" ".join(text.split()))
    return _MARKUP.sub(r"\\\g<0>", line).replace("&", "&amp;").replace("<", "&lt;")


def quote_shell(argument: str) -> str:
    """Return an argument quoted for a shell, on one line."""
    if argument.isprintable():
        return shlex.quote(argument)
    # bash, zsh and POSIX.1-2024 support these quotes. Bytes are used because not all of them support \u.
    quoted = "".join(_escape_quoted_character(character) for character in argument)
    return f"$'{quoted}'"


def _escape_quoted_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    is_byte = "\udc80" <= character <= "\udcff"  # from a file name that isn't UTF-8
    data = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)
