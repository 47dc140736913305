"""The command `plan`: say what a deletion would do, and send nothing."""

import sys
from pathlib import Path

import attrs

from .beforehand import show_checked
from .exclusion import excluded_by
from .exits import ExitStatus
from .guards import UNCOUNTED
from .inputs import STDIN, Checked, open_ids
from .ledgers import command
from .order import Order
from .screen import tell


def plan(order: Order, file: Path) -> ExitStatus:
    """Check a file as `delete` would. Raises CommandError where it would."""
    excluded = excluded_by(order.exclude, by=order.by, column=order.column)
    with open_ids(
        file,
        by=order.by,
        column=order.column,
        accept_damaged=order.accept_damaged,
        excluded=excluded,
        format=order.format,
    ) as ids:
        checked = ids.check()
        show_checked(ids.name, checked)
        tell("\n".join(_lines(checked)), sys.stdout)
    guards = attrs.evolve(order.guards, expect=checked.profiles if checked.profiles > UNCOUNTED else None)
    tell("\nNothing was sent. To delete them:", sys.stdout)
    tell(f"  {command('delete', file, *_options(attrs.evolve(order, guards=guards)), *_confirmed(file))}", sys.stdout)
    return ExitStatus.DONE


def _lines(checked: Checked) -> list[str]:
    reading = checked.reading
    figures = {
        "rows": checked.rows,
        "profiles": checked.profiles,
        "duplicates": checked.duplicates,
        "excluded": checked.excluded,
        "invalid": checked.invalid,
    }
    return [
        f"{'format':<20}{reading.title}",
        f"{'column':<20}{reading.column}",
        *(f"{name:<20}{count:>12,}" for name, count in figures.items()),
    ]


def _options(order: Order) -> list[str]:
    """Give the options that the same deletion takes."""
    options = ["--by", order.by]
    for name, value in (
        ("--column", order.column),
        ("--format", order.format),
        ("--exclude", order.exclude),
        ("--expect", order.guards.expect),
    ):
        if value is not None:
            options += [name, str(value)]
    return [*options, *(["--accept-damaged"] if order.accept_damaged else [])]


def _confirmed(file: Path) -> list[str]:
    return ["--yes"] if file == STDIN else []
