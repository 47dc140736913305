"""Start a job: check the input and the guards, ask for confirmation, run it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from ...bulk.api import job_spec
from ...client import AdaptyClient
from ...ledger import LedgerLock, Spool, has_job, prepare
from ..exit_status import CommandError, ExitStatus
from ..inputs.exclude_lists import ExcludeLists
from ..inputs.format_detection import infer_format
from ..inputs.input_source import STDIN_LABEL, open_source
from ..inputs.input_types import ExcludedIds, InputError
from ..inputs.job_input import JobInput
from ..option_group_conversion import to_cli_options
from ..options import FormatName, StartOptions
from .client_from_env import create_client_from_env
from .confirmation import require_terminal
from .failed_rows_file import check_new_file
from .job_options import JobOptions, open_job_input
from .ledger_access import (
    acquire_ledger_lock,
    derive_ledger_path,
    format_resume_command,
    is_rereadable,
    refuse_job_file,
    refuse_ledger_file,
    show_resume_hint_on_interrupt,
    translate_ledger_errors,
)
from .ledger_job import LedgerJob, create_temporary_job
from .plan import plan_job
from .preflight import load_exclude_lists, require_rereadable, run_preflight, verify_app_and_build_notes


def start_job(operation: str, start_options: StartOptions) -> ExitStatus:
    """Create the ledger of a job and run it. Raises CommandError if nothing was sent."""
    ledger = _find_ledger_path(start_options)
    job_options = JobOptions.from_options(operation, start_options)
    if start_options.dry_run:
        return plan_job(job_options, start_options.file, more_options=_list_unplanned_options(start_options))
    job_options = job_options.with_absolute_paths()
    with contextlib.ExitStack() as stack:
        client = create_client_from_env(job_options.speed_options.timeout)
        lock = None if ledger is None else stack.enter_context(_reserve_ledger(ledger, start_options.file, job_options))
        if not start_options.yes:
            require_terminal(start_options.file)
        if start_options.failures is not None:
            if ledger is not None:
                refuse_job_file(start_options.failures, ledger)  # first, because some files of the ledger exist already
            check_new_file(start_options.failures)
        exclude_lists = load_exclude_lists(job_options, can_ask=not start_options.yes)
        if ledger is None or lock is None:
            job_input = stack.enter_context(
                open_job_input(job_options, start_options.file, excluded_ids=exclude_lists.excluded_ids)
            )
            job_options, notes = _run_checks(
                job_input, job_options, client, exclude_lists, is_confirmed=start_options.yes
            )
            with create_temporary_job(
                job_input, client, job_options, notes=notes, failures=start_options.failures
            ) as temporary_job:
                return temporary_job.execute(client)
        copy_cleanup = stack.enter_context(contextlib.ExitStack())
        job_input = stack.enter_context(
            _open_rereadable_input(job_options, start_options.file, ledger, exclude_lists.excluded_ids, copy_cleanup)
        )
        with show_resume_hint_on_interrupt(ledger):
            job_options, notes = _run_checks(
                job_input, job_options, client, exclude_lists, is_confirmed=start_options.yes
            )
            job_options = attrs.evolve(
                job_options,
                file=start_options.file.absolute() if is_rereadable(start_options.file) else None,
                input_options=attrs.evolve(
                    job_options.input_options, format=FormatName(job_input.read_schema().format)
                ),
            )
            with translate_ledger_errors(job_input):
                spec = job_spec(client, job_options.operation, job_options.by)
                prepare(
                    ledger,
                    spec,
                    job_input.iter_marked_items(),
                    job_options=job_options.to_dict(ledger),
                    file=job_input.file,
                    exclude_lists=job_options.exclude,
                    lock=lock,
                )
            copy_cleanup.pop_all()  # the job owns the copy from here, even if the ledger is removed
            ledger_job = LedgerJob(
                job_input,
                ledger,
                lock,
                job_options,
                spec.key_fingerprint,
                app=job_options.app,
                notes=notes,
                failures=start_options.failures,
            )
        return ledger_job.execute(client)


def _list_unplanned_options(start_options: StartOptions) -> list[str]:
    """Return the given options that don't change what --dry-run shows."""
    groups = (start_options.guard_options, start_options.ledger_options, start_options.record_options)
    single = (("--app", start_options.app), ("--failures", start_options.failures))
    return [
        *(word for group in groups for word in to_cli_options(group)),
        *(word for name, value in single if value is not None for word in (name, str(value))),
    ]


