"""A standard error that is safe to write to."""

import contextlib
import io
import os
import sys
from pathlib import Path


class _LenientStderr(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()

    def close(self) -> None:
        self.flush()  # keeps the buffer open, because the process owns it


def ignore_stderr_errors() -> None:
    """Discard output to standard error if it is closed, full or a broken pipe."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (2>&-)
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _LenientStderr(
            sys.stderr.buffer, encoding=sys.stderr.encoding, errors=sys.stderr.errors, line_buffering=True
        )
