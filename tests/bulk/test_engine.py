"""The engine with operations in memory."""

import asyncio
import contextlib
import gc
import itertools
import logging
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from adapty_async import (
    AdaptyTimeoutError,
    AuthenticationError,
    LocalRateLimitError,
    PermissionDeniedError,
    RateLimitError,
    bulk,
)
from adapty_async.bulk import BulkJob, BulkReport, Outcome, StopReason, StopRules
from tests.waiting import PATIENCE

from .scripted import report_of_a_free_loop

ANY_FAILURES = StopRules(max_failure_ratio=None)


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


class Gauge:
    """An operation that counts how many of it run at once, and blocks them until released."""

    def __init__(self, *, held: bool = False) -> None:
        self.running = self.most = self.started = self.cancelled = 0
        self._open = asyncio.Event()
        if not held:
            self._open.set()

    def release(self) -> None:
        self._open.set()

    async def __call__(self, item: object) -> None:
        self.running += 1
        self.started += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def _until(condition: Callable[[], bool], *, turns: int = 1000) -> None:
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")


async def _collect(job: bulk.BulkJob[int, int], values: list[int | None]) -> None:
    async for result in job:
        values.append(result.value)  # noqa: PERF401 - the results before an error are needed


def _others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_awaited_it_gives_a_report_with_an_outcome_for_every_item() -> None:
    report = await bulk.run(_double, range(1000), concurrency=7)
    assert report.counts == {Outcome.SUCCEEDED: 1000}
    assert report.input_exhausted
    assert report.stop_reason is None
    assert report.started is not None
    assert report.finished is not None
    assert report.started <= report.finished


async def test_iterated_it_gives_every_result_with_its_item_position_and_value() -> None:
    job = bulk.run(_double, (number * 10 for number in range(100)), concurrency=7)
    results = [result async for result in job]
    assert sorted((result.position, result.item, result.value) for result in results) == [
        (position, position * 10, position * 20) for position in range(100)
    ]
    assert job.report.counts == {Outcome.SUCCEEDED: 100}


async def test_it_takes_an_async_iterable() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            await asyncio.sleep(0)
            yield number

    results = [result.value async for result in bulk.run(_double, numbers(), concurrency=5)]
    assert sorted(value for value in results if value is not None) == [2 * number for number in range(100)]


async def test_an_empty_input_is_a_report_of_nothing() -> None:
    report = await bulk.run(_double, [])
    assert report.total == 0
    assert report.input_exhausted
    async for _ in bulk.run(_double, []):
        pytest.fail("a result of nothing")


async def test_an_operation_that_sent_nothing_for_the_rate_limit_fails_and_is_no_request_of_the_jobs() -> None:
    async def operation(number: int) -> None:
        if number == 1:
            raise LocalRateLimitError("too long a wait", retry_after=60.0)
        if number == 2:
            raise RateLimitError("rejected", status=429)

    report = await bulk.run(operation, range(3), stop=ANY_FAILURES)
    assert report.counts == {Outcome.SUCCEEDED: 1, Outcome.FAILED: 2}
    assert (report.requests, report.retries, report.throttled) == (2, 0, 1)


async def test_nothing_starts_before_the_first_await_or_iteration() -> None:
    taken = []
    job = bulk.run(_double, (taken.append(number) or number for number in range(3)))  # type: ignore[func-returns-value]
    await asyncio.sleep(0)
    assert taken == []
    assert job.report.started is None
    await job
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("concurrency", [1, 2, 13])
async def test_no_more_than_concurrency_operations_run_at_one_time(concurrency: int) -> None:
    gauge = Gauge()
    await bulk.run(gauge, range(200), concurrency=concurrency)
    assert gauge.most == concurrency


async def test_the_input_is_read_no_further_than_the_work_goes() -> None:
    gauge = Gauge(held=True)
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with bulk.run(gauge, endless(), concurrency=5) as job:
        task = asyncio.ensure_future(job)
        await _until(lambda: gauge.running == 5)
        await asyncio.sleep(0)
        assert taken == 5
        job.stop()
        gauge.release()
        report = await task
    assert report.counts == {Outcome.SUCCEEDED: 5}
    assert not report.input_exhausted


async def test_a_slow_reader_holds_the_job_back() -> None:
    gauge = Gauge()
    job = bulk.run(gauge, range(1000), concurrency=3)
    async with job:
        async for _ in job:
            for _ in range(50):
                await asyncio.sleep(0)
            break
        assert gauge.started <= 1 + 3 + 2 * 3


async def test_memory_does_not_grow_with_the_items() -> None:
    async def operation(item: str) -> str:
        return item

    async def peak(items: int) -> int:
        gc.collect()
        tracemalloc.start()
        await bulk.run(operation, (f"person-{number}@example.com" for number in range(items)), concurrency=50)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small = await peak(1_000)
    assert await peak(20_000) < small + 100_000


