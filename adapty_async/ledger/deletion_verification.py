"""Verification of a deletion: asks Adapty again for the profiles that a job deleted, and records which ones exist.

The results are stored apart from the outcomes, which don't change.
"""

import asyncio
import contextlib
import functools
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

import attrs

from .. import bulk
from ..bulk import BulkJob, BulkReport, Outcome, StopReason, StopRules
from ..bulk.operations import OPERATIONS, ProfileId
from ..client import AdaptyClient, get_sender
from ..models import Profile
from ..pacing import Pacer
from .chunks import to_timestamp
from .commit_thread import wait_through_cancellation
from .errors import LedgerError, LedgerMismatchError
from .files import resolve_link
from .job_api_key import APP_ID_NOTE
from .reader import LedgerReader
from .session import FILE_CHECK_INTERVAL
from .store import Presence, Store

T = TypeVar("T")

_CONCLUSIVE_OUTCOMES: Final = frozenset({Outcome.FETCHED, Outcome.NOT_FOUND})
_ROWS_PER_COMMIT: Final = 1000
_COMMIT_DELAY: Final = 1.0
"""Seconds after which new results are written. At a low rate, 1,000 rows would take an hour."""
_STOP_RULES: Final = StopRules(max_failure_ratio=None, max_absent_ratio=None)


@attrs.frozen
class Verified:
    """The results of a verification.

    Attributes:
        absent: Profiles that don't exist.
        present: Profiles that exist.
        unknown: Profiles that were requested without a clear result.
        stop_reason: Why the verification ended early. None if it didn't.
    """

    absent: int
    present: int
    unknown: int
    stop_reason: StopReason | None


async def verify(
    client: AdaptyClient,
    path: str | os.PathLike[str],
    ids: Iterable[ProfileId],
    *,
    sample: int | None = None,
    remaining: bool = False,
    concurrency: int = 100,
    pacer: Pacer | None = None,
    on_progress: Callable[[BulkReport], object] | None = None,
    rng: random.Random | None = None,
    new_key: bool = False,
) -> Verified:
    """Get each profile that should be gone after a job, and record in its ledger whether it exists.

    Args:
        client: The client to send with. It must use the server of the job.
        path: The path of the ledger.
        ids: The input of the job.
        sample: Check only this many profiles, drawn at random.
        remaining: Check only profiles for which no verification has a result yet.
        concurrency: The maximum number of requests in flight.
        pacer: Limits the rate, as in `bulk.get_profiles`.
        on_progress: Called at most ten times per second, and when the verification ends.
        rng: Draws the sample. By default the random numbers of the system.
        new_key: Whether another API key of the same app may be used. With a key of another app, all profiles seem
            absent.

    Returns:
        The results.

    Raises:
        LedgerError: If the ledger can't be used, or the server, the key or the input aren't those of the job.
    """
    ledger = resolve_link(path)
    with ThreadPoolExecutor(1, "adapty_async verification") as thread:
        run_in_thread = functools.partial(_run_in_thread, thread)
        store = await run_in_thread(
            lambda: Store.open(ledger)
        )  # first, so that nothing is sent if it is in use or damaged
        try:
            with LedgerReader(ledger) as reader:
                if reader.job.base_url != client.base_url:
                    raise LedgerMismatchError(
                        f"{ledger} belongs to a job at {reader.job.base_url}: verify it there", "server"
                    )
                if not new_key and get_sender(client).transport.key_fingerprint not in list_accepted_key_fingerprints(
                    reader
                ):
                    raise LedgerMismatchError(
                        f"{ledger} belongs to a job with another API key: verify it with that key", "key"
                    )
                remaining_count = count_deleted_items(reader, remaining=remaining)
                sample_items = _draw_sample(
                    _iter_deleted_items(reader, ids, unverified_only=remaining),
                    remaining_count,
                    sample,
                    rng or random.SystemRandom(),
                )
                positions: dict[int, int] = {}
                job = bulk.get_profiles(
                    client,
                    cast("Iterator[str]", _record_positions(sample_items, positions)),
                    by=reader.job.by,
                    concurrency=concurrency,
                    pacer=pacer,
                    stop=_STOP_RULES,
                    on_progress=on_progress,
                )
                async with _watch_files(job, lambda: run_in_thread(store.check_files)):
                    counts = await _record_results(
                        job, positions, lambda found: run_in_thread(lambda: _write_presences(store, found))
                    )
        finally:
            await run_in_thread(store.close)
    return Verified(counts[False], counts[True], job.report.total - counts.total(), job.report.stop_reason)


