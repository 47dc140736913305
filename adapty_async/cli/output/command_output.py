"""The output of a command apart from its screen: results, notes, events for programs, tracebacks."""

import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import attrs

from ...escaping import dump_json, escape_lines
from ..exit_status import CommandError, ExitStatus

if TYPE_CHECKING:
    from ...http.sender import Attempt

logger: Final = logging.getLogger("adapty_async")
_attempt_logger: Final = logging.getLogger("adapty_async.attempts")
"""Only for the log file. A screen shows one line for each kind of error."""

_MAX_SHOWN_KINDS: Final = 3
# Errors that aren't problems: an absent profile is an outcome, and the pacer measures the rate limit by 429s. Both are
# counted elsewhere on the screen.
_NOT_FOUND_ERRORS: Final = {"ProfileNotFoundError", "NotFoundError"}
_EXPECTED_ERRORS: Final = {*_NOT_FOUND_ERRORS, "RateLimitError"}


def echo(text: str, stream: TextIO) -> None:
    """Print a text. If the stream can't be written, such as a broken pipe, discard it: the job must not end."""
    try:
        print(escape_lines(text), file=stream, flush=True)
    except OSError:
        redirect_to_devnull(stream)


def show_note(text: str) -> None:
    """Print a text that is neither an error nor a result to standard error, unless --quiet is given."""
    if not get_output().quiet:
        echo(text, sys.stderr)


def redirect_to_devnull(stream: TextIO) -> None:
    """Discard the further output of a stream, including the rest of its buffer that is flushed at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class RecentErrors:
    """The last kinds of errors of the requests: their class and status, never their text."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, datetime]] = {}

    def record(self, attempt: "Attempt") -> None:
        """Count an attempt if it failed."""
        if attempt.error is None or attempt.error in _EXPECTED_ERRORS:
            return
        kind = _format_error_kind(attempt)
        times, _ = self._seen.pop(kind, (0, None))
        self._seen[kind] = (times + 1, datetime.now().astimezone())

    def format_lines(self) -> tuple[str, ...]:
        """Return a line for each of the last kinds, the latest first."""
        last = list(reversed(self._seen.items()))[:_MAX_SHOWN_KINDS]
        return tuple(f"{at:%H:%M:%S}  {kind}{f', {times:,} times' if times > 1 else ''}" for kind, (times, at) in last)


def _format_error_kind(attempt: "Attempt") -> str:
    return f"{attempt.error} {attempt.status or ''}".rstrip()


@attrs.define
class Output:
    """The output options of a command.

    Attributes:
        json: Whether events for programs are written to standard output. Text for people then goes to standard error.
        log_file: The file for the library's log.
        quiet: Whether only errors and the result are shown.
        debug: Whether errors show a traceback.
        recent_errors: The last kinds of errors of the requests.
    """

    json: bool = False
    log_file: Path | None = None
    quiet: bool = False
    debug: bool = False
    recent_errors: RecentErrors = attrs.field(factory=RecentErrors)
    _summary: dict[str, Any] = attrs.field(factory=dict, init=False)

    def emit_event(self, event: str, **fields: Any) -> None:
        """Write an event if --json is given."""
        if self.json:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            echo(dump_json({"event": event, "at": at, **fields}), sys.stdout)

    def print_result(self, text: str, **fields: Any) -> None:
        """Print the result of a command. With --json, the figures become part of the event `end` instead."""
        self._summary.update(fields)
        if not self.json:
            echo(text, sys.stdout)

    def record_attempt(self, attempt: "Attempt") -> None:
        """Record an attempt for the screen and the log file if it failed."""
        self.recent_errors.record(attempt)
        if attempt.error is not None and attempt.error not in _NOT_FOUND_ERRORS:
            retry_text = "" if attempt.retry_in is None else f", again in {attempt.retry_in:.3f} s"
            text = "%s, attempt %d: %s after %.3f s%s"
            _attempt_logger.info(
                text, attempt.method, attempt.number, _format_error_kind(attempt), attempt.elapsed, retry_text
            )

    def emit_end(self, status: int, error: str | None) -> None:
        """Report the end of the command."""
        logger.info("the command ends with exit status %d%s", status, f": {error}" if error else "")
        self.emit_event("end", **self._summary, error=error, status=status)

    def print_traceback(self, error: BaseException) -> None:
        """Show a traceback if --debug is given, without values or the error's text, which may contain an ID."""
        if not self.debug:
            return
        chain: BaseException | None = error
        while chain is not None:
            frames = "".join(traceback.format_tb(chain.__traceback__))
            echo(f"Traceback (most recent call last):\n{frames}{type(chain).__qualname__}", sys.stderr)
            chain = chain.__cause__ or chain.__context__


_current_output: Final = ContextVar("output", default=Output())  # noqa: B039 - the default collects no figures that two commands could mix up


def get_output() -> Output:
    """Return the output options of the running command."""
    return _current_output.get()


@contextlib.contextmanager
def use_output(output: Output) -> Iterator[None]:
    """Use these output options within the block."""
    token = _current_output.set(output)
    try:
        yield
    finally:
        _current_output.reset(token)


def build_internal_error(error: Exception) -> CommandError:
    """Return an error with the place of an unexpected exception, without its text, which may be private.

    Two failures of the system may happen anywhere, and have a remedy.
    """
    get_output().print_traceback(error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and error.filename is not None:
        return CommandError(f"the name of {os.fsdecode(error.filename)} is too long: choose a shorter one")
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return CommandError(
            f"{error.strerror}: raise the limit (ulimit -n), then run the command again", ExitStatus.FAILED
        )
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return CommandError(
        f"internal error ({type(error).__name__} in {place}): please report this line; --debug shows a traceback",
        ExitStatus.FAILED,
    )
