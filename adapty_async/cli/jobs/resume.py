"""The commands `resume` and `retry-failed`: start the next run of a job with the same input."""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import attrs

from ...bulk import Outcome
from ...bulk.api import undertaking
from ...client import AdaptyClient, anew, sender_of
from ...ledger import Held, LedgerReader, prepare, reopen
from ...ledger.chunks import UNSENT
from ...ledger.files import open_regular, translated
from ...ledger.prepare import note_order
from ..exit_codes import CommandError, ExitStatus
from ..inputs.allowances import Allowances
from ..inputs.bulk_input import Listing
from ..inputs.exclude_lists import Exclusion
from .client import client_of_environment
from .failed_rows import check_free
from .finished import RETRIED, is_finished, show_finished
from .guards import Guards
from .keys import Key, key_for, known_of, show_app
from .ledger_files import (
    hold,
    input_of,
    is_lasting,
    open_ledger,
    opened,
    order_of,
    refuse_needed,
    refusing,
    telling_how_to_go_on,
)
from .options import Order
from .pace import Pace
from .preflight import exclusion_of, has_terminal, look_through, notes_of, refuse_fleeting, require_terminal
from .run import Recorded
from .stored_paths import Places


@attrs.frozen(kw_only=True)
class Terms:
    """The options of resume. None keeps the value stored in the ledger.

    Attributes:
        retry: Whether failed and in-doubt rows are sent again.
        file: The new path of the input.
        column: The new name of the ID column.
        appended: Whether rows were added at the end of the input.
        new_key: Whether another key of the same app is accepted.
        known: The ID of a profile that exists in the app, or `-` to read it from standard input.
        confirmed: Whether --yes confirms that added rows are sent.
        failures: The file for the failed rows, or None to write none.
        exclude: Further exclude lists.
    """

    retry: bool
    file: Path | None
    column: str | None
    appended: bool
    new_key: bool
    known: str | None = attrs.field(repr=False)
    confirmed: bool
    failures: Path | None
    concurrency: int | None
    timeout: float | None
    pace: str | None
    max_rate: str | None
    expect: int | None
    most: int | None
    app: UUID | None
    max_failures: str | None
    max_absent: str | None
    canary: bool
    operator: str | None
    request: str | None
    exclude: Sequence[Path]
    allows: Allowances

    @property
    def retried(self) -> frozenset[Outcome]:
        """Rows with one of these outcomes are sent again."""
        return RETRIED if self.retry else frozenset()

    @property
    def want_no_ids(self) -> bool:
        """Whether none of the options needs the IDs of rows that are done."""
        return not (self.file or self.failures or self.appended or self.exclude)

    def applied_to(self, order: Order) -> Order:
        """Return the job options of this run."""
        before = order.guards
        guards = Guards.of(
            expect=before.expect if self.expect is None else self.expect,
            most=before.most if self.most is None else self.most,
            app=self.app or (None if before.app is None else UUID(before.app)),
            most_failures=self.max_failures or before.most_failures,
            canary=self.canary and before.canary,
            most_absent=self.max_absent or before.most_absent,
        )
        return attrs.evolve(
            order,
            file=self.file.absolute() if self.file is not None and is_lasting(self.file) else order.file,
            column=self.column or order.column,
            guards=guards,
            pace=_pace(order.pace, self.pace, self.max_rate),
            concurrency=self.concurrency or order.concurrency,
            timeout=self.timeout or order.timeout,
            allows=order.allows | self.allows,
            operator=self.operator or order.operator,
            request=self.request or order.request,
            failures=None if self.failures is None else self.failures.absolute(),
        )


def _pace(before: Pace, wanted: str | None, most: str | None) -> Pace:
    asked = Pace.of(wanted or "background", most)
    return Pace(asked.wanted if wanted else before.wanted, asked.most if most is not None else before.most)


