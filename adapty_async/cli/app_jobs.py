"""The commands that delete, and that go on with a job."""

from typing import Annotated

import typer

from . import options
from .app_output import told, traced
from .ending import STATUSES, end


def register(app: typer.Typer) -> None:
    """Add the commands to those of the command line."""
    app.command(epilog=STATUSES)(traced(plan))
    app.command(epilog=STATUSES)(told(delete))
    app.command(epilog=STATUSES)(told(resume))
    app.command("retry-failed", epilog=STATUSES)(told(retry_failed))


def plan(
    file: options.File,
    by: options.By,
    purpose: Annotated[
        options.Purpose, typer.Option("--for", help="The command that the file is for; checked as that would.")
    ] = options.Purpose.DELETE,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    attributes: options.Attributes = None,
    set_: options.Set = None,
    null: options.Null = None,
    empty: options.Empty = None,
    exclude: options.Exclude = None,
    accept_damaged: options.AcceptDamaged = False,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    probe: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, metavar="N", show_default=False, help="Get N of the profiles, from all over the file."
        ),
    ] = None,
) -> None:
    """Say what a deletion would do, or an update, and send nothing.

    \b
      adapty-async plan people.csv --by customer_user_id
      adapty-async plan people.csv --by customer_user_id --probe 100 --pace full
      adapty-async plan changes.csv --by customer_user_id --for update --null NULL

    It tells which column holds the ids, how many profiles they are, how long it takes at the rate that earlier commands
    have found out (or at that of --pace), and the command to type then. For update and create it counts as well how
    many values of each attribute are set, cleared (null) or emptied. With --probe it asks Adapty how many of some
    profiles exist, and in which app; without it nothing is sent.
    """
    from .allowances import Allowances
    from .app_writes import assignment_of
    from .exits import ExitStatus
    from .inputs import format_of
    from .plan import Question, plan

    def run() -> ExitStatus:
        question = Question(
            file=file,
            purpose=purpose.value,
            by=by.value,
            column=column,
            format=format_of(format),
            assignment=assignment_of(attributes, set_, null, empty),
            exclude=tuple(exclude or ()),
            accept_damaged=accept_damaged,
            allows=Allowances(
                invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
            ),
            pace=pace,
            max_rate=max_rate,
            probe=probe,
        )
        return plan(question)

    end(run)


def delete(
    file: options.File,
    by: options.By,
    column: options.Column = None,
    format: options.FileFormat = None,  # noqa: A002 - the name of the option
    concurrency: options.Concurrency = 100,
    timeout: options.Timeout = 30.0,
    pace: options.Pace = "background",
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    yes: options.Yes = False,
    expect: options.Expect = None,
    most: options.Max = None,
    max_failures: options.MaxFailures = None,
    max_absent: options.MaxAbsent = None,
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
    """Delete the profiles whose ids stand in a file.

    \b
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id --failures failures.csv
      adapty-async delete people.csv --by customer_user_id --yes --expect 300000 --log-file people.log

    FILE is CSV, TSV, JSON lines or Parquet, with a column named as --by says, or --column; or it holds one id a line,
    with or without such a name above them. The format is that of its name, as in people.jsonl.gz, or of --format; text
    is UTF-8, and may be packed by gzip. The whole file is checked before anything is sent, in the same memory however
    long it is. Ids are sent as they stand there; one that is there twice is sent once.

    What becomes of every row stands in a ledger, FILE.adapty.db: no id, but with its key file, FILE.adapty.db.key, an
    id can be looked up. Whatever ends the command, resume goes on where it was. Standard input is copied beside the
    ledger first, ./stdin.adapty.db, and the copy removed when all is done.

    Nobody tells the rate limit of a key: the command finds it out from the refusals, and stays below it. Commands that
    run at one time with the same key share what they find, and the next one begins with it.

    The key is read from ADAPTY_API_KEY, or from the file that ADAPTY_API_KEY_FILE names; ADAPTY_BASE_URL names
    another server. Ctrl-C stops: what is under way comes to its end. A second one aborts. SIGUSR1 (kill -USR1, with the
    process id) pauses the job, and the next one lets it go on.

    What has been deleted can't be brought back. Adapty's word is that it accepted a deletion: it takes the profile's
    purchase history off it, and may attach that to another profile later.
    """
    from .allowances import Allowances
    from .begin import Asked, begin
    from .inputs import format_of

    end(
        lambda: begin(
            Asked(
                operation="delete",
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
                max_absent=max_absent,
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


def resume(
    ledger: options.LedgerFile,
    file: options.Input = None,
    column: options.OtherColumn = None,
    appended: Annotated[
        bool, typer.Option("--appended", help="Rows were added at the end of the input: take them, too.")
    ] = False,
    new_key: options.NewKey = False,
    known: options.Known = None,
    concurrency: options.OtherConcurrency = None,
    timeout: options.OtherTimeout = None,
    pace: options.OtherPace = None,
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --appended: send the added without asking first.")] = False,
    expect: options.Expect = None,
    most: options.Max = None,
    max_failures: options.MaxFailures = None,
    max_absent: options.MaxAbsent = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    app: options.App = None,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
    """Go on with a job where it ended, however that was.

    \b
      adapty-async resume people.csv.adapty.db
      adapty-async resume people.csv.adapty.db --input moved/people.csv --pace full

    The input must be the same, row by row: what was edited, put in another order or exchanged is refused, before
    anything is sent. What has an outcome is not sent again. Everything that was ordered stays as it was, but for the
    options given here, which hold for every later run, too; --exclude is added to what was named before. Those files
    are read afresh: who stands in one by now is not sent.
    """
    from .allowances import Allowances
    from .resume import Terms, resume

    end(
        lambda: resume(
            ledger,
            Terms(
                retry=False,
                file=file,
                column=column,
                appended=appended,
                new_key=new_key,
                known=known,
                confirmed=yes,
                failures=failures,
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                expect=expect,
                most=most,
                app=app,
                max_failures=max_failures,
                max_absent=max_absent,
                canary=not no_canary,
                operator=operator,
                request=request,
                exclude=exclude or (),
                allows=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
            ),
        )
    )


def retry_failed(
    ledger: options.LedgerFile,
    file: options.Input = None,
    column: options.OtherColumn = None,
    new_key: options.NewKey = False,
    known: options.Known = None,
    concurrency: options.OtherConcurrency = None,
    timeout: options.OtherTimeout = None,
    pace: options.OtherPace = None,
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    expect: options.Expect = None,
    most: options.Max = None,
    max_failures: options.MaxFailures = None,
    max_absent: options.MaxAbsent = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    app: options.App = None,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
    """Send again what failed or is in doubt, and what waits.

    \b
      adapty-async retry-failed people.csv.adapty.db
      adapty-async retry-failed people.csv.adapty.db --failures failures.csv

    An update or creation that is in doubt may have been carried out: sent again, it overwrites what your app has
    written since. The rest as in resume.
    """
    from .allowances import Allowances
    from .resume import Terms, resume

    end(
        lambda: resume(
            ledger,
            Terms(
                retry=True,
                file=file,
                column=column,
                appended=False,
                new_key=new_key,
                known=known,
                confirmed=False,
                failures=failures,
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                expect=expect,
                most=most,
                app=app,
                max_failures=max_failures,
                max_absent=max_absent,
                canary=not no_canary,
                operator=operator,
                request=request,
                exclude=exclude or (),
                allows=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
            ),
        )
    )
