"""The command `plan`: show what another command would do with a file, without changing anything."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import attrs

from ...bulk.api import By
from ...client import AdaptyClient, anew
from ...escaping import one_line
from ..exit_codes import CommandError, ExitStatus
from ..inputs.allowances import Allowances
from ..inputs.attribute_mapping import Assignment
from ..inputs.bulk_input import Listing
from ..inputs.change_summary import Effects
from ..inputs.changes import Changes
from ..inputs.files import STDIN
from ..inputs.ids import Checked
from ..inputs.rows import Format, Reading
from ..output.events import current
from ..output.streams import show
from ..signals import run_event_loop
from .client import client_of_environment
from .guards import UNCOUNTED
from .ledger_files import command
from .masking import masked
from .operations import CREATE, OPERATIONS, UPDATE
from .options import Order, exclude_options, open_listing, options_of, refuse_by
from .pace import Pace
from .preflight import exclusion_of, settle_rounded, show_checked
from .probe import Sample, check_key, sample

_NOBODY: Final = "unknown: none of them exists; check the key, --by and --column"
_NOBODY_YET: Final = "unknown: none of them exists, as expected before they are created"


@attrs.frozen
class Question:
    """The arguments of the command.

    `purpose` is the command that the file is meant for, `probe` the number of profiles to fetch.
    """

    file: Path
    purpose: str
    by: By
    column: str | None
    format: Format | None
    assignment: Assignment
    exclude: tuple[Path, ...]
    accept_damaged: bool
    allows: Allowances
    pace: str
    max_rate: str | None
    probe: int | None

    def order(self) -> Order:
        """Return the job options of the command `purpose`. Raises CommandError."""
        writes = self.purpose in (UPDATE.name, CREATE.name)
        if not writes and self.assignment != Assignment():
            raise CommandError(f"{self.purpose} writes no attributes: add --for update, or --for create")
        if self.exclude and self.purpose not in OPERATIONS:
            raise CommandError(f"{self.purpose} has no --exclude: leave it out")
        refuse_by(self.purpose, self.by)
        return Order(
            operation=self.purpose,
            assignment=self.assignment if writes else None,
            file=self.file,
            by=self.by,
            column=self.column,
            pace=Pace.of(self.pace, self.max_rate),
            exclude_column=self.column,
            accept_damaged=self.accept_damaged,
            allows=self.allows,
            format=self.format,
        ).with_excluded(self.exclude)


def plan(question: Question) -> ExitStatus:
    """Check a file like the command that it is meant for. Raises CommandError if that command would."""
    order = question.order()
    client = _client()
    exclusion = exclusion_of(order, may_ask=False)
    found = None
    with open_listing(order, question.file, excluded=exclusion.excluded) as ids:
        checked = ids.check()
        show_checked(ids.name, checked, order.operation, held=len(ids.excluded))
        exclusion.check(ids, order.allows)
        settle_rounded(ids.name, checked.rounded, allowed=order.allows.rounded, may_ask=False)
        known = None if isinstance(client, CommandError) else client
        show("\n".join(_lines(ids, checked, order, order.pace.expected(known))))
        if question.probe is not None:
            if isinstance(client, CommandError):
                raise client
            found = _probe(client, ids, checked, order, question.probe)
    what = "sent" if question.probe is None else "changed"
    show(f"\nNothing was {what}. To {order.operation} them:\n  {_command(question.file, order, checked, found)}")
    return ExitStatus.DONE if found is None or found.is_whole else ExitStatus.STOPPED


def _client() -> AdaptyClient | CommandError:
    """Return the client of the command, or the error if it can't be made. Called once: the key may be readable once."""
    try:
        return client_of_environment()
    except CommandError as error:  # without a key no rate limit is remembered, but the file can still be checked
        return error


