"""Run a job that has a ledger."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from ...bulk import Outcome, StopReason
from ...bulk.api import undertaking
from ...client import AdaptyClient, sender_of
from ...escaping import one_line
from ...ledger import Held, Ledger, LedgerLostError, LedgerReader, Status, TemporaryLedger, prepare
from ...pacing import Pacer
from ..exit_codes import CommandError, ExitStatus
from ..inputs.bulk_input import Listing
from ..inputs.exclude_lists import is_excluded
from ..output.events import current
from ..output.progress import Meter, Standing
from ..output.screen import Screen, screen_for, tell
from ..output.streams import say
from ..signals import Interrupts, run_event_loop
from .failed_rows import Failure, write_failures
from .finished import RETRIED
from .ledger_files import refusing
from .next_steps import LastSteps, NextSteps, ResumeSteps, Stock
from .options import Order
from .result import Ended, conduct, look_at, show_ended

_ANSWERED: Final = frozenset({Outcome.FAILED, Outcome.NOT_FOUND})
_REASONS: Final = {
    Outcome.IN_DOUBT: "may have been sent; no answer shows the result",
    Outcome.NOT_ATTEMPTED: "not sent",
    Outcome.NOT_FOUND: "Adapty has no such profile",
}


@attrs.frozen
class Recorded:
    """A job whose ledger contains every row of `ids`.

    Attributes:
        ids: The input.
        ledger: The ledger.
        held: The lock of the ledger, or None if the ledger is temporary.
        order: The job options.
        key: The fingerprint of the key that was checked, and whose app was verified if that was necessary.
        retry: Rows with one of these outcomes are sent again.
        new_key: Whether the key has changed since the last run.
        app: The app of the job, or None if it isn't known.
        notes: Notes for the record.
        failures: The file for the failed rows.
    """

    ids: Listing
    ledger: Path | TemporaryLedger
    held: Held | None
    order: Order
    key: str
    retry: Collection[Outcome] = ()
    new_key: bool = False
    app: str | None = None
    notes: Mapping[str, str] = attrs.field(factory=dict)
    failures: Path | None = None

    @property
    def stored_order(self) -> Mapping[str, Any] | None:
        """The job options as the ledger stores them, or None if the ledger is temporary."""
        return self.order.as_json(self.ledger) if isinstance(self.ledger, Path) else None

    def carry_out(self, client: AdaptyClient) -> ExitStatus:
        """Send the rows that are left and show the result. Raises CommandError if nothing was sent."""
        if sender_of(client).transport.key_fingerprint != self.key:
            raise CommandError(
                self._next_steps.refusal("the key isn't the one that was checked; nothing was sent"), ExitStatus.LEDGER
            )
        run: Run | None = None
        try:
            with self.order.pace.pacer(client) as pacer:
                run = self.run(client, pacer)
                is_cut = self._is_cut_off(run)
            return self._sum_up(run, is_cut=is_cut)
        except (KeyboardInterrupt, asyncio.CancelledError):  # a further signal after the one that aborts the run
            status = self._interrupted(run)
            if status is ExitStatus.INTERRUPTED:
                raise
            return status

    def run(self, client: AdaptyClient, pacer: Pacer) -> "Run":
        """Return the run that sends the rows that are left. Raises CommandError."""
        with refusing(), LedgerReader(self.ledger) as reader:
            before = reader.status()
        return Run(client, self, before, pacer)

    def _is_cut_off(self, run: "Run") -> bool:
        """Perform the run. Return True if an interrupt cut it off and the job can't be resumed to show its result."""
        try:
            run_event_loop(run.run)
        except (KeyboardInterrupt, asyncio.CancelledError):
            if self._next_steps.can_resume:
                raise
            return True
        return False

    def _interrupted(self, run: "Run | None") -> ExitStatus:
        """Show how to resume the job. Return the exit status: what stopped the job takes precedence over the signal."""
        ended = None if run is None else Ended(run.standing, run.job.report, run.trouble)
        self._next_steps.show_interrupted(ended)
        return ExitStatus.first_of([*([] if ended is None else [ended.status]), ExitStatus.INTERRUPTED])

    def _sum_up(self, run: "Run", *, is_cut: bool) -> ExitStatus:
        """Show the result of the job. `is_cut`: an interrupt cut the run off, so the failed rows aren't written."""
        if run.trouble is not None and not run.job.report.requests:
            raise CommandError(self._next_steps.refusal(str(run.trouble)), run.trouble.status)
        ended, after = self.ended(run)
        ended = attrs.evolve(ended, is_cut=is_cut)
        show_ended(ended)
        if run.kept != self.ledger:  # a file that may be at its path now isn't the ledger of this run
            return ended.status
        status, stock = ended.status, Stock()
        try:
            stock = stock if is_cut else self._take_stock()
        except CommandError as error:
            say(str(error))
            status = ExitStatus.first_of([status, ExitStatus.LEDGER])
        show_excluded(ended.standing.counts.get(Outcome.EXCLUDED, 0), self.order)
        _show_held(stock.held)
        self._next_steps.show(ended, after, stock)
        if is_cut or not stock.is_whole:
            say("interrupted")
            status = ExitStatus.first_of([status, ExitStatus.INTERRUPTED])
        return status

    @property
    def _next_steps(self) -> NextSteps:
        if isinstance(self.ledger, Path):
            return ResumeSteps(self.ledger, self.ids, self.order, self.app, self.failures)
        return LastSteps(self.ids, self.order, self.failures)

    def ended(self, run: "Run") -> tuple[Ended, Status | None]:
        """Return how the run ended, according to its ledger, or to the committed outcomes if it can't be read."""
        if run.kept is None:
            return Ended(run.standing, run.job.report, run.trouble), None
        try:
            with refusing(), LedgerReader(run.kept) as reader:
                after = reader.status()
        except CommandError as error:
            return Ended(run.standing, run.job.report, run.trouble or error), None
        is_left = after.waiting or after.claimed
        doubt = None if is_left else self.order.guards.doubt(after.counts) or run.broken_rule
        return Ended(Standing(after.known, after.totals), run.job.report, run.trouble, doubt), after

    def _take_stock(self) -> Stock:
        """Write the failed rows file and count the failed rows that are excluded now. Raises CommandError."""
        held: Counter[Outcome] = Counter()
        if self.failures is None and not (self.order.exclude and self._next_steps.can_resume):
            return Stock()  # a temporary ledger never gets further exclude lists

        def failures(reader: LedgerReader) -> Iterator[Failure]:
            for failure in failures_of(reader, self.ids):
                if is_excluded(self.ids, failure.row):
                    held[failure.outcome] += 1
                else:
                    yield failure

        with refusing(), LedgerReader(self.ledger) as reader:
            if self.failures is not None:
                keeps_part = not self._next_steps.can_resume  # no later run can write the file again
                written = write_failures(self.failures, self.ids.reading(), failures(reader), keeps_part=keeps_part)
                return Stock(held, written.file, written.is_whole)
            for _ in failures(reader):
                pass
        return Stock(held)


