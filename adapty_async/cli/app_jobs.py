"""The commands plan, delete, resume and retry-failed."""

from typing import Annotated

import typer

from . import options
from .app_output import told, traced
from .ending import STATUSES, end


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=STATUSES)(traced(plan))
    app.command(epilog=STATUSES)(told(delete))
    app.command(epilog=STATUSES)(told(resume))
    app.command("retry-failed", epilog=STATUSES)(told(retry_failed))


def plan(
    file: options.File,
    by: options.By,
    purpose: Annotated[
        options.Purpose, typer.Option("--for", help="Check the file as this command would.")
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
    from .allowances import Allowances
    from .app_writes import assignment_of
    from .exit_codes import ExitStatus
    from .inputs.rows import format_of
    from .jobs.plan import Question, plan

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
    """Delete the profiles listed in a file

    \b
    Examples:
      # Delete the profiles, and write the rows that failed to a file
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id --failures failures.csv
      # Delete exactly 300,000 profiles from a script
      adapty-async delete people.csv --by customer_user_id --yes --expect 300000 --log-file people.log

    FILE is CSV, TSV, JSON lines or Parquet with a column named by --by or --column, or a text with one ID per line and
    an optional header. The format follows from the file name, as in people.jsonl.gz, or from --format. Text must be
    UTF-8 and may be compressed with gzip. The whole file is checked before the first request, in constant memory. IDs
    are sent unchanged. An ID that occurs twice is sent once.

    The outcome of every row is recorded in a ledger, FILE.adapty.db. If the command is interrupted, "resume" continues
    from there. The ledger contains no IDs; together with its key file, FILE.adapty.db.key, it can be searched for one.
    Standard input is copied next to the ledger (./stdin.adapty.db) and the copy is removed when the job is done.

    The command finds the rate limit of your API key and stays below it. Commands that use the same key at the same time
    share the limit, and later commands start from it.

    The key is read from ADAPTY_API_KEY, or from the file in ADAPTY_API_KEY_FILE. ADAPTY_BASE_URL selects another
    server. Ctrl-C stops the command after the requests in flight; a second Ctrl-C aborts it. SIGUSR1 (kill -USR1, with
    the process ID) pauses the job; a second one continues it.

    Deleted profiles can't be restored. Adapty only confirms that it accepted a deletion: it detaches the purchase
    history from the profile, and may attach it to another profile later.
    """
    from .allowances import Allowances
    from .inputs.rows import format_of
    from .jobs.start import Asked, begin

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
        bool, typer.Option("--appended", help="Also send rows that were added at the end of the input.")
    ] = False,
    new_key: options.NewKey = False,
    known: options.Known = None,
    concurrency: options.OtherConcurrency = None,
    timeout: options.OtherTimeout = None,
    pace: options.OtherPace = None,
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --appended: send the added rows without asking.")] = False,
    expect: options.Expect = None,
    most: options.Max = None,
    max_failures: options.OtherMaxFailures = None,
    max_absent: options.OtherMaxAbsent = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    app: options.App = None,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
    """Continue a job from its ledger

    \b
    Examples:
      # Continue with the options of the earlier run
      adapty-async resume people.csv.adapty.db
      # Continue with a moved input, at the full rate limit
      adapty-async resume people.csv.adapty.db --input moved/people.csv --pace full

    The input must be the same, row by row: an edited, reordered or replaced input is refused before the first request.
    Rows that have an outcome are not sent again. The job keeps its options, except those given here, which also apply
    to later runs. --exclude adds to the earlier exclude lists. All exclude lists are read again: IDs added to one since
    then are not sent.
    """
    from .allowances import Allowances
    from .jobs.resume import Terms, resume

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
    max_failures: options.OtherMaxFailures = None,
    max_absent: options.OtherMaxAbsent = None,
    no_canary: options.NoCanary = False,
    exclude: options.Exclude = None,
    allow_invisible: options.AllowInvisible = False,
    allow_rounded: options.AllowRounded = False,
    allow_unmatched_exclude: options.AllowUnmatchedExclude = False,
    app: options.App = None,
    operator: options.Operator = None,
    request: options.Request = None,
) -> None:
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
    from .allowances import Allowances
    from .jobs.resume import Terms, resume

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
