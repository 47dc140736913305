"""Lines don't depend on the blocks in which a file is read, and a line that is too long affects no other line."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.cli.inputs.line_reader import MAX_LINE_BYTES, TOO_LONG, TOO_LONG_WITH_OPEN_QUOTE, LineReader

LONG = b"x" * (MAX_LINE_BYTES + 1)


@given(st.lists(st.text('a"\r\né\u2028\x0b', min_size=1, max_size=4).map(str.encode)))
def test_lines_are_the_same_wherever_blocks_end(blocks: list[bytes]) -> None:
    text = b"".join(blocks).decode()
    assert list(LineReader(blocks)) == list(io.StringIO(text, newline=""))
    assert list(LineReader(text.encode()[place : place + 1] for place in range(len(text.encode())))) == list(
        LineReader(blocks)
    )


@given(st.lists(st.sampled_from(["a\n", "b\r", "\r\n", "c\r\n"]), min_size=1))
def test_the_last_line_can_be_had_again(lines: list[str]) -> None:
    read = LineReader(line.encode() for line in lines)
    for line in read:
        assert read.get_last_line() == line


@pytest.mark.parametrize(
    "blocks",
    [
        [LONG, b"\nu2\n"],
        [LONG + b"\r", b"u2\n"],
        [LONG + b"\r", b"\nu2\n"],
        [LONG, b"x", b"x\r\nu2\n"],
        [LONG, b"\r", b"\nu2\n"],
        [LONG, b"x\ru2\n"],
        [b'"' + LONG, b'x"\nu2\n'],
    ],
)
def test_after_a_line_that_is_too_long_the_next_is_read(blocks: list[bytes]) -> None:
    assert list(LineReader([b"u0\n", *blocks])) == ["u0\n", f"{TOO_LONG}\n", "u2\n"]


@pytest.mark.parametrize("blocks", [[LONG, b'"\nu2\n'], [b'"' + LONG, b'"', b'"\nu2\n'], [LONG, b'""x"\ru2\n']])
def test_of_a_line_that_is_too_long_it_is_known_whether_a_quote_is_open(blocks: list[bytes]) -> None:
    assert list(LineReader(blocks)) == [f"{TOO_LONG_WITH_OPEN_QUOTE}\n", "u2\n"]


def test_carriage_returns_alone_end_lines_of_any_number() -> None:
    assert sum(line == "u\r" for line in LineReader([b"u\r" * MAX_LINE_BYTES, b"u\r"])) == MAX_LINE_BYTES + 1
