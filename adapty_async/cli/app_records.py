"""The commands that read a ledger: status, export, report, verify and redact."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from . import options
from .app_output import told, traced
from .ending import STATUSES, end

_Ledger: TypeAlias = Annotated[
    Path, typer.Argument(metavar="LEDGER", show_default=False, help="The ledger of a job, as in people.csv.adapty.db.")
]
_Input: TypeAlias = Annotated[Path | None, typer.Option(metavar="FILE", help="The input of the job, if it was moved.")]


class _Shown(StrEnum):
    HASHED = "hashed"
    PLAIN = "plain"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (traced(status), traced(export), traced(report), told(verify), traced(redact)):
        app.command(epilog=STATUSES)(command)


def status(
    ledger: _Ledger,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh while the job runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Show the progress of a job

    \b
      adapty-async status people.csv.adapty.db --watch
      adapty-async status people.csv.adapty.db --json

    It only reads, so it works from another terminal while the job runs. Of a running job it shows what the job's own
    screen does, at most a second or two old: rate and limit, the share that was refused, requests under way, latency,
    time left, whether it is paused, and the last errors.
    """
    from .records import status

    if watch and as_json:
        raise typer.BadParameter("it is one object: leave --watch out", param_hint="--json")
    end(lambda: status(ledger, watch=watch, as_json=as_json))


def export(
    ledger: _Ledger,
    input: _Input = None,  # noqa: A002 - the name of the option
    ids: Annotated[
        _Shown, typer.Option(help="Show IDs as keyed hashes, plain from the input, or not at all.")
    ] = _Shown.HASHED,
) -> None:
    """Export the outcome of every row as CSV

    \b
      adapty-async export people.csv.adapty.db > rows.csv
      adapty-async export people.csv.adapty.db --ids plain --input moved.csv > rows.csv

    The columns are position (from 0), id, outcome, status (of the last response), attempts and time (UTC). Rows that
    were verified also have present (yes or no) and verified (the time, UTC). For plain IDs the whole input is compared
    with the ledger before the first row is written.
    """
    from .records import export

    end(lambda: export(ledger, input, ids.value))


def report(
    ledger: _Ledger,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the record as JSON here; - is standard output.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as Markdown here; - is standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files if they exist.")] = False,
    about: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Show the outcome of this ID instead; - reads it from standard input."),
    ] = None,
) -> None:
    """Write the record of a job

    \b
      adapty-async report people.csv.adapty.db --json record.json --markdown record.md
      adapty-async report people.csv.adapty.db --about user-17

    The record covers all runs and is counted from the rows. It names nobody. Of a job that isn't finished it says so
    first, with how many items are open and how to go on.

    Exit status 1: a verification found somebody present; with --about: the id isn't in the ledger, it isn't known that
    its profile is gone, or it was found present afterwards; 0 also where there was no such profile from the start.
    """
    from .records import about as tell_about
    from .records import report

    if about is not None and (json or markdown):
        raise typer.BadParameter("it is shown on standard output, without --json and --markdown", param_hint="--about")
    end(lambda: report(ledger, json, markdown, force=force) if about is None else tell_about(ledger, about))


def verify(
    ledger: _Ledger,
    sample: Annotated[
        str,
        typer.Argument(metavar="all|rest|N|N%", show_default=False, help="How many to check, chosen at random."),
    ],
    input: _Input = None,  # noqa: A002 - the name of the option
    concurrency: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most requests in flight.")] = 100,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="Time limit of a request.")
    ] = 30.0,
    pace: Annotated[str, typer.Option(metavar="PACE", help="background, full, or requests per second.")] = "background",
    max_rate: Annotated[
        str | None, typer.Option(metavar="RATE", show_default=False, help="Upper limit, in requests per second.")
    ] = None,
    present: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write present profiles to this new CSV file, to delete them again."),
    ] = None,
    new_key: options.NewKey = False,
    known: options.Known = None,
) -> None:
    """Check that deleted profiles are gone

    \b
      adapty-async verify people.csv.adapty.db 5%
      adapty-async verify people.csv.adapty.db all --present present.csv

    The ledger notes who is present. The outcomes stay as they are; the record shows what was found, and export of which
    rows. After an interruption, rest asks for those of whom nothing is known yet. Exit status 1: somebody is present,
    or was when last asked for, or it isn't known of all that were asked for.
    """
    from .pace import Pace
    from .verifying import verify

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
    ledger: _Ledger,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask first, even if the job isn't finished.")] = False,
) -> None:
    """Make a ledger anonymous

    \b
      adapty-async redact people.csv.adapty.db
      adapty-async redact people.csv.adapty.db --yes

    The key file is removed for good: without it nothing in the ledger leads to an id. Afterwards the job can't go on,
    its people can't be verified, and nobody's deletion can be looked up or exported by the id; status, report and
    export without ids go on working. On a terminal it asks before that, without one it wants --yes.
    """
    from .records import redact

    end(lambda: redact(ledger, confirmed=yes))