@pytest.mark.parametrize("how", ["break", "raise", "aclose", "async with", "cancel"])
async def test_leaving_early_leaves_nothing_running(how: str) -> None:
    gauge = Gauge(held=True)

    async def operation(item: int) -> None:
        if item:
            await gauge(item)

    async def leave() -> None:
        job = bulk.run(operation, range(1000), concurrency=10)
        if how == "async with":
            async with job:
                async for _ in job:
                    await _until(lambda: gauge.running == 10)
                    return
        async for _ in job:
            await _until(lambda: gauge.running == 10)
            if how == "break":
                break
            if how == "raise":
                raise LookupError
            if how == "aclose":
                await job.aclose()
                return
            leaver = asyncio.current_task()
            assert leaver is not None
            leaver.cancel()
            await asyncio.sleep(0)

    task = asyncio.ensure_future(leave())
    with contextlib.suppress(LookupError, asyncio.CancelledError):
        await task
    del task
    await _until(lambda: not _others())
    assert gauge.running == 0
    assert gauge.cancelled == 10


async def test_a_cancelled_job_says_of_what_was_under_way_that_it_is_in_doubt() -> None:
    gauge = Gauge(held=True)
    job = bulk.run(gauge, range(1000), concurrency=4)
    task = asyncio.ensure_future(job)
    await _until(lambda: gauge.running == 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert job.report.counts == {Outcome.IN_DOUBT: 4}
    assert job.report.finished is not None
    assert not _others()


async def test_who_awaits_a_job_that_another_closes_gets_its_report() -> None:
    gauge = Gauge(held=True)
    job = bulk.run(gauge, range(1000), concurrency=4)
    task = asyncio.ensure_future(job)
    await _until(lambda: gauge.running == 4)
    await job.aclose()
    report = await task
    assert report.stop_reason is StopReason.REQUESTED
    await job.aclose()


async def test_stop_lets_what_is_under_way_come_to_its_end() -> None:
    gauge = Gauge(held=True)
    job = bulk.run(gauge, range(1000), concurrency=4)
    task = asyncio.ensure_future(job)
    await _until(lambda: gauge.running == 4)
    job.stop()
    gauge.release()
    report = await task
    assert report.counts == {Outcome.SUCCEEDED: 4}
    assert report.stop_reason is StopReason.REQUESTED
    assert not report.input_exhausted


async def test_a_job_stopped_before_it_starts_does_nothing() -> None:
    gauge = Gauge()
    job = bulk.run(gauge, range(10))
    job.stop()
    assert (await job).total == 0
    assert gauge.started == 0


async def test_stop_does_not_wait_for_an_input_that_never_comes() -> None:
    async def one_and_no_more() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    job = bulk.run(_double, one_and_no_more(), concurrency=3)
    task = asyncio.ensure_future(job)
    await _until(lambda: job.report.total == 1)
    job.stop()
    async with asyncio.timeout(PATIENCE):
        report = await task
    assert report.counts == {Outcome.SUCCEEDED: 1}
    assert not _others()


async def test_an_item_that_waits_for_a_slow_input_does_not_hold_others_up() -> None:
    arrived = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await arrived.wait()
        yield 2

    values = []
    job = bulk.run(_double, slow(), concurrency=3)
    async for result in job:
        values.append(result.value)
        arrived.set()
    assert values == [2, 4]


async def test_one_items_failure_cancels_nothing() -> None:
    async def operation(number: int) -> int:
        if number % 2:
            raise LookupError
        return number

    results = [result async for result in bulk.run(operation, range(100), stop=ANY_FAILURES)]
    assert Counter(result.outcome for result in results) == {Outcome.SUCCEEDED: 50, Outcome.FAILED: 50}
    assert all(isinstance(result.error, LookupError) == bool(result.item % 2) for result in results)


async def test_an_operation_of_unknown_fate_is_in_doubt() -> None:
    async def operation(number: int) -> None:
        raise AdaptyTimeoutError(sent=number > 0)

    results = [result async for result in bulk.run(operation, [0, 1], concurrency=1)]
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.IN_DOUBT]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AuthenticationError(status=401), StopReason.CREDENTIALS),
        (PermissionDeniedError(status=403), StopReason.PERMISSION),
    ],
)
async def test_refused_credentials_stop_the_job(error: Exception, reason: StopReason) -> None:
    async def operation(number: int) -> None:
        raise error

    report = await bulk.run(operation, range(1000), concurrency=5)
    assert report.stop_reason is reason
    assert report.total <= 5