@contextlib.contextmanager
def on_temporary_ledger(
    ids: Listing,
    client: AdaptyClient,
    order: Order,
    *,
    notes: Mapping[str, str] = MappingProxyType({}),
    failures: Path | None = None,
) -> Iterator[Recorded]:
    """Create a temporary ledger for a job that can't be resumed, and remove it after the block. Raises CommandError."""
    job = undertaking(client, order.operation, order.by)
    with contextlib.closing(TemporaryLedger()) as ledger:
        with refusing(ids):
            prepare(ledger, job, ids.decided(), order={}, file=None)
        yield Recorded(ids, ledger, None, order, job.key_fingerprint, notes=notes, failures=failures)


def failures_of(reader: LedgerReader, ids: Listing) -> Iterator[Failure]:
    """Return the failed rows from a ledger and its input."""
    for known, row in zip(reader.rows(), ids.as_written(), strict=False):
        outcome = known.standing
        if not outcome.is_failure:
            continue
        status = known.status if outcome in _ANSWERED else None
        if outcome is Outcome.INVALID:
            reason = ids.refusal(row)
        elif outcome is Outcome.FAILED:
            reason = "no answer" if status is None else f"Adapty answered {status}"
        else:
            reason = _REASONS[outcome]
        yield Failure(row, outcome, reason, status)


