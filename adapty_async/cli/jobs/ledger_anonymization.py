"""The anonymization of a ledger: remove everything that connects it with IDs."""

import sys
from pathlib import Path
from typing import Final

from ... import ledger as ledgers
from ...escaping import escape_line
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus
from ..output.command_output import echo
from .confirmation import ask_to_type, require_terminal
from .ledger_access import get_resume_advice, open_ledger, translate_ledger_errors

_ANONYMIZE_WARNING: Final = (
    "After this, the job can't be resumed, its deletions can't be verified, and no row can be looked up or exported "
    "by its ID; status, report, and export without IDs still work."
)


def anonymize(path: Path, *, is_confirmed: bool) -> ExitStatus:
    """Remove everything that connects a ledger with IDs. `is_confirmed`: don't ask for confirmation."""
    with open_ledger(path) as reader:
        job_status, how = reader.status(), get_resume_advice(reader)
    remaining = job_status.waiting + job_status.claimed
    if not is_confirmed:
        if remaining:
            left = format_count(
                remaining,
                "row is left and can't be sent after this. To send it:",
                "rows are left and can't be sent after this. To send them:",
            )
            echo(f"{left} {how}", sys.stderr)
        require_terminal(None)
        if not ask_to_type(f"{_ANONYMIZE_WARNING} This can't be undone.\nType anonymize to confirm: ", "anonymize"):
            raise CommandError("not confirmed, so nothing was removed: to do it, type anonymize or add --yes")
    with translate_ledger_errors():
        ledgers.anonymize(path)
    what = f"{path} is anonymous: its key file and the copy of its input, if there was one, were removed."
    echo(escape_line(what), sys.stdout)
    echo(_ANONYMIZE_WARNING, sys.stderr)
    return ExitStatus.OK
