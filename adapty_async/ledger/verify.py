"""Ask afresh for profiles that a job deleted, and take down which are present: apart from the outcomes, which stay."""

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
from ..bulk.jobs import ProfileId
from ..client import AdaptyClient, sender_of
from ..models import Profile
from ..pacing import Pacer
from .chunks import noted
from .entries import CHECK_AFTER
from .errors import LedgerError, LedgerMismatchError
from .files import real
from .keys import APP_ID
from .reading import LedgerReader
from .store import Presence, Store
from .writer import outlasting

T = TypeVar("T")

_GONE: Final = frozenset({Outcome.DELETED, Outcome.DELETED_UNCONFIRMED, Outcome.ALREADY_ABSENT})
_CLEAR: Final = frozenset({Outcome.FETCHED, Outcome.NOT_FOUND})
_ROWS_A_COMMIT: Final = 1000
_COMMIT_AFTER: Final = 1.0
"""Seconds after which what comes is written with all before it: at a slow pace a thousand rows take an hour."""
_ABSENT_IS_NO_FAILURE: Final = StopRules(failure_share=None, absent_share=None)


@attrs.frozen
class Verified:
    """What a verification found. `unknown`: asked for, without a clear answer. `stopped`: why it ended early."""

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
    """Get each profile that the job of a ledger left absent, and write down in the ledger what comes of it.

    `ids`: the input of the job. `sample`: only so many of them, drawn at random by `rng`. `rest`: of those for whom no
    verification has had an answer yet. `new_key`: the API key of the same app was exchanged; to one of another app
    everybody is absent. Raises LedgerError where the ledger can't be used, or server, key or input are
    others than the job's.
    """
    ledger = real(path)
    with ThreadPoolExecutor(1, "adapty_async verification") as thread:
        apart = functools.partial(_apart, thread)
        store = await apart(lambda: Store.open(ledger))  # in use or damaged: then nothing is asked
        try:
            with LedgerReader(ledger) as reader:
                if reader.job.base_url != client.base_url:
                    raise LedgerMismatchError(
                        f"{ledger} is of a job at {reader.job.base_url}: verify it there", "server"
                    )
                if not new_key and sender_of(client).transport.key_fingerprint not in proven_keys(reader):
                    raise LedgerMismatchError(
                        f"{ledger} is of a job with another API key: verify it with that one", "key"
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
    """Write down what comes of the job; count whether it was present."""
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
    """Stop the job, and raise LedgerError after it, as soon as the ledger isn't where it was."""

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
    """Do what waits for the disk in a thread, to its end."""
    return await outlasting(asyncio.get_running_loop().run_in_executor(thread, work))


def proven_keys(reader: LedgerReader) -> set[str]:
    """Give the fingerprints of the keys to which the people of a job are known: those that were seen to be of its app.

    Where none was, that is the last one.
    """
    return {run.key_fingerprint for run in reader.runs if APP_ID in run.notes} or {reader.last_key}


def gone(reader: LedgerReader, *, rest: bool = False) -> int:
    """Give the number of the items whose profiles a deletion left absent. `rest`: as in `verify`."""
    count = sum(count for outcome, count in reader.status().counts.items() if outcome in _GONE)
    return count - sum(1 for _ in reader.presences()) if rest else count


def _gone_in(reader: LedgerReader, ids: Iterable[ProfileId], *, rest: bool) -> Iterator[tuple[int, ProfileId]]:
    """Give their positions and ids."""
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
    """Draw a sample: of each that is left, with the share of those still wanted."""
    wanted = left if sample is None else min(sample, left)
    for one in everybody:
        if rng.random() * left < wanted:
            wanted -= 1
            yield one
        left -= 1


def _noting(due: Iterator[tuple[int, ProfileId]], asked: dict[int, int]) -> Iterator[ProfileId]:
    """Give the ids, and note which position of the ledger each has."""
    for number, (position, profile) in enumerate(due):
        asked[number] = position
        yield profile


def _write(store: Store, found: list[Presence]) -> None:
    with store.transaction():
        store.write_presences(found)
