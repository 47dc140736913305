"""Fixtures of the command line's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapty_async.cli import main
from adapty_async.testing import Simulator
from tests.cli.served import AT_ONCE, served, settings_for

Delete = Callable[..., int]


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    """Run a simulator with 30 profiles, to which the environment leads; ledgers of standard input go to `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    with served(Simulator(profiles=30)) as simulator:
        monkeypatch.delenv("ADAPTY_API_KEY_FILE", raising=False)
        for name, value in settings_for(simulator).items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture
def delete() -> Delete:
    """Run `adapty-async delete` in this process, by customer user id, confirmed, and as fast as it can."""

    def run(*arguments: object) -> int:
        return main(["delete", *AT_ONCE, *map(str, arguments), "--by", "customer_user_id", "--yes"])

    return run
