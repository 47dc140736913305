"""Check whether a job may be resumed with the current API key."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import attrs

from ...bulk import Outcome
from ...bulk.api import job_spec
from ...bulk.operations import ABSENT_OUTCOMES, OPERATIONS, Effect
from ...client import AdaptyClient, clone_client
from ...ledger import LedgerReader, Row, Status
from ...ledger.job_api_key import APP_ID_NOTE
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus
from ..inputs.damaged_ids import find_invisible
from ..inputs.job_input import JobInput
from ..options import Allowances
from ..output.standard_streams import ID_FROM_STDIN, read_id_from_stdin
from .app_check import verify_app
from .job_options import JobOptions
from .ledger_access import format_mismatch, is_stdin, translate_ledger_errors

ACCEPTED_OUTCOMES: Final = frozenset(
    spec.done_outcome for spec in OPERATIONS.values() if spec.effect in {Effect.CHANGE, Effect.REMOVE}
)
"""Outcomes after which a job must not be resumed in another app. A created profile itself shows the app."""
_WITNESS_ADVICE: Final = (
    "name an existing profile with --witness-id ID (- reads the ID from standard input), or check the key"
)


@attrs.frozen
class KeyCheck:
    """How the key of a run relates to the job.

    Attributes:
        is_new: Whether the key differs from that of the last run.
        app: The app of the job, or None if it isn't known.
        is_verification_needed: Whether the app must be verified with a profile that exists, usually a listed one.
        was_app_unknown: Whether the last key may have belonged to another app, so that profiles that were absent
            with it may exist.
    """

    is_new: bool
    app: str | None
    is_verification_needed: bool
    was_app_unknown: bool


def check_job_key(
    reader: LedgerReader,
    client: AdaptyClient,
    job_options: JobOptions,
    requested_app: UUID | None,
    *,
    allow_new_key: bool,
    retry_outcomes: frozenset[Outcome],
    allow_appended: bool,
) -> KeyCheck:
    """Check the key and the app of a job. If nothing is left to send, any key is accepted.

    Args:
        reader: The ledger of the job.
        client: The client with the current key.
        job_options: The job options.
        requested_app: The app named by --app.
        allow_new_key: Whether --new-key allows another key.
        retry_outcomes: Rows with one of these outcomes are sent again.
        allow_appended: Whether rows may have been added to the input.

    Raises:
        CommandError: If the job can't be resumed with this key.
    """
    spec = job_spec(client, job_options.operation, job_options.by)
    if spec.base_url != reader.job.base_url:
        raise CommandError(f"{format_mismatch('server')}: {reader.job.base_url}", ExitStatus.LEDGER)
    is_new = reader.last_key != spec.key_fingerprint
    if is_new and not allow_new_key:
        raise CommandError(format_mismatch("key"), ExitStatus.LEDGER)
    app, verified_app = _determine_app(reader, job_options, requested_app), _find_verified_app(reader)
    is_key_replaced = is_new and any(run.touched or APP_ID_NOTE in run.notes for run in reader.runs)
    key_check = KeyCheck(is_new=is_new, app=app, is_verification_needed=False, was_app_unknown=False)
    if not is_key_replaced and (app is None or (requested_app is None and verified_app is not None)):
        return key_check
    is_app_unknown = is_key_replaced and verified_app is None
    status = reader.status()
    accepted = sum(status.counts.get(outcome, 0) for outcome in ACCEPTED_OUTCOMES)
    sent_outcomes = retry_outcomes | (ABSENT_OUTCOMES if is_app_unknown and not accepted else frozenset())
    if not (allow_appended or _count_rows_to_send(status, sent_outcomes)):
        return key_check
    if is_app_unknown and accepted:  # even --app wouldn't help
        raise _build_mixed_apps_error(reader, accepted)
    if app is None:
        raise _build_unknown_app_error(reader, "add --app UUID")
    return KeyCheck(is_new=is_new, app=app, is_verification_needed=True, was_app_unknown=is_app_unknown)


def read_witness_id(witness_id: str | None, file: Path | None, allowances: Allowances) -> str | None:
    """Return the ID given by --witness-id, reading it from standard input if it is "-". Raises CommandError.

    `file` is the input named by --input.
    """
    if witness_id == ID_FROM_STDIN:
        if file is not None and is_stdin(file):
            raise CommandError(
                "standard input is already the input of the job: put the rows into a file and name it with --input"
            )
        witness_id = read_id_from_stdin("--witness-id")
    if witness_id is not None and not allowances.invisible and (name := find_invisible(witness_id)):
        raise CommandError(f"the ID of --witness-id contains an invisible character, {name}: remove it")
    return witness_id


def _find_verified_app(reader: LedgerReader) -> str | None:
    """Return the app that a run verified last."""
    return next((run.notes[APP_ID_NOTE] for run in reversed(reader.runs) if APP_ID_NOTE in run.notes), None)


def _determine_app(reader: LedgerReader, job_options: JobOptions, requested_app: UUID | None) -> str | None:
    """Return the app of a job. Raises CommandError if it differs from `requested_app`, the app named by --app."""
    known = _find_verified_app(reader) or job_options.app
    if requested_app is not None and known not in (None, str(requested_app)):
        raise CommandError(
            f"the job of {reader.path} is for app {known}, not {requested_app}: for that app, name a new "
            "ledger with --ledger",
            ExitStatus.LEDGER,
        )
    return known or (None if requested_app is None else str(requested_app))


def _build_unknown_app_error(reader: LedgerReader, advice: str) -> CommandError:
    return CommandError(
        f"{reader.path} doesn't record the app of its job, so the app of the new key can't be compared with "
        f"it: {advice}"
    )


def _build_mixed_apps_error(reader: LedgerReader, accepted_count: int) -> CommandError:
    """Return the error that profiles were changed under an unknown app, which may not be that of the new key."""
    participle = OPERATIONS[reader.job.operation].participle
    return CommandError(
        f"{format_count(accepted_count, 'profile')} of {reader.path} {'was' if accepted_count == 1 else 'were'} "
        f"{participle} with a key whose app no run has verified "
        "(--app), so the app of the new key can't be compared with it: resume with the old key, or start again with "
        "another ledger",
        ExitStatus.LEDGER,
    )


def _count_rows_to_send(status: Status, outcomes: frozenset[Outcome]) -> int:
    """Count the rows to send: those without an outcome, and those with an outcome in `outcomes`."""
    return status.waiting + status.claimed + sum(status.counts.get(outcome, 0) for outcome in outcomes)


def verify_job_app(
    key_check: KeyCheck,
    reader: LedgerReader,
    job_input: JobInput,
    job_options: JobOptions,
    witness_id: str | None,
    client: AdaptyClient,
) -> dict[str, str]:
    """Verify with the profile `witness_id`, or else a listed one, that the key of `client` is for the app of the job.

    Return the note for the record. Raises CommandError if the app can't be verified.
    """
    assert key_check.app is not None
    existing_outcomes = job_options.operation_spec.existing_outcomes | (
        ABSENT_OUTCOMES if key_check.was_app_unknown else frozenset()
    )

    def iter_listed_ids() -> Iterator[str]:
        rows: Iterator[tuple[Row, object]] = reader.rows_with_ids(job_input.iter_raw_ids())
        yield from (str(id_) for row, id_ in rows if row.standing in existing_outcomes)

    ids_to_try = itertools.chain(() if witness_id is None else (witness_id,), iter_listed_ids())
    with translate_ledger_errors(job_input):
        verify_app(
            clone_client(client, timeout=job_options.speed_options.timeout),
            ids_to_try,
            by=job_options.by,
            app=key_check.app,
            advice=_WITNESS_ADVICE,
        )
    return {APP_ID_NOTE: key_check.app}


def verify_same_app(
    reader: LedgerReader, job_input: JobInput, job_options: JobOptions, witness_id: str | None, client: AdaptyClient
) -> None:
    """Verify that the key for a verification is for the app of the job. Raises CommandError if it isn't."""
    app = _find_verified_app(reader)
    if app is None:
        raise _build_unknown_app_error(reader, "verify it with the key of its last run")
    key_check = KeyCheck(is_new=True, app=app, is_verification_needed=True, was_app_unknown=False)
    verify_job_app(key_check, reader, job_input, job_options, witness_id, client)
