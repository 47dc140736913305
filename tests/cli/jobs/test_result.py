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
from adapty_async.cli.exit_codes import CommandError, ExitStatus
from adapty_async.cli.inputs.ids import open_ids
from adapty_async.cli.jobs.result import Ended
from adapty_async.cli.output.progress import Standing, View
from adapty_async.cli.signals import Interrupts
from adapty_async.testing import Fault, Simulator
from tests.cli.output.test_screen import REPORT
from tests.cli.runs import run_of
from tests.cli.served import ids_file
from tests.waiting import PATIENCE

CLEAN = Standing(1, {Outcome.DELETED: 1})
SOME_FAILED = Standing(1, {Outcome.FAILED: 1})


class Screen:
    """A screen with a callback."""

    interval = 60.0

    def __init__(self, on_say: Callable[[], object] = lambda: None) -> None:
        self.said: list[str] = []
        self._on_say = on_say

    def show(self, view: View) -> None:
        pass

    def say(self, text: str, level: str) -> None:
        self.said.append(text)
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


FAILED, WRONG_KEY, OUTAGE = SOME_FAILED, StopReason.CREDENTIALS, StopReason.OUTAGE
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
        (OUTAGE, CLEAN, None, 3),
        (OUTAGE, FAILED, None, 3),
        (OUTAGE, FAILED, LEDGER, 5),
        (StopReason.ABSENT_SHARE, CLEAN, None, 3),
        (WRONG_KEY, CLEAN, None, 4),
        (WRONG_KEY, FAILED, LEDGER, 4),
        (StopReason.PERMISSION, FAILED, LEDGER, 4),
        (StopReason.PERMISSION, FAILED, CHANGED, 4),
    ],
)
def test_the_exit_status_is_the_first_that_applies(
    stopped: StopReason | None, standing: Standing, trouble: CommandError | None, status: int
) -> None:
    assert Ended(standing, attrs.evolve(REPORT, stopped=stopped), trouble).status == status


def test_an_interrupt_hides_no_doubt() -> None:
    ended = Ended(CLEAN, attrs.evolve(REPORT, stopped=StopReason.REQUESTED), None, StopReason.ABSENT_SHARE)
    assert (ended.status, ended.stopped) == (ExitStatus.STOPPED, StopReason.ABSENT_SHARE)


def test_every_reason_to_stop_is_explained() -> None:
    for stopped in StopReason:
        reason = Ended(CLEAN, attrs.evolve(REPORT, stopped=stopped), None).reason
        assert reason is not None
        assert reason.startswith(f"{stopped}: ")
    assert Ended(CLEAN, REPORT, None).reason is None
    assert Ended(CLEAN, attrs.evolve(REPORT, stopped=StopReason.REQUESTED), CommandError("full")).reason == "full"


