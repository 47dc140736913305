"""A job that has a ledger: its runs, its result and its failed rows."""

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from ...bulk import Outcome, StopReason
from ...bulk.api import create_job, job_spec
from ...bulk.operations import OUTCOME_MEANINGS
from ...client import AdaptyClient, get_sender
from ...escaping import escape_line
from ...ledger import Ledger, LedgerLock, LedgerLostError, LedgerReader, Status, TemporaryLedger, prepare
from ...pacing import Pacer
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus
from ..inputs.exclude_lists import is_excluded
from ..inputs.job_input import JobInput
from ..output.command_output import echo, get_output
from ..output.progress import OutcomeCounts, RateMeter
from ..output.progress_screen import Screen, create_screen
from ..output.standard_streams import print_error
from ..signals import InterruptHandler, run_event_loop
from .failed_rows_file import FailedRow, write_failed_rows
from .finished_job import RETRYABLE_OUTCOMES
from .job_options import JobOptions
from .job_result import JobResult, show_result
from .ledger_access import translate_ledger_errors
from .next_steps import CollectedFailures, FailedRowsSteps, NextSteps, ResumeSteps
from .run import build_live_status, run_job

_ANSWERED_OUTCOMES: Final = frozenset({Outcome.FAILED, Outcome.NOT_FOUND})


@attrs.frozen
class LedgerJob:
    """A job whose ledger contains every row of `job_input`.

    Attributes:
        job_input: The input.
        ledger: The ledger.
        lock: The lock of the ledger, or None if the ledger is temporary.
        job_options: The job options.
        key_fingerprint: The fingerprint of the key that was checked, and whose app was verified if that was necessary.
        retry_outcomes: Rows with one of these outcomes are sent again.
        is_key_new: Whether the key has changed since the last run.
        app: The app of the job, or None if it isn't known.
        notes: Notes for the record.
        failures: The file for the failed rows.
    """

    job_input: JobInput
    ledger: Path | TemporaryLedger
    lock: LedgerLock | None
    job_options: JobOptions
    key_fingerprint: str
    retry_outcomes: Collection[Outcome] = ()
    is_key_new: bool = False
    app: str | None = None
    notes: Mapping[str, str] = attrs.field(factory=dict)
    failures: Path | None = None

    @property
    def stored_options(self) -> Mapping[str, Any] | None:
        """The job options as the ledger stores them, or None if the ledger is temporary."""
        return self.job_options.to_dict(self.ledger) if isinstance(self.ledger, Path) else None

    def execute(self, client: AdaptyClient) -> ExitStatus:
        """Send the rows that are left and show the result. Raises CommandError if nothing was sent."""
        if get_sender(client).transport.key_fingerprint != self.key_fingerprint:
            raise CommandError(
                self._next_steps.format_refusal("the key isn't the one that was checked; nothing was sent"),
                ExitStatus.LEDGER,
            )
        run: JobRun | None = None
        try:
            with self.job_options.pace.open_pacer(client) as pacer:
                run = self.create_run(client, pacer)
                is_interrupted = self._perform_run(run)
            return self._show_result(run, is_interrupted=is_interrupted)
        except (KeyboardInterrupt, asyncio.CancelledError):  # a further signal after the one that aborts the run
            status = self._show_interrupt(run)
            if status is ExitStatus.INTERRUPTED:
                raise
            return status

    def create_run(self, client: AdaptyClient, pacer: Pacer) -> "JobRun":
        """Return the run that sends the rows that are left. Raises CommandError."""
        with translate_ledger_errors(), LedgerReader(self.ledger) as reader:
            before = reader.status()
        return JobRun(client, self, before, pacer)

    def _perform_run(self, run: "JobRun") -> bool:
        """Perform the run. Return True if an interrupt cut it off and the job can't be resumed to show its result."""
        try:
            run_event_loop(run.run)
        except (KeyboardInterrupt, asyncio.CancelledError):
            if self._next_steps.can_resume:
                raise
            return True
        return False

    def _show_interrupt(self, run: "JobRun | None") -> ExitStatus:
        """Show how to resume the job. Return the exit status: what stopped the job takes precedence over the signal."""
        result = None if run is None else JobResult(run.outcome_counts, run.job.report, run.error)
        self._next_steps.show_after_interrupt(result)
        return ExitStatus.pick_by_precedence([*([] if result is None else [result.status]), ExitStatus.INTERRUPTED])

    def _show_result(self, run: "JobRun", *, is_interrupted: bool) -> ExitStatus:
        """Show the result of the job.

        `is_interrupted`: an interrupt cut the run off, so the failed rows aren't written.
        """
        if run.error is not None and not run.job.report.requests:
            raise CommandError(self._next_steps.format_refusal(str(run.error)), run.error.status)
        result, status_after = self.build_result(run)
        result = attrs.evolve(result, is_output_truncated=is_interrupted)
        show_result(result)
        if run.actual_ledger != self.ledger:  # a file that may be at its path now isn't the ledger of this run
            return result.status
        status, failure_summary = result.status, CollectedFailures()
        try:
            failure_summary = failure_summary if is_interrupted else self._collect_failures()
        except CommandError as error:
            print_error(str(error))
            status = ExitStatus.pick_by_precedence([status, ExitStatus.LEDGER])
        show_excluded_rows(result.outcome_counts.by_outcome.get(Outcome.EXCLUDED, 0), self.job_options)
        _show_excluded_failures(failure_summary.excluded_counts)
        self._next_steps.show(result, status_after, failure_summary)
        if is_interrupted or not failure_summary.is_complete:
            print_error("interrupted")
            status = ExitStatus.pick_by_precedence([status, ExitStatus.INTERRUPTED])
        return status

    @property
    def _next_steps(self) -> NextSteps:
        if isinstance(self.ledger, Path):
            return ResumeSteps(self.ledger, self.job_input, self.job_options, self.app, self.failures)
        return FailedRowsSteps(self.job_input, self.job_options, self.failures)

    def build_result(self, run: "JobRun") -> tuple[JobResult, Status | None]:
        """Return how the run ended, according to its ledger, or to the committed outcomes if it can't be read."""
        if run.actual_ledger is None:
            return JobResult(run.outcome_counts, run.job.report, run.error), None
        try:
            with translate_ledger_errors(), LedgerReader(run.actual_ledger) as reader:
                status_after = reader.status()
        except CommandError as error:
            return JobResult(run.outcome_counts, run.job.report, run.error or error), None
        is_left = status_after.waiting or status_after.claimed
        violated_rule = (
            None if is_left else self.job_options.guards.find_violated_rule(status_after.counts) or run.violated_rule
        )
        return JobResult(
            OutcomeCounts(status_after.known, status_after.totals), run.job.report, run.error, violated_rule
        ), status_after

    def _collect_failures(self) -> CollectedFailures:
        """Write the failed rows file and count the failed rows that are excluded now. Raises CommandError."""
        excluded_counts: Counter[Outcome] = Counter()
        if self.failures is None and not (self.job_options.exclude and self._next_steps.can_resume):
            return CollectedFailures()  # a temporary ledger never gets further exclude lists

        def iter_remaining_failures(reader: LedgerReader) -> Iterator[FailedRow]:
            for failure in iter_failed_rows(reader, self.job_input):
                if is_excluded(self.job_input, failure.row):
                    excluded_counts[failure.outcome] += 1
                else:
                    yield failure

        with translate_ledger_errors(), LedgerReader(self.ledger) as reader:
            if self.failures is not None:
                keep_partial = not self._next_steps.can_resume  # no later run can write the file again
                written = write_failed_rows(
                    self.failures,
                    self.job_input.read_schema(),
                    iter_remaining_failures(reader),
                    keep_partial=keep_partial,
                )
                return CollectedFailures(excluded_counts, written.path, written.is_complete)
            for _ in iter_remaining_failures(reader):
                pass
        return CollectedFailures(excluded_counts)


