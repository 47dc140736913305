"""The commands `resume` and `retry-failed`: start the next run of a job with the same input."""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import attrs

from ...bulk import Outcome
from ...bulk.api import job_spec
from ...client import AdaptyClient, clone_client, get_sender
from ...ledger import LedgerLock, LedgerReader, prepare, reopen
from ...ledger.chunks import UNSENT_OUTCOMES
from ...ledger.files import open_regular_file, translate_errors
from ...ledger.job_preparation import update_job_options
from ..exit_status import CommandError, ExitStatus
from ..inputs.exclude_lists import ExcludeLists
from ..inputs.job_input import JobInput
from ..options import GuardOptions, ResumeOptions
from .client_from_env import create_client_from_env
from .confirmation import has_terminal, require_terminal
from .failed_rows_file import check_new_file
from .finished_job import RETRYABLE_OUTCOMES, is_finished, show_finished_job
from .guards import Guards
from .job_key_check import KeyCheck, check_job_key, read_witness_id, verify_job_app
from .job_options import JobOptions
from .ledger_access import (
    acquire_ledger_lock,
    get_input_path,
    is_rereadable,
    open_ledger,
    open_unchecked_input,
    read_job_options,
    refuse_job_file,
    show_resume_hint_on_interrupt,
    translate_ledger_errors,
)
from .ledger_job import LedgerJob
from .preflight import build_notes, load_exclude_lists, require_rereadable, run_preflight
from .stored_paths import FileLocator


@attrs.frozen
class _ResumedJob:
    """A job that can be resumed, with a locked ledger.

    Attributes:
        ledger: The ledger.
        lock: The lock of the ledger.
        stored_options: The stored job options.
        job_options: The job options of this run.
        exclude_lists: The exclude lists.
        job_input: The input.
        is_input_unchanged: Whether the input has the same bytes and the same ID column as before.
        last_key_fingerprint: The fingerprint of the last run's key.
        key_check: How the current key relates to the job.
    """

    ledger: Path
    lock: LedgerLock
    stored_options: JobOptions
    job_options: JobOptions
    exclude_lists: ExcludeLists
    job_input: JobInput
    is_input_unchanged: bool
    last_key_fingerprint: str
    key_check: KeyCheck


def resume(resume_options: ResumeOptions, *, is_retry: bool = False) -> ExitStatus:
    """Resume the job of a ledger. Raises CommandError if nothing was sent.

    `is_retry`: failed and in-doubt rows are sent again.
    """
    ledger, retry_outcomes = resume_options.ledger, RETRYABLE_OUTCOMES if is_retry else frozenset[Outcome]()
    with contextlib.ExitStack() as stack:
        client = create_client_from_env()
        if resume_options.failures is not None:
            refuse_job_file(resume_options.failures, ledger)
            check_new_file(resume_options.failures)
        with open_ledger(ledger) as reader:
            if _is_input_optional(resume_options) and _is_finished_without_input(reader):
                return _show_finished_job(reader, client, resume_options, retry_outcomes)
        lock = stack.enter_context(acquire_ledger_lock(ledger))
        with show_resume_hint_on_interrupt(ledger, "retry-failed" if is_retry else "resume"):
            with open_ledger(ledger) as reader:
                witness_id = read_witness_id(
                    resume_options.new_key_options.witness_id,
                    resume_options.file,
                    resume_options.allowances.apply_to(read_job_options(reader).allowances),
                )
                job = _open_job(reader, lock, client, resume_options, retry_outcomes, stack)
            if not job.is_input_unchanged:
                _compare_input(job, client, resume_options)
            # The lists can only be compared with an input that matches the ledger.
            job.exclude_lists.check(job.job_input, job.job_options.allowances)
            _store_exclude_lists(job)
            app_note = _verify_app(job, client, witness_id)
            ledger_job = LedgerJob(
                job.job_input,
                ledger,
                lock,
                _drop_unverified_app(job, is_app_verified=bool(app_note)),
                get_sender(client).transport.key_fingerprint,
                retry_outcomes=retry_outcomes,
                is_key_new=job.key_check.is_new,
                app=job.key_check.app,
                notes=build_notes(job.job_options) | app_note,
                failures=resume_options.failures,
            )
        return ledger_job.execute(clone_client(client, timeout=job.job_options.speed_options.timeout))


def _is_input_optional(resume_options: ResumeOptions) -> bool:
    """Return True if none of the options needs the IDs of rows that are done."""
    return not (
        resume_options.file or resume_options.failures or resume_options.allow_appended or resume_options.exclude
    )


