"""The command `delete`: check everything, ask, delete, and say what became of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from ..bulk.jobs import undertaking
from ..ledger import Spool, has_job, prepare
from .beforehand import look_through, require_terminal, verified
from .connection import client_of_environment
from .csv_records import InputError
from .exclusion import excluded_by
from .exits import CommandError, ExitStatus
from .failures import check_free
from .inputs import OF_STDIN, Ids, open_ids, open_source
from .interrupts import terminable
from .ledgers import is_lasting, refusing, resume_command
from .order import Order
from .recorded import Recorded
from .unrecorded import delete_unrecorded


@attrs.frozen
class Wish:
    """What is asked of one run. `ledger`: None where there shall be none; `failures`: where to write them down.

    `confirmed`: nobody is to be asked.
    """

    file: Path
    ledger: Path | None
    failures: Path | None
    confirmed: bool


def delete(order: Order, wish: Wish) -> ExitStatus:
    """Carry out an order. Raises CommandError where nothing was sent."""
    with terminable():
        client = client_of_environment(order.timeout)
        if wish.ledger is not None:
            refuse_begun(wish.ledger)
        if not wish.confirmed:
            require_terminal(wish.file)
        if wish.failures is not None:
            check_free(wish.failures)
        excluded = excluded_by(order.exclude, by=order.by, column=order.column)
        if wish.ledger is None:
            return delete_unrecorded(
                client, order, wish.file, failures=wish.failures, excluded=excluded, confirmed=wish.confirmed
            )
        with _lasting_input(order, wish.file, wish.ledger, excluded) as ids:
            look_through(ids, order, client, confirmed=wish.confirmed)
            notes = verified(order, ids)
            order = attrs.evolve(order, file=wish.file.absolute() if is_lasting(wish.file) else None)
            with refusing(ids):
                job = undertaking(client, "delete", order.by)
                prepare(wish.ledger, job, ids.decided(), order=order.as_json(), file=ids.file)
            return Recorded(ids, wish.ledger, order, notes=notes, failures=wish.failures).carry_out(client)


def refuse_begun(ledger: Path) -> None:
    """Refuse to begin a job where there is one. Raises CommandError."""
    with refusing():
        exists = has_job(ledger)
    if exists:
        raise CommandError(
            f"{ledger} holds a job already: for another one name a new ledger by --ledger; to go on with this one, "
            f"type: {resume_command(ledger)}",
            ExitStatus.LEDGER,
        )


@contextlib.contextmanager
def _lasting_input(order: Order, file: Path, ledger: Path, excluded: frozenset[bytes]) -> Iterator[Ids]:
    """Open the input; what can't be read twice is copied first, to a file beside the ledger."""
    spool = None if is_lasting(file) else Spool(ledger)
    if spool is not None:
        with refusing(), open_source(file) as source:
            spool.fill(cast("BinaryIO", _Readable(source, ledger)))
    try:
        with open_ids(
            spool.path if spool else file,
            by=order.by,
            column=order.column,
            accept_damaged=order.accept_damaged,
            excluded=excluded,
            name=OF_STDIN if spool else None,
        ) as ids:
            yield ids
    finally:
        if spool is not None and not ledger.exists():
            spool.discard()


class _Readable:
    """An input whose trouble is told from that of the copy, and which may end when another job has begun."""

    def __init__(self, source: BinaryIO, ledger: Path) -> None:
        self._source = source
        self._ledger = ledger

    def read(self, size: int) -> bytes:
        try:
            content = self._source.read(size)
            if not content:
                refuse_begun(self._ledger)  # whose own copy must not be replaced
            return content
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it isn't open for reading"
        raise InputError(f"{OF_STDIN} can't be copied: {reason}")
