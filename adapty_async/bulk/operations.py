"""The operations of bulk jobs, one entry each, and the meanings of their outcomes.

The engine, the ledger, the record and the command line read the entries. A new operation is a new entry.
"""

import functools
import json
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final, Generic, Literal, TypeAlias, get_args
from uuid import UUID

import attrs

from ..http.requests import Request, Response
from ..models import AttributeValue, Profile, ProfileAttributes
from ..models.codec import dump_attributes
from ..resources.profiles import (
    build_create_request,
    build_delete_request,
    build_get_request,
    build_update_request,
    check_empty_response,
    is_same_profile,
    read_profile,
)
from .job_store import Source
from .outcomes import Outcome
from .results import ItemT, SkippedItem, ValueT

IdType: TypeAlias = Literal["customer_user_id", "profile_id"]
ProfileId: TypeAlias = str | UUID
ProfileIds: TypeAlias = (
    Iterable[str | SkippedItem[str]]
    | Iterable[UUID | SkippedItem[UUID]]
    | AsyncIterable[str | SkippedItem[str]]
    | AsyncIterable[UUID | SkippedItem[UUID]]
)
ProfileChange: TypeAlias = tuple[str, ProfileAttributes] | tuple[UUID, ProfileAttributes]
ProfileChanges: TypeAlias = (
    Iterable[ProfileChange | SkippedItem[ProfileChange]] | AsyncIterable[ProfileChange | SkippedItem[ProfileChange]]
)

UNFINISHED_OUTCOMES: Final = frozenset({Outcome.NOT_ATTEMPTED, Outcome.IN_DOUBT, Outcome.FAILED})
"""Outcomes of items that may have to be sent again. They don't show whether the profile exists."""
ABSENT_OUTCOMES: Final = frozenset({Outcome.ALREADY_ABSENT, Outcome.NOT_FOUND, Outcome.DELETED_UNCONFIRMED})
"""Outcomes for which the last response said that there is no such profile."""


class Effect(Enum):
    """What an operation does to a profile."""

    READ = auto()
    CHANGE = auto()
    CREATE = auto()
    REMOVE = auto()


@attrs.frozen
class OperationCallbacks(Generic[ItemT, ValueT]):
    """The requests of one job, for IDs of its type."""

    spec: "OperationSpec[ItemT, ValueT]"
    build_request: Callable[[ItemT], Request]
    build_probe: Callable[[ItemT], Request]


