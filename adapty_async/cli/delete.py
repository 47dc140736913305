"""The command `delete`: check everything, ask, delete, and say what became of it."""

import asyncio
import contextlib
import shlex
import sys
from pathlib import Path
from typing import TextIO

import attrs

from ..bulk.jobs import By
from ..client import AdaptyClient
from .books import Books, FailuresFile
from .exits import CommandError, ExitStatus
from .inputs import STDIN, Checked, open_ids
from .interrupts import Interrupts
from .job import Deletion, Ended
from .pace import Pace
from .screen import screen_for, summary, tell


@attrs.frozen
class Order:
    """What was ordered on the command line."""

    file: Path
    by: By
    column: str | None
    concurrency: int
    pace: Pace
    failures: Path | None
    confirmed: bool


def delete(order: Order) -> ExitStatus:
    """Carry out an order. Raises CommandError where nothing was sent."""
    client = _client()
    if not order.confirmed:
        _require_terminal(order.file)
    with contextlib.ExitStack() as stack:
        ids = stack.enter_context(open_ids(order.file, by=order.by, column=order.column))
        checked = ids.check()
        show_checked(ids.name, checked)
        if not order.confirmed:
            _confirm(checked.profiles, client.base_url)
        failures = stack.enter_context(FailuresFile(order.failures, order.by)) if order.failures else None
        books = Books(checked.rows, failures)
        pacer = stack.enter_context(order.pace.pacer(client))
        deletion = Deletion(client, ids, books, concurrency=order.concurrency, pacer=pacer)
        asyncio.run(_run(client, deletion))
        ended = deletion.end()
    show_ended(ended)
    _show_failed(ended.standing.failed, order)
    return ended.status


async def _run(client: AdaptyClient, deletion: Deletion) -> None:
    async with client:
        with Interrupts() as interrupts:
            await deletion.run(screen_for(sys.stderr), interrupts)


def show_checked(name: str, checked: Checked) -> None:
    """Say what a file holds, and which lines can't be used."""
    lines = [f"{name}: {checked.rows:,} rows, {checked.profiles:,} profiles to delete"]
    if checked.duplicates:
        lines.append(f"  {checked.duplicates:,} rows repeat an id of an earlier line: it is sent once")
    if checked.invalid:
        lines.append(f"  {checked.invalid:,} rows can't be used:")
        lines += [f"    line {row.line}: {row.reason}" for row in checked.first_invalid]
    if checked.invalid > len(checked.first_invalid):
        lines.append("    and more: --failures FILE.csv writes them all down")
    tell("\n".join(lines), sys.stderr)


def show_ended(ended: Ended) -> None:
    """Print the summary, and where it was stopped why, and what to do."""
    tell(summary(ended.standing, ended.report), sys.stdout)
    if ended.reason is not None:
        tell(f"\nstopped: {ended.reason}", sys.stdout)


def _show_failed(failed: int, order: Order) -> None:
    if not failed:
        return
    if order.failures is None:
        tell("--failures FILE.csv writes down which rows failed and why, as a file to feed back.", sys.stderr)
    else:
        tell(f"{order.failures} holds the {failed:,} rows that failed, and why. To try them again:", sys.stderr)
        tell(f"  adapty-async delete {shlex.quote(str(order.failures))} --by {order.by}", sys.stderr)


def _client() -> AdaptyClient:
    try:
        return AdaptyClient.from_env()
    except ValueError as error:
        sentence = str(error)
    if sentence.startswith("base_url"):
        raise CommandError(sentence.replace("base_url", "ADAPTY_BASE_URL", 1))
    raise CommandError(sentence, ExitStatus.CREDENTIALS)


def _require_terminal(file: Path) -> None:
    if file == STDIN:
        raise CommandError("nobody can confirm what comes from standard input: add --yes if it shall be deleted")
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise CommandError("without a terminal nobody can confirm it: add --yes if the profiles shall be deleted")


def _is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody sits there; None is a stream that was closed before the start."""
    return stream is not None and stream.isatty()


def _confirm(profiles: int, base_url: str) -> None:
    print(
        f"\n{profiles:,} profiles will be deleted at {base_url}. That can't be taken back.\n"
        f"Type {profiles} to delete them: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip() != str(profiles):
        raise CommandError(f"not confirmed, so nothing was sent: to delete them, type {profiles} or add --yes")
