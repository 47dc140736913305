"""The command get."""

from .. import options
from ..command import run_and_exit


def get(
    file: options.File,
    by: options.By,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    concurrency: options.Concurrency = 100,
    timeout: options.Timeout = 30.0,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    skip_damaged: options.SkipDamaged = False,
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
    from ..exit_codes import ExitStatus
    from ..inputs.allowances import Allowances
    from ..inputs.rows import parse_format
    from ..jobs.get import GetOptions, export_profiles
    from ..jobs.pace import Pace

    def run() -> ExitStatus:
        get_options = GetOptions(
            file=file,
            by=by.value,
            column=column,
            format=parse_format(format),
            skip_damaged=skip_damaged,
            allowances=Allowances(invisible=allow_invisible, rounded=allow_rounded),
            concurrency=concurrency,
            timeout=timeout,
            pace=Pace.from_options(pace, max_rate),
        )
        return export_profiles(get_options)

    run_and_exit(run)
