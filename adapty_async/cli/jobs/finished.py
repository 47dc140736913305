"""Show the result of a finished job and the commands that can follow."""

import sys
from pathlib import Path
from typing import Final

from ...bulk import Outcome
from ...bulk.results import Tally
from ...ledger import LedgerReader
from ...ledger.files import real
from ...ledger.id_key import key_path
from ..exit_codes import ExitStatus
from ..output.progress import Standing
from ..output.screen import tell
from .ledger_files import command
from .operations import DELETE
from .options import Order
from .result import Ended, show_ended

RETRIED: Final = frozenset({Outcome.FAILED, Outcome.IN_DOUBT})
"""The outcomes that `retry-failed` sends again."""
_NOTHING_SENT: Final = Tally().report(0.0, uncommitted={}, stopped=None, input_exhausted=True)


def is_finished(reader: LedgerReader) -> bool:
    """Return True if no command would send more rows of a job."""
    status = reader.status()
    is_left = status.waiting or status.claimed or any(status.counts.get(outcome) for outcome in RETRIED)
    return reader.job.items is not None and not is_left


def show_finished(reader: LedgerReader, order: Order) -> ExitStatus:
    """Show the result of a finished job, using only its ledger."""
    status = reader.status()
    doubt = order.guards.doubt(status.counts)
    ended = Ended(Standing(status.known, status.totals), _NOTHING_SENT, None, doubt)
    show_ended(ended)
    if doubt is None:
        show_afterwards(reader.path, order, has_input=False)
    return ended.status


def show_afterwards(ledger: Path, order: Order, *, has_input: bool) -> None:
    """Show the commands that can follow. `has_input`: the input is still in its place."""
    tell("All rows are done. Next, you can:", sys.stderr)
    has_key = key_path(real(ledger)).exists()  # an anonymous ledger has none
    if has_key and order.operation == DELETE.name:
        given = [] if has_input else ["--input", "FILE"]
        tell(f"  {command('verify', ledger, '5%', *given)}", sys.stderr)
    tell(f"  {command('report', ledger, '--json', 'record.json', '--markdown', 'record.md')}", sys.stderr)
    if has_key:
        tell(f"  {command('redact', ledger)}", sys.stderr)