@attrs.frozen(kw_only=True, eq=False)
class OperationSpec(Generic[ItemT, ValueT]):
    """An operation on each profile of a job.

    Unless the operation `is_repeatable`, an item is sent again only within 15 minutes (`MAX_WRITE_RETRY_SECONDS`).

    Attributes:
        name: The verb. It is also the name in a ledger and of the command.
        participle: The past participle of the verb.
        noun: The noun of the verb.
        warning: What to warn of before a job is confirmed. Empty if the operation changes nothing.
        record_note: The remark on the operation in the record of a job, or None.
        effect: What it does to a profile.
        build_profile_request: The resource's function that builds the request for one ID. If the operation has
            attributes, they are the first argument.
        read_response: Reads the response.
        matches_request: Returns whether a value that was read can be the response to the given request. None if no
            value shows that.
        done_outcome: The outcome if the request succeeds.
        done_meaning: What this outcome means.
        done_state: The number of this outcome in ledgers. It must never change. None if jobs keep no ledger.
        missing_outcome: The outcome if the profile doesn't exist.
        unconfirmed_outcome: The outcome if it doesn't exist after a request whose response was lost. None if that is
            `missing_outcome` too.
        is_repeatable: Whether an item may be sent again no matter how long ago it was first sent.
        id_types: The types of ID that it accepts.
        has_attributes: Whether its items are pairs of an ID and attributes, and its command has options for them.
        needs_attributes: Whether at least one attribute must be set.
    """

    name: str
    participle: str
    noun: str
    warning: str = ""
    record_note: str | None = None
    effect: Effect
    build_profile_request: Callable[..., Request]
    read_response: Callable[[Response], ValueT]
    matches_request: Callable[[Request, ValueT], bool] | None = None
    done_outcome: Outcome
    done_meaning: str
    done_state: int | None = None
    missing_outcome: Outcome
    unconfirmed_outcome: Outcome | None = None
    is_repeatable: bool
    id_types: tuple[IdType, ...] = get_args(IdType)
    has_attributes: bool = False
    needs_attributes: bool = False

    @property
    def has_ledger(self) -> bool:
        """Whether its jobs can keep a ledger, and its command has the options of such a job."""
        return self.done_state is not None

    @property
    def has_absent_limit(self) -> bool:
        """Whether too many missing profiles stop a job, and its command has the option --max-absent."""
        return self.missing_outcome is Outcome.ALREADY_ABSENT

    @property
    def is_verifiable(self) -> bool:
        """Whether its profiles should be gone afterwards, so that `verify` can check this."""
        return self.effect is Effect.REMOVE

    @property
    def gone_outcomes(self) -> frozenset[Outcome]:
        """The outcomes of items whose profiles should be gone."""
        outcomes = (self.done_outcome, self.missing_outcome, self.unconfirmed_outcome)
        return frozenset(filter(None, outcomes)) if self.is_verifiable else frozenset()

    @property
    def existing_outcomes(self) -> frozenset[Outcome]:
        """The outcomes of items whose profiles can show the app of a key, because they exist or may exist."""
        open_outcomes = frozenset[Outcome]() if self.effect is Effect.CREATE else UNFINISHED_OUTCOMES
        return open_outcomes if self.effect is Effect.REMOVE else open_outcomes | {self.done_outcome}

    def build_callbacks(self, by: IdType) -> OperationCallbacks[ItemT, ValueT]:
        """Return the functions that build the requests of a job. Raise ValueError if `by` is no type of ID."""
        build_probe = _make_request_builder(by, build_get_request)
        if self.has_attributes:
            return OperationCallbacks[Any, ValueT](
                self,
                _make_change_request_builder(by, self.build_profile_request),
                lambda change: build_probe(change[0]),
            )
        return OperationCallbacks[Any, ValueT](self, _make_request_builder(by, self.build_profile_request), build_probe)

    def build_source(self, items: Any, by: IdType) -> Source[ItemT]:
        """Return the items of a job with the functions that identify them."""
        normalize_id = make_id_normalizer(by)
        if not self.has_attributes:
            return Source(items, get_id=normalize_id, get_content=normalize_id)

        def get_id(change: Any) -> str:
            return normalize_id(change[0]) if _is_change(change) else ""

        def get_content(change: Any) -> str:
            return f"{get_id(change)}\n{_dump_json_or_empty(change[1])}" if _is_change(change) else ""

        return Source(items, get_id, get_content)


AnyOperation: TypeAlias = OperationSpec[Any, Any]

DELETE: Final = OperationSpec[ProfileId, None](
    name="delete",
    participle="deleted",
    noun="deletion",
    warning="This can't be undone.",
    record_note="Adapty detaches a deleted profile's purchase history, and may attach it to another profile.",
    effect=Effect.REMOVE,
    build_profile_request=build_delete_request,
    read_response=check_empty_response,
    done_outcome=Outcome.DELETED,
    done_meaning="Adapty accepted the deletion",
    done_state=9,
    missing_outcome=Outcome.ALREADY_ABSENT,
    unconfirmed_outcome=Outcome.DELETED_UNCONFIRMED,
    is_repeatable=True,
)
UPDATE: Final = OperationSpec[ProfileChange, Profile](
    name="update",
    participle="updated",
    noun="update",
    warning="Overwritten values can't be restored.",
    effect=Effect.CHANGE,
    build_profile_request=build_update_request,
    read_response=read_profile,
    matches_request=is_same_profile,
    done_outcome=Outcome.UPDATED,
    done_meaning="Adapty accepted the update",
    done_state=10,
    missing_outcome=Outcome.NOT_FOUND,
    is_repeatable=False,
    has_attributes=True,
    needs_attributes=True,
)
CREATE: Final = OperationSpec[ProfileChange, Profile](
    name="create",
    participle="created",
    noun="creation",
    warning="If a profile with that ID exists, its attributes are overwritten.",
    effect=Effect.CREATE,
    build_profile_request=build_create_request,
    read_response=read_profile,
    matches_request=is_same_profile,
    done_outcome=Outcome.CREATED,
    done_meaning="Adapty accepted the creation",
    done_state=11,
    missing_outcome=Outcome.FAILED,
    is_repeatable=False,
    id_types=("customer_user_id",),
    has_attributes=True,
)
GET: Final = OperationSpec[ProfileId, Profile](
    name="get",
    participle="fetched",
    noun="export",
    effect=Effect.READ,
    build_profile_request=build_get_request,
    read_response=read_profile,
    matches_request=is_same_profile,
    done_outcome=Outcome.FETCHED,
    done_meaning="Adapty returned the profile",
    missing_outcome=Outcome.NOT_FOUND,
    is_repeatable=True,
)
OPERATIONS: Final[Mapping[str, AnyOperation]] = {spec.name: spec for spec in (DELETE, UPDATE, CREATE, GET)}

