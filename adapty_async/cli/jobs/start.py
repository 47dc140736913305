"""Start a job: check the input and the guards, ask for confirmation, run it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast
from uuid import UUID

import attrs

from ...bulk.api import By, undertaking
from ...client import AdaptyClient
from ...ledger import Held, Spool, has_job, prepare
from ..exit_codes import CommandError, ExitStatus
from ..inputs.allowances import Allowances
from ..inputs.attribute_mapping import Assignment
from ..inputs.bulk_input import Listing
from ..inputs.exclude_lists import Exclusion
from ..inputs.files import OF_STDIN, open_source
from ..inputs.formats import format_of_name
from ..inputs.rows import Excluded, Format, InputError
from .client import client_of_environment
from .failed_rows import check_free
from .guards import Guards
from .ledger_files import (
    beside,
    hold,
    is_lasting,
    refuse_needed,
    refuse_own,
    refusing,
    resume_command,
    telling_how_to_go_on,
)
from .options import Order, open_listing
from .pace import Pace
from .preflight import exclusion_of, look_through, refuse_fleeting, require_terminal, verified
from .run import Recorded, on_temporary_ledger


@attrs.frozen(kw_only=True)
class Asked:
    """The options of a new job, as given on the command line.

    `confirmed`: don't ask for confirmation. `failures`: the failed rows file. `assignment`: the attributes to write.
    """

    operation: str
    file: Path
    by: By
    column: str | None
    format: Format | None
    concurrency: int
    timeout: float
    pace: str
    max_rate: str | None
    failures: Path | None
    confirmed: bool
    expect: int | None
    most: int | None
    max_failures: str | None
    canary: bool
    exclude: Sequence[Path]
    accept_damaged: bool
    allows: Allowances
    ledger: Path | None
    has_ledger: bool
    operator: str | None
    request: str | None
    app: UUID | None = None
    max_absent: str | None = None
    assignment: Assignment | None = None

    def order(self) -> Order:
        """Return the parsed options. Raises CommandError."""
        return Order(
            operation=self.operation,
            assignment=self.assignment,
            file=None,
            by=self.by,
            column=self.column,
            pace=Pace.of(self.pace, self.max_rate),
            concurrency=self.concurrency,
            timeout=self.timeout,
            guards=Guards.of(
                expect=self.expect,
                most=self.most,
                app=self.app,
                most_failures=self.max_failures,
                canary=self.canary,
                most_absent=self.max_absent,
            ),
            exclude_column=self.column,
            accept_damaged=self.accept_damaged,
            allows=self.allows,
            format=self.format,
            operator=self.operator,
            request=self.request,
            failures=None if self.failures is None else self.failures.absolute(),
        ).with_excluded(file.absolute() for file in self.exclude)

    def its_ledger(self) -> Path | None:
        """Return the path of the ledger, or None without one. Raises CommandError."""
        if not self.has_ledger and self.ledger is not None:
            raise CommandError("--ledger and --no-ledger contradict each other: leave one out")
        return (self.ledger or beside(self.file)) if self.has_ledger else None


def begin(asked: Asked) -> ExitStatus:
    """Create the ledger of a job and run it. Raises CommandError if nothing was sent."""
    ledger, order = asked.its_ledger(), asked.order()
    with contextlib.ExitStack() as stack:
        client = client_of_environment(order.timeout)
        held = None if ledger is None else stack.enter_context(_reserved(ledger, asked.file, order))
        if not asked.confirmed:
            require_terminal(asked.file)
        if asked.failures is not None:
            if ledger is not None:
                refuse_needed(asked.failures, ledger)  # first, because some files of the ledger exist already
            check_free(asked.failures)
        exclusion = exclusion_of(order, may_ask=not asked.confirmed)
        if ledger is None or held is None:
            ids = stack.enter_context(open_listing(order, asked.file, excluded=exclusion.excluded))
            order, notes = _checked(ids, order, client, exclusion, confirmed=asked.confirmed)
            with on_temporary_ledger(ids, client, order, notes=notes, failures=asked.failures) as temporary:
                return temporary.carry_out(client)
        copied = stack.enter_context(contextlib.ExitStack())
        ids = stack.enter_context(_lasting_input(order, asked.file, ledger, exclusion.excluded, copied))
        with telling_how_to_go_on(ledger):
            order, notes = _checked(ids, order, client, exclusion, confirmed=asked.confirmed)
            lasting = asked.file.absolute() if is_lasting(asked.file) else None
            order = attrs.evolve(order, file=lasting, format=ids.reading().format)
            with refusing(ids):
                job = undertaking(client, order.operation, order.by)
                prepare(
                    ledger,
                    job,
                    ids.decided(),
                    order=order.as_json(ledger),
                    file=ids.file,
                    exclude_lists=order.exclude,
                    held=held,
                )
            copied.pop_all()  # the job owns the copy from here, even if the ledger is removed
            recorded = Recorded(
                ids,
                ledger,
                held,
                order,
                job.key_fingerprint,
                app=order.guards.app,
                notes=notes,
                failures=asked.failures,
            )
        return recorded.carry_out(client)


def _checked(
    ids: Listing, order: Order, client: AdaptyClient, exclusion: Exclusion, *, confirmed: bool
) -> tuple[Order, dict[str, str]]:
    """Check the input, ask, and verify the app. Return the checked job options and the notes of the run."""
    checked = look_through(ids, order, client, exclusion, confirmed=confirmed)
    is_rounded = bool(checked.rounded) or exclusion.is_rounded  # and the operator has allowed it
    order = attrs.evolve(order, allows=order.allows | Allowances(rounded=is_rounded))
    return order, verified(order, ids, client)


def refuse_begun(ledger: Path) -> None:
    """Raise CommandError if the ledger already holds a job."""
    with refusing():
        exists = has_job(ledger)
    if exists:
        raise CommandError(
            f"{ledger} already contains a job: for another job name a new ledger with --ledger; to resume this one, "
            f"type: {resume_command(ledger)}",
            ExitStatus.LEDGER,
        )


def _check_place(ledger: Path) -> None:
    """Raise CommandError if the ledger can't be created. Called before the input is read, which may take long."""
    if not os.access(ledger.parent, os.W_OK):
        raise CommandError(
            f"{ledger} can't be created in {ledger.parent}: create that folder, check its permissions, or name another "
            "ledger with --ledger",
            ExitStatus.LEDGER,
        )


