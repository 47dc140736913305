"""Fixtures for tests that run under pytest-asyncio: `pytest_plugins = ["adapty_async.testing.pytest_plugin"]`."""

from collections.abc import AsyncIterator

import pytest_asyncio

from ..client import AdaptyClient
from ..retry import RetryPolicy
from .simulator import Simulator

# Not pytest.fixture: pytest-asyncio leaves that one alone in its strict mode, so it is needed in any case. Nothing else
# fits: simulator and test must share a loop, or the one couldn't be told what to do while the other waits for it.


@pytest_asyncio.fixture
async def adapty_simulator() -> AsyncIterator[Simulator]:
    """Run a simulator of the API, without profiles, limit and faults."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture
async def adapty_client(adapty_simulator: Simulator) -> AsyncIterator[AdaptyClient]:
    """Make a client of the test's `adapty_simulator`, which repeats what fails without a pause but a Retry-After."""
    async with AdaptyClient(
        adapty_simulator.api_key, base_url=adapty_simulator.base_url, retry=RetryPolicy(backoff=0.0)
    ) as client:
        yield client