@attrs.frozen
class _Job:
    """A job that can be resumed, with a locked ledger.

    Attributes:
        ledger: The ledger.
        held: The lock of the ledger.
        ordered: The stored job options.
        order: The job options of this run.
        exclusion: The exclude lists.
        ids: The input.
        is_same: Whether the input has the same bytes and the same ID column as before.
        last_key: The fingerprint of the last run's key.
        key: How the current key relates to the job.
    """

    ledger: Path
    held: Held
    ordered: Order
    order: Order
    exclusion: Exclusion
    ids: Listing
    is_same: bool
    last_key: str
    key: Key


def resume(ledger: Path, terms: Terms) -> ExitStatus:
    """Resume the job of a ledger. Raises CommandError if nothing was sent."""
    with contextlib.ExitStack() as stack:
        client = client_of_environment()
        if terms.failures is not None:
            refuse_needed(terms.failures, ledger)
            check_free(terms.failures)
        with open_ledger(ledger) as reader:
            if terms.want_no_ids and _is_over(reader):
                return _show_finished(reader, client, terms)
        held = stack.enter_context(hold(ledger))
        with telling_how_to_go_on(ledger, "retry-failed" if terms.retried else "resume"):
            with open_ledger(ledger) as reader:
                known = known_of(terms.known, terms.file, order_of(reader).allows | terms.allows)
                job = _look_into(reader, held, client, terms, stack)
            if not job.is_same:
                _compare(job, client, terms)
            # The lists can only be compared with an input that matches the ledger.
            job.exclusion.check(job.ids, job.order.allows)
            _keep_holds(job)
            shown = _shown_app(job, client, known)
            recorded = Recorded(
                job.ids,
                ledger,
                held,
                _with_app(job, is_shown=bool(shown)),
                sender_of(client).transport.key_fingerprint,
                retry=terms.retried,
                new_key=job.key.is_new,
                app=job.key.app,
                notes=notes_of(job.order) | shown,
                failures=terms.failures,
            )
        return recorded.carry_out(anew(client, timeout=job.order.timeout))


def _look_into(
    reader: LedgerReader, held: Held, client: AdaptyClient, terms: Terms, stack: contextlib.ExitStack
) -> _Job:
    ordered = order_of(reader)
    key = _key_for(reader, client, ordered, terms)
    refuse_fleeting([*ordered.exclude.values(), *terms.exclude])
    order = with_lists(reader, terms.applied_to(ordered), terms.exclude)
    exclusion = exclusion_of(order, may_ask=has_terminal() and not terms.confirmed)
    order = attrs.evolve(order, allows=order.allows | Allowances(rounded=exclusion.is_rounded))
    ids = stack.enter_context(opened(reader, order, terms.file, excluded=exclusion.excluded))
    if not terms.appended:
        _check_numbers(reader, order, terms)
    with refusing(ids):
        is_same = order.column == ordered.column and reader.is_of(ids.file)
    return _Job(reader.path, held, ordered, order, exclusion, ids, is_same, reader.last_key, key)


def _key_for(reader: LedgerReader, client: AdaptyClient, ordered: Order, terms: Terms) -> Key:
    return key_for(
        reader,
        client,
        ordered,
        terms.app,
        may_be_new=terms.new_key,
        retried=terms.retried,
        appended=terms.appended,
    )


def _check_numbers(reader: LedgerReader, order: Order, terms: Terms) -> None:
    """Check --expect and --max of this run. Those of earlier runs were checked on the same rows."""
    asked = attrs.evolve(order.guards, expect=terms.expect, most=terms.most)
    asked.check(_profiles_in(reader), order.does, confirmed=False)


def _is_over(reader: LedgerReader) -> bool:
    """Return True if a job is finished and its input is gone, as a spool of standard input is after the job."""
    return not input_of(reader.path, order_of(reader)).exists() and is_finished(reader)


def _show_finished(reader: LedgerReader, client: AdaptyClient, terms: Terms) -> ExitStatus:
    """Show the result of a finished job whose input is gone, after the usual checks. Raises CommandError."""
    ordered = order_of(reader)
    order = terms.applied_to(ordered)
    _key_for(reader, client, ordered, terms)
    _check_numbers(reader, order, terms)
    return show_finished(reader, order)


