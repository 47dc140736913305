"""The Typer application.

Commands import their modules when they run, so that --help is fast.
"""

import io
import sys
from importlib import metadata
from typing import Annotated, Any, Final

import typer

from . import app_jobs, app_reads, app_records, app_writes, event_loop
from .app_output import traced
from .ending import STATUSES, end
from .exit_codes import ExitStatus
from .output.events import tell
from .output.streams import lost, say

_USAGE_ERROR: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The class of usage errors. Typer has no public name for it."""

app: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit status."""
    status: str | int | None = None
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments, prog_name="adapty-async", standalone_mode=False)
    except _USAGE_ERROR as error:
        tell(_complaint(error), sys.stderr)
        status = ExitStatus.USAGE
    except typer.Abort:
        tell("Aborted!", sys.stderr)
        status = ExitStatus.FAILED
    except SystemExit as end:
        status = end.code
    except OSError as error:  # from --help and --version, which print directly; commands report their own
        problem = lost(sys.stdout, error)
        if problem is not None:
            say(str(problem))
            status = problem.status
    return int(status or 0)


def _complaint(error: Any) -> str:
    """Return the message of a usage error, including the usage line."""
    shown = io.StringIO()
    error.show(file=shown)
    return shown.getvalue().rstrip("\n")


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = metadata.version("adapty-async")
    except metadata.PackageNotFoundError:
        version = "from a source tree, not installed"
    typer.echo(f"adapty-async {version}")
    raise typer.Exit


@app.callback(epilog=STATUSES)
def _main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Delete, update, create or export Adapty profiles in bulk.

    \b
    Examples:
      # See how it works, without an API key
      adapty-async demo

    \b
      # Delete the profiles listed in the column customer_user_id
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id

    \b
      # Resume an interrupted job from its ledger
      adapty-async resume people.csv.adapty.db

    \b
      # Install the completion of commands and options in your shell
      adapty-async --install-completion

    Run "adapty-async COMMAND --help" for more about a command.
    """


@app.command()
@traced
def demo() -> None:
    """Delete made-up profiles in a simulator

    \b
    Examples:
      # Watch a deletion
      adapty-async demo
      # Write the summary to a file
      adapty-async demo > summary.txt

    The command deletes 20,000 profiles in a simulator of Adapty's API on this machine, within a minute. It needs no API
    key and removes its files when it ends.
    """
    from .jobs.demo import demo

    end(lambda: event_loop.run(demo))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def simulator(context: typer.Context) -> None:
    """Run a local simulator of the API"""
    from ..testing.command import main

    raise typer.Exit(main(context.args))


app_jobs.register(app)
app_writes.register(app)
app_reads.register(app)
app_records.register(app)
