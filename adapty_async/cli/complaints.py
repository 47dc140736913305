"""Standard error: what can't be said there is lost, and changes nothing about how a command ends."""

import contextlib
import io
import os
import sys
from pathlib import Path


class _Complaints(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()

    def close(self) -> None:
        self.flush()  # what it writes to is the process's


def let_be_lost() -> None:
    """Let what is said on standard error be lost where it is closed, full, or a pipe that nobody reads."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - so it is where it was closed (2>&-)
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process runs
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Complaints(
            sys.stderr.buffer, encoding=sys.stderr.encoding, errors=sys.stderr.errors, line_buffering=True
        )