@contextlib.contextmanager
def create_temporary_job(
    job_input: JobInput,
    client: AdaptyClient,
    job_options: JobOptions,
    *,
    notes: Mapping[str, str] = MappingProxyType({}),
    failures: Path | None = None,
) -> Iterator[LedgerJob]:
    """Create a temporary ledger for a job that can't be resumed, and remove it after the block. Raises CommandError."""
    spec = job_spec(client, job_options.operation, job_options.by)
    with contextlib.closing(TemporaryLedger()) as ledger:
        with translate_ledger_errors(job_input):
            prepare(ledger, spec, job_input.iter_marked_items(), job_options={}, file=None)
        yield LedgerJob(job_input, ledger, None, job_options, spec.key_fingerprint, notes=notes, failures=failures)


def iter_failed_rows(reader: LedgerReader, job_input: JobInput) -> Iterator[FailedRow]:
    """Return the failed rows from a ledger and its input."""
    for known, row in zip(reader.rows(), job_input.iter_raw_rows(), strict=False):
        outcome = known.standing
        if not outcome.is_failure:
            continue
        status = known.status if outcome in _ANSWERED_OUTCOMES else None
        if outcome is Outcome.INVALID:
            reason = job_input.explain_invalid(row)
        elif outcome is Outcome.FAILED:
            reason = "no answer" if status is None else f"Adapty answered {status}"
        else:
            reason = OUTCOME_MEANINGS[outcome]
        yield FailedRow(row, outcome, reason, status)


