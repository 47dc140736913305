"""The functions that create bulk jobs."""

import functools
import json
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, Literal, TypeAlias, cast, get_args
from uuid import UUID

import attrs

from ..client import AdaptyClient, get_sender
from ..http.descriptors import get_descriptor_limit, get_max_connections
from ..http.requests import Request
from ..models import AttributeValue, Profile, ProfileAttributes
from ..models.codec import dump_attributes
from ..pacing import Pacer
from ..resources.profiles import (
    build_create_request,
    build_delete_request,
    build_get_request,
    build_update_request,
    check_empty_response,
    is_same_profile,
    read_profile,
)
from .attempts import CallableOperation, OperationCallbacks, ProfileOperation
from .engine import BulkJob, validate_concurrency
from .job_store import JobSession, JobSpec, JobStore, Source
from .results import BulkReport, ItemT, Outcome, SkippedItem, StopRules, ValueT

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
ProgressCallback: TypeAlias = Callable[[BulkReport], object]

_log: Final = logging.getLogger("adapty_async")


def delete_profiles(
    client: AdaptyClient,
    ids: ProfileIds,
    *,
    by: IdType,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    ledger: JobStore | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ProfileId, None]:
    """Delete profiles.

    No item raises an error: each one gets an outcome. The number of requests in flight is also limited by rate x
    latency. With a ledger, items are read up to 2,000 ahead.

    Args:
        client: The client to send with.
        ids: The IDs of the profiles.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate. By default the pacer of the client; if it has none, an `AdaptivePacer.background()` that
            all its jobs share.
        ledger: A `Ledger` to record the job in. The same call then resumes the job if it was interrupted.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    callbacks = OperationCallbacks[ProfileId, None](
        build_request=_make_request_builder(by, build_delete_request),
        build_probe=_make_request_builder(by, build_get_request),
        read_response=check_empty_response,
        done_outcome=Outcome.DELETED,
        missing_outcome=Outcome.ALREADY_ABSENT,
    )
    job = _JobFactory(client, concurrency, pacer, stop, on_progress)
    return job.create_with_ledger(_build_id_source(cast("_Ids", ids), by), callbacks, ledger, "delete", by)


def get_profiles(
    client: AdaptyClient,
    ids: ProfileIds,
    *,
    by: IdType,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ProfileId, Profile]:
    """Get profiles. Each result has a Profile as its `value`.

    Args:
        client: The client to send with.
        ids: The IDs of the profiles.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `delete_profiles`.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    request = _make_request_builder(by, build_get_request)
    callbacks = OperationCallbacks[ProfileId, Profile](
        build_request=request,
        build_probe=request,
        read_response=read_profile,
        is_match=is_same_profile,
        done_outcome=Outcome.FETCHED,
        missing_outcome=Outcome.NOT_FOUND,
    )
    return _JobFactory(client, concurrency, pacer, stop, on_progress).create(cast("_Ids", ids), callbacks)


def update_profiles(
    client: AdaptyClient,
    changes: ProfileChanges,
    *,
    by: IdType,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    ledger: JobStore | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ProfileChange, Profile]:
    """Update profiles.

    An item whose response was lost isn't sent again after 15 minutes, because this could overwrite newer data. It
    becomes `in_doubt`.

    Args:
        client: The client to send with.
        changes: Pairs of an ID and the attributes to set.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `delete_profiles`.
        ledger: A `Ledger` to record the job in, as in `delete_profiles`.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    get = _make_request_builder(by, build_get_request)
    callbacks = OperationCallbacks[ProfileChange, Profile](
        build_request=_make_change_request_builder(by, build_update_request),
        build_probe=lambda change: get(change[0]),
        read_response=read_profile,
        is_match=is_same_profile,
        done_outcome=Outcome.UPDATED,
        missing_outcome=Outcome.NOT_FOUND,
    )
    job = _JobFactory(client, concurrency, pacer, stop, on_progress)
    return job.create_with_ledger(_build_change_source(changes, by), callbacks, ledger, "update", by)


def create_profiles(
    client: AdaptyClient,
    profiles: ProfileChanges,
    *,
    by: IdType,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    ledger: JobStore | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ProfileChange, Profile]:
    """Create profiles.

    As in `update_profiles`, an item whose response was lost becomes `in_doubt` after 15 minutes.

    Args:
        client: The client to send with.
        profiles: Pairs of an ID and the attributes to set.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `delete_profiles`.
        ledger: A `Ledger` to record the job in, as in `delete_profiles`.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    get = _make_request_builder(by, build_get_request)
    callbacks = OperationCallbacks[ProfileChange, Profile](
        build_request=_make_change_request_builder(by, build_create_request),
        build_probe=lambda change: get(change[0]),
        read_response=read_profile,
        is_match=is_same_profile,
        done_outcome=Outcome.CREATED,
        missing_outcome=Outcome.FAILED,
    )
    job = _JobFactory(client, concurrency, pacer, stop, on_progress)
    return job.create_with_ledger(_build_change_source(profiles, by), callbacks, ledger, "create", by)


