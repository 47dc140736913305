"""Ask for confirmation on the terminal."""

import sys
from pathlib import Path
from typing import TextIO

from ...bulk.operations import AnyOperation
from ...escaping import escape_line, escape_lines
from ...pluralization import format_count
from ..exit_status import CommandError
from ..inputs.input_source import STDIN_PATH
from ..output.command_output import show_note


def confirm_rounded_ids(name: str, rounded_count: int, *, is_allowed: bool, can_ask: bool) -> None:
    """Warn about IDs that a spreadsheet may have rounded, and ask if they are right. Raises CommandError.

    `rounded_count`: the number of these IDs. `can_ask`: asking is possible.
    """
    if not rounded_count:
        return
    what = (
        f"{name} contains {rounded_count:,} IDs of 16 or more digits, all with only zeros after the 15th digit, "
        "as if a spreadsheet had rounded them"
    )
    if is_allowed:
        show_note(f"  {escape_line(what)}: accepted because of --allow-rounded")
        return
    if can_ask and ask_to_type(f"{what}.\nType yes if they are right: ", "yes"):
        return
    raise CommandError(f"{what}: export the IDs again, as text; if they are right, add --allow-rounded")


def require_terminal(file: Path | None) -> None:
    """Raise CommandError if asking for confirmation is impossible."""
    if file == STDIN_PATH:
        raise CommandError("can't ask for confirmation, because standard input is the input: add --yes to proceed")
    if not has_terminal():
        raise CommandError("can't ask for confirmation without a terminal: add --yes to proceed")


def has_terminal() -> bool:
    """Return True if the command can ask questions on a terminal."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def _is_terminal(stream: TextIO | None) -> bool:
    """Return True for a terminal. A stream that was closed before the process started is None."""
    return stream is not None and not stream.closed and stream.isatty()


def confirm_job(profile_count: int, base_url: str, operation_spec: AnyOperation) -> None:
    """Ask for confirmation of a job. Raises CommandError."""
    profiles, them = format_count(profile_count, "profile"), "it" if profile_count == 1 else "them"
    what = f"{profiles} will be {operation_spec.participle} at {base_url}. {operation_spec.warning}"
    if not ask_to_type(f"{what}\nType {profile_count} to {operation_spec.name} {them}: ", str(profile_count)):
        raise CommandError(
            f"not confirmed, so nothing was sent: to {operation_spec.name} {them}, type {profile_count} or add --yes"
        )


def ask_to_type(question: str, expected_text: str) -> bool:
    """Ask a question. Return True if the user types the expected answer."""
    print(f"\n{escape_lines(question)}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == expected_text
