"""The command retry-failed."""

from typing import Annotated

from ...command_runner import run_and_exit
from ...option_group_conversion import Without
from ...options import ResumeOptions


def retry_failed(resume_options: Annotated[ResumeOptions, Without("allow_appended", "yes")]) -> None:
    """Send failed and in-doubt rows again

    \b
    Examples:
      # Send the rows again that failed or are in doubt
      adapty-async retry-failed people.csv.adapty.db
      # Write the rows that fail again to a file
      adapty-async retry-failed people.csv.adapty.db --failures failures.csv

    Rows that haven't been sent yet are sent as well. An update or creation that is in doubt may have been executed:
    sending it again overwrites newer data from your app. Everything else is as in resume.
    """
    from ...jobs.resume import resume

    run_and_exit(lambda: resume(resume_options, is_retry=True))
