"""The operations of the commands that change profiles: delete, update and create."""

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final

import attrs

from ... import bulk
from ...bulk import BulkJob, Outcome, StopRules
from ...bulk.api import By
from ...bulk.job_store import Journal
from ...client import AdaptyClient
from ...pacing import Pacer


@attrs.frozen
class Operation:
    """An operation on each profile of a job.

    Attributes:
        name: The name in the library, in a ledger and of the command.
        participle: The past participle of `name`.
        warning: The warning shown before the confirmation.
        existing: The outcomes of rows whose profiles exist, so that one of them can show the app of the key.
        start: The library's function that starts the job.
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
        """Return the job for the items of a listing."""
        return self.start(client, items, by=by, concurrency=concurrency, pacer=pacer, stop=stop, journal=journal)


_UNDONE: Final = frozenset({Outcome.NOT_ATTEMPTED, Outcome.IN_DOUBT, Outcome.FAILED})

DELETE: Final = Operation("delete", "deleted", "This can't be undone.", _UNDONE, bulk.delete_profiles)
UPDATE: Final = Operation(
    "update",
    "updated",
    "Overwritten values can't be restored.",
    _UNDONE | {Outcome.UPDATED},
    bulk.update_profiles,
)
CREATE: Final = Operation(
    "create",
    "created",
    "If a profile with that ID exists, its attributes are overwritten.",
    frozenset({Outcome.CREATED}),
    bulk.create_profiles,
)
OPERATIONS: Final = {operation.name: operation for operation in (DELETE, UPDATE, CREATE)}
