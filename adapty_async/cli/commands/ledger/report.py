"""The command report."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


class _RecordFormat(StrEnum):
    JSON = "json"
    MD = "md"


def report(
    ledger: options.LedgerFile,
    record_format: Annotated[
        _RecordFormat, typer.Option("--format", help="Format of the record: JSON or Markdown.")
    ] = _RecordFormat.MD,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            show_default="standard output",
            help="Write the record to FILE; - is standard output.",
        ),
    ] = Path("-"),
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write the record of a job

    \b
    Examples:
      # Write the record as a page to read
      adapty-async report people.csv.adapty.db -o record.md
      # Write it as data
      adapty-async report people.csv.adapty.db --format json -o record.json

    The record covers all runs. Its figures are counted from the rows, and it contains none of the IDs. If the job isn't
    finished, the record says so first, with the number of open items and how to resume the job.

    Exit status 1 means that a verification found profiles present.
    """
    from ...jobs.job_record_output import write_record

    run_and_exit(lambda: write_record(ledger, record_format.value, output, force=force))