async def test_a_bug_in_the_operation_ends_the_job_and_comes_out_as_it_is() -> None:
    async def operation(number: int) -> None:
        await asyncio.sleep(0)
        if number == 3:
            raise ValueError("a bug")
        await asyncio.Event().wait()

    job = bulk.run(operation, range(1000), concurrency=5)
    with pytest.raises(ValueError, match="a bug"):
        await job
    assert job.report.counts == {Outcome.IN_DOUBT: 5}
    assert not _others()


async def test_a_bug_comes_out_of_the_iteration_too() -> None:
    async def operation(number: int) -> int:
        if number == 3:
            raise TypeError("a bug")
        return number

    values: list[int | None] = []
    with pytest.raises(TypeError, match="a bug"):
        await _collect(bulk.run(operation, range(1000), concurrency=1), values)
    assert values == [0, 1, 2]


async def test_an_input_that_breaks_loses_nothing_that_was_under_way() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file is gone")

    values: list[int | None] = []
    job = bulk.run(_double, broken(), concurrency=10)
    with pytest.raises(OSError, match="the file is gone"):
        await _collect(job, values)
    assert set(values) == {0, 2, 4, 6, 8}
    assert not job.report.input_exhausted


async def test_the_stop_rules_are_judged_while_it_runs() -> None:
    async def operation(number: int) -> None:
        raise LookupError

    report = await bulk.run(operation, range(100_000), concurrency=10)
    assert report.stop_reason is StopReason.MAX_FAILURE_RATIO
    assert 100 <= report.total <= 110


async def test_the_stop_rules_are_judged_once_more_at_the_end() -> None:
    async def operation(number: int) -> None:
        raise LookupError

    report = await bulk.run(operation, range(10))
    assert report.stop_reason is StopReason.MAX_FAILURE_RATIO
    assert report.input_exhausted
    assert (await bulk.run(operation, range(9))).stop_reason is None


async def test_progress_is_told_at_the_end_and_not_for_every_item() -> None:
    seen: list[BulkReport] = []
    await bulk.run(_double, range(5000), on_progress=seen.append)
    assert seen[-1].total == 5000
    assert seen[-1].finished is not None
    assert len(seen) < 500


async def test_progress_that_raises_does_not_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    def broken(report: BulkReport) -> None:
        raise LookupError("person@example.com")

    report = await bulk.run(_double, range(5), on_progress=broken)
    assert report.total == 5
    assert set(caplog.record_tuples) == {("adapty_async", logging.ERROR, "on_progress raised LookupError")}
    assert "person" not in caplog.text


@pytest.mark.parametrize("concurrency", [1, 100])
async def test_operations_that_never_wait_leave_the_loop_free(concurrency: int) -> None:
    async def operation(number: int) -> int:
        return number

    await report_of_a_free_loop(bulk.run(operation, range(20_000), concurrency=concurrency))


@pytest.mark.parametrize("concurrency", [1, 100, 1000])
async def test_a_breath_is_as_long_for_many_runners_as_for_one(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: next(looks) * 1e-4)
    done = last = most = rounds = 0

    async def tick() -> None:
        nonlocal last, most, rounds
        while True:
            rounds += 1
            most, last = max(most, done - last), done
            await asyncio.sleep(0)

    async def operation(_: int) -> None:
        nonlocal done
        done += 1

    ticking = asyncio.ensure_future(tick())
    await bulk.run(operation, range(20_000), concurrency=concurrency)
    ticking.cancel()
    assert most <= 50 + concurrency
    assert rounds <= 20_000 / 10 + 10


async def _awaiting_what_was_cancelled() -> None:
    other = asyncio.ensure_future(asyncio.sleep(9))
    other.cancel()
    await other


async def test_an_operation_that_awaits_what_was_cancelled_is_in_doubt_and_ends_nothing() -> None:
    async def operation(number: int) -> int:
        if number in (3, 7):
            await _awaiting_what_was_cancelled()
        return number

    report = await bulk.run(operation, range(1000), concurrency=2)
    assert report.counts == {Outcome.SUCCEEDED: 998, Outcome.IN_DOUBT: 2}
    assert report.input_exhausted


async def test_an_input_that_awaits_what_was_cancelled_is_not_taken_for_its_end() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(1000):
            if number == 10:
                await _awaiting_what_was_cancelled()
            yield number

    job = bulk.run(_double, numbers(), concurrency=4)
    with pytest.raises(RuntimeError, match="input"):
        await job
    assert job.report.counts == {Outcome.SUCCEEDED: 10}
    assert not job.report.input_exhausted
    assert job.report.stop_reason is None


