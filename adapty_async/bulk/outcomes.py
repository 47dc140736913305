"""Outcomes: the final states of the items of a bulk job."""

from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """The final state of one item."""

    DELETED = "deleted"
    UPDATED = "updated"
    CREATED = "created"
    FETCHED = "fetched"
    SUCCEEDED = "succeeded"
    ALREADY_ABSENT = "already_absent"
    DELETED_UNCONFIRMED = "deleted_unconfirmed"
    DUPLICATE = "duplicate"
    EXCLUDED = "excluded"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    NOT_ATTEMPTED = "not_attempted"

    @property
    def is_failure(self) -> bool:
        """Whether the item needs attention."""
        return self in FAILURES


FAILURES: Final = frozenset(
    {Outcome.NOT_FOUND, Outcome.INVALID, Outcome.FAILED, Outcome.IN_DOUBT, Outcome.NOT_ATTEMPTED}
)
