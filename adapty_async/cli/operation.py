"""What sets the commands apart that send: delete, update and create."""

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final

import attrs

from .. import bulk
from ..bulk import BulkJob, Outcome, StopRules
from ..bulk.jobs import By
from ..bulk.journal import Journal
from ..client import AdaptyClient
from ..pacing import Pacer


@attrs.frozen
class Operation:
    """What a command does to each profile. `name`: in the library, in a ledger, and of the command.

    `warning`: what whoever confirms it should know. `existing`: the outcomes of rows whose profiles exist, so that one
    of them can show the app. `start`: the job of the library.
    """

    name: str
    participle: str
    warning: str
    existing: frozenset[Outcome]
    start: Callable[..., BulkJob[Any, Any]]

    def job(
        self,
        client: AdaptyClient,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        by: By,
        concurrency: int,
        pacer: Pacer | None,
        stop: StopRules,
        journal: Journal | None = None,
    ) -> BulkJob[Any, Any]:
        """Give the job for some items, as a listing gives them."""
        return self.start(client, items, by=by, concurrency=concurrency, pacer=pacer, stop=stop, journal=journal)


_UNDONE: Final = frozenset({Outcome.NOT_ATTEMPTED, Outcome.IN_DOUBT, Outcome.FAILED})

DELETE: Final = Operation("delete", "deleted", "That can't be taken back.", _UNDONE, bulk.delete_profiles)
UPDATE: Final = Operation(
    "update",
    "updated",
    "What is overwritten can't be brought back.",
    _UNDONE | {Outcome.UPDATED},
    bulk.update_profiles,
)
CREATE: Final = Operation(
    "create",
    "created",
    "Where there is one of that id already, its attributes are overwritten.",
    frozenset({Outcome.CREATED}),
    bulk.create_profiles,
)
OPERATIONS: Final = {operation.name: operation for operation in (DELETE, UPDATE, CREATE)}
