"""The commands get and doctor, which only read from Adapty."""

from typing import Annotated

import typer

from . import options
from .app_output import traced
from .ending import STATUSES, end


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=STATUSES)(traced(get))
    app.command(epilog=STATUSES)(traced(doctor))


def get(
    file: options.File,
    by: options.By,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    concurrency: options.Concurrency = 100,
    timeout: options.Timeout = 30.0,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    accept_damaged: options.AcceptDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
) -> None:
    """Export profiles as JSON lines

    \b
    Examples:
      # Export the profiles listed in the column customer_user_id
      adapty-async get people.csv --by customer_user_id > profiles.jsonl
      # Use all of the rate limit
      adapty-async get ids.txt --by profile_id --pace full > profiles.jsonl

    Each row of the file becomes a JSON object on standard output, with the keys position (of the row, from 0), line, id
    (as in the file), outcome (fetched, not_found, duplicate, invalid, failed, in_doubt or not_attempted) and profile
    (null unless it was fetched). A row that failed also has reason and status. The objects are in the order in which
    the responses arrive. Progress is shown on standard error.

    Nothing is stored: to get the profiles that are missing, run the command again. Exit status 1 means that some rows
    failed or have no profile.
    """
    from .allowances import Allowances
    from .exit_codes import ExitStatus
    from .inputs.rows import format_of
    from .jobs.get import Wanted, get
    from .jobs.pace import Pace

    def run() -> ExitStatus:
        wanted = Wanted(
            file=file,
            by=by.value,
            column=column,
            format=format_of(format),
            accept_damaged=accept_damaged,
            allows=Allowances(invisible=allow_invisible, rounded=allow_rounded),
            concurrency=concurrency,
            timeout=timeout,
            pace=Pace.of(pace, max_rate),
        )
        return get(wanted)

    end(run)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Check the key, network, disk and versions

    \b
    Examples:
      # Show one line per check
      adapty-async doctor
      # Write the results to a file
      adapty-async doctor --json > doctor.json

    It checks the key without showing it. It sends one request without the key to ADAPTY_BASE_URL or to Adapty, and one
    with the key, for a profile that doesn't exist. It writes only an empty file, which it removes. Exit status 1: you
    need to change something; 4: Adapty rejects the key, or the key may not read profiles.
    """
    from .jobs.doctor import doctor

    end(lambda: doctor(as_json=as_json))
