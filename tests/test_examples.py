"""The examples and the benchmark work as described, each with a running simulator."""

import asyncio
import csv
import importlib.util
import os
import signal
import socket
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
import uvicorn
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapty_async.testing import Fault, Simulator
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
USER = "ada@example.com"


@pytest.fixture
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that a user of the examples sets."""
    monkeypatch.setenv("ADAPTY_API_KEY", simulator.api_key)
    monkeypatch.setenv("ADAPTY_BASE_URL", simulator.base_url)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def serve_aiohttp(module: ModuleType) -> AsyncIterator[str]:
    async with TestServer(module.make_app()) as server:
        yield str(server.make_url("/"))


@asynccontextmanager
async def serve_starlette(module: ModuleType) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(module.app, log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        await serving


WEB_APPS = {"web_aiohttp": serve_aiohttp, "web_starlette": serve_starlette}


class Visitor:
    """A client of a web app, and the app's module."""

    def __init__(self, module: ModuleType, session: aiohttp.ClientSession) -> None:
        self.module = module
        self._session = session

    async def ask(self, method: str, path: str, user: str = USER) -> tuple[int, object]:
        async with self._session.request(method, path, headers={"X-User": user}) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else None


@pytest.fixture(params=WEB_APPS)
async def visitor(request: pytest.FixtureRequest, environment: None) -> AsyncIterator[Visitor]:
    """Test each of the two web apps."""
    module = load(request.param)
    async with WEB_APPS[request.param](module) as url, aiohttp.ClientSession(url) as session:
        yield Visitor(module, session)


async def test_a_web_app_tells_who_has_access(visitor: Visitor, simulator: Simulator) -> None:
    simulator.add_profile(customer_user_id=USER).access_levels = [{"access_level_id": "premium"}]
    simulator.add_profile(customer_user_id="without access")
    assert await visitor.ask("GET", "/me/access") == (200, {"premium": True})
    assert await visitor.ask("GET", "/me/access", user="without access") == (200, {"premium": False})
    assert await visitor.ask("GET", "/me/access", user="without profile") == (200, {"premium": False})


async def test_a_web_app_deletes_an_account_as_often_as_it_is_asked(visitor: Visitor, simulator: Simulator) -> None:
    simulator.add_profile(customer_user_id=USER)
    assert await visitor.ask("DELETE", "/me") == (200, {"deleted": True})
    assert not simulator.profiles
    assert await visitor.ask("DELETE", "/me") == (200, {"deleted": True})


async def test_a_web_app_shares_one_connection_among_its_requests(visitor: Visitor, simulator: Simulator) -> None:
    for _ in range(3):
        await visitor.ask("GET", "/me/access")
    assert simulator.stats.requests == 3
    assert simulator.stats.connections == 1


async def test_a_web_app_turns_away_who_says_no_name(visitor: Visitor, simulator: Simulator) -> None:
    assert (await visitor.ask("GET", "/me/access", user=""))[0] == 401
    assert simulator.stats.requests == 0


@pytest.mark.parametrize("trouble", ["down", "slow", "failing", "refusing"])
async def test_a_web_app_answers_and_logs_no_id_whatever_ails_adapty(
    visitor: Visitor,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    monkeypatch.setattr(visitor.module, "DEADLINE", 0.05)
    caplog.set_level("DEBUG")
    match trouble:
        case "down":
            await simulator.stop()
        case "slow":
            simulator.latency = 600.0
        case "failing":
            simulator.faults.fault_rates = {Fault.UNAVAILABLE: 1.0}
        case "refusing":
            simulator.api_key = "another"
    async with asyncio.timeout(PATIENCE):
        assert await visitor.ask("GET", "/me/access") == (200, {"premium": True, "unseen": True})
        assert await visitor.ask("DELETE", "/me") == (503, {"deleted": False})
    warnings = [record.getMessage() for record in caplog.records if record.name == visitor.module.__name__]
    assert len(warnings) == 2
    assert USER not in caplog.text


async def start(*arguments: str) -> Process:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *arguments, stdout=PIPE, stderr=PIPE, env=environment, cwd=ROOT
    )


