"""The command create."""

from typing import Annotated

from ..command_runner import run_and_exit
from ..option_group_conversion import Without
from ..options import StartOptions


def create(start_options: Annotated[StartOptions, Without("max_absent", "app")]) -> None:
    """Create profiles from a file

    \b
    Examples:
      # Create profiles with the attributes in the columns
      adapty-async create people.csv --by customer_user_id
      # Send only two of the columns, and write the rows that failed to a file
      adapty-async create people.csv --by customer_user_id --attributes email,custom.team --failures failures.csv

    Columns and JSON lines are attributes as in update, but a profile needs none. The ID must be your own,
    customer_user_id, because Adapty assigns profile IDs. If a profile with that ID exists, its attributes are
    overwritten. Everything else is as in update.
    """
    from ..jobs.start import start_job

    run_and_exit(lambda: start_job("create", start_options))