@contextlib.contextmanager
def _reserved(ledger: Path, file: Path, order: Order) -> Iterator[Held]:
    """Lock the ledger, so that no other command starts or resumes a job in it. Raises CommandError."""
    with refusing():
        for each in (file, *order.exclude.values()):
            refuse_own(each, ledger)
    refuse_begun(ledger)
    _check_place(ledger)
    with hold(ledger) as held:
        refuse_begun(ledger)  # another command may have finished a job before the lock
        Spool(ledger).sweep()
        refuse_fleeting(order.exclude.values())
        yield held


def _discard_without(ledger: Path, spool: Spool) -> None:
    with contextlib.suppress(OSError):  # the folder may have become inaccessible
        if not ledger.exists():
            spool.discard()


@contextlib.contextmanager
def _lasting_input(
    order: Order, file: Path, ledger: Path, excluded: Excluded, copied: contextlib.ExitStack
) -> Iterator[Listing]:
    """Open the input. An input that can't be read twice is first copied to a file next to the ledger.

    `copied`: removes the copy if no ledger is created.
    """
    spool = None if is_lasting(file) else Spool(ledger)
    if spool is not None:
        with refusing(), open_source(file) as source:
            spool.fill(cast("BinaryIO", _Readable(source)))
        copied.callback(_discard_without, ledger, spool)
    name = OF_STDIN if spool else None
    named = format_of_name(file) if spool else None  # a file shows its format by its name
    with open_listing(order, spool.path if spool else file, excluded=excluded, name=name, named=named) as ids:
        yield ids


class _Readable:
    """An input whose errors are reported separately from those of the copy."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it isn't open for reading"
        raise InputError(f"{OF_STDIN} can't be copied: {reason}")
