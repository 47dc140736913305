"""The command pause."""

from ... import options
from ...command_runner import run_and_exit


def pause(ledger: options.LedgerFile) -> None:
    """Pause a running job

    \b
    Examples:
      # Pause a job from another terminal
      adapty-async pause people.csv.adapty.db
      # Pause a job whose list came from standard input
      adapty-async pause stdin.adapty.db

    Requests in flight are completed, and no new ones are sent until "unpause". The process of the job keeps running:
    if it ends, "resume" continues the job. Pausing a paused job has no effect.

    Exit status 2 means that the job isn't running. The command sends SIGUSR1 to the process that has locked the ledger,
    so it must run on the same machine, as the same user.
    """
    from ...jobs.pause import pause_job

    run_and_exit(lambda: pause_job(ledger))
