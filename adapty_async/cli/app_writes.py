"""The commands that write attributes: update and create."""

from typing import TYPE_CHECKING

import typer

from . import options
from .app_output import told
from .ending import STATUSES, end

if TYPE_CHECKING:
    from .assignment import Assignment


def register(app: typer.Typer) -> None:
    """Add the commands to the others."""
    app.command(epilog=STATUSES)(told(update))
    app.command(epilog=STATUSES)(told(create))


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
    most: options.Max = None,
    max_failures: options.MaxFailures = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    app: options.App = None,
    accept_damaged: options.AcceptDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    ledger: options.Ledger = None,
    no_ledger: options.NoLedger = False,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
    """Set attributes of the profiles that a file names.

    \b
      adapty-async update people.csv --by customer_user_id --null NULL
      adapty-async update ids.txt --by customer_user_id --set custom.campaign=spring --set email=NULL --null NULL

    Each other column is an attribute, by the name that the API has for it: first_name, email, birthday, att_status,
    ..., installation_meta.device_id, ... A custom attribute is custom.NAME, a text (in Parquet what the column is);
    custom.NAME:number and custom.NAME:bool are numbers and true or false. A column that is none of these refuses the
    file, unless --attributes names those that are.

    An empty cell leaves its attribute as it is. A cell with the text of --null clears it; so do empty cells with
    --null ''. A cell with the text of --empty is an empty text, and so is the value of --set KEY=.

    FILE may hold JSON lines instead, one object a line: {"customer_user_id": "u1", "email": null,
    "custom_attributes": {"age": 7}}. There null clears, "" is an empty text, and what isn't there stays as it is.

    Names, types and limits are checked before anything is sent: a row with a value that Adapty would refuse is invalid.
    An id that stands there twice is sent once; with different values it refuses the file, also where only one of the
    two could be sent. An update that was sent without an answer is not sent again after 15 minutes, nor by resume after
    a restart of the machine, for it might overwrite newer data: it is in doubt until retry-failed sends it. Values of
    --set stand in the ledger, those of the file don't. The rest as in delete.
    """
    from .allowances import Allowances
    from .begin import Asked, begin
    from .inputs import format_of

    end(
        lambda: begin(
            Asked(
                operation="update",
                assignment=assignment_of(attributes, set_, null, empty),
                file=file,
                by=by.value,
                column=column,
                format=format_of(format),
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                failures=failures,
                confirmed=yes,
                expect=expect,
                most=most,
                max_failures=max_failures,
                canary=not no_canary,
                exclude=exclude or (),
                app=app,
                accept_damaged=accept_damaged,
                allows=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
                ledger=ledger,
                has_ledger=not no_ledger,
                operator=operator,
                request=request,
            )
        )
    )


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
    most: options.Max = None,
    max_failures: options.MaxFailures = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    accept_damaged: options.AcceptDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    ledger: options.Ledger = None,
    no_ledger: options.NoLedger = False,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
    """Create profiles for the customer user ids of a file.

    \b
      adapty-async create people.csv --by customer_user_id
      adapty-async create people.csv --by customer_user_id --attributes email,custom.team --failures failures.csv

    Columns and JSON lines are attributes as in update, but a profile needs none. The id must be your own,
    customer_user_id: profile ids are Adapty's to give. Where there is a profile of that id already, its attributes are
    overwritten. The rest as in update.
    """
    from .allowances import Allowances
    from .begin import Asked, begin
    from .exits import ExitStatus
    from .inputs import format_of
    from .order import refuse_by

    def run() -> ExitStatus:
        refuse_by("create", by.value)
        return begin(
            Asked(
                operation="create",
                assignment=assignment_of(attributes, set_, null, empty),
                file=file,
                by=by.value,
                column=column,
                format=format_of(format),
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                failures=failures,
                confirmed=yes,
                expect=expect,
                most=most,
                max_failures=max_failures,
                canary=not no_canary,
                exclude=exclude or (),
                accept_damaged=accept_damaged,
                allows=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
                ledger=ledger,
                has_ledger=not no_ledger,
                operator=operator,
                request=request,
            )
        )

    end(run)


def assignment_of(names: str | None, fixed: list[str] | None, null: str | None, empty: str | None) -> "Assignment":
    """Take the options that say what is written. Raises CommandError."""
    from .assignment import Assignment

    return Assignment.of(names=names, fixed=fixed or [], null=null, empty=empty)
