"""Fixtures for tests that run under pytest-asyncio: `pytest_plugins = ["adapty_async.testing.pytest_plugin"]`."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ..client import AdaptyClient
from ..retry import RetryPolicy
from .simulator import Simulator

# Not pytest.fixture: pytest-asyncio leaves that one alone in its strict mode, so it is needed in any case. Nothing else
# fits: simulator and test must share a loop, or the one couldn't be told what to do while the other waits for it.


@pytest.fixture
def _adapty_async_test(request: pytest.FixtureRequest) -> None:
    """Fail for a test on whose event loop nothing would run while it waits."""
    if not pytest_asyncio.is_async_test(request.node):
        pytest.fail(
            "adapty_simulator and adapty_client run on the event loop of the test, so they need an asynchronous one "
            "that pytest-asyncio runs: write 'async def', with @pytest.mark.asyncio in its strict mode. For a "
            "synchronous test run a simulator in a process of its own: python -m adapty_async.testing",
            pytrace=False,
        )


@pytest_asyncio.fixture
async def adapty_simulator(_adapty_async_test: None) -> AsyncIterator[Simulator]:
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
