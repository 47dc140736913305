"""The command report."""

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..command import run_and_exit


def report(
    ledger: options.LedgerFile,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the record as JSON here; - is standard output.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the record as Markdown here; - is standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files if they exist.")] = False,
    about: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Show the outcome of this ID instead; - reads it from standard input."),
    ] = None,
) -> None:
    """Write the record of a job

    \b
    Examples:
      # Write the record as JSON and as Markdown
      adapty-async report people.csv.adapty.db --json record.json --markdown record.md
      # Show the outcome of one ID
      adapty-async report people.csv.adapty.db --about user-17

    The record covers all runs. Its figures are counted from the rows, and it contains none of the IDs. If the job isn't
    finished, the record says so first, with the number of open items and how to resume the job.

    Exit status 1 means that a verification found profiles present. With --about, it means that the ledger doesn't
    contain the ID, that not every row with this ID is known to be done, or that the profile was present when it was
    verified. If there was no such profile in the first place, the exit status is 0.
    """
    from ..jobs.report import show_id as tell_about
    from ..jobs.report import write_record

    if about is not None and (json or markdown):
        raise typer.BadParameter("it is shown on standard output, without --json and --markdown", param_hint="--about")
    run_and_exit(
        lambda: write_record(ledger, json, markdown, force=force) if about is None else tell_about(ledger, about)
    )
