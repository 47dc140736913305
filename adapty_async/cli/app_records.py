"""The commands that read a ledger, and their options."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the others."""
