"""Jobs that end at any moment, in any way, with any error: nothing is lost or left over; in virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async import UNPACED, AdaptyError, AdaptyTimeoutError, FixedPacer, Response, bulk
from adapty_async.bulk import BulkJob, ItemResult
from adapty_async.pacing import Pacer

from ..leftovers import tasks_left, timers_left
from ..virtual_time import run_virtual
from .scripted import NO_CONTENT, UNAUTHORIZED, error, lost
from .served import LENIENT, Serve, Told, ids, served_client

ANSWERS: dict[str, list[Response | AdaptyError]] = {
    "well": [NO_CONTENT],
    "an outage": [error(503)],
    "resets": [lost(), lost(), lost(), lost(), NO_CONTENT],
    "throttling": [error(429), error(429, retry_after="90"), NO_CONTENT],
    "silence": [AdaptyTimeoutError("no response in time", sent=True)],
    "all of it": [NO_CONTENT, NO_CONTENT, error(503), error(503, retry_after="2"), lost(), error(429), UNAUTHORIZED],
}


def serving(trouble: str, rng: random.Random) -> Serve:
    async def serve(since: float) -> Response | AdaptyError:
        await asyncio.sleep(30 if trouble == "silence" else rng.choice([0, 0.01, 0.1, 0.5, 3]))
        return rng.choice(ANSWERS[trouble])

    return serve


class Source:
    """An input of `count` IDs that is slow at times. It counts the IDs it has handed out."""

    def __init__(self, count: int, rng: random.Random, *, slow: bool) -> None:
        self.taken = 0
        self._count, self._rng, self._slow = count, rng, slow

    async def __aiter__(self) -> AsyncIterator[str]:
        for one in ids(self._count):
            if self._slow and self._rng.random() < 0.1:
                await asyncio.sleep(2 * self._rng.random())
            self.taken += 1
            yield one


async def end(job: BulkJob[Any, None], task: "asyncio.Task[None]", how: str) -> None:
    if how == "stop":
        job.stop()
    elif how == "close":
        await job.aclose()
    else:
        task.cancel()
    began = asyncio.get_running_loop().time()
    await asyncio.wait([task])
    took = asyncio.get_running_loop().time() - began
    assert took <= (30.0 if how == "stop" else 0.0)


@settings(max_examples=150, deadline=None)
@given(
    trouble=st.sampled_from(sorted(ANSWERS)),
    count=st.sampled_from([1, 5, 60, 400]),
    slow=st.booleans(),
    concurrency=st.sampled_from([1, 2, 10, 100]),
    pacer=st.sampled_from([lambda: None, Told, lambda: FixedPacer(50), lambda: FixedPacer(0.2), lambda: UNPACED]),
    how=st.sampled_from(["stop", "close", "cancel"]),
    moment=st.one_of(st.sampled_from([0.0, 0.001, 0.5]), st.floats(0, 5), st.floats(0, 120)),
    seed=st.integers(0, 1000),
)
def test_every_item_that_was_taken_has_one_outcome_and_nothing_is_left(
    trouble: str,
    count: int,
    slow: bool,
    concurrency: int,
    pacer: Callable[[], Pacer | None],
    how: str,
    moment: float,
    seed: int,
) -> None:
    async def test() -> None:
        rng = random.Random(seed)  # noqa: S311 - repeatable
        client, server = served_client(serving(trouble, rng))
        source, shared = Source(count, rng, slow=slow), pacer()
        job = bulk.delete_profiles(
            client, source, by="customer_user_id", concurrency=concurrency, pacer=shared, stop=LENIENT
        )
        results: list[ItemResult[Any, None]] = []

        async def consume() -> None:
            async with job:
                async for result in job:
                    results.append(result)  # noqa: PERF401 - the results before the end are needed

        task = asyncio.ensure_future(consume())
        await asyncio.sleep(moment)
        await end(job, task, how)
        assert job.report.total == source.taken
        assert len({result.position for result in results}) == len(results)
        assert how != "stop" or len(results) == source.taken
        assert server.under_way == 0
        assert timers_left() == []
        assert tasks_left() == []
        assert not isinstance(shared, Told) or not shared.untold
        async with asyncio.timeout(3600):  # a shared pacer of the client isn't blocked
            await bulk.delete_profiles(client, ids(1), by="customer_user_id", pacer=shared, stop=LENIENT)

    run_virtual(test())
