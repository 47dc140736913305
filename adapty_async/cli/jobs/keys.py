"""Decide whether a job may be resumed with the current API key."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import attrs

from ...bulk import Outcome
from ...bulk.api import undertaking
from ...client import AdaptyClient, anew
from ...ledger import LedgerReader, Row, Status
from ...ledger.last_key import APP_ID
from ..exit_codes import CommandError, ExitStatus
from ..inputs.allowances import Allowances
from ..inputs.bulk_input import Listing
from ..inputs.damage import invisible_in
from ..output.streams import FROM_STDIN, id_of_stdin
from .ledger_files import MISMATCHES, is_stdin, refusing
from .options import Order
from .probe import verify_app

ACCEPTED: Final = (Outcome.DELETED, Outcome.UPDATED)
"""Outcomes after which a job must not be resumed in another app. A created profile itself shows the app."""
_WHAT_TO_DO: Final = "name an existing profile with --known ID (- reads the ID from standard input), or check the key"
_ABSENT: Final = frozenset({Outcome.ALREADY_ABSENT, Outcome.NOT_FOUND, Outcome.DELETED_UNCONFIRMED})


@attrs.frozen
class Key:
    """How the key of a run relates to the job.

    Attributes:
        is_new: Whether the key differs from that of the last run.
        app: The app of the job, or None if it isn't known.
        is_to_be_shown: Whether the app must be verified with a profile that exists, usually a listed one.
        was_of_unknown_app: Whether the last key may have belonged to another app, so that profiles that were absent
            with it may exist.
    """

    is_new: bool
    app: str | None
    is_to_be_shown: bool
    was_of_unknown_app: bool


def key_for(
    reader: LedgerReader,
    client: AdaptyClient,
    ordered: Order,
    given: UUID | None,
    *,
    may_be_new: bool,
    retried: frozenset[Outcome],
    appended: bool,
) -> Key:
    """Check the key and the app of a job. If nothing is left to send, any key is accepted.

    Args:
        reader: The ledger of the job.
        client: The client with the current key.
        ordered: The job options.
        given: The app named by --app.
        may_be_new: Whether --new-key allows another key.
        retried: Rows with one of these outcomes are sent again.
        appended: Whether rows may have been added to the input.

    Raises:
        CommandError: If the job can't be resumed with this key.
    """
    job = undertaking(client, ordered.operation, ordered.by)
    if job.base_url != reader.job.base_url:
        raise CommandError(f"{MISMATCHES['server']}: {reader.job.base_url}", ExitStatus.LEDGER)
    is_new = reader.last_key != job.key_fingerprint
    if is_new and not may_be_new:
        raise CommandError(MISMATCHES["key"], ExitStatus.LEDGER)
    app, recorded = _app_of(reader, ordered, given), _recorded_app(reader)
    is_exchanged = is_new and any(run.touched or APP_ID in run.notes for run in reader.runs)
    any_will_do = Key(is_new=is_new, app=app, is_to_be_shown=False, was_of_unknown_app=False)
    if not is_exchanged and (app is None or (given is None and recorded is not None)):
        return any_will_do
    is_of_unknown_app = is_exchanged and recorded is None
    status = reader.status()
    accepted = sum(status.counts.get(outcome, 0) for outcome in ACCEPTED)
    again = retried | (_ABSENT if is_of_unknown_app and not accepted else frozenset())
    if not (appended or _due(status, again)):
        return any_will_do
    if app is None:
        raise _app_unknown(reader, "add --app UUID")
    if is_of_unknown_app and accepted:
        raise _mixed(reader, accepted)
    return Key(is_new=is_new, app=app, is_to_be_shown=True, was_of_unknown_app=is_of_unknown_app)


def known_of(known: str | None, file: Path | None, allows: Allowances) -> str | None:
    """Return the ID given by --known, reading it from standard input if it is "-". Raises CommandError.

    `file` is the input named by --input.
    """
    if known == FROM_STDIN:
        if file is not None and is_stdin(file):
            raise CommandError(
                "standard input is already the input of the job: put the rows into a file and name it with --input"
            )
        known = id_of_stdin("--known")
    if known is not None and not allows.invisible and (name := invisible_in(known)):
        raise CommandError(f"the ID of --known contains an invisible character, {name}: remove it")
    return known


def _recorded_app(reader: LedgerReader) -> str | None:
    """Return the app that a run verified last."""
    return next((run.notes[APP_ID] for run in reversed(reader.runs) if APP_ID in run.notes), None)


def _app_of(reader: LedgerReader, ordered: Order, given: UUID | None) -> str | None:
    """Return the app of a job. Raises CommandError if it differs from `given`, the app named by --app."""
    known = _recorded_app(reader) or ordered.guards.app
    if given is not None and known not in (None, str(given)):
        raise CommandError(
            f"the job of {reader.path} is for app {known}, not {given}: for that app, name a new ledger with --ledger",
            ExitStatus.LEDGER,
        )
    return known or (None if given is None else str(given))


def _app_unknown(reader: LedgerReader, todo: str) -> CommandError:
    return CommandError(
        f"{reader.path} doesn't record the app of its job, so the app of the new key can't be compared with it: {todo}"
    )


def _mixed(reader: LedgerReader, accepted: int) -> CommandError:
    """Return the error that profiles were changed under an unknown app, which may not be that of the new key."""
    return CommandError(
        f"{accepted:,} profiles of {reader.path} were {reader.job.operation}d with a key whose app no run has verified "
        "(--app), so the app of the new key can't be compared with it: resume with the old key, or start again with "
        "another ledger",
        ExitStatus.LEDGER,
    )


def _due(status: Status, again: frozenset[Outcome]) -> int:
    """Count the rows to send: those without an outcome, and those with an outcome in `again`."""
    return status.waiting + status.claimed + sum(status.counts.get(outcome, 0) for outcome in again)


def show_app(
    key: Key, reader: LedgerReader, ids: Listing, order: Order, known: str | None, client: AdaptyClient
) -> dict[str, str]:
    """Verify with the profile `known`, or else with a listed one, that the key of `client` is for the app of the job.

    Return the note for the record. Raises CommandError if the app can't be verified.
    """
    assert key.app is not None
    shown_by = order.does.existing | (_ABSENT if key.was_of_unknown_app else frozenset())

    def listed() -> Iterator[str]:
        rows: Iterator[tuple[Row, object]] = reader.joined(ids.plain())
        yield from (str(id_) for row, id_ in rows if row.standing in shown_by)

    asked_for = itertools.chain(() if known is None else (known,), listed())
    with refusing(ids):
        verify_app(anew(client, timeout=order.timeout), asked_for, by=order.by, app=key.app, todo=_WHAT_TO_DO)
    return {APP_ID: key.app}


def show_same_app(reader: LedgerReader, ids: Listing, order: Order, known: str | None, client: AdaptyClient) -> None:
    """Verify that the key for a verification is for the app of the job. Raises CommandError if it isn't."""
    app = _recorded_app(reader)
    if app is None:
        raise _app_unknown(reader, "verify it with the key of its last run")
    key = Key(is_new=True, app=app, is_to_be_shown=True, was_of_unknown_app=False)
    show_app(key, reader, ids, order, known, client)
