"""The operations of the commands that change profiles: delete, update and create."""

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final

import attrs

from ... import bulk
from ...bulk import BulkJob, Outcome, StopRules
from ...bulk.api import IdType
from ...bulk.job_store import JobStore
from ...client import AdaptyClient
from ...pacing import Pacer


@attrs.frozen
class OperationSpec:
    """An operation on each profile of a job.

    Attributes:
        name: The name in the library, in a ledger and of the command.
        participle: The past participle of `name`.
        warning: The warning shown before the confirmation.
        existing_outcomes: The outcomes of rows whose profiles exist, so that one of them can show the app of the key.
        job_factory: The library's function that starts the job.
    """

    name: str
    participle: str
    warning: str
    existing_outcomes: frozenset[Outcome]
    job_factory: Callable[..., BulkJob[Any, Any]]

    def create_job(
        self,
        client: AdaptyClient,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        by: IdType,
        concurrency: int,
        pacer: Pacer | None,
        stop: StopRules,
        ledger: JobStore | None = None,
    ) -> BulkJob[Any, Any]:
        """Return the job for the items of a listing."""
        return self.job_factory(client, items, by=by, concurrency=concurrency, pacer=pacer, stop=stop, ledger=ledger)


_OPEN_OUTCOMES: Final = frozenset({Outcome.NOT_ATTEMPTED, Outcome.IN_DOUBT, Outcome.FAILED})

DELETE: Final = OperationSpec("delete", "deleted", "This can't be undone.", _OPEN_OUTCOMES, bulk.delete_profiles)
UPDATE: Final = OperationSpec(
    "update",
    "updated",
    "Overwritten values can't be restored.",
    _OPEN_OUTCOMES | {Outcome.UPDATED},
    bulk.update_profiles,
)
CREATE: Final = OperationSpec(
    "create",
    "created",
    "If a profile with that ID exists, its attributes are overwritten.",
    frozenset({Outcome.CREATED}),
    bulk.create_profiles,
)
OPERATIONS: Final = {operation.name: operation for operation in (DELETE, UPDATE, CREATE)}
