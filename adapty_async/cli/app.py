"""The Typer application.

Commands import their modules when they run, so that --help is fast.
"""

import io
import sys
from importlib import metadata
from typing import Annotated, Any, Final

import typer

from .command_runner import EPILOG, add_debug_option, add_output_options, add_screen_options
from .commands.create import create
from .commands.delete import delete
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.get import get
from .commands.ledger.anonymize import anonymize
from .commands.ledger.export import export
from .commands.ledger.pause import pause
from .commands.ledger.report import report
from .commands.ledger.resume import resume
from .commands.ledger.retry_failed import retry_failed
from .commands.ledger.show import show
from .commands.ledger.status import status
from .commands.ledger.unpause import unpause
from .commands.ledger.verify import verify
from .commands.plan import plan
from .commands.simulator import simulator
from .commands.update import update
from .exit_status import ExitStatus
from .output.command_output import echo
from .output.standard_streams import handle_stdout_error, print_error

_USAGE_ERROR: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The class of usage errors. Typer has no public name for it."""

app: Final = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit status."""
    status: str | int | None = None
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments, prog_name="adapty-async", standalone_mode=False)
    except _USAGE_ERROR as error:
        echo(_format_usage_error(error), sys.stderr)
        status = ExitStatus.USAGE
    except typer.Abort:
        echo("Aborted!", sys.stderr)
        status = ExitStatus.FAILED
    except SystemExit as end:
        status = end.code
    except OSError as error:  # from --help and --version, which print directly; commands report their own
        problem = handle_stdout_error(sys.stdout, error)
        if problem is not None:
            print_error(str(problem))
            status = problem.status
    return int(status or 0)


def _format_usage_error(error: Any) -> str:
    """Return the message of a usage error, including the usage line."""
    shown = io.StringIO()
    error.show(file=shown)
    return shown.getvalue().rstrip("\n")


def _show_version(is_requested: bool) -> None:
    if not is_requested:
        return
    try:
        version = metadata.version("adapty-async")
    except metadata.PackageNotFoundError:
        version = "from a source tree, not installed"
    typer.echo(f"adapty-async {version}")
    raise typer.Exit


@app.callback(epilog=EPILOG)
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


# The order is that of the help.
app.command()(add_debug_option(demo))
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    simulator
)
for _command in (
    add_debug_option(plan),
    add_output_options(delete),
    add_output_options(resume),
    add_output_options(retry_failed),
    add_output_options(update),
    add_output_options(create),
    add_screen_options(get),
    add_debug_option(doctor),
    add_debug_option(status),
    add_debug_option(pause),
    add_debug_option(unpause),
    add_debug_option(export),
    add_debug_option(show),
    add_debug_option(report),
    add_output_options(verify),
    add_debug_option(anonymize),
):
    app.command(epilog=EPILOG)(_command)
