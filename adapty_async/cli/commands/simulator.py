"""The command simulator."""

import typer


def simulator(context: typer.Context) -> None:
    """Run a local simulator of the API"""
    from ...testing.command import main

    raise typer.Exit(main(context.args))
