"""Fixtures for the tests of the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapty_async.cli import main
from adapty_async.testing import Simulator
from tests.cli.served import AT_ONCE, Patient, served, settings_for
from tests.cli.witness import PEOPLE, Say, Witness, ids

Delete = Callable[..., int]


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Patient]:
    """Run a simulator with 30 profiles and point the environment at it. Ledgers of standard input go to `tmp_path`."""
    simulator = Patient(profiles=30)
    with served(simulator):
        lead_to(simulator, monkeypatch, tmp_path)
        yield simulator


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Witness]:
    """Run a simulator that keeps a log, in the same way."""
    simulator = Witness(profiles=PEOPLE)
    with served(simulator):
        lead_to(simulator, monkeypatch, tmp_path)
        yield simulator


def lead_to(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Point the command at a simulator, and work in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ADAPTY_API_KEY_FILE", raising=False)
    for name, value in settings_for(simulator).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Write a file with the IDs of the profiles in the second of two columns."""
    path = tmp_path / "people.csv"
    path.write_text("name,customer_user_id\n" + "".join(f"n,{id_}\n" for id_ in ids(PEOPLE)))
    return path


@pytest.fixture
def delete() -> Delete:
    """Run `adapty-async delete` in this process: by customer user ID, confirmed, and at full speed."""

    def run(*arguments: object) -> int:
        return main(["delete", *AT_ONCE, *map(str, arguments), "--by", "customer_user_id", "--yes"])

    return run


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process. Return its status and its output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([*map(str, arguments)])
        written = capfd.readouterr()
        assert "Traceback" not in written.err
        return status, written.out, written.err

    return run
