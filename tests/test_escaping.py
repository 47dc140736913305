"""Text from outside is displayed without any effect."""

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from adapty_async.escaping import dump_json, escape_csv, escape_line, escape_lines, escape_markdown, quote_shell

ESCAPE = "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\ \x1b[31mred\x1b[0m \x07 \x9b2J"
BIDI = "\u202egpj.exe\u2066 \u200b\ufeff"
texts = st.text(st.characters() | st.sampled_from("\x1b\x9b\n\r\t\\'|`[]()<>&*_~=+-@\u202e\u2028 "), max_size=30)


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)


@given(texts)
def test_no_text_keeps_a_character_that_a_terminal_obeys_or_hides(text: str) -> None:
    assert is_harmless(escape_line(text))
    lines = re.split("([\n\t])", text)
    assert escape_lines(text) == "".join(part if part in ("\n", "\t") else escape_line(part) for part in lines)
    for shown in (
        escape_csv(text),
        escape_markdown(text),
        quote_shell(text),
        dump_json(text),
        dump_json(text, ensure_ascii=False),
    ):
        assert is_harmless(shown)


@given(texts)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert (escape_line(text) == text) == is_harmless(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Jürgen 日本 👍 a\u00a0b", "Jürgen 日本 👍 a\u00a0b"),
        ("\x1b[31m", r"\x1b[31m"),
        (BIDI, r"\u202egpj.exe\u2066 \u200b\ufeff"),
        ("a\nb\tc\x7f", r"a\x0ab\x09c\x7f"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_active_is_shown_as_python_writes_it(text: str, shown: str) -> None:
    assert escape_line(text) == shown


@given(st.recursive(texts | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_json_gives_the_value_as_it_was(value: object) -> None:
    for ensure_ascii in (True, False):
        assert json.loads(dump_json(value, ensure_ascii=ensure_ascii)) == value
        assert json.loads(dump_json(value, indent=2, ensure_ascii=ensure_ascii)) == value


def test_json_is_as_ever_where_nothing_is_active() -> None:
    assert dump_json({"é": ["日"]}, indent=2, ensure_ascii=False) == '{\n  "é": [\n    "日"\n  ]\n}'


@given(texts)
def test_no_cell_of_ours_is_a_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow(["x", escape_csv(text)])
    assert len(out.getvalue().splitlines()) == 1
    assert not escape_csv(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert escape_csv(text).removeprefix("'") == escape_line(text).removeprefix("'")


# Markdown


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("customer_user_id, 5 %", "customer_user_id, 5 %"),
        ("Ada | <b>", r"Ada \| &lt;b>"),
        ("[click](javascript:x)", r"\[click\](javascript:x)"),
        ("![x](y)", r"!\[x\](y)"),
        ("*a* _b_ `c` ~~d~~ &lt;", r"\*a\* \_b\_ \`c\` \~\~d\~\~ &amp;lt;"),
        ("a\n\n| b |\r\n# c", r"a \| b \| # c"),
        ("https://evil.example", r"https\://evil.example"),
        ("www.evil.example | `x`", r"www\.evil.example \| \`x\`"),
        ("ada@example.com", r"ada\@example.com"),
        (r"c:\|", r"c:\\\|"),
        (ESCAPE[:3], r"\\x1b\]8"),
    ],
)
def test_a_cell_of_a_table_holds_text_alone(text: str, cell: str) -> None:
    assert escape_markdown(text) == cell


@given(texts)
@example("<a href=x>b</a> <http://x> &amp; &#60; ![a](b) [a]: http://x `` \\` ***b*** __c__ a_b_c")
def test_what_a_cell_is_rendered_as_is_the_text_and_nothing_else(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {escape_markdown(text)} | end |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
    cell, end = [token for token in tokens if token.type == "inline"][2:]
    assert {child.type for child in cell.children or []} <= {"text"}
    assert "".join(child.content for child in cell.children or []) == escape_line(" ".join(text.split()))
    assert end.content == "end"


@given(texts)
def test_a_cell_stays_one(text: str) -> None:
    cell = escape_markdown(text)
    assert "\n" not in cell
    # Like GFM splits a row: a pipe after a backslash that isn't escaped itself doesn't end a cell.
    assert "|" not in re.sub(r"\\.", "", cell)


# Shells


@pytest.mark.parametrize(
    "text", ["a b", "it's", "$x `y`", "-n", ESCAPE, BIDI, "a\nb'c\\d\x1b7", "\udcff\udc801", "é\u202e日"]
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_reads_an_argument_as_it_was(text: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} isn't installed")
    command = f"printf '%s|' {quote_shell(text)}"
    assert is_harmless(command)
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True)  # noqa: S603 - our own text
    assert done.stdout == text.encode("utf-8", "surrogateescape") + b"|"
