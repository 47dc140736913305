"""Show what to do after a run: the commands that resume the job, unless its ledger was temporary."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from ...bulk import Outcome, StopReason
from ...escaping import one_line
from ...ledger import Spool, Status
from ..inputs.bulk_input import Listing
from ..output.screen import tell
from .failed_rows_command import feeding_back, format_of_failures
from .finished import RETRIED, show_afterwards
from .keys import ACCEPTED
from .ledger_files import command, input_of, resume_command
from .options import Order, exclude_options, options_of
from .result import Ended

_KEY_REFUSED: Final = frozenset({StopReason.CREDENTIALS, StopReason.PERMISSION})


@attrs.frozen
class Stock:
    """The failed rows after a run.

    Attributes:
        held: The number of rows, by outcome, that failed before they were put on an exclude list.
        failures: The file with the other failed rows, or None if there is no such file.
        is_whole: Whether the file contains all of them.
    """

    held: Mapping[Outcome, int] = attrs.field(factory=dict[Outcome, int])
    failures: Path | None = None
    is_whole: bool = True


@attrs.frozen
class ResumeSteps:
    """The next steps of a job with a ledger. `app`, `failures`: as in `Recorded`."""

    ledger: Path
    ids: Listing
    order: Order
    app: str | None
    failures: Path | None
    can_resume = True

    def refusal(self, sentence: str) -> str:
        """Return the message that nothing was sent, with the command that resumes the job."""
        return f"{sentence}; to resume: {resume_command(self.ledger)}"

    def show_interrupted(self, ended: Ended | None) -> None:
        """Show how to resume the job."""
        how = resume_command(self.ledger) if ended is None else self._again("resume", ended)
        tell(f"To resume:\n  {how}", sys.stderr)

    def show(self, ended: Ended, after: Status | None, stock: Stock) -> None:
        """Show how to resume the job, or the optional next steps if all rows are done."""
        left = None if after is None else after.waiting + after.claimed
        failed = 0 if after is None else sum(after.counts.get(outcome, 0) for outcome in RETRIED)
        retried = failed - sum(stock.held.get(outcome, 0) for outcome in RETRIED)
        is_doubtful = ended.stopped is StopReason.ABSENT_SHARE
        if is_doubtful:
            self._show_doubt(ended, left)
        elif left != 0:
            tell("To resume:" if left is None else f"{left:,} rows left. To resume:", sys.stderr)
            tell(f"  {self._again('resume', ended)}", sys.stderr)
        if left == 0 and retried:
            tell(f"To send the {retried:,} failed or in-doubt rows again:", sys.stderr)
            tell(f"  {self._again('retry-failed', ended)}", sys.stderr)
        has_failures = ended.standing.failed > (left or 0) + sum(stock.held.values())
        if has_failures:
            self._show_failures(stock, ended)
        is_done = left == 0 and not retried and not is_doubtful
        self._let_go_of_copy(is_wanted=not is_done or (has_failures and stock.failures is None))
        if is_done:
            show_afterwards(self.ledger, self.order, has_input=self.order.file is not None)

    def _show_doubt(self, ended: Ended, left: int | None) -> None:
        """Show how to find out why too many profiles were absent, and how to resume the job after that."""
        file = input_of(self.ledger, self.order)
        options = [*options_of(self.order), *exclude_options(self.order), "--probe", "20"]
        if left:
            tell(f"{left:,} rows left.", sys.stderr)
        tell("To see the app of the key, and how many of the profiles exist:", sys.stderr)
        tell(f"  {command('plan', file, *options)}", sys.stderr)
        if self.app is None and not self._is_bound(ended):
            tell("If the key was for another app, set ADAPTY_API_KEY to the right one, and name its app:", sys.stderr)
            tell(f"  {command('resume', self.ledger, '--new-key', '--app', 'UUID')}", sys.stderr)
        tell("If the key, --by and --column are right, and the profiles don't exist:", sys.stderr)
        tell(f"  {command('resume', self.ledger, '--max-absent', '100%')}", sys.stderr)

    def _is_bound(self, ended: Ended) -> bool:
        """Return True if profiles were changed under an unknown app, which rules out another key."""
        return self.app is None and any(ended.standing.counts.get(outcome) for outcome in ACCEPTED)

    def _again(self, name: str, ended: Ended, *options: str) -> str:
        """Return the command `name` for the ledger, with the options for a new key if the current one was rejected."""
        if ended.report.stopped in _KEY_REFUSED and not self._is_bound(ended):
            options = (*options, "--new-key", *([] if self.app else ["--app", "UUID"]))
        return command(name, self.ledger, *options)

    def _show_failures(self, stock: Stock, ended: Ended) -> None:
        if self.failures is None:
            name = f"failures.{format_of_failures(self.ids.reading())}"
            tell("To write the failed rows, with reasons, to a file that can be sent again:", sys.stderr)
            tell(f"  {self._again('resume', ended, '--failures', name)}", sys.stderr)
        elif stock.failures is not None:
            _show_feeding_back(self.failures, stock.failures, self.ids, self.order)

    def _let_go_of_copy(self, *, is_wanted: bool) -> None:
        """Remove the spool of the input once it isn't needed any more."""
        spool = Spool(self.ledger)
        if not spool.is_filled:
            return
        if is_wanted:
            what = f"{spool.path}, a copy of the input, keeps the IDs until then."
            tell(one_line(what), sys.stderr)
        else:
            spool.discard()


@attrs.frozen
class LastSteps:
    """The next steps of a job whose ledger is temporary. It can't be resumed, but its failed rows can be sent again."""

    ids: Listing
    order: Order
    failures: Path | None
    can_resume = False

    def refusal(self, sentence: str) -> str:
        """Return the message that nothing was sent."""
        return sentence

    def show_interrupted(self, ended: Ended | None) -> None:
        """Show nothing. The caller reports the interrupt."""

    def show(self, ended: Ended, after: Status | None, stock: Stock) -> None:
        """Show what to do with the failed rows."""
        failed = ended.standing.failed
        if not failed:
            return
        if self.failures is None:
            name = f"FILE.{format_of_failures(self.ids.reading())}"
            what = f"--failures {name} writes the failed rows, with reasons, to a file that can be sent again."
            tell(what, sys.stderr)
        elif stock.failures is None:
            tell(one_line(f"{self.failures} wasn't written."), sys.stderr)
        elif not stock.is_whole:
            what = f"{stock.failures} contains only some of the {failed:,} rows that failed."
            tell(one_line(what), sys.stderr)
        else:
            _show_feeding_back(self.failures, stock.failures, self.ids, self.order)


NextSteps: TypeAlias = ResumeSteps | LastSteps
"""The next steps to show after a run. `can_resume`: whether the job can be resumed."""


def _show_feeding_back(wanted: Path, failures: Path, ids: Listing, order: Order) -> None:
    """Show how to send the failed rows again. `wanted`: the file named by --failures, `failures`: the file written."""
    is_other = failures != wanted
    why = f" ({wanted} was created by another process during the run and is unchanged.)" if is_other else ""
    what = f"{failures} contains the failed rows, with reasons.{why} To send them again, corrected:"
    tell(one_line(what), sys.stderr)
    tell(f"  {feeding_back(order, failures, ids.reading())}", sys.stderr)
