"""The options --pace and --max-rate."""

import stat
from pathlib import Path

import pytest

from adapty_async import AdaptivePacer, AdaptyClient, SharedPacer
from adapty_async.cli.exit_status import CommandError
from adapty_async.cli.jobs.pace import Pace, find_state_file
from adapty_async.pacing import Pacer, Verdict

CLIENT = AdaptyClient("secret")


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def find_a_limit(pacer: Pacer) -> None:
    """Limit a server to 20 requests per second, with a bucket of 5."""
    now, tokens, seen = 1000.0, 5.0, 1000.0
    while pacer.estimate is None:
        now += pacer.delay(now)
        tokens, seen = min(5.0, tokens + 20 * (now - seen)), now
        accepted = tokens >= 1
        tokens -= accepted
        pacer.record(now, pacer.acquire(now), Verdict.ACCEPTED if accepted else Verdict.THROTTLED)


@pytest.mark.parametrize(
    ("pace", "most", "expected"),
    [("50", None, 50), ("50", "20.0", 20), ("50", "80", 50), ("0.5", None, 0.5), (".5", None, 0.5), ("007", None, 7)],
)
def test_a_number_is_a_fixed_rate_and_max_rate_bounds_it(pace: str, most: str | None, expected: float) -> None:
    with Pace.from_options(pace, most).open_pacer(CLIENT) as pacer:
        assert repr(pacer) == f"FixedPacer({expected:g})"


NO_RATES = [
    "",
    "0",
    "0.0",
    "-1",
    "+5",
    "nan",
    "inf",
    "9" * 400,
    "5/s",
    " 5 ",
    "5\n",
    "1_0",
    "1e3",
    "1,5",
    "5.",
    "\uff15",
    "\u0665",
]


@pytest.mark.parametrize("pace", [*NO_RATES, "fast", "Full", " full"])
def test_a_pace_that_is_none_is_refused_with_what_it_may_be(pace: str) -> None:
    with pytest.raises(CommandError, match=r"^--pace must be full, background, or a positive number of requests"):
        Pace.from_options(pace, None)


@pytest.mark.parametrize("rate", NO_RATES)
@pytest.mark.parametrize("pace", ["full", "50"])
def test_a_max_rate_that_is_none_is_refused(pace: str, rate: str) -> None:
    with pytest.raises(CommandError, match=r"^--max-rate must be a positive number of requests"):
        Pace.from_options(pace, rate)


@pytest.mark.parametrize("pace", ["full", "background"])
def test_the_limit_is_looked_for_and_max_rate_bounds_that(state_home: Path, pace: str) -> None:
    with Pace.from_options(pace, "3").open_pacer(CLIENT) as pacer:
        assert isinstance(pacer, SharedPacer)
        assert pacer.delay(1000.0) == 0.0
        assert pacer.rate == 3


@pytest.mark.parametrize(("pace", "share"), [("full", 0.98), ("background", 0.7)])
def test_what_one_command_found_is_where_the_next_begins(state_home: Path, pace: str, share: float) -> None:
    with Pace.from_options(pace, None).open_pacer(CLIENT) as pacer:
        find_a_limit(pacer)
        found = pacer.estimate
        assert found is not None
        assert pacer.rate == pytest.approx(share * found)
    with Pace.from_options("full", None).open_pacer(CLIENT) as pacer:
        pacer.delay(2000.0)
        assert pacer.rate == pytest.approx(0.8 * found)


def test_each_key_and_server_has_a_file_of_its_own_that_names_neither(state_home: Path) -> None:
    clients = [CLIENT, AdaptyClient("another"), AdaptyClient("secret", base_url="http://localhost:8000")]
    files = {find_state_file(client) for client in clients}
    assert len(files) == 3
    for file in files:
        assert file is not None
        assert file.parent == state_home / "adapty-async"
        assert not {"secret", "localhost"} & set(file.name.split("-"))


def test_the_file_is_private(state_home: Path) -> None:
    with Pace.from_options("full", None).open_pacer(CLIENT) as pacer:
        pacer.delay(1000.0)
    file = find_state_file(CLIENT)
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("named", ["", "relative"])
def test_where_no_folder_is_named_it_is_in_the_users_own(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", named)
    file = find_state_file(CLIENT)
    assert file is not None
    assert file.is_relative_to(Path.home() / ".local" / "state")


def test_a_user_without_a_home_shares_nothing_and_is_paced_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "expanduser", fail)
    paces_alone(caplog)


@pytest.mark.parametrize("home", ["", "relative", "~"])
@pytest.mark.parametrize("named", ["", "relative"])
def test_a_home_that_is_no_absolute_path_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, named: str, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", named)
    monkeypatch.setenv("HOME", home)
    paces_alone(caplog)
    assert list(tmp_path.iterdir()) == []


def paces_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Check that a command uses a pacer of its own, with one warning."""
    with Pace.from_options("background", "3").open_pacer(CLIENT) as pacer:
        assert isinstance(pacer, AdaptivePacer)
        assert pacer.delay(1000.0) == 0.0
        assert pacer.rate == 3
    [record] = caplog.records
    assert "this command paces alone" in record.getMessage()