def _lines(ids: Listing, checked: Checked, order: Order, rate: float | None) -> Iterator[str]:
    figures = {
        "rows": checked.rows,
        "profiles": checked.profiles,
        "duplicates": checked.duplicates,
        "excluded": checked.excluded,
        "invalid": checked.invalid,
    }
    yield _line("format", checked.reading.title)
    yield _line("column", checked.reading.column)
    yield from _first_line(checked.reading)
    yield from (f"{name:<20}{count:>12,}" for name, count in figures.items())
    yield from _sent(ids)
    yield _line("time", _time(rate, checked.profiles))


def _first_line(reading: Reading) -> Iterator[str]:
    """Report whether the first line of a single column was taken as a header or as an ID."""
    if not reading.is_lone:
        return
    name = reading.names[reading.index]
    if reading.has_header:
        yield _line("first line", "taken as the column's name, not as an id")
    else:
        yield _line("first line", f"taken as an id: a column's name would be {name}, or id")


def _sent(ids: Listing) -> Iterator[str]:
    """Show the first and last ID to send, masked, and the attributes to write."""
    first = last = ""
    effects = Effects()
    count = 0
    for row in ids.rows():
        if row.outcome is None:
            count += 1
            first, last = first or row.id, row.id
            if isinstance(ids, Changes):
                effects.note(ids.item(row)[1])
    yield _line("first id", masked(first))
    if count > 1:
        yield _line("last id", masked(last))
    if isinstance(ids, Changes):
        both, *each = effects.lines()
        yield _line("attributes", both)
        yield from (_line("", line) for line in each)


def _line(name: str, text: str) -> str:
    return f"{name:<20}{one_line(text)}"


def _time(rate: float | None, profiles: int) -> str:
    if rate is None:
        return "unknown: no rate limit is stored for the key; to set a rate, add --pace, such as --pace 50"
    return f"about {timedelta(seconds=round(profiles / rate))} at {rate:,.1f} requests per second"


def _probe(client: AdaptyClient, ids: Listing, checked: Checked, order: Order, count: int) -> Sample:
    wanted = min(count, checked.profiles)
    places = {number * checked.profiles // wanted for number in range(wanted)}
    sent = (row.id for row in ids.rows() if row.outcome is None)
    picked = (id_ for place, id_ in enumerate(sent) if place in places)
    with order.pace.pacer(client) as pacer:
        found = run_event_loop(lambda _: sample(client, picked, by=order.by, pacer=pacer))
    if not wanted:  # no profile is fetched, but the key must be checked anyway
        run_event_loop(lambda _: check_key(anew(client)))
    show("\n".join(_found(found, order.operation)))
    return found


def _found(found: Sample, purpose: str) -> Iterator[str]:
    yield ""
    yield f"{'asked for':<20}{found.asked:>12,}  profiles, from all over the file"
    if not found.answered:
        yield f"no request was answered ({_why(found)}): see adapty-async doctor, and try again later"
        return
    yield f"{'exist':<20}{found.existing:>12,}"
    yield f"{'do not exist':<20}{found.absent:>12,}"
    nobody = _NOBODY_YET if purpose == CREATE.name else _NOBODY
    yield _line("app", ", ".join(map(str, found.apps)) or nobody)
    if not found.is_whole:
        yield f"not all requests were answered ({_why(found)}): try again later"


def _why(found: Sample) -> str:
    """Return why some weren't answered: the last kinds of errors, without their time."""
    errors = [line.split("  ", 1)[1] for line in current().errors.shown()]
    return "; ".join(errors) or str(found.stopped or "errors")


def _command(file: Path, order: Order, checked: Checked, found: Sample | None) -> str:
    """Return the command that was planned, with --app if the app is known."""
    options = [*options_of(order), *exclude_options(order)]
    if order.operation in OPERATIONS:
        options += ["--expect", str(checked.profiles)] if checked.profiles > UNCOUNTED else []
        options += ["--app", str(found.apps[0])] if found is not None and len(found.apps) == 1 else []
    options += [*order.pace.options(), *(["--accept-damaged"] if order.accept_damaged else [])]
    if order.operation not in OPERATIONS:
        return f"{command(order.operation, file, *options)} > profiles.jsonl"
    return command(order.operation, file, *options, *(["--yes"] if file == STDIN else []))