def show_excluded(excluded: int, order: Order) -> None:
    """Show how many rows were excluded, if there are any."""
    if excluded:
        lists = one_line(", ".join(map(str, order.exclude.values())))
        current().show(f"\n{excluded:,} rows are excluded and weren't sent: they are on {lists}", excluded=excluded)


def _show_held(held: Mapping[Outcome, int]) -> None:
    """Show how many rows were excluded after they had failed, if there are any."""
    tried = sum(held.get(outcome, 0) for outcome in RETRIED)
    if tried:
        tell(
            f"\n{tried:,} of the failed or in-doubt rows are now excluded and won't be sent again",
            sys.stdout,
        )


class Run:
    """The job of a run and its progress."""

    def __init__(self, client: AdaptyClient, recorded: Recorded, before: Status, pacer: Pacer) -> None:
        again = {outcome: before.counts.get(outcome, 0) for outcome in recorded.retry}
        due = before.waiting + before.claimed + sum(again.values())
        guards, ids = recorded.order.guards, recorded.ids
        self._client = client
        self._ids = ids
        self._pacer = pacer
        self._known = before.known
        self._before = Counter(before.counts) - Counter(again)
        self._rules = guards.rules(due)
        notes = {**guards.notes(due), **recorded.notes}
        ledger = Ledger(
            recorded.ledger,
            retry=recorded.retry,
            new_key=recorded.new_key,
            notes=notes,
            order=recorded.stored_order,
            look=self._look,
            held=recorded.held,
        )
        self._place = ledger.path.absolute()  # resolved now: the working directory may be removed during the run
        self.job = recorded.order.does.job(
            client,
            ids.ids(),
            by=ids.by,
            concurrency=recorded.order.concurrency,
            pacer=pacer,
            journal=ledger,
            stop=self._rules,
        )
        self.trouble: CommandError | None = None
        """The error on our side that ended the run, or None."""
        self.kept: Path | TemporaryLedger | None = recorded.ledger
        """The file that records the run: the ledger, another one if the ledger was removed, or None if unknown."""
        self._meter = Meter()

    @property
    def standing(self) -> Standing:
        """The outcomes that are committed to the ledger."""
        counts = self._before + Counter(self.job.report.counts)
        del counts[Outcome.NOT_ATTEMPTED]
        return Standing(self._known, counts)

    @property
    def broken_rule(self) -> StopReason | None:
        """The stop rule that the results of the run violate, even if it was stopped by an interrupt before."""
        return self._rules.judge(self.job.report.counts, at_end=True)

    async def run(self, interrupts: Interrupts) -> None:
        """Open the client, run, and close the client."""
        async with self._client:
            await self.run_with(screen_for(sys.stderr), interrupts)

    async def run_with(self, screen: Screen, interrupts: Interrupts) -> None:
        """Run until all rows are done, a stop rule applies or an interrupt arrives. Raises only CancelledError."""
        self.trouble = await conduct(
            self._work, self.job.stop, self, screen, interrupts, job=self.job, pacer=self._pacer
        )

    def _look(self) -> dict[str, Any]:
        """Return the live status, which the command `status` shows during the run."""
        sight = look_at(self, self.job, self._pacer)
        view = self._meter.view(sight, asyncio.get_running_loop().time())
        return {"at": view.hour.isoformat(), **view.as_json()}

    async def _work(self) -> None:
        self._look()  # the first measurement; the next one can show a rate
        with _as_ledger_trouble(), refusing(self._ids):
            try:
                async with self.job:
                    await self.job
            except LedgerLostError as error:
                if error.kept != self._place:
                    self.kept = error.kept
                raise


@contextlib.contextmanager
def _as_ledger_trouble() -> Iterator[None]:
    """Set the exit status of errors to LEDGER: the input matched the ledger before, so this isn't invalid usage."""
    try:
        yield
        return
    except CommandError as error:
        sentence = str(error)
    raise CommandError(sentence, ExitStatus.LEDGER)
