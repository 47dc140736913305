"""Real processes that share a pacer."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async.testing.limiter import Limiter
from benchmarks.pacing_processes import LimitServer, running
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[3]


def fork(what: str, state: Path, number: int) -> list[list[int]]:
    """Run processes that fork. Return the numbers of each process's tickets."""
    command = [sys.executable, "-m", "tests.pacing.shared.forks", what, str(state), str(number)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - ours
    assert (ended.returncode, ended.stderr) == (0, "")
    return [[int(number) for number in line.split()] for line in ended.stdout.splitlines()]


async def within_patience(server: LimitServer, is_so: Callable[[dict[str, int], int], bool]) -> None:
    """Wait until the requests accepted in 1.5 seconds, by name, and the rejected ones are as required.

    On an idle machine, the first such period is enough. The benchmark measures the exact figures.
    """
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(PATIENCE):
        while True:
            began = now()
            await asyncio.sleep(1.5)
            refused = sum(at >= began for times in server.refused.values() for at in times)
            if is_so({name: server.count(began, began + 1.5, name) for name in ("one", "other")}, refused):
                return


def shares_are_fair(accepted: dict[str, int], refused: int) -> bool:
    together = sum(accepted.values())
    return together >= 0.8 * 300 and 0.35 <= accepted["one"] / together <= 0.65 and refused <= 0.05 * together


def other_has_all(accepted: dict[str, int], _: int) -> bool:
    return accepted["other"] >= 0.8 * 300


async def test_two_share_a_limit_and_when_one_is_killed_the_other_takes_over(tmp_path: Path) -> None:
    async with (
        LimitServer(Limiter(200.0, 20)) as server,
        running(server, tmp_path / "state", "one", "other", start_rate=150.0) as [one, _],
    ):
        await server.heard_of("one", "other")
        await within_patience(server, shares_are_fair)
        one.kill()
        await one.wait()
        await within_patience(server, other_has_all)


async def test_a_retry_after_that_one_hears_holds_the_other(tmp_path: Path) -> None:
    now = asyncio.get_running_loop().time
    async with (
        LimitServer(Limiter(1000.0, 100)) as server,
        running(server, tmp_path / "state", "one", "other", start_rate=40.0, max_rate=80.0),
    ):
        await server.heard_of("one", "other")
        server.refuse_once(retry_after=8.0)
        await server.refusal()
        refused = now()
        await asyncio.sleep(7.5)
        # Three seconds for the requests in flight, and for those sent before the response, on a busy machine.
        assert server.count(refused + 3.0, refused + 7.5) == 0
        await until(lambda: all(server.count(refused + 7.5, now(), name) > 0 for name in ("one", "other")))


def test_whoever_is_killed_in_a_transaction_leaves_a_whole_state(tmp_path: Path) -> None:
    fork("kill", tmp_path / "state", 100)


def test_the_children_of_a_process_that_is_killed_dont_keep_its_lock(tmp_path: Path) -> None:
    fork("orphans", tmp_path / "state", 2)


def test_a_child_that_is_forked_beside_a_thread_waits_for_no_turn_of_it(tmp_path: Path) -> None:
    fork("thread", tmp_path / "state", 20)


@pytest.mark.parametrize("what", ["together", "fork"])
def test_no_slot_is_given_twice(tmp_path: Path, what: str) -> None:
    began = time.monotonic()
    sent = fork(what, tmp_path / "state", 5)
    elapsed = time.monotonic() - began
    numbers = [number for process in sent for number in process]
    assert len(sent) == (6 if what == "fork" else 5)
    assert len(set(numbers)) == len(numbers)
    assert 0 not in numbers
    assert len(numbers) <= 200 * elapsed * 1.5
