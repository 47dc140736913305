"""The functions that create bulk jobs."""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from ..client import AdaptyClient, get_sender
from ..http.descriptor_limit import get_descriptor_limit, get_max_connections
from ..models import Profile
from ..pacing import Pacer
from .attempts import CallableOperation, ProfileOperation
from .engine import BulkJob, validate_concurrency
from .job_store import JobSpec, JobStore
from .operations import (
    CREATE,
    DELETE,
    GET,
    OPERATIONS,
    UPDATE,
    IdType,
    OperationSpec,
    ProfileChange,
    ProfileChanges,
    ProfileId,
    ProfileIds,
)
from .results import BulkReport, ItemT, ValueT
from .stop_rules import StopRules

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
    return create_job(
        DELETE,
        client,
        ids,
        by=by,
        concurrency=concurrency,
        pacer=pacer,
        ledger=ledger,
        stop=stop,
        on_progress=on_progress,
    )


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
    return create_job(
        GET,
        client,
        ids,
        by=by,
        concurrency=concurrency,
        pacer=pacer,
        stop=stop,
        on_progress=on_progress,
    )


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
    return create_job(
        UPDATE,
        client,
        changes,
        by=by,
        concurrency=concurrency,
        pacer=pacer,
        ledger=ledger,
        stop=stop,
        on_progress=on_progress,
    )


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
    return create_job(
        CREATE,
        client,
        profiles,
        by=by,
        concurrency=concurrency,
        pacer=pacer,
        ledger=ledger,
        stop=stop,
        on_progress=on_progress,
    )


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


def create_job(
    spec: OperationSpec[ItemT, ValueT],
    client: AdaptyClient,
    items: Any,
    *,
    by: IdType,
    concurrency: int,
    pacer: Pacer | None,
    stop: StopRules,
    ledger: JobStore | None = None,
    on_progress: ProgressCallback | None = None,
) -> BulkJob[ItemT, ValueT]:
    """Return the job that does an operation on each item. The arguments are as in `delete_profiles`."""
    callbacks, source = spec.build_callbacks(by), spec.build_source(items, by)
    job_session = None if ledger is None else ledger.start_run(job_spec(client, spec.name, by), source)
    given = get_sender(client)
    sender = get_sender(client.with_options(pacer=pacer or given.given_pacer or given.key_state.background_pacer))
    concurrency = _apply_connection_limits(validate_concurrency(concurrency), sender.transport.connection_limit)
    return BulkJob(
        ProfileOperation(sender, callbacks, stop, max_in_flight=concurrency),
        source.items,
        concurrency=concurrency,
        stop=stop,
        on_progress=on_progress,
        job_session=job_session,
    )


def job_spec(client: AdaptyClient, operation: str, by: IdType) -> JobSpec:
    """Return the spec of a job that uses this client.

    Args:
        client: The client to send with.
        operation: The name of the operation, such as `delete`.
        by: The type of the IDs.

    Returns:
        The job spec.

    Raises:
        ValueError: If there is no such operation.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}")
    return JobSpec(
        operation=operation,
        by=by,
        base_url=client.base_url,
        key_fingerprint=get_sender(client).transport.key_fingerprint,
        is_repeatable=OPERATIONS[operation].is_repeatable,
    )


def _apply_connection_limits(concurrency: int, connection_limit: float) -> int:
    """Return the concurrency that the session's connections and the limit of open files allow."""
    for limit, reason in (
        (connection_limit, "the session allows no more connections"),
        (get_max_connections(), f"this process may open {get_descriptor_limit():.0f} files (ulimit -n)"),
    ):
        if concurrency > limit:
            _log.warning("concurrency lowered from %d to %d: %s", concurrency, limit, reason)
            concurrency = int(limit)
    return concurrency
