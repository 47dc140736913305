"""The commands that read a ledger: status, export, report, verify and redact."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app_output import told, traced
from .ending import STATUSES, end


class _Shown(StrEnum):
    HASHED = "hashed"
    PLAIN = "plain"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (traced(status), traced(export), traced(report), told(verify), traced(redact)):
        app.command(epilog=STATUSES)(command)


def status(
    ledger: options.LedgerFile,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh while the job runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Show the progress of a job

    \b
    Examples:
      # Follow a running job
      adapty-async status people.csv.adapty.db --watch
      # Print the figures as one JSON object
      adapty-async status people.csv.adapty.db --json

    The command only reads, so you can run it in another terminal while the job runs. For a running job, it shows the
    same figures as the job's own screen, at most one or two seconds old: the rate and the rate limit, the share of
    rate-limited requests, the requests in flight, the latency, the time left, whether the job is paused, and the last
    errors.
    """
    from .jobs.report import status

    if watch and as_json:
        raise typer.BadParameter("it is one object: leave --watch out", param_hint="--json")
    end(lambda: status(ledger, watch=watch, as_json=as_json))


def export(
    ledger: options.LedgerFile,
    input: options.Input = None,  # noqa: A002 - the name of the option
    ids: Annotated[
        _Shown, typer.Option(help="Show IDs as keyed hashes, plain from the input, or not at all.")
    ] = _Shown.HASHED,
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
    from .jobs.report import export

    end(lambda: export(ledger, input, ids.value))


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
    from .jobs.report import about as tell_about
    from .jobs.report import report

    if about is not None and (json or markdown):
        raise typer.BadParameter("it is shown on standard output, without --json and --markdown", param_hint="--about")
    end(lambda: report(ledger, json, markdown, force=force) if about is None else tell_about(ledger, about))


def verify(
    ledger: options.LedgerFile,
    sample: Annotated[
        str,
        typer.Argument(metavar="all|rest|N|N%", show_default=False, help="How many to check, chosen at random."),
    ],
    input: options.Input = None,  # noqa: A002 - the name of the option
    concurrency: options.Concurrency = 100,
    timeout: options.Timeout = 30.0,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    present: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write present profiles to this new CSV file, to delete them again."),
    ] = None,
    new_key: options.NewKey = False,
    known: options.Known = None,
) -> None:
    """Check that deleted profiles are gone

    \b
    Examples:
      # Check 5% of the deleted profiles
      adapty-async verify people.csv.adapty.db 5%
      # Check all of them, and write the rows of those that still exist
      adapty-async verify people.csv.adapty.db all --present present.csv

    The ledger records which profiles are present. The outcomes don't change: "report" shows how many profiles were
    found, and "export" shows their rows. After an interruption, "rest" checks the profiles that have no result yet.

    Exit status 1 means that a profile is present, or was when it was last checked, or that the check of a profile gave
    no clear result.
    """
    from .jobs.pace import Pace
    from .jobs.verify import verify

    end(
        lambda: verify(
            ledger,
            sample,
            input,
            Pace.of(pace, max_rate),
            concurrency,
            timeout,
            present,
            new_key=new_key,
            known=known,
        )
    )


def redact(
    ledger: options.LedgerFile,
    yes: Annotated[
        bool, typer.Option("--yes", help="Don't ask for confirmation, even if the job isn't finished.")
    ] = False,
) -> None:
    """Make a ledger anonymous

    \b
    Examples:
      # Remove the key file after a confirmation
      adapty-async redact people.csv.adapty.db
      # Remove it from a script
      adapty-async redact people.csv.adapty.db --yes

    The key file is removed permanently, and without it nothing in the ledger leads to an ID. After this, the job can't
    be resumed, its deletions can't be verified, and no row can be looked up or exported by its ID; status, report, and
    export without IDs still work. The command asks for confirmation first; without a terminal, it needs --yes.
    """
    from .jobs.report import redact

    end(lambda: redact(ledger, confirmed=yes))