async def test_a_runner_never_ends_unnoticed() -> None:
    class Broken:
        def open(self, scheduler: object, stats: object) -> None:
            pass

        async def attempt(self, work: object) -> None:
            await _awaiting_what_was_cancelled()

        def handle_doubtful_response(self, work: object) -> Outcome:
            raise NotImplementedError

        def close(self) -> None:
            pass

    job = BulkJob[int, None](Broken(), range(5), concurrency=2, stop=StopRules(), on_progress=None)
    with pytest.raises(RuntimeError, match="cancelled"):
        await job


async def test_a_job_closed_before_it_starts_does_nothing() -> None:
    gauge = Gauge()
    async with bulk.run(gauge, range(10)) as job:
        pass
    report = await job
    assert report.total == gauge.started == 0
    assert report.stop_reason is StopReason.REQUESTED


async def test_a_stop_after_the_end_changes_nothing() -> None:
    def stop_at_last(report: BulkReport) -> None:
        if report.finished:
            job.stop()

    job = bulk.run(_double, range(10), on_progress=stop_at_last)
    report = await job
    job.stop()
    await job.aclose()
    assert report.stop_reason is job.report.stop_reason is None


async def test_a_job_closed_by_force_leaves_its_error_to_no_log(caplog: pytest.LogCaptureFixture) -> None:
    started = asyncio.Event()

    async def operation(item: str) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError(item) from None

    async with bulk.run(operation, ["ada@example.com"]) as job:
        task = asyncio.ensure_future(anext(aiter(job)))
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ValueError):
            await task
    job = bulk.run(operation, ["ada@example.com"])
    started.clear()
    waiting = asyncio.ensure_future(job)
    await started.wait()
    await job.aclose()
    with contextlib.suppress(ValueError):
        await waiting
    del job, waiting, task
    gc.collect()
    assert "ada" not in caplog.text


async def test_a_stream_left_after_its_job_failed_leaves_its_error_to_no_log(caplog: pytest.LogCaptureFixture) -> None:
    def people() -> Iterator[int]:
        yield from range(3)
        raise ValueError("ada@example.com")

    async def leave_when_it_failed() -> None:
        async with bulk.run(_double, people(), concurrency=10) as job:
            async for _ in job:
                await _until(lambda: "finished" in repr(job))
                break

    await leave_when_it_failed()
    gc.collect()
    assert "ada" not in caplog.text


@pytest.mark.parametrize("setting", [{"stop": None}, {"on_progress": 4}])
def test_a_setting_of_the_wrong_kind_is_refused_at_once(setting: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(setting))):
        bulk.run(_double, [], **setting)  # type: ignore[arg-type]  # this is the test


async def test_a_job_is_iterated_once_and_before_it_is_awaited() -> None:
    job = bulk.run(_double, range(3))
    await job
    with pytest.raises(RuntimeError, match="already started"):
        async for _ in job:
            pass
    assert (await job).total == 3


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_below_1_is_refused(concurrency: int) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        bulk.run(_double, [], concurrency=concurrency)


@pytest.mark.parametrize("concurrency", ["3", 2.0, True])
def test_a_concurrency_that_is_no_int_is_refused(concurrency: object) -> None:
    with pytest.raises(TypeError, match=f"^concurrency must be an int, not {type(concurrency).__name__}$"):
        bulk.run(_double, [], concurrency=concurrency)  # type: ignore[arg-type]  # this is the test


@pytest.mark.parametrize("items", ["person@example.com", b"x", 5, None])
def test_an_input_that_is_no_iterable_of_items_is_refused(items: object) -> None:
    with pytest.raises(TypeError, match="items must be an iterable"):
        bulk.run(_double, items)  # type: ignore[call-overload,arg-type,unused-ignore]  # this is the test


async def test_a_job_shows_its_state_and_no_item_and_its_task_its_name() -> None:
    async def operation(number: int) -> None:
        shown.append(repr(job))
        assert "adapty_async bulk job" in {task.get_name() for task in asyncio.all_tasks()}

    shown: list[str] = []
    job = bulk.run(operation, [7])
    shown.append(repr(job))
    assert (await job).counts == {Outcome.SUCCEEDED: 1}
    shown.append(repr(job))
    assert shown == [
        "<BulkJob not started, 0 items>",
        "<BulkJob running, 0 items>",
        "<BulkJob finished, 1 items>",
    ]


async def test_shares_are_judged_by_the_very_item_that_makes_them_enough() -> None:
    async def call(number: int) -> None:
        if number < 21:
            raise AdaptyTimeoutError(sent=False)

    report = await bulk.run(call, range(1000), concurrency=1)
    assert report.stop_reason is StopReason.MAX_FAILURE_RATIO
    assert (report.counts[Outcome.FAILED], report.counts[Outcome.SUCCEEDED]) == (21, 79)
