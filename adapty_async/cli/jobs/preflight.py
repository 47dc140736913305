"""The preflight of a job: check the input, the guards and the app, and ask for confirmation."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from ...client import AdaptyClient, anew
from ...escaping import one_line, printable
from ...ledger.last_key import APP_ID
from ...ledger.record import OPERATOR, REQUEST
from ..exit_codes import CommandError
from ..inputs.bulk_input import Listing
from ..inputs.changes import Changes
from ..inputs.exclude_lists import Exclusion, read_exclusion
from ..inputs.files import STDIN
from ..inputs.ids import Checked
from ..output.screen import tell
from .failed_rows_command import format_of_failures
from .ledger_files import is_lasting
from .operations import Operation
from .options import Order
from .probe import verify_app


def exclusion_of(order: Order, *, may_ask: bool) -> Exclusion:
    """Read the exclude lists of a job. `may_ask`: as in `settle_rounded`. Raises CommandError."""
    exclusion = read_exclusion(order.exclude, by=order.by, column=order.exclude_column, allows=order.allows)
    for each in exclusion.lists:
        settle_rounded(f"--exclude: {each.file}", each.rounded, allowed=order.allows.rounded, may_ask=may_ask)
    return exclusion


def look_through(
    ids: Listing,
    order: Order,
    client: AdaptyClient,
    exclusion: Exclusion,
    *,
    confirmed: bool,
    count_left: Callable[[], int] | None = None,
) -> Checked:
    """Check the input, the exclude lists and the guards, and ask for confirmation. Raises CommandError.

    `count_left`: returns the number of profiles left, for a job that has been run before.
    """
    checked = ids.check()
    left = checked.profiles if count_left is None else count_left()
    show_checked(ids.name, checked, order.operation, left, held=len(ids.excluded))
    if isinstance(ids, Changes):
        tell(f"  {one_line(ids.summary)}", sys.stderr)
    exclusion.check(ids, order.allows)
    settle_rounded(ids.name, checked.rounded, allowed=order.allows.rounded, may_ask=not confirmed)
    order.guards.check(checked.profiles, order.does, confirmed=confirmed)
    if not confirmed:
        _confirm(left, client.base_url, order.does)
    return checked


def verified(order: Order, ids: Listing, client: AdaptyClient) -> dict[str, str]:
    """Verify the app if one is given, and return the notes of the run for the record. Raises CommandError.

    The request uses the key of `client`, but doesn't open it.
    """
    notes = notes_of(order)
    app = order.guards.app
    if app is not None:
        to_send = (row.id for row in ids.rows() if row.outcome is None)
        verify_app(anew(client), to_send, by=order.by, app=app)
        notes[APP_ID] = app
    return notes


def notes_of(order: Order) -> dict[str, str]:
    """Return notes for the record: the operator, the reason and the exclude lists."""
    notes = {OPERATOR: order.operator, REQUEST: order.request, "exclude": ", ".join(map(str, order.exclude.values()))}
    return {name: note for name, note in notes.items() if note}


def show_checked(name: str, checked: Checked, operation: str, left: int | None = None, *, held: int = 0) -> None:
    """Show the contents of a file, how many of its profiles are `left`, and its invalid lines.

    `held`: the number of IDs on the exclude lists, whether they are in the file or not.
    """
    reading = checked.reading
    rest = "" if left in (None, checked.profiles) else f", {left:,} of them still"
    lines = [
        f"{name}: {checked.rows:,} rows, {checked.profiles:,} profiles{rest} to {operation}",
        f"  read as {reading.title}: {reading.column}",
    ]
    if not reading.has_checksums:
        lines.append("  its pages have no checksums: damaged bytes in IDs aren't detected")
    if checked.duplicates:
        lines.append(f"  {checked.duplicates:,} rows repeat an ID of an earlier line; each ID is sent once")
    if checked.cleared or checked.emptied:
        lines.append(f"  attributes: {checked.cleared:,} are cleared (null), {checked.emptied:,} set to an empty text")
    if held:
        lines.append(f"  --exclude lists {held:,} IDs: {checked.excluded:,} rows are excluded")
    if checked.invalid:
        lines.append(f"  {checked.invalid:,} rows are invalid:")
        lines += [f"    {reading.unit} {row.line}: {row.reason}" for row in checked.first_invalid]
    if checked.invalid > len(checked.first_invalid):
        lines.append(f"    and more: --failures FILE.{format_of_failures(reading)} writes all of them")
    tell("\n".join(map(one_line, lines)), sys.stderr)


def settle_rounded(name: str, rounded: int, *, allowed: bool, may_ask: bool) -> None:
    """Warn about IDs that a spreadsheet may have rounded, and ask if they are right. Raises CommandError.

    `rounded`: the number of these IDs. `may_ask`: asking is possible.
    """
    if not rounded:
        return
    what = (
        f"{name} contains {rounded:,} IDs of 16 or more digits, all with only zeros after the 15th digit, "
        "as if a spreadsheet had rounded them"
    )
    if allowed:
        tell(f"  {one_line(what)}: accepted because of --allow-rounded", sys.stderr)
        return
    if may_ask and is_typed(f"{what}.\nType yes if they are right: ", "yes"):
        return
    raise CommandError(f"{what}: export the IDs again, as text; if they are right, add --allow-rounded")


def require_terminal(file: Path | None) -> None:
    """Raise CommandError if asking for confirmation is impossible."""
    if file == STDIN:
        raise CommandError("can't ask for confirmation, because standard input is the input: add --yes to proceed")
    if not has_terminal():
        raise CommandError("can't ask for confirmation without a terminal: add --yes to proceed")


def has_terminal() -> bool:
    """Return True if the command can ask questions on a terminal."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def _is_terminal(stream: TextIO | None) -> bool:
    """Return True for a terminal. A stream that was closed before the process started is None."""
    return stream is not None and not stream.closed and stream.isatty()


def _confirm(profiles: int, base_url: str, operation: Operation) -> None:
    what = f"{profiles:,} profiles will be {operation.participle} at {base_url}. {operation.warning}"
    if not is_typed(f"{what}\nType {profiles} to {operation.name} them: ", str(profiles)):
        raise CommandError(
            f"not confirmed, so nothing was sent: to {operation.name} them, type {profiles} or add --yes"
        )


def is_typed(question: str, answer: str) -> bool:
    """Ask a question. Return True if the user types the expected answer."""
    print(f"\n{printable(question)}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == answer


def refuse_fleeting(files: Iterable[Path]) -> None:
    """Refuse lists that a later run can't read again and would therefore ignore. Raises CommandError."""
    for file in files:
        if not is_lasting(file):
            raise CommandError(
                f"--exclude: {file} can't be read again when the job is resumed, and its IDs must not be sent "
                "then either: write them to a file"
            )
