"""The command `plan`: say what a deletion would do, and send nothing."""

import sys
from pathlib import Path

import attrs

from .beforehand import show_checked
from .exclusion import excluded_by
from .exits import ExitStatus
from .guards import UNCOUNTED
from .inputs import STDIN, Checked, Ids, Reading, open_ids
from .ledgers import command
from .order import Order
from .screen import tell


def plan(order: Order, file: Path) -> ExitStatus:
    """Check a file as `delete` would. Raises CommandError where it would."""
    excluded = excluded_by(order.exclude, by=order.by, column=order.column)
    with open_ids(
        file, by=order.by, column=order.column, accept_damaged=order.accept_damaged, excluded=excluded
    ) as ids:
        checked = ids.check()
        show_checked(ids.name, checked)
        tell("\n".join(_lines(ids, ids.reading(), checked)), sys.stdout)
    guards = attrs.evolve(order.guards, expect=checked.profiles if checked.profiles > UNCOUNTED else None)
    tell("\nNothing was sent. To delete them:", sys.stdout)
    tell(f"  {command('delete', file, *_options(attrs.evolve(order, guards=guards)), *_confirmed(file))}", sys.stdout)
    return ExitStatus.DONE


def _lines(ids: Ids, reading: Reading, checked: Checked) -> list[str]:
    figures = {
        "rows": checked.rows,
        "profiles": checked.profiles,
        "duplicates": checked.duplicates,
        "excluded": checked.excluded,
        "invalid": checked.invalid,
    }
    return [f"{'column':<20}{_column(ids, reading)}", *(f"{name:<20}{count:>12,}" for name, count in figures.items())]


def _column(ids: Ids, reading: Reading) -> str:
    if not reading.has_header:
        return f"one {ids.by} a line, from the first line on"
    return f"{reading.names[reading.index]}, {reading.index + 1} of {len(reading.names)}; the first row is the header"


def _options(order: Order) -> list[str]:
    """Give the options that the same deletion takes."""
    options = ["--by", order.by]
    for name, value in (
        ("--column", order.column),
        ("--exclude", order.exclude),
        ("--expect", order.guards.expect),
    ):
        if value is not None:
            options += [name, str(value)]
    return [*options, *(["--accept-damaged"] if order.accept_damaged else [])]


def _confirmed(file: Path) -> list[str]:
    return ["--yes"] if file == STDIN else []
