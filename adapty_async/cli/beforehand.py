"""What comes before a mass job: the check, the guards, the question, the app."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from ..client import AdaptyClient, anew
from ..escaping import one_line, printable
from ..ledger.keys import APP_ID
from ..ledger.record import OPERATOR, REQUEST
from .changes import Changes
from .exclusion import Exclusion, read_exclusion
from .exits import CommandError
from .feeding import format_of_failures
from .inputs import STDIN, Checked
from .listing import Listing
from .operation import Operation
from .order import Order
from .probe import verify_app
from .screen import tell


def exclusion_of(order: Order, *, may_ask: bool) -> Exclusion:
    """Read the exclude lists of an order. `may_ask`: as in `settle_rounded`. Raises CommandError."""
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
    """Check the input, the exclude lists and the guards, and ask whoever sits there. Raises CommandError.

    `count_left`: tells how many of its profiles are left, where some may be done.
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
    """Verify the app where that is asked for, and give what the record shall say of the run. Raises CommandError.

    The key is that of `client`, which stays unopened.
    """
    notes = notes_of(order)
    app = order.guards.app
    if app is not None:
        to_send = (row.id for row in ids.rows() if row.outcome is None)
        verify_app(anew(client), to_send, by=order.by, app=app)
        notes[APP_ID] = app
    return notes


def notes_of(order: Order) -> dict[str, str]:
    """Say for the record who ordered it, why, and who is left out."""
    notes = {OPERATOR: order.operator, REQUEST: order.request, "exclude": ", ".join(map(str, order.exclude.values()))}
    return {name: note for name, note in notes.items() if note}


def show_checked(name: str, checked: Checked, operation: str, left: int | None = None, *, held: int = 0) -> None:
    """Say what a file holds, how many of its profiles are `left`, and which lines can't be used.

    `held`: the number of ids that are to be held back, whether they stand in the file or not.
    """
    reading = checked.reading
    rest = "" if left in (None, checked.profiles) else f", {left:,} of them still"
    lines = [
        f"{name}: {checked.rows:,} rows, {checked.profiles:,} profiles{rest} to {operation}",
        f"  read as {reading.title}: {reading.column}",
    ]
    if not reading.has_checksums:
        lines.append("  its pages have no checksums: a byte of an id that was damaged on its way isn't noticed")
    if checked.duplicates:
        lines.append(f"  {checked.duplicates:,} rows repeat an id of an earlier line: it is sent once")
    if checked.cleared or checked.emptied:
        lines.append(f"  attributes: {checked.cleared:,} are cleared (null), {checked.emptied:,} set to an empty text")
    if held:
        lines.append(f"  --exclude holds {held:,} ids: {checked.excluded:,} rows are excluded by them")
    if checked.invalid:
        lines.append(f"  {checked.invalid:,} rows can't be used:")
        lines += [f"    {reading.unit} {row.line}: {row.reason}" for row in checked.first_invalid]
    if checked.invalid > len(checked.first_invalid):
        lines.append(f"    and more: --failures FILE.{format_of_failures(reading)} writes them all down")
    tell("\n".join(map(one_line, lines)), sys.stderr)


def settle_rounded(name: str, rounded: int, *, allowed: bool, may_ask: bool) -> None:
    """Warn of ids that a spreadsheet may have rounded, and ask whether they are right. Raises CommandError.

    `rounded`: how many they are; `may_ask`: somebody sits there who can answer.
    """
    if not rounded:
        return
    what = (
        f"{name} holds {rounded:,} ids of 16 digits or more, and all of them have nothing but zeros after the 15th, as "
        "a spreadsheet leaves of other ids"
    )
    if allowed:
        tell(f"  {one_line(what)}: --allow-rounded says that they are right", sys.stderr)
        return
    if may_ask and is_typed(f"{what}.\nType yes if they are right: ", "yes"):
        return
    raise CommandError(f"{what}: export the ids again, as text; if they are right, add --allow-rounded")


def require_terminal(file: Path | None) -> None:
    """Refuse to ask where nobody can answer. Raises CommandError."""
    if file == STDIN:
        raise CommandError("nobody can confirm what comes from standard input: add --yes if that is right")
    if not has_terminal():
        raise CommandError("without a terminal nobody can confirm it: add --yes if that is right")


def has_terminal() -> bool:
    """Tell whether somebody sits there who can be asked."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def _is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody sits there; None is a stream that was closed before the start, another since."""
    return stream is not None and not stream.closed and stream.isatty()


def _confirm(profiles: int, base_url: str, operation: Operation) -> None:
    what = f"{profiles:,} profiles will be {operation.participle} at {base_url}. {operation.warning}"
    if not is_typed(f"{what}\nType {profiles} to {operation.name} them: ", str(profiles)):
        raise CommandError(
            f"not confirmed, so nothing was sent: to {operation.name} them, type {profiles} or add --yes"
        )


def is_typed(question: str, answer: str) -> bool:
    """Ask whoever sits there; tell whether that is the answer."""
    print(f"\n{printable(question)}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == answer
