"""The commands that delete, and their options."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from .ending import STATUSES, end


class _IdKind(StrEnum):
    CUSTOMER_USER_ID = "customer_user_id"
    PROFILE_ID = "profile_id"


_File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="CSV file of ids; - is standard input.")
]
_LedgerFile: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="LEDGER", show_default=False, help="The ledger of the job, as in people.csv.adapty.db."),
]
_By: TypeAlias = Annotated[_IdKind, typer.Option(help="What the ids are; also the column they stand in.")]
_Column: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="The column they stand in.")]
_Exclude: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="CSV file of ids that must not be sent, as of people under legal hold."),
]
_AcceptDamaged: TypeAlias = Annotated[
    bool, typer.Option("--accept-damaged", help="Leave out the rows whose id a spreadsheet shortened, as in 1.23E+15.")
]
_Concurrency: TypeAlias = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most requests under way.")]
_OtherConcurrency: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1000, metavar="N", help="Most requests under way.")
]
_PACE = typer.Option(
    metavar="PACE",
    help="background: 7 tenths of the limit, the rest is for your app; full: all of it; or requests a second.",
)
_Pace: TypeAlias = Annotated[str, _PACE]
_OtherPace: TypeAlias = Annotated[str | None, _PACE]
_MaxRate: TypeAlias = Annotated[
    str | None, typer.Option(metavar="RATE", show_default=False, help="Never more requests a second than this.")
]
_Failures: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="New CSV file for the rows that failed, with all their columns; feed it back later."
    ),
]
_Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Delete without asking first; up to 10,000 profiles.")]
_Expect: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Go on only where it is N profiles; plan prints the number.")
]
_Max: TypeAlias = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="Go on only where it is N profiles at most.")
]
_MaxFailures: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N|N%", help="Stop when more rows fail; without it, when more than 20% do.")
]
_NoCanary: TypeAlias = Annotated[
    bool,
    typer.Option("--no-canary", help="Don't wait for the first 100 of more than 1,000 to be judged before the rest."),
]
_App: TypeAlias = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="Make sure first that a listed person is of this app.")
]
_Operator: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="For the record: who does it.")]
_Request: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="For the record: on whose request.")]
_Input: TypeAlias = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", help="The input of the job, where it was moved.")
]
_NewKey: TypeAlias = Annotated[
    bool, typer.Option("--new-key", help="The key was exchanged; a listed person must be of the same app as before.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of the command line."""
    app.command(epilog=STATUSES)(plan)
    app.command(epilog=STATUSES)(delete)
    app.command(epilog=STATUSES)(resume)
    app.command("retry-failed", epilog=STATUSES)(retry_failed)


def plan(
    file: _File,
    by: _By,
    column: _Column = None,
    exclude: _Exclude = None,
    accept_damaged: _AcceptDamaged = False,
) -> None:
    """Say what a deletion would do, and send nothing.

    \b
      adapty-async plan people.csv --by customer_user_id

    It tells which column holds the ids, how many profiles they are, and the command that deletes them.
    """
    from .order import Order
    from .pace import Pace
    from .plan import plan

    pace = Pace.of("background", None)
    order = Order(file=file, by=by.value, column=column, pace=pace, exclude=exclude, accept_damaged=accept_damaged)
    end(lambda: plan(order, file))


