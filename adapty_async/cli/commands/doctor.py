"""The command doctor."""

from typing import Annotated

import typer

from ..command_runner import run_and_exit


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Check the key, network, disk and versions

    \b
    Examples:
      # Show one line per check
      adapty-async doctor
      # Write the results to a file
      adapty-async doctor --json > doctor.json

    It checks the key without showing it. It sends one request without the key to ADAPTY_BASE_URL or to Adapty, and one
    with the key, for a profile that doesn't exist. It writes only an empty file, which it removes. Exit status 1: you
    need to change something; 4: Adapty rejects the key, or the key may not read profiles.
    """
    from ..jobs.doctor import diagnose

    run_and_exit(lambda: diagnose(as_json=as_json))
