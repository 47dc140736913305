"""What was ordered on the command line, as a ledger keeps it for those who go on with the job."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..bulk.jobs import By
from .allowances import Allowances
from .assignment import Assignment
from .exits import CommandError
from .guards import Guards
from .inputs import Format
from .operation import CREATE, DELETE, OPERATIONS, Operation
from .pace import Pace
from .places import Places, home_of, stored


@attrs.frozen(kw_only=True)
class Order:
    """A mass job. `file`: None is the copy beside the ledger of what can't be read twice.

    `operation`: its name. `assignment`: what is written, None where nothing is. `timeout`: seconds of a request.
    `exclude`: files of ids that are not to be sent, by their names; `exclude_column`: the column of these. `format`:
    None where the file's name tells. `allows`: what doesn't refuse it. `operator`, `request`: for the record.
    `failures`: where the run writes them.
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
        """What it does to each profile."""
        return OPERATIONS[self.operation]

    def with_excluded(self, files: Iterable[Path]) -> "Order":
        """Add exclude lists. Each is named after its file, or by its path where another has that name."""
        lists = dict(self.exclude)
        for file in files:
            if file not in lists.values():
                name = _shown(file.name)
                lists[_shown(str(file)) if name in lists else name] = file
        return attrs.evolve(self, exclude=lists)

    def as_json(self, ledger: Path) -> dict[str, Any]:
        """Give what JSON takes, to be kept in a ledger."""

        def plain(_: object, __: object, value: Any) -> Any:
            return stored(value, ledger) if isinstance(value, Path) else value

        return {**attrs.asdict(self, value_serializer=plain), "ledger": home_of(ledger)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], ledger: Path) -> "Order":
        """Read what `as_json` gave, with the files where they are now."""
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
    """Give a name as text; a file's may hold what isn't UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def refuse_by(operation: str, by: By) -> None:
    """Refuse ids by which an operation can't be done. Raises CommandError."""
    if operation == CREATE.name and by != "customer_user_id":
        raise CommandError("a profile is created for an id of your own: say --by customer_user_id")


def options_of(order: Order) -> list[str]:
    """Give the options that say what the rows of an order mean."""
    column = [] if order.column is None else ["--column", order.column]
    format_ = [] if order.format is None else ["--format", order.format]
    assignment = [] if order.assignment is None else order.assignment.options()
    allows = attrs.evolve(order.allows, unmatched_exclude=False)  # which says nothing of the rows
    return ["--by", order.by, *column, *format_, *assignment, *allows.options()]


def exclude_options(order: Order) -> list[str]:
    """Give the options that name who is not to be sent."""
    allows = Allowances(unmatched_exclude=order.allows.unmatched_exclude and bool(order.exclude))
    return [*(word for file in order.exclude.values() for word in ("--exclude", str(file))), *allows.options()]