def _override_options(job_options: JobOptions, resume_options: ResumeOptions) -> JobOptions:
    """Return the job options of this run, except its exclude lists. Raises CommandError."""
    if "max_absent" in resume_options.guard_options.given and not job_options.operation_spec.has_absent_limit:
        raise CommandError(
            f"--max-absent is for deletions, but the operation of this ledger is {job_options.operation}: leave it out"
        )
    file, column = resume_options.file, resume_options.column or job_options.input_options.column
    return attrs.evolve(
        job_options,
        file=file.absolute() if file is not None and is_rereadable(file) else job_options.file,
        input_options=attrs.evolve(job_options.input_options, column=column),
        speed_options=resume_options.speed_options.apply_to(job_options.speed_options),
        guard_options=resume_options.guard_options.apply_to(job_options.guard_options),
        allowances=resume_options.allowances.apply_to(job_options.allowances),
        app=job_options.app if resume_options.app is None else str(resume_options.app),
        record_options=resume_options.record_options.apply_to(job_options.record_options),
        failures=None if resume_options.failures is None else resume_options.failures.absolute(),
    )


def _open_job(
    reader: LedgerReader,
    lock: LedgerLock,
    client: AdaptyClient,
    resume_options: ResumeOptions,
    retry_outcomes: frozenset[Outcome],
    stack: contextlib.ExitStack,
) -> _ResumedJob:
    stored_options, new_files = read_job_options(reader), resume_options.exclude or []
    key_check = _check_key(reader, client, stored_options, resume_options, retry_outcomes)
    require_rereadable([*stored_options.exclude.values(), *new_files])
    job_options = add_exclude_lists(reader, _override_options(stored_options, resume_options), new_files)
    exclude_lists = load_exclude_lists(job_options, can_ask=has_terminal() and not resume_options.yes)
    job_options = job_options.with_rounded_allowed(exclude_lists.has_rounded_ids)
    job_input = stack.enter_context(
        open_unchecked_input(reader, job_options, resume_options.file, excluded_ids=exclude_lists.excluded_ids)
    )
    if not resume_options.allow_appended:
        _check_profile_count(reader, job_options, resume_options)
    with translate_ledger_errors(job_input):
        is_same_column = job_options.input_options.column == stored_options.input_options.column
        is_input_unchanged = is_same_column and reader.is_input_file(job_input.file)
    return _ResumedJob(
        reader.path,
        lock,
        stored_options,
        job_options,
        exclude_lists,
        job_input,
        is_input_unchanged,
        reader.last_key,
        key_check,
    )


def _check_key(
    reader: LedgerReader,
    client: AdaptyClient,
    stored_options: JobOptions,
    resume_options: ResumeOptions,
    retry_outcomes: frozenset[Outcome],
) -> KeyCheck:
    return check_job_key(
        reader,
        client,
        stored_options,
        resume_options.app,
        allow_new_key=resume_options.new_key_options.new_key,
        retry_outcomes=retry_outcomes,
        allow_appended=resume_options.allow_appended,
    )


def _check_profile_count(reader: LedgerReader, job_options: JobOptions, resume_options: ResumeOptions) -> None:
    """Check --expect and --max of this run. Those of earlier runs were checked on the same rows."""
    guards = Guards(resume_options.guard_options.apply_to(GuardOptions()))
    guards.check(_count_all_profiles(reader), job_options.operation_spec, is_confirmed=False)


def _is_finished_without_input(reader: LedgerReader) -> bool:
    """Return True if a job is finished and its input is gone, as a spool of standard input is after the job."""
    return not get_input_path(reader.path, read_job_options(reader)).exists() and is_finished(reader)


def _show_finished_job(
    reader: LedgerReader, client: AdaptyClient, resume_options: ResumeOptions, retry_outcomes: frozenset[Outcome]
) -> ExitStatus:
    """Show the result of a finished job whose input is gone, after the usual checks. Raises CommandError."""
    stored_options = read_job_options(reader)
    job_options = _override_options(stored_options, resume_options)
    _check_key(reader, client, stored_options, resume_options, retry_outcomes)
    _check_profile_count(reader, job_options, resume_options)
    return show_finished_job(reader, job_options)


def _store_exclude_lists(job: _ResumedJob) -> None:
    """Store the exclude lists before anything else can fail, because the next command may not name them again."""
    if job.job_options.exclude:  # even if it is the same list, because its content may have changed
        job_options = attrs.evolve(
            job.stored_options, exclude=job.job_options.exclude, allowances=job.job_options.allowances
        )
        with translate_ledger_errors():
            update_job_options(job.lock, job_options.to_dict(job.ledger), job_options.exclude)


