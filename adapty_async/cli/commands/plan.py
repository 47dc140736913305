"""The command plan."""

from typing import Annotated

import typer

from .. import options
from ..command import run_and_exit


def plan(
    file: options.File,
    by: options.By,
    target_command: Annotated[
        options.TargetCommand, typer.Option("--for", help="Check the file as this command would.")
    ] = options.TargetCommand.DELETE,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    attributes: options.Attributes = None,
    set_: options.Set = None,
    null: options.Null = None,
    empty: options.Empty = None,
    exclude: options.Exclude = None,
    skip_damaged: options.SkipDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    probe: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, metavar="N", show_default=False, help="Get N of the profiles, from the whole file."
        ),
    ] = None,
) -> None:
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
    from ..exit_codes import ExitStatus
    from ..inputs.allowances import Allowances
    from ..inputs.rows import parse_format
    from ..jobs.plan import PlanOptions, plan
    from .update import parse_attribute_options

    def run() -> ExitStatus:
        plan_options = PlanOptions(
            file=file,
            target_command=target_command.value,
            by=by.value,
            column=column,
            format=parse_format(format),
            attribute_options=parse_attribute_options(attributes, set_, null, empty),
            exclude=tuple(exclude or ()),
            skip_damaged=skip_damaged,
            allowances=Allowances(
                invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
            ),
            pace=pace,
            max_rate=max_rate,
            sample_size=probe,
        )
        return plan(plan_options)

    run_and_exit(run)
