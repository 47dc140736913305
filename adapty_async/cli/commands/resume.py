"""The command resume."""

from typing import Annotated

import typer

from .. import options
from ..command import end


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
    from ..inputs.allowances import Allowances
    from ..jobs.resume import Terms, resume

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