def run(
    operation: Callable[[ItemT], Awaitable[ValueT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = 100,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ItemT, ValueT]:
    """Run an asynchronous operation on each item.

    The operation runs once per item. It has to make its own retries.

    Args:
        operation: Called with each item. If it raises, the item is `failed` or `in_doubt`. A ValueError or TypeError
            counts as a bug: it ends the job and propagates.
        items: The input.
        concurrency: The maximum number of items in progress.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    return BulkJob(CallableOperation(operation), items, concurrency=concurrency, stop=stop, on_progress=on_progress)


_Ids: TypeAlias = Iterable[ProfileId | SkippedItem[ProfileId]] | AsyncIterable[ProfileId | SkippedItem[ProfileId]]


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


def make_id_normalizer(by: IdType) -> Callable[[object], str]:
    """Return the function that names an ID of this type in a ledger."""
    # Upper and lower case are equal in a UUID, but may differ in the IDs of other systems.
    return (lambda item: str(item).lower()) if by == "profile_id" else str


def job_spec(client: AdaptyClient, operation: str, by: IdType) -> JobSpec:
    """Return the spec of a job that uses this client."""
    return JobSpec(
        operation=operation,
        by=by,
        base_url=client.base_url,
        key_fingerprint=get_sender(client).transport.key_fingerprint,
        is_repeatable=operation == "delete",
    )


def build_source(operation: str, items: Any, by: IdType) -> Source[Any]:
    """Return the items of a job with the functions that identify them."""
    return _build_id_source(items, by) if operation == "delete" else _build_change_source(items, by)


def _build_id_source(ids: "_Ids", by: IdType) -> Source[ProfileId]:
    normalize_id = make_id_normalizer(by)
    return Source(ids, get_id=normalize_id, get_content=normalize_id)


def _build_change_source(changes: ProfileChanges, by: IdType) -> Source[ProfileChange]:
    normalize_id = make_id_normalizer(by)

    def get_id(change: ProfileChange) -> str:
        return normalize_id(change[0]) if _is_change(change) else ""

    def get_content(change: ProfileChange) -> str:
        return f"{get_id(change)}\n{_dump_json_or_empty(change[1])}" if _is_change(change) else ""

    return Source(changes, get_id, get_content)


def _dump_json_or_empty(attributes: object) -> str:
    return dump_canonical_json(attributes) if isinstance(attributes, ProfileAttributes) else ""


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


@attrs.frozen
class _JobFactory:
    """The arguments that all jobs over profiles share."""

    client: AdaptyClient
    concurrency: int
    pacer: Pacer | None
    stop: StopRules
    on_progress: ProgressCallback | None

    def create_with_ledger(
        self,
        source: Source[ItemT],
        callbacks: OperationCallbacks[ItemT, ValueT],
        ledger: JobStore | None,
        operation: str,
        by: IdType,
    ) -> BulkJob[ItemT, ValueT]:
        if ledger is None:
            return self.create(source.items, callbacks)
        job_session = ledger.start_run(job_spec(self.client, operation, by), source)
        return self.create(source.items, callbacks, job_session)

    def create(
        self,
        items: Iterable[ItemT | SkippedItem[ItemT]] | AsyncIterable[ItemT | SkippedItem[ItemT]],
        callbacks: OperationCallbacks[ItemT, ValueT],
        job_session: JobSession[ItemT] | None = None,
    ) -> BulkJob[ItemT, ValueT]:
        given = get_sender(self.client)
        pacer = self.pacer or given.given_pacer or given.key_state.background_pacer
        sender = get_sender(self.client.with_options(pacer=pacer))
        concurrency = _limit_concurrency(validate_concurrency(self.concurrency), sender.transport.connection_limit)
        return BulkJob(
            ProfileOperation(sender, callbacks, self.stop, max_in_flight=concurrency),
            items,
            concurrency=concurrency,
            stop=self.stop,
            on_progress=self.on_progress,
            job_session=job_session,
        )


def _limit_concurrency(concurrency: int, connection_limit: float) -> int:
    """Return the concurrency that the session's connections and the limit of open files allow."""
    for limit, reason in (
        (connection_limit, "the session allows no more connections"),
        (get_max_connections(), f"this process may open {get_descriptor_limit():.0f} files (ulimit -n)"),
    ):
        if concurrency > limit:
            _log.warning("concurrency lowered from %d to %d: %s", concurrency, limit, reason)
            concurrency = int(limit)
    return concurrency