def delete(
    file: _File,
    by: _By,
    column: _Column = None,
    concurrency: _Concurrency = 100,
    pace: _Pace = "background",
    max_rate: _MaxRate = None,
    failures: _Failures = None,
    yes: _Yes = False,
    expect: _Expect = None,
    most: _Max = None,
    max_failures: _MaxFailures = None,
    no_canary: _NoCanary = False,
    exclude: _Exclude = None,
    app: _App = None,
    accept_damaged: _AcceptDamaged = False,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="LEDGER", show_default="FILE.adapty.db", help="New file that keeps what becomes of it."),
    ] = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="Keep nothing: what is ended can't be gone on with.")
    ] = False,
    operator: _Operator = None,
    request: _Request = None,
) -> None:
    """Delete the profiles whose ids stand in a CSV file.

    \b
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id --failures failures.csv

    FILE is UTF-8, with a column named as --by says, or --column; or it holds one id a line, with or without such a
    name above them. The whole file is checked before anything is sent. Ids are sent as they stand there; one that is
    there twice is sent once, for which each id takes about 130 bytes of memory.

    What becomes of every row stands in a ledger, FILE.adapty.db: no id, but with its key file, FILE.adapty.db.key, an
    id can be looked up. Whatever ends the command, resume goes on where it was. Standard input is copied beside the
    ledger first, ./stdin.adapty.db, and the copy removed when all is done.

    Nobody tells the rate limit of a key: the command finds it out from the refusals, and stays below it. Commands that
    run at one time with the same key share what they find, and the next one begins with it.

    The key is read from ADAPTY_API_KEY, or from the file that ADAPTY_API_KEY_FILE names; ADAPTY_BASE_URL names
    another server. Ctrl-C stops: what is under way comes to its end. A second one aborts.

    What has been deleted can't be brought back. Adapty's word is that it accepted a deletion: it takes the profile's
    purchase history off it, and may attach that to another profile later.
    """
    from .delete import Wish, delete
    from .exits import CommandError, ExitStatus
    from .guards import Guards
    from .ledgers import beside
    from .order import Order
    from .pace import Pace

    def run() -> ExitStatus:
        if no_ledger and ledger is not None:
            raise CommandError("--ledger and --no-ledger contradict each other: leave one out")
        order = Order(
            file=None,
            by=by.value,
            column=column,
            pace=Pace.of(pace, max_rate),
            concurrency=concurrency,
            guards=Guards.of(expect=expect, most=most, app=app, most_failures=max_failures, canary=not no_canary),
            exclude=exclude and exclude.absolute(),
            accept_damaged=accept_damaged,
            operator=operator,
            request=request,
        )
        where = None if no_ledger else ledger or beside(file)
        return delete(order, Wish(file, where, failures, confirmed=yes))

    end(run)


def resume(
    ledger: _LedgerFile,
    file: _Input = None,
    appended: Annotated[
        bool, typer.Option("--appended", help="Rows were added at the end of the input: take them, too.")
    ] = False,
    new_key: _NewKey = False,
    concurrency: _OtherConcurrency = None,
    pace: _OtherPace = None,
    max_rate: _MaxRate = None,
    failures: _Failures = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --appended: delete the added without asking first.")] = False,
    expect: _Expect = None,
    most: _Max = None,
    max_failures: _MaxFailures = None,
    no_canary: _NoCanary = False,
    exclude: _Exclude = None,
    app: _App = None,
    operator: _Operator = None,
    request: _Request = None,
) -> None:
    """Go on with a deletion where it ended, however that was.

    \b
      adapty-async resume people.csv.adapty.db

    The input must be the same, row by row: what was edited, put in another order or exchanged is refused, before
    anything is sent. What has an outcome is not sent again. Everything that was ordered stays as it was, but for the
    options given here. The file of --exclude is read afresh: who stands in it by now is not sent.
    """
    from .resume import Terms, resume

    end(
        lambda: resume(
            ledger,
            Terms(
                retry=False,
                file=file,
                appended=appended,
                new_key=new_key,
                confirmed=yes,
                failures=failures,
                concurrency=concurrency,
                pace=pace,
                max_rate=max_rate,
                expect=expect,
                most=most,
                app=app,
                max_failures=max_failures,
                canary=not no_canary,
                operator=operator,
                request=request,
                exclude=exclude and exclude.absolute(),
            ),
        )
    )


def retry_failed(
    ledger: _LedgerFile,
    file: _Input = None,
    new_key: _NewKey = False,
    concurrency: _OtherConcurrency = None,
    pace: _OtherPace = None,
    max_rate: _MaxRate = None,
    failures: _Failures = None,
    expect: _Expect = None,
    most: _Max = None,
    max_failures: _MaxFailures = None,
    no_canary: _NoCanary = False,
    exclude: _Exclude = None,
    app: _App = None,
    operator: _Operator = None,
    request: _Request = None,
) -> None:
    """Send again what failed or is in doubt, and what waits.

    \b
      adapty-async retry-failed people.csv.adapty.db

    The rest as in resume.
    """
    from .resume import Terms, resume

    end(
        lambda: resume(
            ledger,
            Terms(
                retry=True,
                file=file,
                appended=False,
                new_key=new_key,
                confirmed=False,
                failures=failures,
                concurrency=concurrency,
                pace=pace,
                max_rate=max_rate,
                expect=expect,
                most=most,
                app=app,
                max_failures=max_failures,
                canary=not no_canary,
                operator=operator,
                request=request,
                exclude=exclude and exclude.absolute(),
            ),
        )
    )
