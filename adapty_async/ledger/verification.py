"""Verification: asks Adapty again for the profiles that a job deleted, and records which ones exist.

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
from ..bulk.api import ProfileId
from ..client import AdaptyClient, sender_of
from ..models import Profile
from ..pacing import Pacer
from .chunks import noted
from .errors import LedgerError, LedgerMismatchError
from .files import real
from .last_key import APP_ID
from .reader import LedgerReader
from .session import CHECK_AFTER
from .store import Presence, Store
from .writer import outlasting

T = TypeVar("T")

_GONE: Final = frozenset({Outcome.DELETED, Outcome.DELETED_UNCONFIRMED, Outcome.ALREADY_ABSENT})
_CLEAR: Final = frozenset({Outcome.FETCHED, Outcome.NOT_FOUND})
_ROWS_A_COMMIT: Final = 1000
_COMMIT_AFTER: Final = 1.0
"""Seconds after which new results are written. At a low rate, 1,000 rows would take an hour."""
_ABSENT_IS_NO_FAILURE: Final = StopRules(failure_share=None, absent_share=None)


@attrs.frozen
class Verified:
    """The results of a verification.

    Attributes:
        absent: Profiles that don't exist.
        present: Profiles that exist.
        unknown: Profiles that were requested without a clear result.
        stopped: Why the verification ended early. None if it didn't.
    """

    absent: int
    present: int
    unknown: int
    stopped: StopReason | None


async def verify(
    client: AdaptyClient,
    path: str | os.PathLike[str],
    ids: Iterable[ProfileId],
    *,
    sample: int | None = None,
    rest: bool = False,
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
        rest: Check only profiles for which no verification has a result yet.
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
    ledger = real(path)
    with ThreadPoolExecutor(1, "adapty_async verification") as thread:
        apart = functools.partial(_apart, thread)
        store = await apart(lambda: Store.open(ledger))  # first, so that nothing is sent if it is in use or damaged
        try:
            with LedgerReader(ledger) as reader:
                if reader.job.base_url != client.base_url:
                    raise LedgerMismatchError(
                        f"{ledger} belongs to a job at {reader.job.base_url}: verify it there", "server"
                    )
                if not new_key and sender_of(client).transport.key_fingerprint not in proven_keys(reader):
                    raise LedgerMismatchError(
                        f"{ledger} belongs to a job with another API key: verify it with that key", "key"
                    )
                left = gone(reader, rest=rest)
                due = _drawn(_gone_in(reader, ids, rest=rest), left, sample, rng or random.SystemRandom())
                asked: dict[int, int] = {}
                job = bulk.get_profiles(
                    client,
                    cast("Iterator[str]", _noting(due, asked)),
                    by=reader.job.by,
                    concurrency=concurrency,
                    pacer=pacer,
                    stop=_ABSENT_IS_NO_FAILURE,
                    on_progress=on_progress,
                )
                async with _watched(job, lambda: apart(store.check_files)):
                    counts = await _take_down(job, asked, lambda found: apart(lambda: _write(store, found)))
        finally:
            await apart(store.close)
    return Verified(counts[False], counts[True], job.report.total - counts.total(), job.report.stopped)


async def _take_down(
    job: BulkJob[ProfileId, Profile], asked: dict[int, int], write: Callable[[list[Presence]], Awaitable[None]]
) -> Counter[bool]:
    """Record the results of the job. Return how many profiles are present and absent."""
    found: list[Presence] = []
    counts: Counter[bool] = Counter()
    loop = asyncio.get_running_loop()
    written = loop.time()
    try:
        async with job:
            async for result in job:
                position = asked.pop(result.position)
                if result.outcome in _CLEAR:
                    found.append(Presence(position, noted(time.time()), result.outcome is Outcome.FETCHED))
                    counts[found[-1].present] += 1
                if len(found) == _ROWS_A_COMMIT or loop.time() >= written + _COMMIT_AFTER:
                    await write(found)
                    found = []
                    written = loop.time()
    finally:
        await write(found)
    return counts


@contextlib.asynccontextmanager
async def _watched(job: BulkJob[ProfileId, Profile], check: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Stop the job as soon as a file of the ledger is gone, and raise LedgerError when it has ended."""

    async def watch() -> LedgerError:
        while True:
            await asyncio.sleep(CHECK_AFTER)
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


async def _apart(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Run work that waits for the disk in a thread, and wait until it is done."""
    return await outlasting(asyncio.get_running_loop().run_in_executor(thread, work))


def proven_keys(reader: LedgerReader) -> set[str]:
    """Return the fingerprints of the keys that can find the profiles of a job.

    These are the keys that were shown to belong to its app, or else its last key.
    """
    return {run.key_fingerprint for run in reader.runs if APP_ID in run.notes} or {reader.last_key}


def gone(reader: LedgerReader, *, rest: bool = False) -> int:
    """Return how many items' profiles should be gone after a deletion. `rest` is as in `verify`."""
    count = sum(count for outcome, count in reader.status().counts.items() if outcome in _GONE)
    return count - sum(1 for _ in reader.presences()) if rest else count


def _gone_in(reader: LedgerReader, ids: Iterable[ProfileId], *, rest: bool) -> Iterator[tuple[int, ProfileId]]:
    """Yield the positions and IDs of these items."""
    answered = (found.position for found in reader.presences()) if rest else iter(())
    known = next(answered, None)
    for row, profile in reader.joined(ids):
        if row.position == known:
            known = next(answered, None)
        elif row.standing in _GONE:
            yield row.position, profile


def _drawn(
    everybody: Iterator[tuple[int, ProfileId]], left: int, sample: int | None, rng: random.Random
) -> Iterator[tuple[int, ProfileId]]:
    """Yield a random sample of `sample` items out of `left`."""
    wanted = left if sample is None else min(sample, left)
    for one in everybody:
        if rng.random() * left < wanted:
            wanted -= 1
            yield one
        left -= 1


def _noting(due: Iterator[tuple[int, ProfileId]], asked: dict[int, int]) -> Iterator[ProfileId]:
    """Yield the IDs, and store the ledger position of each in `asked`."""
    for number, (position, profile) in enumerate(due):
        asked[number] = position
        yield profile


def _write(store: Store, found: list[Presence]) -> None:
    with store.transaction():
        store.write_presences(found)
