"""The standard streams as a command uses them."""

import io

import pytest

from adapty_async.cli.exit_status import CommandError
from adapty_async.cli.output.standard_streams import read_id_from_stdin


class _Endless(io.StringIO):
    """A standard input without an end of line, as of a device."""

    taken = 0

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        assert 0 < size < 1_000_000
        self.taken += size
        return "0" * size


def test_an_id_is_the_first_line_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("u1\r\nu2\n"))
    assert read_id_from_stdin("show") == "u1"


def test_a_line_without_an_end_is_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = _Endless()
    monkeypatch.setattr("sys.stdin", endless)
    with pytest.raises(CommandError, match="show - found no ID on standard input"):
        read_id_from_stdin("show")
    assert endless.taken < 1_000_000