async def _record_results(
    job: BulkJob[ProfileId, Profile], positions: dict[int, int], write: Callable[[list[Presence]], Awaitable[None]]
) -> Counter[bool]:
    """Record the results of the job. Return how many profiles are present and absent."""
    presences: list[Presence] = []
    counts: Counter[bool] = Counter()
    loop = asyncio.get_running_loop()
    written = loop.time()
    try:
        async with job:
            async for result in job:
                position = positions.pop(result.position)
                if result.outcome in _CONCLUSIVE_OUTCOMES:
                    presences.append(Presence(position, to_timestamp(time.time()), result.outcome is Outcome.FETCHED))
                    counts[presences[-1].present] += 1
                if len(presences) == _ROWS_PER_COMMIT or loop.time() >= written + _COMMIT_DELAY:
                    await write(presences)
                    presences = []
                    written = loop.time()
    finally:
        await write(presences)
    return counts


@contextlib.asynccontextmanager
async def _watch_files(job: BulkJob[ProfileId, Profile], check: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Stop the job as soon as a file of the ledger is gone, and raise LedgerError when it has ended."""

    async def watch() -> LedgerError:
        while True:
            await asyncio.sleep(FILE_CHECK_INTERVAL)
            try:
                await check()
            except LedgerError as error:
                job.stop()
                return error

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    if not watching.cancelled():
        raise watching.result()


async def _run_in_thread(thread: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    """Run work that waits for the disk in a thread, and wait until it is done."""
    return await wait_through_cancellation(asyncio.get_running_loop().run_in_executor(thread, function))


def list_accepted_key_fingerprints(reader: LedgerReader) -> set[str]:
    """Return the fingerprints of the keys that can find the profiles of a job.

    These are the keys that were shown to belong to its app, or else its last key.
    """
    return {run.key_fingerprint for run in reader.runs if APP_ID_NOTE in run.notes} or {reader.last_key}


def count_deleted_items(reader: LedgerReader, *, remaining: bool = False) -> int:
    """Return how many items' profiles should be gone after a deletion. `remaining` is as in `verify`."""
    outcomes = OPERATIONS[reader.job.operation].gone_outcomes
    count = sum(count for outcome, count in reader.status().counts.items() if outcome in outcomes)
    return count - sum(1 for _ in reader.verification_results()) if remaining else count


def _iter_deleted_items(
    reader: LedgerReader, ids: Iterable[ProfileId], *, unverified_only: bool
) -> Iterator[tuple[int, ProfileId]]:
    """Yield the positions and IDs of these items."""
    verified_positions = (
        (presence.position for presence in reader.verification_results()) if unverified_only else iter(())
    )
    known = next(verified_positions, None)
    outcomes = OPERATIONS[reader.job.operation].gone_outcomes
    for row, profile in reader.rows_with_ids(ids):
        if row.position == known:
            known = next(verified_positions, None)
        elif row.standing in outcomes:
            yield row.position, profile


def _draw_sample(
    candidates: Iterator[tuple[int, ProfileId]], remaining_count: int, sample: int | None, rng: random.Random
) -> Iterator[tuple[int, ProfileId]]:
    """Yield a random sample of `sample` items out of `remaining_count`."""
    wanted = remaining_count if sample is None else min(sample, remaining_count)
    for one in candidates:
        if rng.random() * remaining_count < wanted:
            wanted -= 1
            yield one
        remaining_count -= 1


def _record_positions(items: Iterator[tuple[int, ProfileId]], positions: dict[int, int]) -> Iterator[ProfileId]:
    """Yield the IDs, and store the ledger position of each in `positions`."""
    for number, (position, profile) in enumerate(items):
        positions[number] = position
        yield profile


def _write_presences(store: Store, presences: list[Presence]) -> None:
    with store.transaction():
        store.write_presences(presences)