OUTCOME_MEANINGS: Final[Mapping[Outcome, str]] = {
    **{spec.done_outcome: spec.done_meaning for spec in OPERATIONS.values()},
    Outcome.SUCCEEDED: "the operation returned without an error",
    Outcome.ALREADY_ABSENT: "there was no such profile",
    Outcome.DELETED_UNCONFIRMED: "no such profile; a request may have been sent before, and its response was lost",
    Outcome.DUPLICATE: "the same ID is earlier in the input; not sent",
    Outcome.NOT_FOUND: "there was no such profile",
    Outcome.EXCLUDED: "on an exclude list; not sent",
    Outcome.INVALID: "can't be sent; not sent",
    Outcome.FAILED: "rejected by Adapty, or failed at the last attempt",
    Outcome.IN_DOUBT: "may have been sent; the result is unknown",
    Outcome.NOT_ATTEMPTED: "not sent",
}
"""What each outcome means, in the order in which they are shown."""


def make_id_normalizer(by: IdType) -> Callable[[object], str]:
    """Return the function that names an ID of this type in a ledger."""
    # Upper and lower case are equal in a UUID, but may differ in the IDs of other systems.
    return (lambda item: str(item).lower()) if by == "profile_id" else str


def dump_canonical_json(attributes: ProfileAttributes) -> str:
    """Return the attributes as text. It is equal for equal requests, independent of the order of the attributes."""
    body = dump_attributes(attributes)
    if attributes.custom_attributes:
        body["custom_attributes"] = {
            key: _normalize_value(value) for key, value in attributes.custom_attributes.items()
        }
    return json.dumps(body, sort_keys=True)


def _normalize_value(value: AttributeValue) -> str | float | None:
    # The API stores every number and bool as a float, and -0.0 as 0.0.
    return value if value is None or isinstance(value, str) else float(value) + 0.0


def _dump_json_or_empty(attributes: object) -> str:
    return dump_canonical_json(attributes) if isinstance(attributes, ProfileAttributes) else ""


def _make_request_builder(by: IdType, build_request: Callable[..., Request]) -> Callable[[ProfileId], Request]:
    """Return a function that builds the request for an ID of this type."""
    if by not in get_args(IdType):
        raise ValueError("by must be 'customer_user_id' or 'profile_id', the type of the IDs")
    if by == "profile_id":
        return lambda profile_id: build_request(profile_id=profile_id)
    # A UUID object as a customer user ID is refused: only the caller knows how its system writes it.
    return lambda customer_user_id: build_request(customer_user_id=customer_user_id)


def _make_change_request_builder(
    by: IdType, build_request: Callable[..., Request]
) -> Callable[[ProfileChange], Request]:
    """Return a function that builds the request for a change to a profile."""

    def build_change_request(change: ProfileChange) -> Request:
        return _make_request_builder(by, functools.partial(build_request, _get_attributes(change)))(change[0])

    return build_change_request


def _get_attributes(change: ProfileChange) -> ProfileAttributes:
    if not _is_change(change):
        raise TypeError("an item must be a pair of an ID and ProfileAttributes")
    return change[1]


def _is_change(change: object) -> bool:
    return isinstance(change, tuple | list) and len(change) == 2