def show_excluded_rows(excluded_count: int, job_options: JobOptions) -> None:
    """Show how many rows were excluded, if there are any."""
    if excluded_count:
        lists = escape_line(", ".join(map(str, job_options.exclude.values())))
        what = format_count(
            excluded_count, "row is excluded and wasn't sent: it is", "rows are excluded and weren't sent: they are"
        )
        get_output().print_result(f"\n{what} on {lists}", excluded=excluded_count)


def _show_excluded_failures(excluded_counts: Mapping[Outcome, int]) -> None:
    """Show how many rows were excluded after they had failed, if there are any."""
    excluded_count = sum(excluded_counts.get(outcome, 0) for outcome in RETRYABLE_OUTCOMES)
    if excluded_count:
        what = format_count(excluded_count, "of the failed or in-doubt rows is", "of the failed or in-doubt rows are")
        echo(f"\n{what} now excluded and won't be sent again", sys.stdout)


class JobRun:
    """The job of a run and its progress."""

    def __init__(self, client: AdaptyClient, ledger_job: LedgerJob, status_before: Status, pacer: Pacer) -> None:
        retry_counts = {outcome: status_before.counts.get(outcome, 0) for outcome in ledger_job.retry_outcomes}
        rows_to_send = status_before.waiting + status_before.claimed + sum(retry_counts.values())
        guards, job_input = ledger_job.job_options.guards, ledger_job.job_input
        self._client = client
        self._job_input = job_input
        self._pacer = pacer
        self._row_count = status_before.known
        self._counts_before = Counter(status_before.counts) - Counter(retry_counts)
        self._stop_rules = guards.build_stop_rules(rows_to_send)
        notes = {**guards.build_notes(rows_to_send, ledger_job.job_options.operation_spec), **ledger_job.notes}
        ledger = Ledger(
            ledger_job.ledger,
            retry=ledger_job.retry_outcomes,
            new_key=ledger_job.is_key_new,
            notes=notes,
            job_options=ledger_job.stored_options,
            live_status=self._dump_live_status,
            lock=ledger_job.lock,
        )
        self._ledger_path = ledger.path.absolute()  # resolved now: the working directory may be removed during the run
        self.job = create_job(
            ledger_job.job_options.operation_spec,
            client,
            job_input.iter_items(),
            by=job_input.by,
            concurrency=ledger_job.job_options.speed_options.concurrency,
            pacer=pacer,
            ledger=ledger,
            stop=self._stop_rules,
        )
        self.error: CommandError | None = None
        """The error on our side that ended the run, or None."""
        self.actual_ledger: Path | TemporaryLedger | None = ledger_job.ledger
        """The file that records the run: the ledger, another one if the ledger was removed, or None if unknown."""
        self._meter = RateMeter()

    @property
    def outcome_counts(self) -> OutcomeCounts:
        """The outcomes that are committed to the ledger."""
        counts = self._counts_before + Counter(self.job.report.counts)
        del counts[Outcome.NOT_ATTEMPTED]
        return OutcomeCounts(self._row_count, counts)

    @property
    def violated_rule(self) -> StopReason | None:
        """The stop rule that the results of the run violate, even if it was stopped by an interrupt before."""
        return self._stop_rules.check(self.job.report.counts, at_end=True)

    async def run(self, interrupt_handler: InterruptHandler) -> None:
        """Open the client, run, and close the client."""
        async with self._client:
            await self.run_on_screen(create_screen(sys.stderr), interrupt_handler)

    async def run_on_screen(self, screen: Screen, interrupt_handler: InterruptHandler) -> None:
        """Run until all rows are done, a stop rule applies or an interrupt arrives. Raises only CancelledError."""
        self.error = await run_job(
            self._run_job, self.job.stop, self, screen, interrupt_handler, job=self.job, pacer=self._pacer
        )

    def _dump_live_status(self) -> dict[str, Any]:
        """Return the live status, which the command `status` shows during the run.

        By its process ID, the command `pause` finds the process that handles the signals.
        """
        live_status = build_live_status(self, self.job, self._pacer)
        view = self._meter.measure(live_status, asyncio.get_running_loop().time())
        return {"at": view.local_time.isoformat(), "process": os.getpid(), **view.to_dict()}

    async def _run_job(self) -> None:
        self._dump_live_status()  # the first measurement; the next one can show a rate
        with _raise_as_ledger_error(), translate_ledger_errors(self._job_input):
            try:
                async with self.job:
                    await self.job
            except LedgerLostError as error:
                if error.kept != self._ledger_path:
                    self.actual_ledger = error.kept
                raise


@contextlib.contextmanager
def _raise_as_ledger_error() -> Iterator[None]:
    """Set the exit status of errors to LEDGER: the input matched the ledger before, so this isn't invalid usage."""
    try:
        yield
        return
    except CommandError as error:
        message = str(error)
    raise CommandError(message, ExitStatus.LEDGER)
