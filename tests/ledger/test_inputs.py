"""Inputs that are slow or fail: the items read so far are done, and the next run does the rest."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome, SkippedItem
from adapty_async.bulk.operations import ProfileId
from adapty_async.ledger import InputChangedError, Ledger, LedgerReader, LedgerWriteError, session
from adapty_async.ledger.item_reader import InputReader
from adapty_async.testing import Simulator

from ..full_disk import full_disk
from ..leftovers import tasks_left
from ..virtual_time import virtual
from ..waiting import PATIENCE, until
from .helpers import NO_RULES, ids, totals


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(profiles=3000) as running:
        yield running


def deletion(client: AdaptyClient, items: Any, path: Path, **terms: Any) -> bulk.BulkJob[ProfileId, None]:
    return bulk.delete_profiles(
        client,
        items,
        by="customer_user_id",
        pacer=UNPACED,
        concurrency=20,
        stop=NO_RULES,
        ledger=Ledger(path, **terms),
    )


# Thousands of items. Coverage makes this three times slower, and smaller jobs run the same lines.
many_times_the_same = pytest.mark.no_cover


class Slow:
    """An input with some IDs available at once, and the rest when `let_go` is set."""

    def __init__(self, at_once: int, rest: int = 0) -> None:
        self._at_once = at_once
        self._rest = rest
        self.let_go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        for who in ids(self._at_once):
            yield who
        await self.let_go.wait()
        for who in ids(self._rest, start=self._at_once + 1):
            yield who


class TestASlowInput:
    @pytest.mark.parametrize(
        ("at_once", "rest"),
        [
            (1, 0),
            (7, 1000),
            *(pytest.param(*each, marks=many_times_the_same) for each in [(999, 1), (1000, 0), (1001, 9)]),
        ],
    )
    async def test_what_has_come_of_it_is_done(
        self, simulator: Simulator, client: AdaptyClient, path: Path, at_once: int, rest: int
    ) -> None:
        items = Slow(at_once, rest)
        job = deletion(client, items, path)
        running = asyncio.ensure_future(job)
        await until(lambda: job.report.counts == {Outcome.DELETED: at_once})
        assert totals(path) == {Outcome.DELETED: at_once}
        items.let_go.set()
        assert (await running).counts == totals(path) == {Outcome.DELETED: at_once + rest}
        assert simulator.stats.requests == at_once + rest
        with LedgerReader(path) as reader:
            assert reader.job.items == at_once + rest

    @many_times_the_same
    @pytest.mark.parametrize(("first", "second"), [(7, 7), (7, 300), (300, 7), (999, 1200), (1200, 1000)])
    async def test_where_it_was_left_the_next_run_goes_on(
        self, simulator: Simulator, client: AdaptyClient, path: Path, first: int, second: int
    ) -> None:
        async with deletion(client, Slow(first), path) as job:
            run = asyncio.ensure_future(job)
            await until(lambda: job.report.counts == {Outcome.DELETED: first})
        await asyncio.wait([run])
        items = Slow(second, 1300 - second)
        again = asyncio.ensure_future(deletion(client, items, path))
        if second >= first:  # the stored items of a chunk are compared together
            await until(lambda: simulator.stats.count_responses(204) == second)
        items.let_go.set()
        await again
        assert totals(path) == {Outcome.DELETED: 1300}
        assert tasks_left() == []

    async def test_one_that_is_shorter_than_it_was_is_refused(
        self, simulator: Simulator, client: AdaptyClient, path: Path
    ) -> None:
        async with deletion(client, Slow(300), path) as job:
            run = asyncio.ensure_future(job)
            await until(lambda: job.report.counts == {Outcome.DELETED: 300})
        await asyncio.wait([run])
        with pytest.raises(InputChangedError, match="ends after row 200"):
            await deletion(client, ids(200), path)

    @many_times_the_same
    @pytest.mark.parametrize("seed", range(5))
    async def test_by_fits_and_starts_with_cancellations_nothing_is_lost_or_sent_twice(
        self, simulator: Simulator, client: AdaptyClient, path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        monkeypatch.setattr(session, "_MAX_READ_SECONDS", 0.0)  # every pause of the input counts as long
        rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        count = rng.choice([50, 999, 1000, 1001, 2600])

        async def people() -> AsyncIterator[str | SkippedItem[str]]:
            rest = rng.choice([1, 30, 400])
            for number, who in enumerate(ids(count)):
                yield SkippedItem(who, Outcome.INVALID) if number % 50 == 3 else who
                if rng.random() < 1 / rest:
                    await asyncio.sleep(0)

        simulator.latency = 0.002
        while True:
            job = asyncio.ensure_future(deletion(client, people(), path))
            cancel_at = simulator.stats.requests + rng.choice([0, 1, 10, 100, 500])
            await until(lambda job=job, most=cancel_at: job.done() or simulator.stats.requests >= most)  # type: ignore[misc]
            if job.done():
                break
            job.cancel()
            await asyncio.wait([job])
        assert tasks_left() == []
        await job
        known = totals(path)
        invalid = len(range(3, count, 50))
        assert known.keys() <= {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED, Outcome.INVALID}
        assert (known[Outcome.INVALID], sum(known.values())) == (invalid, count)
        assert len(simulator.profiles) == 3000 - count + invalid


class TestAnInputThatFails:
    @many_times_the_same
    @pytest.mark.parametrize("count", [0, 7, 1000, 1200])
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_what_came_before_is_done_and_the_next_run_does_the_rest(
        self, simulator: Simulator, client: AdaptyClient, path: Path, count: int, *, is_async: bool
    ) -> None:
        def people() -> Iterator[str]:
            yield from ids(count)
            raise LookupError("no more")

        async def people_later() -> AsyncIterator[str]:
            for who in people():
                yield who

        for _ in range(2):
            with pytest.raises(LookupError):
                await deletion(client, people_later() if is_async else people(), path)
            assert simulator.stats.requests == count
        assert tasks_left() == []
        await deletion(client, ids(1300), path)
        assert totals(path) == {Outcome.DELETED: 1300}
        assert simulator.stats.requests == 1300

    @many_times_the_same
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_after_what_is_done_already_it_is_alike(
        self, simulator: Simulator, client: AdaptyClient, path: Path, *, is_async: bool
    ) -> None:
        def people() -> Iterator[str]:
            yield from ids(3000)
            raise LookupError("no more")

        async def people_later() -> AsyncIterator[str]:
            for who in people():
                yield who

        await deletion(client, ids(1000), path)
        with pytest.raises(LookupError):
            await deletion(client, people_later() if is_async else people(), path, appended=True)
        assert totals(path) == {Outcome.DELETED: 3000}

    async def test_by_no_usual_exception_it_has_not_come_to_its_end(self, client: AdaptyClient, path: Path) -> None:
        class Odd(BaseException):
            pass

        async def people() -> AsyncIterator[str]:
            for who in ids(5):
                yield who
            raise Odd

        with pytest.raises(BaseExceptionGroup) as caught:
            await deletion(client, people(), path)
        assert caught.group_contains(Odd)
        with LedgerReader(path) as reader:
            assert reader.job.items is None

    async def test_before_what_is_known_was_compared_nothing_is_sent(
        self, simulator: Simulator, client: AdaptyClient, path: Path
    ) -> None:
        def people() -> Iterator[str]:
            yield from ids(200)
            raise LookupError("no more")

        await deletion(client, ids(500), path)
        with pytest.raises(LookupError):
            await deletion(client, people(), path, retry=[Outcome.FAILED])
        assert totals(path) == {Outcome.DELETED: 500}

    async def test_what_it_waited_for_may_be_cancelled(self, client: AdaptyClient, path: Path) -> None:
        async def people() -> AsyncIterator[str]:
            for who in ids(3):
                yield who
            raise asyncio.CancelledError

        with pytest.raises(RuntimeError, match="a task that the input waited for was cancelled"):
            await deletion(client, people(), path)
        assert totals(path) == {Outcome.DELETED: 3}


class TestADiskThatFails:
    async def test_while_the_input_is_waited_for_the_job_ends(
        self, simulator: Simulator, client: AdaptyClient, path: Path
    ) -> None:
        job = asyncio.ensure_future(deletion(client, Slow(30), path, live_status=dict))
        await until(lambda: simulator.stats.count_responses(204) == 30)
        with full_disk(0), pytest.raises(LedgerWriteError, match="make room"):
            async with asyncio.timeout(PATIENCE):
                await job
        assert tasks_left() == []

    async def test_while_it_is_paused_the_job_ends(
        self, simulator: Simulator, client: AdaptyClient, path: Path
    ) -> None:
        job = deletion(client, ids(3000), path, live_status=dict)
        simulator.latency = 0.01
        running = asyncio.ensure_future(job)
        await until(lambda: simulator.stats.count_responses(204) >= 40)
        job.pause()
        with full_disk(0), pytest.raises(LedgerWriteError, match="make room"):
            async with asyncio.timeout(PATIENCE):
                await running
        assert job.report.counts[Outcome.DELETED] == totals(path)[Outcome.DELETED]
        assert tasks_left() == []


def after(*pauses: float) -> Iterator[int]:
    """Count, with a pause of some seconds before each number."""
    loop: Any = asyncio.get_running_loop()
    for number, pause in enumerate(pauses):
        loop.jump(pause)
        yield number


async def later(*pauses: float) -> AsyncIterator[int]:
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        yield number


class Both:
    """An input that is both iterable and async iterable. It is read asynchronously."""

    def __init__(self) -> None:
        self._later = later(0.0, 0.0, 0.0)

    def __aiter__(self) -> "Both":
        return self

    async def __anext__(self) -> int:
        return await anext(self._later)

    def __iter__(self) -> "Both":
        return self

    def __next__(self) -> int:
        raise AssertionError


class TestTheFeed:
    @virtual
    async def test_what_can_be_awaited_is(self) -> None:
        feed = InputReader[int](Both())
        now = asyncio.get_running_loop().time
        assert await feed.read(4, 1, deadline=now() + 1.0, wait_for_min=True) == [0, 1, 2]
        assert feed.has_ended

    @pytest.mark.parametrize("source", [after, later])
    @virtual
    async def test_in_time_it_gives_all_that_is_asked_for(self, source: Callable[..., Any]) -> None:
        feed = InputReader[int](source(*[0.001] * 30))
        now = asyncio.get_running_loop().time
        assert await feed.read(20, 1, deadline=now() + 1.0, wait_for_min=True) == list(range(20))
        assert not feed.has_ended
        assert await feed.read(20, 1, deadline=now() + 1.0, wait_for_min=True) == list(range(20, 30))
        assert feed.has_ended

    @pytest.mark.parametrize("source", [after, later])
    @virtual
    async def test_of_a_slow_one_it_gives_what_there_is_and_waits_for_the_least(
        self, source: Callable[..., Any]
    ) -> None:
        feed = InputReader[int](source(*[0.0] * 8, *[1.0] * 24))
        now = asyncio.get_running_loop().time
        assert (await feed.read(32, 1, deadline=now() + 0.5, wait_for_min=True))[:8] == list(range(8))
        before = now()
        rest = await feed.read(24, 10, deadline=now() + 0.5, wait_for_min=True)
        assert len(rest) >= 10
        assert 8.0 <= now() - before <= 16.5
        await feed.close()

    @virtual
    async def test_who_waits_for_the_least_waits_no_longer(self) -> None:
        feed = InputReader[int](later(1.0, 1.0, 1.0, 1.0))
        now = asyncio.get_running_loop().time
        began = now()
        assert await feed.read(4, 2, deadline=began + 0.5, wait_for_min=True) == [0, 1]
        assert now() - began == pytest.approx(2.0)
        assert await feed.read(4, 1, deadline=began + 9.0, wait_for_min=True) == [2, 3]

    @virtual
    async def test_who_isnt_patient_gets_nothing_rather_than_less_than_the_least(self) -> None:
        feed = InputReader[int](later(0.0, 0.0, 1.0))
        now = asyncio.get_running_loop().time
        assert await feed.read(3, 3, deadline=now() + 0.5, wait_for_min=False) == []
        assert await feed.read(3, 3, deadline=now(), wait_for_min=True) == [0, 1, 2]

    @virtual
    async def test_an_error_that_comes_in_the_moment_of_the_pause_is_no_end(self) -> None:
        async def failing() -> AsyncIterator[int]:
            yield 0
            await asyncio.sleep(0.5 - 5e-10)  # in the same round of the loop as the end of the wait, and before it
            raise LookupError

        feed = InputReader[int](failing())
        with pytest.raises(LookupError):
            await feed.read(9, 2, deadline=asyncio.get_running_loop().time() + 0.5, wait_for_min=True)
        assert not feed.has_ended

    @virtual
    async def test_closed_it_leaves_nothing_running(self) -> None:
        feed = InputReader[int](later(0.0, 3600.0))
        assert await feed.read(2, 1, deadline=asyncio.get_running_loop().time(), wait_for_min=True) == [0]
        await feed.close()
        assert tasks_left() == []
