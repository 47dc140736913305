"""The command resume."""

from ...command_runner import run_and_exit
from ...options import ResumeOptions


def resume(resume_options: ResumeOptions) -> None:
    """Continue a job from its ledger

    \b
    Examples:
      # Continue with the options of the earlier run
      adapty-async resume people.csv.adapty.db
      # Continue with a moved input, at the full rate limit
      adapty-async resume people.csv.adapty.db --input moved/people.csv --pace full

    The input must be the same, row by row: an edited, reordered or replaced input is refused before the first request.
    Rows that have an outcome are not sent again. The job keeps its options, except those given here, which also apply
    to later runs, and --failures, which is for one run. --exclude adds to the earlier exclude lists. All exclude lists
    are read again: IDs added to one since then are not sent.
    """
    from ...jobs.resume import resume

    run_and_exit(lambda: resume(resume_options))