def _verify_app(job: _ResumedJob, client: AdaptyClient, witness_id: str | None) -> dict[str, str]:
    """Verify the app of the key if necessary, and return the note for the record. Raises CommandError.

    If the last key was of an unknown app, all rows that were absent with it are reopened, to be sent again.
    """
    if not job.key_check.is_verification_needed:
        return {}
    with translate_ledger_errors(job.job_input), LedgerReader(job.ledger) as reader:
        app_note = verify_job_app(job.key_check, reader, job.job_input, job.job_options, witness_id, client)
    if job.key_check.was_app_unknown:
        with translate_ledger_errors():
            reopen(job.ledger, lock=job.lock)
    return app_note


def _drop_unverified_app(job: _ResumedJob, *, is_app_verified: bool) -> JobOptions:
    """Return the job options of the run. An app that wasn't verified isn't stored for later runs."""
    return job.job_options if is_app_verified else attrs.evolve(job.job_options, app=job.stored_options.app)


def _compare_input(job: _ResumedJob, client: AdaptyClient, resume_options: ResumeOptions) -> None:
    """Compare the input with the ledger row by row, and add the appended rows to the ledger."""
    if resume_options.allow_appended:
        if not resume_options.yes:
            require_terminal(None)
        run_preflight(
            job.job_input,
            job.job_options,
            client,
            job.exclude_lists,
            is_confirmed=resume_options.yes,
            count_remaining_rows=functools.partial(_count_remaining_rows, job),
        )
    with translate_ledger_errors(job.job_input):
        prepare(
            job.ledger,
            # Only the run records a new key, after the app was verified with an existing profile.
            attrs.evolve(
                job_spec(client, job.job_options.operation, job.job_options.by),
                key_fingerprint=job.last_key_fingerprint,
            ),
            job.job_input.iter_marked_items(),
            job_options=job.stored_options.to_dict(job.ledger),
            file=job.job_input.file,
            appended=resume_options.allow_appended,
            lock=job.lock,
        )


def _count_remaining_rows(job: _ResumedJob) -> int:
    """Count the rows that would be sent: those that were added and those without an outcome."""
    with translate_ledger_errors(job.job_input), LedgerReader(job.ledger) as reader:
        pairs = itertools.zip_longest(reader.rows(), job.job_input.iter_rows())
        return sum(
            row is not None and row.outcome is None and (known is None or known.outcome is None) for known, row in pairs
        )


def _count_all_profiles(reader: LedgerReader) -> int:
    status = reader.status()
    return status.known - sum(status.counts.get(outcome, 0) for outcome in UNSENT_OUTCOMES)


def add_exclude_lists(reader: LedgerReader, job_options: JobOptions, new_files: Sequence[Path]) -> JobOptions:
    """Add exclude lists to those of a job. Raises CommandError.

    A missing list is replaced by a given file with the same content. A file at another place than that of the list may
    be a different list, so its content is compared too.
    """
    locator = FileLocator(reader.path, reader.job_options["ledger"])
    lists, new_paths = {}, [file.absolute() for file in new_files]
    for name, file in job_options.exclude.items():
        if file.exists() and locator.is_original(reader.job_options["exclude"][name], file):
            lists[name] = file
            continue
        same = next((other for other in (file, *new_paths) if _is_recorded_list(reader, name, other)), None)
        if same is None:
            raise _build_lost_list_error(name, file, new_files)
        lists[name] = same
    return attrs.evolve(job_options, exclude=lists).with_exclude_lists(new_paths)


def _is_recorded_list(reader: LedgerReader, name: str, file: Path) -> bool:
    """Return True if a file has the recorded content of an exclude list. Raises CommandError."""
    if not file.exists():
        return False
    with translate_ledger_errors(), translate_errors(file), open_regular_file(file) as content:
        return reader.is_exclude_list(name, content)


def _build_lost_list_error(name: str, file: Path, new_files: Sequence[Path]) -> CommandError:
    what = f"isn't the exclude list {name} that this job had: its content differs"
    advice = f"put {name} back as it was, or name an unchanged copy of it with --exclude"
    if file.exists():
        return CommandError(f"--exclude: {file} {what}: {advice}")
    if new_files:
        return CommandError(f"--exclude: {file} doesn't exist, and {new_files[0]} {what}: {advice}")
    return CommandError(f"--exclude: {file} doesn't exist, and its IDs must not be sent: {advice}")