# Interrupts


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_first_signal_lets_what_is_under_way_come_to_its_end(tmp_path: Path, signum: signal.Signals) -> None:
    async with (
        Simulator(profiles=300, latency=0.002) as sim,
        AdaptyClient(sim.api_key, base_url=sim.base_url) as client,
    ):
        with (
            open_ids(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            Interrupts() as interrupts,
        ):
            interrupting = asyncio.create_task(interrupt_when(lambda: sim.count.requests > 20, signum))
            screen = Screen()
            await run.run(screen, interrupts)
            await interrupting
            ended = run.ended()
        assert ended.status is ExitStatus.INTERRUPTED
        assert "Stopping" in screen.said[0]
        assert sum(ended.standing.counts.values()) == 300
        assert ended.standing.counts == Counter(deleted=300 - len(sim.profiles), not_attempted=len(sim.profiles))


async def test_what_the_job_has_to_say_is_on_the_screen(tmp_path: Path) -> None:
    async with (
        Simulator(profiles=300, shares={Fault.UNAVAILABLE: 1.0}) as sim,
        AdaptyClient(sim.api_key, base_url=sim.base_url) as client,
    ):
        with (
            open_ids(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            Interrupts() as interrupts,
        ):

            def recover() -> None:
                sim.faults.shares = {}

            screen = Screen(on_say=recover)
            async with asyncio.timeout(PATIENCE):
                await run.run(screen, interrupts)
            assert run.ended().status is ExitStatus.DONE
    assert [said.split(";")[0] for said in screen.said] == [
        "the circuit breaker opened: all recent requests failed",
        "the circuit breaker closed: the server works again",
    ]
    assert logging.getLogger("adapty_async").handlers == []


async def test_a_second_signal_aborts_and_what_was_under_way_is_in_doubt(tmp_path: Path) -> None:
    async with Simulator(profiles=300, latency=600) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with (
            open_ids(ids_file(tmp_path, 300), by="customer_user_id") as ids,
            run_of(client, ids, concurrency=5) as run,
            Interrupts() as interrupts,
        ):
            interrupting = asyncio.create_task(interrupt_when(lambda: sim.count.in_flight == 5))
            async with asyncio.timeout(PATIENCE):
                await run.run(Screen(on_say=interrupt), interrupts)
            await interrupting
            ended = run.ended()
            assert interrupts.aborted
    assert ended.status is ExitStatus.INTERRUPTED
    assert ended.standing.counts == Counter(in_doubt=5, not_attempted=295)


async def test_without_anything_to_stop_a_signal_cancels_the_task() -> None:
    async def command() -> None:
        with Interrupts():
            interrupt()
            await asyncio.sleep(60)

    task = asyncio.create_task(command())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancellation_from_elsewhere_passes_through(tmp_path: Path) -> None:
    async with Simulator(latency=600) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with open_ids(ids_file(tmp_path, 5), by="customer_user_id") as ids, run_of(client, ids) as run:
            running = asyncio.create_task(run.run(Screen(), Interrupts()))
            while sim.count.in_flight < 5:  # noqa: ASYNC110 - the simulator has no event to wait for
                await asyncio.sleep(0.001)
            running.cancel()
            await asyncio.wait([running])
    assert running.cancelled()


# Errors of our own


async def test_an_input_that_changes_stops_the_job_and_its_rows_are_not_attempted(tmp_path: Path) -> None:
    path = ids_file(tmp_path, 30)
    async with Simulator(profiles=30) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with open_ids(path, by="customer_user_id") as ids, run_of(client, ids) as run:
            with path.open("a") as file:
                file.write("\nsomebody else")
            await run.run(Screen(), Interrupts())
            ended = run.ended()
        assert sim.count.requests == 0
    assert ended.status is ExitStatus.LEDGER
    assert "changed" in (ended.reason or "")
    assert ended.standing.counts == Counter(not_attempted=30)


async def test_an_input_that_changes_after_the_job_has_stopped_is_told(tmp_path: Path) -> None:
    path = ids_file(tmp_path, 30)
    async with Simulator(profiles=30) as sim, AdaptyClient("another", base_url=sim.base_url) as client:
        with open_ids(path, by="customer_user_id") as ids, run_of(client, ids, concurrency=1) as run:
            await run.run(Screen(), Interrupts())
            with path.open("a") as file:
                file.write("\nsomebody else")
            ended = run.ended()
    assert ended.status is ExitStatus.CREDENTIALS
    assert ended.standing.counts == Counter(failed=1, not_attempted=29)


class BrokenPacer(FixedPacer):
    def wait(self, now: float) -> float:
        raise LookupError("user-000001@example.com")


async def test_a_bug_in_the_middle_is_summed_up_like_any_other_end(tmp_path: Path) -> None:
    async with Simulator(profiles=30) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with (
            open_ids(ids_file(tmp_path, 30), by="customer_user_id") as ids,
            run_of(client, ids, pacer=BrokenPacer(10)) as run,
        ):
            await run.run(Screen(), Interrupts())
            ended = run.ended()
    assert ended.status is ExitStatus.FAILED
    assert "internal error (LookupError in test_job.py" in (ended.reason or "")
    assert "@" not in (ended.reason or "")
    assert sum(ended.standing.counts.values()) == 30
