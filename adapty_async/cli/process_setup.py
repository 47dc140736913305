"""Set up the process: no core files, and a standard error that is safe to write to."""

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


def disable_core_files() -> None:
    """Disable core files for this process and its children.

    The process stays "dumpable" (Linux). Otherwise the user couldn't attach a debugger or a profiler such as py-spy to
    a job that seems to hang. A crash handler in core_pattern may therefore still write a copy; those of systemd and
    Ubuntu respect this limit.
    """
    with contextlib.suppress(ImportError):  # Windows has neither
        import resource

        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; the command works without
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
