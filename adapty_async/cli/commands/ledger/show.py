"""The command show."""

from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


def show(
    ledger: options.LedgerFile,
    id_: Annotated[
        str, typer.Argument(metavar="ID", show_default=False, help="The ID; - reads it from standard input.")
    ],
) -> None:
    """Show the outcome of one ID

    \b
    Examples:
      # Show when the profile of an ID was deleted
      adapty-async show people.csv.adapty.db user-17
      # Keep the ID out of the shell history
      adapty-async show people.csv.adapty.db -

    The command reads only the ledger and its key file. For each row with this ID, it prints the outcome, its time, and
    the result of its verification; then the server, the app, the hash of the ID, and the keys of the job. Write --
    before an ID that starts with a hyphen.

    Exit status 1 means that the ledger doesn't contain the ID, that not every row with this ID is known to be done, or
    that the profile was present when it was verified. If there was no such profile in the first place, the exit status
    is 0.
    """
    from ...jobs.outcome_lookup import show_id

    run_and_exit(lambda: show_id(ledger, id_))
