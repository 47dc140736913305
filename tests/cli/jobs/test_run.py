import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from adapty_async import AdaptyClient, FixedPacer
from adapty_async.bulk import Outcome, StopReason
from adapty_async.cli.exit_status import CommandError, ExitStatus
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.jobs.job_result import JobResult
from adapty_async.cli.output.progress import OutcomeCounts, ProgressView
from adapty_async.cli.signals import InterruptHandler
from adapty_async.testing import Fault, Simulator
from tests.cli.output.test_progress_screen import REPORT
from tests.cli.runs import run_of
from tests.cli.served import ids_file
from tests.waiting import PATIENCE

CLEAN = OutcomeCounts(1, {Outcome.DELETED: 1})
SOME_FAILED = OutcomeCounts(1, {Outcome.FAILED: 1})


class Screen:
    """A screen with a callback."""

    interval = 60.0

    def __init__(self, on_say: Callable[[], object] = lambda: None) -> None:
        self.messages: list[str] = []
        self._on_say = on_say

    def show(self, view: ProgressView) -> None:
        pass

    def show_message(self, text: str, level: str) -> None:
        self.messages.append(text)
        self._on_say()

    def close(self) -> None:
        pass


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def interrupt_when(condition: Callable[[], bool], signum: signal.Signals = signal.SIGINT) -> None:
    while not condition():  # noqa: ASYNC110 - the simulator has no event to wait for
        await asyncio.sleep(0.001)
    os.kill(os.getpid(), signum)


# The exit status


FAILED, WRONG_KEY, MAX_OUTAGE = SOME_FAILED, StopReason.CREDENTIALS, StopReason.MAX_OUTAGE
LEDGER, CHANGED = CommandError("in use", ExitStatus.LEDGER), CommandError("changed")


@pytest.mark.parametrize(
    ("stopped", "standing", "trouble", "status"),
    [
        (None, CLEAN, None, 0),
        (None, FAILED, None, 1),
        (None, CLEAN, LEDGER, 5),
        (None, FAILED, LEDGER, 5),
        (None, FAILED, CHANGED, 2),
        (StopReason.REQUESTED, CLEAN, None, 130),
        (StopReason.REQUESTED, FAILED, None, 130),
        (StopReason.REQUESTED, FAILED, LEDGER, 5),
        (StopReason.REQUESTED, FAILED, CHANGED, 2),
        (MAX_OUTAGE, CLEAN, None, 3),
        (MAX_OUTAGE, FAILED, None, 3),
        (MAX_OUTAGE, FAILED, LEDGER, 5),
        (StopReason.MAX_ABSENT_RATIO, CLEAN, None, 3),
        (WRONG_KEY, CLEAN, None, 4),
        (WRONG_KEY, FAILED, LEDGER, 4),
        (StopReason.PERMISSION, FAILED, LEDGER, 4),
        (StopReason.PERMISSION, FAILED, CHANGED, 4),
    ],
)
def test_the_exit_status_is_the_first_that_applies(
    stopped: StopReason | None, standing: OutcomeCounts, trouble: CommandError | None, status: int
) -> None:
    assert JobResult(standing, attrs.evolve(REPORT, stop_reason=stopped), trouble).status == status


def test_an_interrupt_hides_no_doubt() -> None:
    ended = JobResult(CLEAN, attrs.evolve(REPORT, stop_reason=StopReason.REQUESTED), None, StopReason.MAX_ABSENT_RATIO)
    assert (ended.status, ended.stop_reason) == (ExitStatus.STOPPED, StopReason.MAX_ABSENT_RATIO)


def test_every_reason_to_stop_is_explained() -> None:
    for stopped in StopReason:
        reason = JobResult(CLEAN, attrs.evolve(REPORT, stop_reason=stopped), None).stop_message
        assert reason is not None
        assert reason.startswith(f"{stopped}: ")
    assert JobResult(CLEAN, REPORT, None).stop_message is None
    assert (
        JobResult(CLEAN, attrs.evolve(REPORT, stop_reason=StopReason.REQUESTED), CommandError("full")).stop_message
        == "full"
    )


