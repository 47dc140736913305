"""Fixtures for the tests of the shared pacer."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapty_async import SharedPacer

from .helpers import Clocks


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pacing" / "state"


@pytest.fixture
def open_pacer(path: Path, clocks: Clocks) -> Iterator[Callable[..., SharedPacer]]:
    """Create pacers on one file, and close them at the end."""
    made: list[SharedPacer] = []

    def make(**options: Any) -> SharedPacer:
        made.append(SharedPacer(path, wall_clock=clocks.wall, **options))
        return made[-1]

    yield make
    for pacer in made:
        pacer.close()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the messages logged at WARNING or above."""

    def told() -> list[str]:
        found = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert {record.name for record in found} <= {"adapty_async"}
        return [record.getMessage() for record in found]

    return told