async def run(*arguments: str) -> tuple[int | None, str]:
    """Run a script until it ends. Return its exit status and its output."""
    process = await start(*arguments)
    printed, complaints = await process.communicate()
    assert complaints == b""
    return process.returncode, printed.decode()


def write_people(path: Path, ids: list[str]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["customer_user_id"], *([one] for one in ids)])
    return str(path)


def read_outcomes(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["customer_user_id"]: row["outcome"] for row in csv.DictReader(file)}


async def test_the_mass_deletion_writes_down_the_outcome_of_each(
    environment: None, simulator: Simulator, tmp_path: Path
) -> None:
    people = [f"user {number}, Ünicode" for number in range(8)]
    for one in people:
        simulator.add_profile(customer_user_id=one)
    source = write_people(tmp_path / "people.csv", [*people, "nobody", "ends in a space "])
    target = tmp_path / "outcomes.csv"
    status, printed = await run("examples/delete_profiles.py", source, str(target), "--max-rate", "1000")
    expected = dict.fromkeys(people, "deleted") | {"nobody": "already_absent", "ends in a space ": "invalid"}
    assert read_outcomes(target) == expected
    assert not simulator.profiles
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {tuple(line.split()) for line in printed.splitlines()} == {
        ("deleted", "8"),
        ("already_absent", "1"),
        ("invalid", "1"),
    }
    assert status == 1


async def test_an_interrupted_mass_deletion_accounts_for_what_was_sent(
    environment: None, simulator: Simulator, tmp_path: Path
) -> None:
    people = [f"user {number}" for number in range(1000)]
    for one in people:
        simulator.add_profile(customer_user_id=one)
    target = tmp_path / "outcomes.csv"
    process = await start(
        "examples/delete_profiles.py", write_people(tmp_path / "people.csv", people), str(target), "--max-rate", "50"
    )
    while not simulator.stats.requests:
        assert process.returncode is None
        await asyncio.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, complaints = await process.communicate()
    assert complaints == b""
    assert "stopped early: requested" in printed.decode()
    assert process.returncode == 1
    outcomes = read_outcomes(target)
    assert {one for one, outcome in outcomes.items() if outcome == "deleted"} == set(people) - set(
        simulator.profiles.customer_user_ids
    )


async def test_the_benchmark_example_measures_every_width() -> None:
    status, printed = await run("examples/benchmark.py", "--profiles", "20", "--latency", "0")
    assert status == 0
    assert [line.split()[0] for line in printed.splitlines()] == ["width", "1", "10", "100"]


async def test_the_benchmark_of_speed_compares_what_it_is_asked_to() -> None:
    status, printed = await run("benchmarks/speed.py", "--rounds", "1", "--only", "loading")
    assert status == 0
    assert "## Loading a profile" in printed
    assert "| loading a profile of 1.7 kB / json.loads |" in printed


async def test_each_attempt_is_a_span_under_its_callers(simulator: Simulator, environment: None) -> None:
    simulator.add_profile(customer_user_id=USER)
    simulator.inject(Fault.UNAVAILABLE)
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    module = load("opentelemetry_spans")
    vars(module)["tracer"] = provider.get_tracer("adapty")
    await module.main(USER)
    failed, answered, caller = exporter.get_finished_spans()
    assert [dict(span.attributes or {}) for span in (failed, answered)] == [
        {
            "http.request.method": "GET",
            "url.path": "/api/v2/server-side-api/profile/",
            "http.request.resend_count": number,
            "http.response.status_code": status,
        }
        | error
        for number, status, error in ((0, 503, {"error.type": "ServerError"}), (1, 200, {}))
    ]
    assert caller.context is not None
    assert [failed.parent, answered.parent] == [caller.context] * 2
    assert USER not in "".join(span.to_json() for span in (failed, answered, caller))
