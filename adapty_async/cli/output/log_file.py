"""The log file of a command, which contains neither IDs nor the key."""

import contextlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...escaping import escape_line

logger: Final = logging.getLogger("adapty_async")

_LOG_TIMESTAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


class _LogFileHandler(logging.Handler):
    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a log that can't be written must not end the job
            os.write(self._descriptor, f"{escape_line(self.format(record))}\n".encode())


class _LogFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None


@contextlib.contextmanager
def log_to_file(path: Path | None) -> Iterator[None]:
    """Write the library's log to a private file. It contains neither IDs nor the key. Raises OSError, ValueError."""
    if path is None:
        yield
        return
    level, descriptor = logger.level, _open_log_file(path)
    handler = _LogFileHandler(descriptor)
    handler.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("the command begins, as process %d", os.getpid())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        os.close(descriptor)


def _open_log_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            if not _LOG_TIMESTAMP.match(os.pread(descriptor, 32, 0) or b"2000-01-01T00:00:00Z "):
                raise ValueError("it exists and isn't a log of this command: name a new file")
            os.fchmod(descriptor, 0o600)
    except BaseException:  # including an interrupt: the descriptor would stay open
        os.close(descriptor)
        raise
    return descriptor
