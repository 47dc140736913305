"""Counts in messages."""

import re
from pathlib import Path

import pytest

from adapty_async.pluralization import format_count

PACKAGE = Path(__file__).parents[1] / "adapty_async"


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2, ("row",), "2 rows"),
        (1234, ("row is", "rows are"), "1,234 rows are"),
        (1, ("row is", "rows are"), "1 row is"),
    ],
)
def test_a_count_has_the_number_of_its_noun(count: int, words: tuple[str, ...], text: str) -> None:
    assert format_count(count, *words) == text


# Numbers that are never 1 there, or follow another number, as in "1 of 5 rows".
ALLOWED = {
    "{profile_count:,} profiles",
    "{profiles:,} profiles",
    "{times:,} times",
    "{count:,} IDs",
    "{MAX_UNCOUNTED_PROFILES:,} profiles",
    "{rows:,} rows",
    "{rounded_count:,} IDs",
    "{expected:,} rows",
}


def test_no_message_puts_a_plural_after_any_number() -> None:
    found = {
        text
        for path in PACKAGE.rglob("*.py")
        for text in re.findall(r"\{[^{}]*:,\} [a-zA-Z -]*?s\b", path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
