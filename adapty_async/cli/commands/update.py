"""The command update."""

from typing import TYPE_CHECKING

from .. import options
from ..command import run_and_exit

if TYPE_CHECKING:
    from ..inputs.attribute_mapping import AttributeOptions


def update(
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
    app: options.App = None,
    skip_damaged: options.SkipDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    ledger: options.Ledger = None,
    no_ledger: options.NoLedger = False,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
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
    from ..inputs.allowances import Allowances
    from ..inputs.rows import parse_format
    from ..jobs.start import StartOptions, start_job

    run_and_exit(
        lambda: start_job(
            StartOptions(
                operation="update",
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
                app=app,
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
    )


def parse_attribute_options(
    names: str | None, fixed: list[str] | None, null: str | None, empty: str | None
) -> "AttributeOptions":
    """Return the assignment that the options describe. Raises CommandError."""
    from ..inputs.attribute_mapping import AttributeOptions

    return AttributeOptions.from_options(names=names, fixed=fixed or [], null=null, empty=empty)
