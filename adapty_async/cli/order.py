"""What was ordered on the command line, as a ledger keeps it for those who go on with the job."""

from collections.abc import Mapping
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


@attrs.frozen(kw_only=True)
class Order:
    """A mass job. `file`: None is the copy beside the ledger of what can't be read twice.

    `operation`: its name. `assignment`: what is written, None where nothing is. `timeout`: seconds of a request.
    `exclude`: files of ids that are not to be sent, `exclude_column`: the column of these. `format`: None where the
    file's name tells. `allows`: what doesn't refuse it. `operator`, `request`: for the record. `failures`: where the
    run writes them.
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
    exclude: tuple[Path, ...] = ()
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

    def as_json(self) -> dict[str, Any]:
        """Give what JSON takes."""
        return attrs.asdict(self, value_serializer=_plain)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Order":
        """Read what `as_json` gave."""
        return cls(
            **{
                **data,
                "file": _path(data["file"]),
                "pace": Pace(**data["pace"]),
                "guards": Guards(**data["guards"]),
                "allows": Allowances(**data.get("allows", {})),
                "exclude": tuple(map(Path, data["exclude"])),
                "assignment": Assignment.from_json(data["assignment"]) if data.get("assignment") else None,
                "format": _format(data.get("format")),
                "failures": _path(data.get("failures")),
            }
        )


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
    return [*(word for file in order.exclude for word in ("--exclude", str(file))), *allows.options()]


def _plain(_: object, __: object, value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _format(text: str | None) -> Format | None:
    return None if text is None else Format(text)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