# Interrupts


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_first_signal_lets_what_is_under_way_come_to_its_end(tmp_path: Path, signum: signal.Signals) -> None:
    async with (
        Simulator(profiles=300, latency=0.002) as sim,
        AdaptyClient(sim.api_key, base_url=sim.base_url) as client,
    ):
        with (
            open_id_input(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            InterruptHandler() as interrupt_handler,
        ):
            interrupting = asyncio.create_task(interrupt_when(lambda: sim.stats.requests > 20, signum))
            screen = Screen()
            await run.run(screen, interrupt_handler)
            await interrupting
            ended = run.ended()
        assert ended.status is ExitStatus.INTERRUPTED
        assert "Stopping" in screen.messages[0]
        assert sum(ended.outcome_counts.by_outcome.values()) == 300
        assert ended.outcome_counts.by_outcome == Counter(
            deleted=300 - len(sim.profiles), not_attempted=len(sim.profiles)
        )


async def test_what_the_job_has_to_say_is_on_the_screen(tmp_path: Path) -> None:
    async with (
        Simulator(profiles=300, fault_rates={Fault.UNAVAILABLE: 1.0}) as sim,
        AdaptyClient(sim.api_key, base_url=sim.base_url) as client,
    ):
        with (
            open_id_input(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            InterruptHandler() as interrupt_handler,
        ):

            def recover() -> None:
                sim.faults.fault_rates = {}

            screen = Screen(on_say=recover)
            async with asyncio.timeout(PATIENCE):
                await run.run(screen, interrupt_handler)
            assert run.ended().status is ExitStatus.OK
    assert [stated_rows.split(";")[0] for stated_rows in screen.messages] == [
        "the circuit breaker opened: all recent requests failed",
        "the circuit breaker closed: the server works again",
    ]
    assert logging.getLogger("adapty_async").handlers == []


async def test_a_second_signal_aborts_and_what_was_under_way_is_in_doubt(tmp_path: Path) -> None:
    async with Simulator(profiles=300, latency=600) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with (
            open_id_input(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            InterruptHandler() as interrupt_handler,
        ):
            interrupting = asyncio.create_task(interrupt_when(lambda: sim.stats.in_flight == 5))
            async with asyncio.timeout(PATIENCE):
                await run.run(Screen(on_say=interrupt), interrupt_handler)
            await interrupting
            ended = run.ended()
            assert interrupt_handler.is_aborted
    assert ended.status is ExitStatus.INTERRUPTED
    assert ended.outcome_counts.by_outcome == Counter(in_doubt=5, not_attempted=295)


async def test_without_anything_to_stop_a_signal_cancels_the_task() -> None:
    async def command() -> None:
        with InterruptHandler():
            interrupt()
            await asyncio.sleep(60)

    task = asyncio.create_task(command())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancellation_from_elsewhere_passes_through(tmp_path: Path) -> None:
    async with Simulator(latency=600) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with open_id_input(ids_file(tmp_path, 5), by="customer_user_id") as ids, run_of(client, ids) as run:
            running = asyncio.create_task(run.run(Screen(), InterruptHandler()))
            while sim.stats.in_flight < 5:  # noqa: ASYNC110 - the simulator has no event to wait for
                await asyncio.sleep(0.001)
            running.cancel()
            await asyncio.wait([running])
    assert running.cancelled()


# Errors of our own


async def test_an_input_that_changes_stops_the_job_and_its_rows_are_not_attempted(tmp_path: Path) -> None:
    path = ids_file(tmp_path, 30)
    async with Simulator(profiles=30) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with open_id_input(path, by="customer_user_id") as ids, run_of(client, ids) as run:
            with path.open("a") as file:
                file.write("\nsomebody else")
            await run.run(Screen(), InterruptHandler())
            ended = run.ended()
        assert sim.stats.requests == 0
    assert ended.status is ExitStatus.LEDGER
    assert "changed" in (ended.stop_message or "")
    assert ended.outcome_counts.by_outcome == Counter(not_attempted=30)


async def test_an_input_that_changes_after_the_job_has_stopped_is_told(tmp_path: Path) -> None:
    path = ids_file(tmp_path, 30)
    async with Simulator(profiles=30) as sim, AdaptyClient("another", base_url=sim.base_url) as client:
        with open_id_input(path, by="customer_user_id") as ids, run_of(client, ids, concurrency=1) as run:
            await run.run(Screen(), InterruptHandler())
            with path.open("a") as file:
                file.write("\nsomebody else")
            ended = run.ended()
    assert ended.status is ExitStatus.CREDENTIALS
    assert ended.outcome_counts.by_outcome == Counter(failed=1, not_attempted=29)


class BrokenPacer(FixedPacer):
    def delay(self, now: float) -> float:
        raise LookupError("user-000001@example.com")


async def test_a_bug_in_the_middle_is_summed_up_like_any_other_end(tmp_path: Path) -> None:
    async with Simulator(profiles=30) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with (
            open_id_input(ids_file(tmp_path, 30), by="customer_user_id") as ids,
            run_of(client, ids, pacer=BrokenPacer(10)) as run,
        ):
            await run.run(Screen(), InterruptHandler())
            ended = run.ended()
    assert ended.status is ExitStatus.FAILED
    assert "internal error (LookupError in test_run.py" in (ended.stop_message or "")
    assert "@" not in (ended.stop_message or "")
    assert sum(ended.outcome_counts.by_outcome.values()) == 30
