"""The commands and their options. What a command needs is imported when it runs: --help answers at once."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from .app_records import register
from .exits import CommandError, ExitStatus, as_bug

_STATUSES: Final = """\
Exit status: 0 all done; 1 some rows failed; 2 bad usage or input; 3 stopped by a guard or an outage; 4 the key is
missing, wrong, or may not do this; 130 interrupted."""

app: Final = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


class _IdKind(StrEnum):
    CUSTOMER_USER_ID = "customer_user_id"
    PROFILE_ID = "profile_id"


def run(arguments: list[str]) -> int:
    """Run a command and return its exit status."""
    status: str | int | None = None
    try:
        typer.main.get_command(app)(arguments, prog_name="adapty-async")
    except SystemExit as end:
        status = end.code
    return int(status or 0)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = metadata.version("adapty-async")
    except metadata.PackageNotFoundError:
        version = "from a source tree, not installed"
    typer.echo(f"adapty-async {version}")
    raise typer.Exit


@app.callback(epilog=_STATUSES)
def _main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Delete many Adapty profiles, through an API that takes one a request.

    To see it at work, without a key, on this machine alone:

    \b
      adapty-async demo

    To delete the profiles whose ids stand in the column customer_user_id of a CSV file:

    \b
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id
    """


@app.command(epilog=_STATUSES)
def delete(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="CSV file of ids; - is standard input.")
    ],
    by: Annotated[_IdKind, typer.Option(help="What the ids are; also the column they stand in.")],
    column: Annotated[str | None, typer.Option(metavar="NAME", help="The column they stand in.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most requests under way.")] = 100,
    pace: Annotated[
        str,
        typer.Option(
            metavar="PACE",
            help="background: 7 tenths of the limit, the rest is for your app; full: all of it; or requests a second.",
        ),
    ] = "background",
    max_rate: Annotated[
        float | None, typer.Option(metavar="RATE", show_default=False, help="Never more requests a second than this.")
    ] = None,
    failures: Annotated[
        Path | None, typer.Option(metavar="FILE", help="New CSV file for the rows that failed; feed it back later.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking first.")] = False,
) -> None:
    """Delete the profiles whose ids stand in a CSV file.

    \b
      export ADAPTY_API_KEY_FILE=key.txt
      adapty-async delete people.csv --by customer_user_id --failures failures.csv

    FILE is UTF-8, with a column named as --by says, or --column; or it holds one id a line, with or without such a
    name above them. The whole file is checked before anything is sent. Ids are sent as they stand there; one that is
    there twice is sent once, for which each id takes about 130 bytes of memory.

    Nobody tells the rate limit of a key: the command finds it out from the refusals, and stays below it. Commands that
    run at one time with the same key share what they find, and the next one begins with it.

    The key is read from ADAPTY_API_KEY, or from the file that ADAPTY_API_KEY_FILE names; ADAPTY_BASE_URL names
    another server. Ctrl-C stops: what is under way comes to its end. A second one aborts.

    What has been deleted can't be brought back. Adapty's word is that it accepted a deletion: it takes the profile's
    purchase history off it, and may attach that to another profile later.
    """
    from .delete import Order, delete
    from .pace import Pace

    _end(lambda: delete(Order(file, by.value, column, concurrency, Pace.of(pace, max_rate), failures, confirmed=yes)))


@app.command()
def demo() -> None:
    """Show a mass deletion of made-up profiles.

    It deletes 20,000 profiles in a simulator of Adapty's API on this machine, within a minute. It needs no key, and
    cleans up after itself.

    \b
      adapty-async demo
    """
    from .demo import demo

    _end(lambda: asyncio.run(demo()))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def simulator(context: typer.Context) -> None:
    """Run a simulator of Adapty's API.

    It serves this machine alone, until it is interrupted, and prints its address and key as JSON. Its options are shown
    by: adapty-async simulator --help

    \b
      adapty-async simulator --profiles 1000 --rate 50
    """
    from ..testing.command import main

    raise typer.Exit(main(context.args))


register(app)


def _end(command: Callable[[], ExitStatus]) -> NoReturn:
    """End with the status of a command; what goes wrong is a sentence, never a traceback."""
    try:
        status = command()
    except CommandError as error:
        _say(str(error))
        status = error.status
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("interrupted")
        status = ExitStatus.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no traceback reaches the user
        bug = as_bug(error)
        _say(str(bug))
        status = bug.status
    raise typer.Exit(status)


def _say(sentence: str) -> None:
    typer.echo(f"adapty-async: {sentence}", err=True)
