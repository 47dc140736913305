"""The fixtures for users' tests, in this process and in a pytest of their own."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from adapty_async import AdaptyClient
from adapty_async.testing import Fault, Simulator

pytest_plugins = ["adapty_async.testing.pytest_plugin"]

ROOT = Path(__file__).parents[2]
CONFTEST = 'pytest_plugins = ["adapty_async.testing.pytest_plugin"]\n'
TESTS = """
import pytest

pytestmark = {marks}


async def test_the_client_speaks_to_the_simulator(adapty_simulator, adapty_client):
    adapty_simulator.add_profile(customer_user_id="u1")
    assert await adapty_client.profiles.delete(customer_user_id="u1")
    assert adapty_simulator.stats.responses == {{("DELETE", 204): 1}}


async def test_each_test_has_a_simulator_of_its_own(adapty_simulator):
    assert adapty_simulator.stats.requests == 0
"""


async def test_the_client_is_one_of_the_simulator(adapty_simulator: Simulator, adapty_client: AdaptyClient) -> None:
    await adapty_client.profiles.create(customer_user_id="u1")
    assert set(adapty_simulator.profiles.customer_user_ids) == {"u1"}


async def test_retries_of_the_client_do_not_wait(
    adapty_simulator: Simulator, adapty_client: AdaptyClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="adapty_async")
    adapty_simulator.add_profile(customer_user_id="u1")
    adapty_simulator.inject(Fault.RESET_AFTER, Fault.SERVER_ERROR, Fault.UNAVAILABLE)
    assert await adapty_client.profiles.delete(customer_user_id="u1")
    assert [message.endswith(", retry in 0.000 s") for message in caplog.messages] == [True, True, True, False]


async def ran(folder: Path, tests: str, mode: str) -> tuple[int | None, str]:
    """Run tests like a user. Return the exit status and the output."""
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_users.py").write_text(tests, encoding="utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n",
        encoding="utf-8",
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        stderr=STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


@pytest.mark.parametrize(("mode", "marks"), [("auto", "[]"), ("strict", "[pytest.mark.asyncio]")])
async def test_one_line_switches_the_fixtures_on(mode: str, marks: str, tmp_path: Path) -> None:
    status, printed = await ran(tmp_path, TESTS.format(marks=marks), mode)
    assert status == 0, printed
    assert "2 passed" in printed


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("fixture", ["adapty_simulator", "adapty_client"])
async def test_a_synchronous_test_is_told_what_to_do(mode: str, fixture: str, tmp_path: Path) -> None:
    status, printed = await ran(tmp_path, f"def test_of_a_user({fixture}): ...\n", mode)
    assert status == 1, printed
    assert "so they need an asynchronous one that pytest-asyncio runs: write 'async def'" in printed
    assert "Traceback" not in printed


async def test_a_test_that_lacks_its_mark_is_told_what_to_do(tmp_path: Path) -> None:
    status, printed = await ran(tmp_path, "async def test_of_a_user(adapty_client): ...\n", "strict")
    assert status == 1, printed
    assert "with @pytest.mark.asyncio in its strict mode" in printed


async def test_a_test_of_many_examples_is_taken(tmp_path: Path) -> None:
    tests = """
import hypothesis
from hypothesis import strategies as st

@hypothesis.settings(max_examples=3, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.integers())
async def test_of_a_user(adapty_client, number): ...
"""
    status, printed = await ran(tmp_path, tests, "auto")
    assert status == 0, printed


async def test_the_simulator_alone_loads_neither_pytest_nor_the_fixtures() -> None:
    program = "import sys; from adapty_async.testing import Simulator; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stdout=PIPE)
    printed, _ = await process.communicate()
    loaded = set(printed.decode().split())
    assert "adapty_async.testing.simulator" in loaded
    assert not {"pytest", "pytest_asyncio", "adapty_async.testing.pytest_plugin"} & loaded