def _find_ledger_path(start_options: StartOptions) -> Path | None:
    """Return the path of the ledger, or None without one. Raises CommandError."""
    ledger_options = start_options.ledger_options
    if not ledger_options.no_ledger:
        return ledger_options.ledger or derive_ledger_path(start_options.file)
    if ledger_options.ledger is not None:
        raise CommandError("--ledger and --no-ledger contradict each other: leave one out")
    return None


def _run_checks(
    job_input: JobInput,
    job_options: JobOptions,
    client: AdaptyClient,
    exclude_lists: ExcludeLists,
    *,
    is_confirmed: bool,
) -> tuple[JobOptions, dict[str, str]]:
    """Check the input, ask, and verify the app. Return the checked job options and the notes of the run."""
    input_summary = run_preflight(job_input, job_options, client, exclude_lists, is_confirmed=is_confirmed)
    is_rounded = bool(input_summary.rounded_count) or exclude_lists.has_rounded_ids  # and the operator has allowed it
    job_options = job_options.with_rounded_allowed(is_rounded)
    return job_options, verify_app_and_build_notes(job_options, job_input, client)


def refuse_existing_job(ledger: Path) -> None:
    """Raise CommandError if the ledger already holds a job."""
    with translate_ledger_errors():
        exists = has_job(ledger)
    if exists:
        raise CommandError(
            f"{ledger} already contains a job: for another job name a new ledger with --ledger; to resume this one, "
            f"type: {format_resume_command(ledger)}",
            ExitStatus.LEDGER,
        )


def _check_ledger_folder(ledger: Path) -> None:
    """Raise CommandError if the ledger can't be created. Called before the input is read, which may take long."""
    if not os.access(ledger.parent, os.W_OK):
        raise CommandError(
            f"{ledger} can't be created in {ledger.parent}: create that folder, check its permissions, or name another "
            "ledger with --ledger",
            ExitStatus.LEDGER,
        )


@contextlib.contextmanager
def _reserve_ledger(ledger: Path, file: Path, job_options: JobOptions) -> Iterator[LedgerLock]:
    """Lock the ledger, so that no other command starts or resumes a job in it. Raises CommandError."""
    with translate_ledger_errors():
        for each in (file, *job_options.exclude.values()):
            refuse_ledger_file(each, ledger)
    refuse_existing_job(ledger)
    _check_ledger_folder(ledger)
    with acquire_ledger_lock(ledger) as lock:
        refuse_existing_job(ledger)  # another command may have finished a job before the lock
        Spool(ledger).sweep()
        require_rereadable(job_options.exclude.values())
        yield lock


def _discard_orphaned_spool(ledger: Path, spool: Spool) -> None:
    with contextlib.suppress(OSError):  # the folder may have become inaccessible
        if not ledger.exists():
            spool.discard()


@contextlib.contextmanager
def _open_rereadable_input(
    job_options: JobOptions, file: Path, ledger: Path, excluded_ids: ExcludedIds, copy_cleanup: contextlib.ExitStack
) -> Iterator[JobInput]:
    """Open the input. An input that can't be read twice is first copied to a file next to the ledger.

    `copy_cleanup`: removes the copy if no ledger is created.
    """
    spool = None if is_rereadable(file) else Spool(ledger)
    if spool is not None:
        with translate_ledger_errors(), open_source(file) as source:
            spool.fill(cast("BinaryIO", _InputErrorSource(source)))
        copy_cleanup.callback(_discard_orphaned_spool, ledger, spool)
    name = STDIN_LABEL if spool else None
    implied_format = infer_format(file) if spool else None  # a file shows its format by its name
    with open_job_input(
        job_options, spool.path if spool else file, excluded_ids=excluded_ids, name=name, implied_format=implied_format
    ) as job_input:
        yield job_input


class _InputErrorSource:
    """An input whose errors are reported separately from those of the copy."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it isn't open for reading"
        raise InputError(f"{STDIN_LABEL} can't be copied: {reason}")
