"""The job options: the arguments of the command line, which the ledger stores so that the job can be resumed."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ...bulk.api import By
from ..exit_codes import CommandError
from ..inputs.allowances import Allowances
from ..inputs.attribute_mapping import Assignment
from ..inputs.bulk_input import Listing
from ..inputs.changes import Changes
from ..inputs.ids import open_ids
from ..inputs.json_objects import JsonIds
from ..inputs.rows import NOBODY, Excluded, Format
from .guards import Guards
from .operations import CREATE, DELETE, OPERATIONS, UPDATE, Operation
from .pace import Pace
from .stored_paths import Places, home_of, stored


@attrs.frozen(kw_only=True)
class Order:
    """The options of a bulk job.

    Attributes:
        operation: The name of the operation.
        assignment: The attributes to write, or None if the operation writes none.
        file: The input, or None if it is the spool next to the ledger.
        by: The type of the IDs.
        column: The column of the IDs.
        pace: How fast to send.
        concurrency: The maximum number of requests in flight.
        timeout: The time limit of a request, in seconds.
        guards: The guards of the job.
        exclude: The exclude lists by name.
        exclude_column: The column of the IDs in the exclude lists.
        accept_damaged: Whether rows with a damaged ID are skipped instead of refusing the file.
        allows: Which suspicious input is accepted.
        format: The format of the input, or None to derive it from the file's name.
        operator: Who runs the job, for the record.
        request: Who requested the job, for the record.
        failures: The file for the failed rows.
    """

    operation: str = DELETE.name
    assignment: Assignment | None = None
    file: Path | None
    by: By
    column: str | None
    pace: Pace
    concurrency: int = 100
    timeout: float = 30.0
    guards: Guards = attrs.field(factory=Guards)
    exclude: Mapping[str, Path] = attrs.field(factory=dict[str, Path])
    exclude_column: str | None = None
    accept_damaged: bool = False
    allows: Allowances = attrs.field(factory=Allowances)
    format: Format | None = None
    operator: str | None = None
    request: str | None = None
    failures: Path | None = None

    @property
    def does(self) -> Operation:
        """The operation on each profile."""
        return OPERATIONS[self.operation]

    def with_excluded(self, files: Iterable[Path]) -> "Order":
        """Add exclude lists. Each is named after its file, or after its path if the name is taken."""
        lists = dict(self.exclude)
        for file in files:
            if file not in lists.values():
                name = _shown(file.name)
                lists[_shown(str(file)) if name in lists else name] = file
        return attrs.evolve(self, exclude=lists)

    def as_json(self, ledger: Path) -> dict[str, Any]:
        """Return the options as a JSON object, to be stored in the ledger."""

        def plain(_: object, __: object, value: Any) -> Any:
            return stored(value, ledger) if isinstance(value, Path) else value

        return {**attrs.asdict(self, value_serializer=plain), "ledger": home_of(ledger)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], ledger: Path) -> "Order":
        """Read the result of `as_json`, with the current paths of the files."""
        kept = dict(data)
        places = Places(ledger, kept.pop("ledger"))
        return cls(
            **{
                **kept,
                "file": None if data["file"] is None else places.find(data["file"]),
                "pace": Pace(**data["pace"]),
                "guards": Guards(**data["guards"]),
                "allows": Allowances(**data["allows"]),
                "exclude": {name: places.find(entry) for name, entry in data["exclude"].items()},
                "assignment": None if data["assignment"] is None else Assignment.from_json(data["assignment"]),
                "format": None if data["format"] is None else Format(data["format"]),
                "failures": None if data["failures"] is None else places.find(data["failures"]),
            }
        )


def _shown(name: str) -> str:
    """Return a file name as printable text. It may contain bytes that aren't UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def refuse_by(operation: str, by: By) -> None:
    """Refuse a type of ID that the operation doesn't support. Raises CommandError."""
    if operation == CREATE.name and by != "customer_user_id":
        raise CommandError("profiles can only be created by customer user ID: pass --by customer_user_id")


def options_of(order: Order) -> list[str]:
    """Return the options that determine how the rows are read."""
    column = [] if order.column is None else ["--column", order.column]
    format_ = [] if order.format is None else ["--format", order.format]
    assignment = [] if order.assignment is None else order.assignment.options()
    allows = attrs.evolve(order.allows, unmatched_exclude=False)  # doesn't affect how the rows are read
    return ["--by", order.by, *column, *format_, *assignment, *allows.options()]


def exclude_options(order: Order) -> list[str]:
    """Return the options that name the exclude lists. One that can't be read again, as from <(...), is called FILE."""
    allows = Allowances(unmatched_exclude=order.allows.unmatched_exclude and bool(order.exclude))
    files = ("FILE" if file.exists() and not file.is_file() else str(file) for file in order.exclude.values())
    return [*(word for file in files for word in ("--exclude", file)), *allows.options()]


@contextlib.contextmanager
def open_listing(
    order: Order,
    file: Path,
    *,
    excluded: Excluded = NOBODY,
    name: str | None = None,
    named: Format | None = None,
) -> Iterator[Listing]:
    """Open the input of a job. `named`: the format if `--format` isn't given. The rest as in `open_ids`."""
    with open_ids(
        file,
        by=order.by,
        column=order.column,
        accept_damaged=order.accept_damaged,
        allow_invisible=order.allows.invisible,
        excluded=excluded,
        format=order.format or named,
        name=name,
    ) as ids:
        if order.assignment is None:
            yield ids
            return
        if ids.reading().format is Format.JSONL:
            ids = JsonIds(
                ids.file,
                ids.name,
                by=order.by,
                column=order.column,
                accept_damaged=order.accept_damaged,
                allow_invisible=order.allows.invisible,
                excluded=excluded,
            )
        yield Changes(ids, order.assignment, may_be_empty=order.operation != UPDATE.name)
