"""One run of a job with a ledger: what is left is sent, and the ledger tells what became of every row."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from ..bulk import Outcome, StopReason
from ..client import AdaptyClient, sender_of
from ..escaping import one_line
from ..ledger import Held, Ledger, LedgerLostError, LedgerReader, Spool, Status
from ..ledger.files import real
from ..pacing import Pacer
from . import event_loop
from .books import Standing
from .ending import say
from .exclusion import is_excluded
from .exits import CommandError, ExitStatus
from .failures import Failure, write_failures
from .feeding import feeding_back, format_of_failures
from .finished import RETRIED, show_afterwards
from .interrupts import Interrupts
from .job import Ended, conduct, look_at, show_ended
from .keys import ACCEPTED
from .ledgers import command, input_of, refusing, resume_command
from .listing import Listing
from .order import Order, exclude_options, options_of
from .progress import Meter
from .screen import screen_for, tell
from .unrecorded import show_excluded

_ANSWERED: Final = frozenset({Outcome.FAILED, Outcome.NOT_FOUND})
_KEY_REFUSED: Final = frozenset({StopReason.CREDENTIALS, StopReason.PERMISSION})
_REASONS: Final = {
    Outcome.IN_DOUBT: "sent, or about to be: no answer tells what became of it",
    Outcome.NOT_ATTEMPTED: "not sent",
    Outcome.NOT_FOUND: "Adapty has no such profile",
}


@attrs.frozen
class _Stock:
    """What is known of the rows after a run.

    `held`: how many had failed before they were put on an exclude list, by outcome. `failures`: where the others stand.
    """

    held: Mapping[Outcome, int]
    failures: Path | None


@attrs.frozen
class Recorded:
    """A job whose ledger knows every row of `ids`.

    `held`: its lock. `key`: the fingerprint of the one that was looked at, and whose app was seen, where one was.
    `retry`: rows with one of these outcomes are sent again. `new_key`: the key was exchanged since the last run.
    `app`: the one that is known, None for none. `notes`: for the record. `failures`: where to write down what failed.
    """

    ids: Listing
    ledger: Path
    held: Held
    order: Order
    key: str
    retry: Collection[Outcome] = ()
    new_key: bool = False
    app: str | None = None
    notes: Mapping[str, str] = attrs.field(factory=dict)
    failures: Path | None = None

    def carry_out(self, client: AdaptyClient) -> ExitStatus:
        """Send what is left, and say what became of all. Raises CommandError where nothing was sent."""
        if sender_of(client).transport.key_fingerprint != self.key:
            raise CommandError(
                f"the key isn't the one that was checked; nothing was sent: {resume_command(self.ledger)}",
                ExitStatus.LEDGER,
            )
        run: _Run | None = None
        try:
            with refusing(), LedgerReader(self.ledger) as reader:
                before = reader.status()
            with self.order.pace.pacer(client) as pacer:
                run = _Run(client, self, before, pacer)
                event_loop.run(run.run)
            return self._sum_up(run)
        except (KeyboardInterrupt, asyncio.CancelledError):  # more signals than are needed to abort
            status = self._interrupted(run)
            if status is ExitStatus.INTERRUPTED:
                raise
            return status

    def _interrupted(self, run: "_Run | None") -> ExitStatus:
        """Say how to go on; give the status, which no signal hides that comes after what stopped the job."""
        if run is None:
            tell(f"To go on:\n  {resume_command(self.ledger)}", sys.stderr)
            return ExitStatus.INTERRUPTED
        ended = Ended(run.standing, run.job.report, run.trouble)
        tell(f"To go on:\n  {self._again('resume', ended)}", sys.stderr)
        return ExitStatus.first_of([ended.status, ExitStatus.INTERRUPTED])

    def _sum_up(self, run: "_Run") -> ExitStatus:
        if run.trouble is not None and not run.job.report.requests:
            raise CommandError(f"{run.trouble}; to go on: {resume_command(self.ledger)}", run.trouble.status)
        ended, after = self._ended(run)
        show_ended(ended)
        if run.kept != self.ledger:  # what is at its path now, if anything, isn't the ledger of this run
            return ended.status
        status, stock = ended.status, _Stock({}, None)
        try:
            stock = self._take_stock()
        except CommandError as error:
            say(str(error))
            status = ExitStatus.first_of([status, ExitStatus.LEDGER])
        show_excluded(ended.standing.counts.get(Outcome.EXCLUDED, 0), self.order)
        _show_held(stock.held)
        self._show_next(ended, after, stock)
        return status

    def _ended(self, run: "_Run") -> tuple[Ended, Status | None]:
        """Tell how it ended, by the ledger; where that can't be read, by what is known to be written in it."""
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

    def _take_stock(self) -> "_Stock":
        """Write the failures down, and count those that are excluded since. Raises CommandError."""
        held: Counter[Outcome] = Counter()
        if self.failures is None and not self.order.exclude:
            return _Stock(held, None)

        def failures(reader: LedgerReader) -> Iterator[Failure]:
            for failure in failures_of(reader, self.ids):
                if is_excluded(self.ids, failure.row):
                    held[failure.outcome] += 1
                else:
                    yield failure

        with refusing(), LedgerReader(self.ledger) as reader:
            if self.failures is not None:
                return _Stock(held, write_failures(self.failures, self.ids.reading(), failures(reader)))
            for _ in failures(reader):
                pass
        return _Stock(held, None)

    def _show_next(self, ended: Ended, after: Status | None, stock: "_Stock") -> None:
        """Say how to go on. `after`: where the ledger stands, None where it can't be read."""
        left = None if after is None else after.waiting + after.claimed
        failed = 0 if after is None else sum(after.counts.get(outcome, 0) for outcome in RETRIED)
        retried = failed - sum(stock.held.get(outcome, 0) for outcome in RETRIED)
        is_doubtful = ended.stopped is StopReason.ABSENT_SHARE
        if is_doubtful:
            self._show_doubt(ended, left)
        elif left != 0:
            tell("To go on:" if left is None else f"{left:,} rows are not done. To go on:", sys.stderr)
            tell(f"  {self._again('resume', ended)}", sys.stderr)
        if left == 0 and retried:
            tell(f"To send the {retried:,} rows again that failed or are in doubt:", sys.stderr)
            tell(f"  {self._again('retry-failed', ended)}", sys.stderr)
        has_failures = ended.standing.failed > (left or 0) + sum(stock.held.values())
        if has_failures:
            self._show_failures(stock, ended)
        is_done = left == 0 and not retried and not is_doubtful
        self._let_go_of_copy(is_wanted=not is_done or (has_failures and stock.failures is None))
        if is_done:
            show_afterwards(self.ledger, self.order, has_input=self.order.file is not None)

    def _show_doubt(self, ended: Ended, left: int | None) -> None:
        """Say how to find out why so many were absent, and how to go on then."""
        file = input_of(self.ledger, self.order)
        options = [*options_of(self.order), *exclude_options(self.order), "--probe", "20"]
        if left:
            tell(f"{left:,} rows are not done.", sys.stderr)
        tell("To see which app the key is of, and how many of them exist:", sys.stderr)
        tell(f"  {command('plan', file, *options)}", sys.stderr)
        if self.app is None and not self._is_bound(ended):
            tell("Where the key was of another app, set ADAPTY_API_KEY to the right one, and name its app:", sys.stderr)
            tell(f"  {command('resume', self.ledger, '--new-key', '--app', 'UUID')}", sys.stderr)
        tell("Where key, --by and --column are right, and they are absent indeed:", sys.stderr)
        tell(f"  {command('resume', self.ledger, '--max-absent', '100%')}", sys.stderr)

    def _is_bound(self, ended: Ended) -> bool:
        """Tell whether people are done in an app that nobody knows: no other key is taken then."""
        return self.app is None and any(ended.standing.counts.get(outcome) for outcome in ACCEPTED)

    def _again(self, name: str, ended: Ended, *options: str) -> str:
        """Give a command that goes on; after a refused key with another, where its app is known or nobody is done."""
        if ended.report.stopped in _KEY_REFUSED and not self._is_bound(ended):
            options = (*options, "--new-key", *([] if self.app else ["--app", "UUID"]))
        return command(name, self.ledger, *options)

    def _show_failures(self, stock: "_Stock", ended: Ended) -> None:
        if self.failures is None:
            name = f"failures.{format_of_failures(self.ids.reading())}"
            tell("To write down which rows failed, and why, as a file to feed back:", sys.stderr)
            tell(f"  {self._again('resume', ended, '--failures', name)}", sys.stderr)
        elif stock.failures is not None:
            is_other = stock.failures != self.failures
            why = f" ({self.failures} was made by somebody else meanwhile, and is as it was.)" if is_other else ""
            what = f"{stock.failures} holds the rows that failed, and why.{why} To feed it back, corrected:"
            tell(one_line(what), sys.stderr)
            tell(f"  {feeding_back(self.order, stock.failures, self.ids.reading())}", sys.stderr)

    def _let_go_of_copy(self, *, is_wanted: bool) -> None:
        """Remove the copy of what can't be read twice, once nothing can want it any more."""
        spool = Spool(self.ledger)
        if not spool.is_filled:
            return
        if is_wanted:
            what = f"{spool.path} keeps the ids until then: a copy of what can't be read twice."
            tell(one_line(what), sys.stderr)
        else:
            spool.discard()