def _keep_holds(job: _Job) -> None:
    """Store the exclude lists before anything else can fail, because the next command may not name them again."""
    if job.order.exclude:  # even if it is the same list, because its content may have changed
        order = attrs.evolve(job.ordered, exclude=job.order.exclude, allows=job.order.allows)
        with refusing():
            note_order(job.held, order.as_json(job.ledger), order.exclude)


def _shown_app(job: _Job, client: AdaptyClient, known: str | None) -> dict[str, str]:
    """Verify the app of the key if necessary, and return the note for the record. Raises CommandError.

    If the last key was of an unknown app, all rows that were absent with it are reopened, to be sent again.
    """
    if not job.key.is_to_be_shown:
        return {}
    with refusing(job.ids), LedgerReader(job.ledger) as reader:
        shown = show_app(job.key, reader, job.ids, job.order, known, client)
    if job.key.was_of_unknown_app:
        with refusing():
            reopen(job.ledger, held=job.held)
    return shown


def _with_app(job: _Job, *, is_shown: bool) -> Order:
    """Return the job options of the run. An app that wasn't verified isn't stored for later runs."""
    guards = job.order.guards
    return job.order if is_shown else attrs.evolve(job.order, guards=attrs.evolve(guards, app=job.ordered.guards.app))


def _compare(job: _Job, client: AdaptyClient, terms: Terms) -> None:
    """Compare the input with the ledger row by row, and add the appended rows to the ledger."""
    if terms.appended:
        if not terms.confirmed:
            require_terminal(None)
        look_through(
            job.ids,
            job.order,
            client,
            job.exclusion,
            confirmed=terms.confirmed,
            count_left=functools.partial(_count_left, job),
        )
    with refusing(job.ids):
        prepare(
            job.ledger,
            # Only the run records a new key, after the app was verified with an existing profile.
            attrs.evolve(undertaking(client, job.order.operation, job.order.by), key_fingerprint=job.last_key),
            job.ids.decided(),
            order=job.ordered.as_json(job.ledger),
            file=job.ids.file,
            appended=terms.appended,
            held=job.held,
        )


def _count_left(job: _Job) -> int:
    """Count the rows that would be sent: those that were added and those without an outcome."""
    with refusing(job.ids), LedgerReader(job.ledger) as reader:
        pairs = itertools.zip_longest(reader.rows(), job.ids.rows())
        return sum(
            row is not None and row.outcome is None and (known is None or known.outcome is None) for known, row in pairs
        )


def _profiles_in(reader: LedgerReader) -> int:
    status = reader.status()
    return status.known - sum(status.counts.get(outcome, 0) for outcome in UNSENT)


def with_lists(reader: LedgerReader, order: Order, given: Sequence[Path]) -> Order:
    """Add exclude lists to those of a job. Raises CommandError.

    A missing list is replaced by a given file with the same content. A file at another place than that of the list may
    be a different list, so its content is compared too.
    """
    places = Places(reader.path, reader.order["ledger"])
    lists, new = {}, [file.absolute() for file in given]
    for name, file in order.exclude.items():
        if file.exists() and places.is_home(reader.order["exclude"][name], file):
            lists[name] = file
            continue
        same = next((other for other in (file, *new) if _is_list(reader, name, other)), None)
        if same is None:
            raise _lost(name, file, given)
        lists[name] = same
    return attrs.evolve(order, exclude=lists).with_excluded(new)


def _is_list(reader: LedgerReader, name: str, file: Path) -> bool:
    """Return True if a file has the recorded content of an exclude list. Raises CommandError."""
    if not file.exists():
        return False
    with refusing(), translated(file), open_regular(file) as content:
        return reader.is_exclude_list(name, content)


def _lost(name: str, file: Path, given: Sequence[Path]) -> CommandError:
    what = f"isn't the exclude list {name} that this job had: its content differs"
    todo = f"put {name} back as it was, or name an unchanged copy of it with --exclude"
    if file.exists():
        return CommandError(f"--exclude: {file} {what}: {todo}")
    if given:
        return CommandError(f"--exclude: {file} doesn't exist, and {given[0]} {what}: {todo}")
    return CommandError(f"--exclude: {file} doesn't exist, and its IDs must not be sent: {todo}")
