"""The command plan."""

from ..command_runner import run_and_exit
from ..options import PlanOptions


def plan(plan_options: PlanOptions) -> None:
    """Check a file without sending anything

    \b
    Examples:
      # Check a file before a deletion
      adapty-async plan people.csv --by customer_user_id
      # Also ask Adapty for 100 of the profiles
      adapty-async plan people.csv --by customer_user_id --probe 100 --pace full
      # Check a file before an update
      adapty-async plan changes.csv --by customer_user_id --for update --null NULL

    It shows the column of the IDs, the number of profiles, the time needed at the rate that earlier commands measured
    (or at that of --pace), and the command to type next. For update and create it also counts how many values of each
    attribute are set, cleared (null) or emptied. With --probe it asks Adapty how many of N profiles exist, and in which
    app; without it nothing is sent.
    """
    from ..jobs.plan import plan

    run_and_exit(lambda: plan(plan_options))
