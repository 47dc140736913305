"""The functions that create bulk jobs."""

import functools
import json
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, Literal, TypeAlias, cast, get_args
from uuid import UUID

import attrs

from ..client import AdaptyClient, sender_of
from ..http.descriptors import descriptor_limit, max_connections
from ..http.requests import Request
from ..models import AttributeValue, Profile, ProfileAttributes
from ..models.codec import dump
from ..pacing import Pacer
from ..resources.profiles import (
    create_request,
    delete_request,
    get_request,
    is_about,
    read_nothing,
    read_profile,
    update_request,
)
from .attempts import AnyOperation, ProfileOperation, Steps
from .engine import BulkJob, checked_concurrency
from .job_store import Entries, Journal, Source, Undertaking
from .results import BulkReport, Decided, ItemT, Outcome, StopRules, ValueT

By: TypeAlias = Literal["customer_user_id", "profile_id"]
ProfileId: TypeAlias = str | UUID
ProfileIds: TypeAlias = (
    Iterable[str | Decided[str]]
    | Iterable[UUID | Decided[UUID]]
    | AsyncIterable[str | Decided[str]]
    | AsyncIterable[UUID | Decided[UUID]]
)
Change: TypeAlias = tuple[str, ProfileAttributes] | tuple[UUID, ProfileAttributes]
Changes: TypeAlias = Iterable[Change | Decided[Change]] | AsyncIterable[Change | Decided[Change]]
Progress: TypeAlias = Callable[[BulkReport], object]

_log: Final = logging.getLogger("adapty_async")


