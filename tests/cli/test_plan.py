"""The command `plan`: the time that a deletion will take, and a sample of whom it would delete."""

import time
from pathlib import Path

import pytest

from adapty_async.cli.connection import client_of_environment
from adapty_async.cli.masking import masked
from adapty_async.cli.pace import Pace, state_file
from adapty_async.pacing.remembered import remembered_limit
from adapty_async.pacing.shared_state import SharedState
from adapty_async.pacing.state_file import StateFile
from adapty_async.testing import Fault, Simulator
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, ids

PLAN = ("plan", "--by", "customer_user_id")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.txt"
    path.write_text("\n".join([*ids(30), *(f"nobody-{number}" for number in range(10))]))
    return path


def remember(monkeypatch: pytest.MonkeyPatch, folder: Path, found: float, age: float = 0.0) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    path = state_file(client_of_environment())
    assert path is not None
    now = time.time() - age
    file = StateFile(path)
    assert file.changed() is None
    state = SharedState.begin(1.0, now, 5.0, None)
    state.around.found = (found, now)
    file.store(state.encode())
    file.close()
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "about 0:00:06 at 7.0 requests a second"),
        (("--pace", "full"), "about 0:00:04 at 9.8 requests a second"),
        (("--pace", "full", "--max-rate", "2"), "about 0:00:20 at 2.0 requests a second"),
        (("--pace", "4"), "about 0:00:10 at 4.0 requests a second"),
        (("--pace", "4", "--max-rate", "1"), "about 0:00:40 at 1.0 requests a second"),
    ],
)
def test_it_tells_the_time_at_the_rate_to_expect(
    sim: Simulator,
    tmp_path: Path,
    people: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    says: str,
) -> None:
    remember(monkeypatch, tmp_path, 10.0)
    status, out, _ = say(*PLAN, people, *options)
    assert status == 0
    assert says in out
    if options:
        assert f"--by customer_user_id {' '.join(options)}" in out
    assert sim.count.requests == 0


def test_a_limit_of_the_day_before_yesterday_is_forgotten(
    sim: Simulator, tmp_path: Path, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch, tmp_path, 10.0, age=48 * 3600.0)
    assert "no limit is remembered" in say(*PLAN, people)[1]


def test_a_state_that_cannot_be_read_is_none(
    sim: Simulator, tmp_path: Path, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remember(monkeypatch, tmp_path, 10.0)
    path.write_bytes(b"anything else")
    assert remembered_limit(path) is None
    assert "no limit is remembered" in say(*PLAN, people)[1]
    assert path.read_bytes() == b"anything else"


def test_without_a_key_a_rate_can_be_given(
    sim: Simulator, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTY_API_KEY")
    assert "no limit is remembered" in say(*PLAN, people)[1]
    assert "about 0:00:10 at 4.0 requests a second" in say(*PLAN, people, "--pace", "4")[1]


def test_a_sample_tells_how_many_exist_and_in_which_app(sim: Simulator, people: Path, say: Say) -> None:
    status, out, _ = say(*PLAN, people, "--probe", 4, *AT_ONCE)
    figures = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line.startswith(("exist", "do not")))
    assert status == 0
    assert figures == {"exist": "3", "do not exist": "1"}
    assert f"app                 {sim.profiles.app_id}" in out
    assert "Nothing was changed" in out
    assert sim.count.answers == {("GET", 200): 3, ("GET", 404): 1}
    assert len(sim.profiles) == 30


def test_a_sample_is_of_all_where_there_are_no_more(sim: Simulator, people: Path, say: Say) -> None:
    assert say(*PLAN, people, "--probe", 1000, *AT_ONCE)[0] == 0
    assert sim.count.requests == 40


def test_a_sample_that_finds_nobody_says_what_to_check(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("nobody\nnobody else\n")
    status, out, _ = say(*PLAN, path, "--probe", 2, *AT_ONCE)
    assert status == 0
    assert "check the key, --by and --column" in out


def test_a_sample_with_a_wrong_key_is_exit_4(
    sim: Simulator, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    status, _, err = say(*PLAN, people, "--probe", 4, *AT_ONCE)
    assert status == 4
    assert "set ADAPTY_API_KEY" in err


def test_a_sample_without_answers_says_so(sim: Simulator, people: Path, say: Say) -> None:
    sim.script(*[Fault.SERVER_ERROR] * 4)
    status, out, _ = say(*PLAN, people, "--probe", 1, *AT_ONCE)
    assert status == 3
    assert "not all of them were answered" in out


def test_ids_are_shown_by_their_ends_alone(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("ann@example.com\nbea@example.com\n7654321\n")
    _, out, _ = say(*PLAN, path)
    assert "first id            a…m (15 characters)" in out
    assert "last id             … (7 characters)" in out
    assert "example" not in out.replace(str(tmp_path), "")
    assert masked("12345678") == "1…8 (8 characters)"


def test_the_rate_to_expect_of_a_number_needs_no_key() -> None:
    assert Pace.of("50", "80").expected(None) == 50
    assert Pace.of("full", None).expected(None) is None
