"""The command export."""

from enum import StrEnum
from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


class _IdDisplay(StrEnum):
    HASHED = "hashed"
    PLAIN = "plain"
    NONE = "none"


def export(
    ledger: options.LedgerFile,
    input: options.Input = None,  # noqa: A002 - the name of the option
    ids: Annotated[
        _IdDisplay, typer.Option(help="Show IDs as keyed hashes, plain from the input, or not at all.")
    ] = _IdDisplay.HASHED,
) -> None:
    """Export the outcome of every row as CSV

    \b
    Examples:
      # Show every ID as a keyed hash
      adapty-async export people.csv.adapty.db > rows.csv
      # Show the IDs of the input, which was moved
      adapty-async export people.csv.adapty.db --ids plain --input moved.csv > rows.csv

    The columns are position (from 0), id, outcome, status (of the last response), attempts and time (UTC). Rows that
    were verified also have present (yes or no) and verified (the time, UTC). Excluded rows have exclude_list, the list
    that contains the ID. For plain IDs, the whole input is compared with the ledger before the first row is written.
    """
    from ...jobs.outcome_export import export_rows

    run_and_exit(lambda: export_rows(ledger, input, ids.value))
