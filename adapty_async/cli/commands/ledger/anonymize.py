"""The command anonymize."""

from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


def anonymize(
    ledger: options.LedgerFile,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Don't ask for confirmation, even if the job isn't finished.")
    ] = False,
) -> None:
    """Make a ledger anonymous

    \b
    Examples:
      # Remove the key file after a confirmation
      adapty-async anonymize people.csv.adapty.db
      # Remove it from a script
      adapty-async anonymize people.csv.adapty.db --yes

    The key file is removed permanently, and without it nothing in the ledger leads to an ID. After this, the job can't
    be resumed, its deletions can't be verified, and no row can be looked up or exported by its ID; status, report, and
    export without IDs still work. The command asks for confirmation first; without a terminal, it needs --yes.
    """
    from ...jobs.ledger_anonymization import anonymize

    run_and_exit(lambda: anonymize(ledger, is_confirmed=yes))
