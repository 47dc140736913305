"""The command delete."""

from typing import Annotated

from ..command_runner import run_and_exit
from ..option_group_conversion import Without
from ..options import StartOptions


def delete(start_options: Annotated[StartOptions, Without("attribute_options")]) -> None:
    """Delete the profiles listed in a file

    \b
    Examples:
      # Delete the profiles, and write the rows that failed to a file
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id --failures failures.csv
      # Delete exactly 300,000 profiles from a script
      adapty-async delete people.csv --by customer_user_id --yes --expect 300000 --log-file people.log

    FILE is CSV, TSV, JSON lines or Parquet with a column named by --by or --column, or a text with one ID per line and
    an optional header. The format follows from the file name, as in people.jsonl.gz, or from --format. Text must be
    UTF-8 and may be compressed with gzip. The whole file is checked before the first request, in constant memory. IDs
    are sent unchanged. An ID that occurs twice is sent once.

    The outcome of every row is recorded in a ledger, FILE.adapty.db. If the command is interrupted, "resume" continues
    from there. The ledger contains no IDs; together with its key file, FILE.adapty.db.key, it can be searched for one.
    Standard input is copied next to the ledger (./stdin.adapty.db) and the copy is removed when the job is done.

    The command finds the rate limit of your API key and stays below it. Commands that use the same key at the same time
    share the limit, and later commands start from it.

    The key is read from ADAPTY_API_KEY, or from the file in ADAPTY_API_KEY_FILE. ADAPTY_BASE_URL selects another
    server. Ctrl-C stops the command after the requests in flight; a second Ctrl-C aborts it. "pause" and
    "unpause" pause the job and unpause it. So do the signals SIGUSR1 and SIGUSR2.

    Deleted profiles can't be restored. Adapty only confirms that it accepted a deletion: it detaches the purchase
    history from the profile, and may attach it to another profile later.
    """
    from ..jobs.start import start_job

    run_and_exit(lambda: start_job("delete", start_options))