def delete_profiles(
    client: AdaptyClient,
    ids: ProfileIds,
    *,
    by: By,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    journal: Journal | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
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
        journal: A `Ledger` to record the job in. The same call then resumes the job if it was interrupted.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    steps = Steps[ProfileId, None](
        request=_naming(by, delete_request),
        probe=_naming(by, get_request),
        read=read_nothing,
        done=Outcome.DELETED,
        missing=Outcome.ALREADY_ABSENT,
    )
    job = _Job(client, concurrency, pacer, stop, on_progress)
    return job.journaled(_source_of_ids(cast("_Ids", ids), by), steps, journal, "delete", by)


def get_profiles(
    client: AdaptyClient,
    ids: ProfileIds,
    *,
    by: By,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
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
    request = _naming(by, get_request)
    steps = Steps[ProfileId, Profile](
        request=request,
        probe=request,
        read=read_profile,
        is_answer=is_about,
        done=Outcome.FETCHED,
        missing=Outcome.NOT_FOUND,
    )
    return _Job(client, concurrency, pacer, stop, on_progress).of(cast("_Ids", ids), steps)


def update_profiles(
    client: AdaptyClient,
    changes: Changes,
    *,
    by: By,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    journal: Journal | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
) -> BulkJob[Change, Profile]:
    """Update profiles.

    An item whose response was lost isn't sent again after 15 minutes, because this could overwrite newer data. It
    becomes `in_doubt`.

    Args:
        client: The client to send with.
        changes: Pairs of an ID and the attributes to set.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `delete_profiles`.
        journal: A `Ledger` to record the job in, as in `delete_profiles`.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    get = _naming(by, get_request)
    steps = Steps[Change, Profile](
        request=_changing(by, update_request),
        probe=lambda change: get(change[0]),
        read=read_profile,
        is_answer=is_about,
        done=Outcome.UPDATED,
        missing=Outcome.NOT_FOUND,
    )
    job = _Job(client, concurrency, pacer, stop, on_progress)
    return job.journaled(_source_of(changes, by), steps, journal, "update", by)


def create_profiles(
    client: AdaptyClient,
    profiles: Changes,
    *,
    by: By,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    journal: Journal | None = None,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
) -> BulkJob[Change, Profile]:
    """Create profiles.

    As in `update_profiles`, an item whose response was lost becomes `in_doubt` after 15 minutes.

    Args:
        client: The client to send with.
        profiles: Pairs of an ID and the attributes to set.
        by: The type of the IDs.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `delete_profiles`.
        journal: A `Ledger` to record the job in, as in `delete_profiles`.
        stop: When the job stops by itself.
        on_progress: Called at most ten times per second, and when the job ends.

    Returns:
        The job. It starts when you await it or iterate over it.

    Raises:
        ValueError, TypeError: If an argument is invalid.
    """
    get = _naming(by, get_request)
    steps = Steps[Change, Profile](
        request=_changing(by, create_request),
        probe=lambda change: get(change[0]),
        read=read_profile,
        is_answer=is_about,
        done=Outcome.CREATED,
        missing=Outcome.FAILED,
    )
    job = _Job(client, concurrency, pacer, stop, on_progress)
    return job.journaled(_source_of(profiles, by), steps, journal, "create", by)


def run(
    operation: Callable[[ItemT], Awaitable[ValueT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = 100,
    stop: StopRules = StopRules(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
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
    return BulkJob(AnyOperation(operation), items, concurrency=concurrency, stop=stop, on_progress=on_progress)


_Ids: TypeAlias = Iterable[ProfileId | Decided[ProfileId]] | AsyncIterable[ProfileId | Decided[ProfileId]]


def _naming(by: By, build: Callable[..., Request]) -> Callable[[ProfileId], Request]:
    """Return a function that builds the request for an ID of this type."""
    if by not in get_args(By):
        raise ValueError("by must be 'customer_user_id' or 'profile_id', the type of the IDs")
    if by == "profile_id":
        return lambda profile_id: build(profile_id=profile_id)
    # A UUID object as a customer user ID is refused: only the caller knows how its system writes it.
    return lambda customer_user_id: build(customer_user_id=customer_user_id)


def _changing(by: By, build: Callable[..., Request]) -> Callable[[Change], Request]:
    """Return a function that builds the request for a change to a profile."""

    def request(change: Change) -> Request:
        return _naming(by, functools.partial(build, _attributes(change)))(change[0])

    return request


def _attributes(change: Change) -> ProfileAttributes:
    if not _is_change(change):
        raise TypeError("an item must be a pair of an ID and ProfileAttributes")
    return change[1]


def _is_change(change: object) -> bool:
    return isinstance(change, tuple | list) and len(change) == 2


def name_of(by: By) -> Callable[[object], str]:
    """Return the function that names an ID of this type in a ledger."""
    # Upper and lower case are equal in a UUID, but may differ in the IDs of other systems.
    return (lambda item: str(item).lower()) if by == "profile_id" else str


def undertaking(client: AdaptyClient, operation: str, by: By) -> Undertaking:
    """Return the spec of a job that uses this client."""
    return Undertaking(
        operation=operation,
        by=by,
        base_url=client.base_url,
        key_fingerprint=sender_of(client).transport.key_fingerprint,
        repeatable=operation == "delete",
    )


def source_of(operation: str, items: Any, by: By) -> Source[Any]:
    """Return the items of a job with the functions that identify them."""
    return _source_of_ids(items, by) if operation == "delete" else _source_of(items, by)


def _source_of_ids(ids: "_Ids", by: By) -> Source[ProfileId]:
    name = name_of(by)
    return Source(ids, name=name, content=name)


def _source_of(changes: Changes, by: By) -> Source[Change]:
    text_of = name_of(by)

    def name(change: Change) -> str:
        return text_of(change[0]) if _is_change(change) else ""

    def content(change: Change) -> str:
        return f"{name(change)}\n{_content(change[1])}" if _is_change(change) else ""

    return Source(changes, name, content)


def _content(attributes: object) -> str:
    return content_of(attributes) if isinstance(attributes, ProfileAttributes) else ""


def content_of(attributes: ProfileAttributes) -> str:
    """Return the attributes as text. It is equal for equal requests, independent of the order of the attributes."""
    body = dump(attributes)
    if attributes.custom_attributes:
        body["custom_attributes"] = {key: _plain(value) for key, value in attributes.custom_attributes.items()}
    return json.dumps(body, sort_keys=True)


def _plain(value: AttributeValue) -> str | float | None:
    # The API stores every number and bool as a float, and -0.0 as 0.0.
    return value if value is None or isinstance(value, str) else float(value) + 0.0


@attrs.frozen
class _Job:
    """The arguments that all jobs over profiles share."""

    client: AdaptyClient
    concurrency: int
    pacer: Pacer | None
    stop: StopRules
    on_progress: Progress | None

    def journaled(
        self,
        source: Source[ItemT],
        steps: Steps[ItemT, ValueT],
        journal: Journal | None,
        operation: str,
        by: By,
    ) -> BulkJob[ItemT, ValueT]:
        if journal is None:
            return self.of(source.items, steps)
        entries = journal.entries(undertaking(self.client, operation, by), source)
        return self.of(source.items, steps, entries)

    def of(
        self,
        items: Iterable[ItemT | Decided[ItemT]] | AsyncIterable[ItemT | Decided[ItemT]],
        steps: Steps[ItemT, ValueT],
        entries: Entries[ItemT] | None = None,
    ) -> BulkJob[ItemT, ValueT]:
        given = sender_of(self.client)
        pacer = self.pacer or given.given_pacer or given.shared.background
        sender = sender_of(self.client.with_options(pacer=pacer))
        concurrency = _possible_concurrency(checked_concurrency(self.concurrency), sender.transport.connection_limit)
        return BulkJob(
            ProfileOperation(sender, steps, self.stop, most_under_way=concurrency),
            items,
            concurrency=concurrency,
            stop=self.stop,
            on_progress=self.on_progress,
            entries=entries,
        )


def _possible_concurrency(concurrency: int, connection_limit: float) -> int:
    """Return the concurrency that the session's connections and the limit of open files allow."""
    for limit, reason in (
        (connection_limit, "the session allows no more connections"),
        (max_connections(), f"this process may open {descriptor_limit():.0f} files (ulimit -n)"),
    ):
        if concurrency > limit:
            _log.warning("concurrency lowered from %d to %d: %s", concurrency, limit, reason)
            concurrency = int(limit)
    return concurrency
