"""The command resume."""

from typing import Annotated

import typer

from .. import options
from ..command import run_and_exit


def resume(
    ledger: options.LedgerFile,
    file: options.Input = None,
    column: options.ColumnOverride = None,
    allow_appended: Annotated[
        bool, typer.Option("--allow-appended", help="Also send rows that were added at the end of the input.")
    ] = False,
    allow_new_key: options.NewKey = False,
    witness_id: options.WitnessId = None,
    concurrency: options.ConcurrencyOverride = None,
    timeout: options.TimeoutOverride = None,
    pace: options.PaceOverride = None,
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --allow-appended: send the added rows without asking.")
    ] = False,
    expect: options.Expect = None,
    max_profiles: options.MaxProfiles = None,
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
    from ..jobs.resume import ResumeOptions, resume

    run_and_exit(
        lambda: resume(
            ledger,
            ResumeOptions(
                is_retry=False,
                file=file,
                column=column,
                allow_appended=allow_appended,
                allow_new_key=allow_new_key,
                witness_id=witness_id,
                is_confirmed=yes,
                failures=failures,
                concurrency=concurrency,
                timeout=timeout,
                pace=pace,
                max_rate=max_rate,
                expect=expect,
                max_profiles=max_profiles,
                app=app,
                max_failures=max_failures,
                max_absent=max_absent,
                has_canary=not no_canary,
                operator=operator,
                request=request,
                exclude=exclude or (),
                allowances=Allowances(
                    invisible=allow_invisible, rounded=allow_rounded, unmatched_exclude=allow_unmatched_exclude
                ),
            ),
        )
    )
