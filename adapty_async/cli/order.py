"""What was ordered on the command line, as a ledger keeps it for those who go on with the job."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ..bulk.jobs import By
from .guards import Guards
from .pace import Pace


@attrs.frozen(kw_only=True)
class Order:
    """A deletion. `file`: None is the copy beside the ledger of what can't be read twice.

    `timeout`: seconds of a request. `exclude`: a file of ids that are not to be sent. `operator`, `request`: for the
    record.
    """

    file: Path | None
    by: By
    column: str | None
    pace: Pace
    concurrency: int = 100
    timeout: float = 30.0
    guards: Guards = attrs.field(factory=Guards)
    exclude: Path | None = None
    accept_damaged: bool = False
    operator: str | None = None
    request: str | None = None

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
                "exclude": _path(data["exclude"]),
            }
        )


def _plain(_: object, __: object, value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
