"""The command update."""

from typing import Annotated

from ..command_runner import run_and_exit
from ..option_group_conversion import Without
from ..options import StartOptions


def update(start_options: Annotated[StartOptions, Without("max_absent")]) -> None:
    """Update profiles from a file

    \b
    Examples:
      # Update profiles from the columns; cells with NULL clear their attributes
      adapty-async update people.csv --by customer_user_id --null NULL
      # Set the same values in all profiles
      adapty-async update ids.txt --by customer_user_id --set custom.campaign=spring --set email=NULL --null NULL

    Every other column is an attribute and has its name in the API: first_name, email, birthday, att_status, ...,
    installation_meta.device_id, ... A custom attribute is custom.NAME. It is a text, or in Parquet has the type of the
    column; custom.NAME:number and custom.NAME:bool are numbers and booleans. A file with any other column is refused,
    unless --attributes lists the columns to send.

    An empty cell leaves its attribute unchanged. A cell with the text of --null clears it; with --null '' empty cells
    do. A cell with the text of --empty sets an empty text, and so does --set KEY=.

    FILE may also be JSON lines, one object per line: {"customer_user_id": "u1", "email": null,
    "custom_attributes": {"age": 7}}. In it null clears, "" is an empty text, and a missing key leaves its attribute
    unchanged.

    Names, types and limits are checked before the first request: a row with a value that Adapty would reject is
    invalid. An ID that occurs twice is sent once. If its values differ, the file is refused, even if only one of the
    two rows could be sent. An update without a response is not sent again after 15 minutes, nor by resume after a
    restart of the machine, because it might overwrite newer data: it is in doubt until retry-failed sends it. The
    ledger contains the values of --set, but not those of the file. Everything else is as in delete.
    """
    from ..jobs.start import start_job

    run_and_exit(lambda: start_job("update", start_options))
