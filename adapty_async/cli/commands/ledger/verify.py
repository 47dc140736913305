"""The command verify."""

from pathlib import Path
from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


def verify(
    ledger: options.LedgerFile,
    sample: Annotated[
        str, typer.Option(metavar="N|N%|all", help="How many of the profiles to check, chosen at random.")
    ] = "all",
    remaining: Annotated[
        bool, typer.Option("--remaining", help="Check only profiles that have no result yet.")
    ] = False,
    input: options.Input = None,  # noqa: A002 - the name of the option
    *,
    speed_options: options.SpeedOptions,
    present: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write present profiles to this new CSV file, to delete them again."),
    ] = None,
    new_key_options: options.NewKeyOptions,
) -> None:
    """Check that deleted profiles are gone

    \b
    Examples:
      # Check 5% of the deleted profiles
      adapty-async verify people.csv.adapty.db --sample 5%
      # Check all of them, and write the rows of those that still exist
      adapty-async verify people.csv.adapty.db --present present.csv

    The ledger records which profiles are present. The outcomes don't change: "report" shows how many profiles were
    found, and "export" shows their rows. After an interruption, --remaining checks the profiles that have no result
    yet.

    Exit status 1 means that a profile is present, or was when it was last checked, or that the check of a profile gave
    no clear result.
    """
    from ...jobs.verify import verify_job

    run_and_exit(
        lambda: verify_job(ledger, sample, input, speed_options, new_key_options, present, is_remaining_only=remaining)
    )
