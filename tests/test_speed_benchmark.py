"""A short form of the speed benchmark, its targets, and its table in the documentation."""

import json
import re
import socket
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import attrs
import pytest

from adapty_async.models.codec import load_profile
from benchmarks import speed
from benchmarks.page_tables import PERFORMANCE, rows_below, table_in
from benchmarks.speed_bench import bulk, loading, scale, single, startup
from benchmarks.speed_bench.bars import BARS, HEAD, Bar, asked_table, misses
from benchmarks.speed_bench.part import Chart, Part, table
from benchmarks.speed_bench.pictures import picture
from benchmarks.speed_bench.profiles import LARGE, SMALL
from benchmarks.speed_bench.report import document, write
from benchmarks.speed_bench.rounds import Rounds, run_apart, take_turns, together
from benchmarks.speed_bench.server import static_server
from tests.waiting import PATIENCE

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "speed"

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

CHART = Chart("one.png", "One", "seconds", ["a", "b"], {"ours": [1.0, 200.0], "theirs": [2.0, 3.0]}, logarithmic=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with static_server() as (url, _):
        yield url


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def fails(*_: object) -> Part:
    return Part("Bulk", "Slow.", table(["", "seconds"], [["ours", "2"]]), {"bulk / workers": 0.5})


@attrs.frozen
class Script:
    """A sequence of figures, and the names they were requested for."""

    figures: Iterator[float]
    asked: list[str] = attrs.field(factory=list)

    def __call__(self, name: str) -> dict[str, float]:
        self.asked.append(name)
        return {"seconds": next(self.figures)}


class TestTheServer:
    async def test_it_says_204_to_delete_and_gives_a_profile_to_get(self, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.delete(url + bulk.PATH, headers=bulk.headers_of("one")) as response:
                assert (response.status, await response.read()) == (204, b"")
            async with session.get(url + bulk.PATH, headers=bulk.headers_of("one")) as response:
                assert (response.status, await response.read()) == (200, SMALL)
                assert response.content_type == "application/json"

    def test_a_request_may_come_in_pieces(self, url: str) -> None:
        with connect(url) as connection:
            for number in range(len(GET)):
                connection.sendall(GET[number : number + 1])
            received = b""
            while not received.endswith(SMALL):
                more = connection.recv(65536)
                assert more, received
                received += more
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")

    def test_its_profiles_are_what_they_are_called(self) -> None:
        assert 1650 < len(SMALL) < 1750
        profile = load_profile(LARGE)
        assert len(profile.subscriptions) + len(profile.non_subscriptions) == 200


class TestTheParts:
    @pytest.mark.parametrize("way", bulk.WAYS)
    async def test_every_way_of_a_mass_deletion_deletes_all(self, way: str, url: str) -> None:
        figures = await bulk.measure(bulk.WAYS[way], url, 20, 5)
        assert figures["seconds"] > 0
        assert set(bulk.BARS) == {name for name in BARS if name.startswith("bulk")}
        assert set(bulk.BARS.values()) < set(bulk.WAYS)

    def test_a_way_runs_as_a_process(self, url: str) -> None:
        assert set(run_apart("bulk", bulk.ALL_OF_IT, url, 20, 5)) == {"seconds", "cpu"}

    @pytest.mark.parametrize("callers", [1, 10])
    async def test_single_calls_are_measured_in_turn(self, callers: int, url: str) -> None:
        found = together([await single.measure(url, callers, 20)])
        assert found.median("p50", "aiohttp, get") <= found.median("p99", "aiohttp, get")
        assert found.ratio("cpu", "adapty_async, delete", "aiohttp, delete") > 0

    def test_all_loaders_read_the_same(self) -> None:
        assert set(loading.measure(1)) == {f"{size}, {name}" for size in loading.BODIES for name in loading.LOADERS}
        loaded: list[Any] = [load(LARGE) for load in loading.LOADERS.values()]
        ours, plain, *others = loaded
        assert ours == load_profile(LARGE)
        assert plain == json.loads(LARGE)
        for other in others:
            assert (other.app_id, other.timestamp) == (ours.app_id, ours.timestamp)
            for mine, theirs in zip(ours.subscriptions, other.subscriptions, strict=True):
                assert (mine.store, mine.purchased_at) == (theirs.store, theirs.purchased_at)

    async def test_a_job_of_a_size_is_measured_without_its_first_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scale, "AT_LEAST", 100)
        figures = await scale.measure(50)
        assert figures["cpu"] > 0
        assert 10 < figures["memory"] < 2000

    def test_the_first_request_of_a_command_is_seen(self) -> None:
        assert startup.first_request_time() > 0

    def test_imports_are_timed(self) -> None:
        assert startup.import_time("import json") > 0
        assert startup.import_time("import json, time; time.sleep(0.5)") >= 0.5


class TestRounds:
    def test_who_was_first_is_last_in_the_next(self) -> None:
        script = Script(iter([1.0, 2.0, 6.0, 3.0]))
        found = take_turns(["ours", "theirs"], 2, script)
        assert script.asked == ["ours", "theirs", "theirs", "ours"]
        assert found.ratio("seconds", "theirs", "ours") == 2

    def test_a_ratio_is_the_median_of_the_rounds_own(self) -> None:
        found = Rounds({"a": [{"s": 1.0}, {"s": 10.0}, {"s": 3.0}], "b": [{"s": 1.0}, {"s": 5.0}, {"s": 1.0}]})
        assert found.median("s", "a") == 3
        assert found.ratio("s", "a", "b") == 2


class TestJudging:
    def test_what_is_too_slow_is_a_miss(self) -> None:
        assert list(misses({"bulk / workers": 0.9, "delete": 1.1, "scale, memory": 32.0})) == []
        assert [miss.rpartition(": ")[2] for miss in misses({"bulk / workers": 0.89, "delete": 1.11})] == [
            "0.89, the target is 0.9",
            "1.11, the target is 1.1",
        ]

    @pytest.mark.parametrize(
        ("figure", "verdict"), [(1.0, "yes, and the aim"), (0.95, "yes, not the aim"), (0.8, "**no**")]
    )
    def test_bar_and_aim_are_told_apart(self, figure: float, verdict: str) -> None:
        assert Bar("one", 0.9, 1.0, at_least=True).verdict(figure) == verdict
        assert Bar("one", 1 / 0.9, 1.0).verdict(1 / figure) == verdict

    def test_the_verdict_without_an_aim(self) -> None:
        assert Bar("one", 32, unit=" MiB").row(3.0) == "| one | 3.00 MiB | at most 32 MiB |  | yes |"

    @pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--check"], 1)])
    def test_a_check_fails_where_a_bar_is_not_met(
        self,
        arguments: list[str],
        status: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(speed, "PARTS", {"bulk": fails})
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        assert speed.main() == status
        shown = capsys.readouterr()
        assert "| 0.50 | at least 0.9 | 1 | **no** |" in shown.out
        assert ("not met: " in shown.err) == bool(status)


class TestWhatIsShown:
    def test_the_page_has_every_part_with_its_pictures(self) -> None:
        part = Part("Loading", "How.", table(["", "us"], [["ours", "1"]]), {"load 1.7 kB": 2.0}, [CHART])
        page = "\n".join(document([part], "a server"))
        assert "\n## Loading\n\nHow.\n\n|  | us |\n|---|---:|\n| ours | 1 |\n\n![One](one.png)" in page
        assert "\n".join(asked_table(part.figures)) in page
        assert re.search(r"uvloop [\d.]+, adapty-async [\d.]+, aiohttp ", page)

    def test_a_picture_can_be_drawn(self) -> None:
        drawn = BytesIO()
        picture(CHART).savefig(drawn)
        assert drawn.getvalue().startswith(b"\x89PNG")

    def test_page_and_pictures_are_written_and_the_documentation_brought_up_to_date(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("Before.\n\n<!-- table: speed -->\n\n| old |\n\nAfter.\n", encoding="utf-8")
        part = Part("Start", "How.", table(["", "ms"], [["ours", "1"]]), {"import": 1.0}, [CHART])
        write(tmp_path / "results", [part], "a server", page)
        shown = "\n".join(asked_table({"import": 1.0}))
        assert page.read_text(encoding="utf-8") == f"Before.\n\n<!-- table: speed -->\n\n{shown}\n\nAfter.\n"
        assert {path.name for path in (tmp_path / "results").iterdir()} == {"table.md", CHART.file}

    def test_the_documentation_shows_the_table_of_the_results(self) -> None:
        shown = table_in(PERFORMANCE, "speed")
        assert shown == rows_below(HEAD, (RESULTS / "table.md").read_text(encoding="utf-8"))
        assert shown.count("\n") == 1 + len(BARS)

    def test_every_picture_is_there_and_small(self) -> None:
        pictures = set(re.findall(r"\]\((.*\.png)\)", (RESULTS / "table.md").read_text(encoding="utf-8")))
        assert {path.name for path in RESULTS.glob("*.png")} == pictures == {"bulk.png", "latency.png", "loading.png"}
        assert all((RESULTS / name).stat().st_size < 80_000 for name in pictures)
