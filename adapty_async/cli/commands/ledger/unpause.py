"""The command unpause."""

from ... import options
from ...command_runner import run_and_exit


def unpause(ledger: options.LedgerFile) -> None:
    """Unpause a running job

    \b
    Examples:
      # Unpause a job from another terminal
      adapty-async unpause people.csv.adapty.db
      # Unpause a job whose list came from standard input
      adapty-async unpause stdin.adapty.db

    The job sends requests again, at the same rate as before. Unpausing a job that isn't paused has no effect.

    Exit status 2 means that the job isn't running. To continue a job that has ended, use "resume". The command sends
    SIGUSR2 to the process that has locked the ledger, so it must run on the same machine, as the same user.
    """
    from ...jobs.pause import unpause_job

    run_and_exit(lambda: unpause_job(ledger))
