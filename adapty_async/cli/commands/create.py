"""The command create."""

from .. import options
from ..command import run_and_exit


def create(
    file: options.File,
    by: options.By,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    attributes: options.Attributes = None,
    set_: options.Set = None,
    null: options.Null = None,
    empty: options.Empty = None,
    concurrency: options.Concurrency = 100,
    timeout: options.Timeout = 30.0,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    yes: options.Yes = False,
    expect: options.Expect = None,
    max_profiles: options.MaxProfiles = None,
    max_failures: options.MaxFailures = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    skip_damaged: options.SkipDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    ledger: options.Ledger = None,
    no_ledger: options.NoLedger = False,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
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
    from ..exit_codes import ExitStatus
    from ..inputs.allowances import Allowances
    from ..inputs.rows import parse_format
    from ..jobs.options import check_id_type
    from ..jobs.start import StartOptions, start_job
    from .update import parse_attribute_options

    def run() -> ExitStatus:
        check_id_type("create", by.value)
        return start_job(
            StartOptions(
                operation="create",
                attribute_options=parse_attribute_options(attributes, set_, null, empty),
                file=file,
                by=by.value,
                column=column,
                format=parse_format(format),
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                failures=failures,
                is_confirmed=yes,
                expect=expect,
                max_profiles=max_profiles,
                max_failures=max_failures,
                has_canary=not no_canary,
                exclude=exclude or (),
                skip_damaged=skip_damaged,
                allowances=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
                ledger=ledger,
                has_ledger=not no_ledger,
                operator=operator,
                request=request,
            )
        )

    run_and_exit(run)
