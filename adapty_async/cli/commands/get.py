"""The command get."""

from ..command_runner import run_and_exit
from ..options import GetOptions


def get(get_options: GetOptions) -> None:
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
    from ..jobs.profile_export import export_profiles

    run_and_exit(lambda: export_profiles(get_options))
