"""The command `plan`: say what a deletion would do, and delete nothing."""

import sys
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs

from ..bulk.jobs import By
from . import event_loop
from .beforehand import show_checked
from .changes import open_listing
from .connection import client_of_environment
from .exclusion import excluded_by
from .exits import CommandError, ExitStatus
from .guards import UNCOUNTED
from .inputs import STDIN, Checked, Format
from .ledgers import command
from .listing import Listing
from .masking import masked
from .operation import DELETE
from .order import Order, exclude_options, options_of
from .pace import Pace
from .probe import Sample, sample
from .screen import tell


@attrs.frozen
class Question:
    """What is asked for, as it stands on the command line. `probe`: so many profiles are got."""

    file: Path
    by: By
    column: str | None
    format: Format | None
    exclude: tuple[Path, ...]
    accept_damaged: bool
    pace: str
    max_rate: str | None
    probe: int | None

    def order(self) -> Order:
        """Give the deletion that it is about. Raises CommandError."""
        return Order(
            file=self.file,
            by=self.by,
            column=self.column,
            pace=Pace.of(self.pace, self.max_rate),
            exclude=self.exclude,
            accept_damaged=self.accept_damaged,
            format=self.format,
        )


def plan(question: Question) -> ExitStatus:
    """Check a file as `delete` would. Raises CommandError where it would."""
    order = question.order()
    excluded = excluded_by(order.exclude, by=order.by, column=order.column)
    status = ExitStatus.DONE
    with open_listing(order, question.file, excluded=excluded) as ids:
        checked = ids.check()
        show_checked(ids.name, checked, DELETE)
        tell("\n".join(_lines(ids, checked, order)), sys.stdout)
        if question.probe is not None:
            status = _probe(ids, checked, order, question.probe)
    guards = attrs.evolve(order.guards, expect=checked.profiles if checked.profiles > UNCOUNTED else None)
    what = "sent" if question.probe is None else "changed"
    tell(
        f"\nNothing was {what}. To write their attributes instead: adapty-async update --help. To delete them:",
        sys.stdout,
    )
    options = _options(attrs.evolve(order, guards=guards))
    tell(f"  {command('delete', question.file, *options, *_confirmed(question.file))}", sys.stdout)
    return status


def _lines(ids: Listing, checked: Checked, order: Order) -> Iterator[str]:
    figures = {
        "rows": checked.rows,
        "profiles": checked.profiles,
        "duplicates": checked.duplicates,
        "excluded": checked.excluded,
        "invalid": checked.invalid,
    }
    yield _line("format", checked.reading.title)
    yield _line("column", checked.reading.column)
    yield from (f"{name:<20}{count:>12,}" for name, count in figures.items())
    sent = (row.id for row in ids.rows() if row.outcome is None)
    yield _line("first id", masked(next(sent)))
    last = deque(sent, maxlen=1)
    if last:
        yield _line("last id", masked(last[0]))
    yield _line("time", _time(order.pace, checked.profiles))


def _line(name: str, text: str) -> str:
    return f"{name:<20}{text}"


def _time(pace: Pace, profiles: int) -> str:
    rate = _rate(pace)
    if rate is None:
        return "unknown: no limit is remembered for the key; for a rate of your own, add --pace, as in --pace 50"
    return f"about {timedelta(seconds=round(profiles / rate))} at {rate:,.1f} requests a second"


def _rate(pace: Pace) -> float | None:
    """Give the rate to expect; None where it is up to a limit that isn't known."""
    try:
        return pace.expected(client_of_environment())
    except CommandError:  # without a key there is nothing to remember
        return pace.expected(None)


def _probe(ids: Listing, checked: Checked, order: Order, count: int) -> ExitStatus:
    client = client_of_environment()
    wanted = min(count, checked.profiles)
    places = {number * checked.profiles // wanted for number in range(wanted)}
    sent = (row.id for row in ids.rows() if row.outcome is None)
    picked = (id_ for place, id_ in enumerate(sent) if place in places)
    with order.pace.pacer(client) as pacer:
        found = event_loop.run(sample(client, picked, by=order.by, pacer=pacer))
    tell("\n".join(_found(found)), sys.stdout)
    return ExitStatus.DONE if found.is_whole else ExitStatus.STOPPED


def _found(found: Sample) -> Iterator[str]:
    yield ""
    yield f"{'asked for':<20}{found.asked:>12,}  profiles, from all over the file"
    yield f"{'exist':<20}{found.existing:>12,}"
    yield f"{'do not exist':<20}{found.absent:>12,}"
    yield _line(
        "app", ", ".join(map(str, found.apps)) or "unknown: none of them exists; check the key, --by and --column"
    )
    if not found.is_whole:
        yield f"not all of them were answered ({found.stopped or 'errors'}): try again later"


def _options(order: Order) -> list[str]:
    """Give the options that the same deletion takes."""
    options = [*options_of(order), *exclude_options(order)]
    if order.guards.expect is not None:
        options += ["--expect", str(order.guards.expect)]
    return [*options, *order.pace.options(), *(["--accept-damaged"] if order.accept_damaged else [])]


def _confirmed(file: Path) -> list[str]:
    return ["--yes"] if file == STDIN else []
