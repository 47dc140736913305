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
) -> None:
    """Write the record of a job

    \b
    Examples:
      # Write the record as JSON and as Markdown
      adapty-async report people.csv.adapty.db --json record.json --markdown record.md
      # Read it in the terminal
      adapty-async report people.csv.adapty.db

    The record covers all runs. Its figures are counted from the rows, and it contains none of the IDs. If the job isn't
    finished, the record says so first, with the number of open items and how to resume the job.

    Exit status 1 means that a verification found profiles present.
    """
    from ..jobs.report import write_record

    run_and_exit(lambda: write_record(ledger, json, markdown, force=force))