def failures_of(reader: LedgerReader, ids: Listing) -> Iterator[Failure]:
    """Give the rows that failed, by a ledger and its input."""
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


def _show_held(held: Mapping[Outcome, int]) -> None:
    """Say how many rows were excluded only after they had failed."""
    tried = sum(held.get(outcome, 0) for outcome in RETRIED)
    if tried:
        tell(
            f"\n{tried:,} of the rows that failed or are in doubt are excluded since: they aren't sent again",
            sys.stdout,
        )


class _Run:
    """The job of a run, and where it stands."""

    def __init__(self, client: AdaptyClient, recorded: Recorded, before: Status, pacer: Pacer) -> None:
        again = {outcome: before.counts.get(outcome, 0) for outcome in recorded.retry}
        due = before.waiting + before.claimed + sum(again.values())
        guards, ids = recorded.order.guards, recorded.ids
        self._client = client
        self._ids = ids
        self._ledger = recorded.ledger
        self._place = real(recorded.ledger).absolute()  # now: the working directory may be removed meanwhile
        self._pacer = pacer
        self._known = before.known
        self._before = Counter(before.counts) - Counter(again)
        self._rules = guards.rules(due)
        notes = {**guards.notes(due), **recorded.notes}
        self.job = recorded.order.does.job(
            client,
            ids.ids(),
            by=ids.by,
            concurrency=recorded.order.concurrency,
            pacer=pacer,
            journal=Ledger(
                recorded.ledger,
                retry=recorded.retry,
                new_key=recorded.new_key,
                notes=notes,
                order=recorded.order.as_json(recorded.ledger),
                look=self._look,
                held=recorded.held,
            ),
            stop=self._rules,
        )
        self.trouble: CommandError | None = None
        """What went wrong on our side."""
        self.kept: Path | None = self._ledger
        """What holds the record of the run: its ledger, unless that was removed; None where nobody knows of a file."""
        self._meter = Meter()

    @property
    def standing(self) -> Standing:
        """Where it stands, by what is written in the ledger."""
        counts = self._before + Counter(self.job.report.counts)
        del counts[Outcome.NOT_ATTEMPTED]
        return Standing(self._known, counts)

    @property
    def broken_rule(self) -> StopReason | None:
        """The rule that the run breaks at the end of its input, also where it was asked to stop before."""
        return self._rules.judge(self.job.report.counts, at_end=True)

    async def run(self, interrupts: Interrupts) -> None:
        async with self._client:
            self.trouble = await conduct(
                self._work, self.job.stop, self, screen_for(sys.stderr), interrupts, job=self.job, pacer=self._pacer
            )

    def _look(self) -> dict[str, Any]:
        """Give what `status` shows meanwhile."""
        sight = look_at(self, self.job, self._pacer)
        view = self._meter.view(sight, asyncio.get_running_loop().time())
        return {"at": view.hour.isoformat(), **view.as_json()}

    async def _work(self) -> None:
        self._look()  # where it begins: the rate is told from the next look on
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
    """Whatever is wrong with the input now isn't wrong usage any more: it was the ledger's before."""
    try:
        yield
        return
    except CommandError as error:
        sentence = str(error)
    raise CommandError(sentence, ExitStatus.LEDGER)
