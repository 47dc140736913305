"""The command status."""

from typing import Annotated

import typer

from ... import options
from ...command_runner import run_and_exit


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
    from ...jobs.status import show_status

    if watch and as_json:
        raise typer.BadParameter("it is one object: leave --watch out", param_hint="--json")
    run_and_exit(lambda: show_status(ledger, watch=watch, as_json=as_json))
