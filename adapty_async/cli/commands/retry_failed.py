"""The command retry-failed."""

from .. import options
from ..command import run_and_exit


def retry_failed(
    ledger: options.LedgerFile,
    file: options.Input = None,
    column: options.ColumnOverride = None,
    allow_new_key: options.NewKey = False,
    witness_id: options.WitnessId = None,
    concurrency: options.ConcurrencyOverride = None,
    timeout: options.TimeoutOverride = None,
    pace: options.PaceOverride = None,
    max_rate: options.MaxRate = None,
    failures: options.Failures = None,
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
    from ..inputs.allowances import Allowances
    from ..jobs.resume import ResumeOptions, resume

    run_and_exit(
        lambda: resume(
            ledger,
            ResumeOptions(
                is_retry=True,
                file=file,
                column=column,
                allow_appended=False,
                allow_new_key=allow_new_key,
                witness_id=witness_id,
                is_confirmed=False,
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
