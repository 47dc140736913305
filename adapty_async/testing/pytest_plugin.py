"""Fixtures for tests with pytest-asyncio: `pytest_plugins = ["adapty_async.testing.pytest_plugin"]`."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ..client import AdaptyClient
from ..http.retry import RetryPolicy
from .simulator import Simulator

# pytest-asyncio ignores plain pytest.fixture in its strict mode, so its own fixture decorator is required. The
# simulator and the test must share a loop, or the test couldn't control the simulator while it waits for it.


@pytest.fixture
def _require_async_test(request: pytest.FixtureRequest) -> None:
    """Fail a synchronous test: its event loop would not run while it waits."""
    if not pytest_asyncio.is_async_test(request.node):
        pytest.fail(
            "adapty_simulator and adapty_client run on the event loop of the test, so they need an asynchronous one "
            "that pytest-asyncio runs: write 'async def', with @pytest.mark.asyncio in its strict mode. For a "
            "synchronous test run a simulator in a process of its own: python -m adapty_async.testing",
            pytrace=False,
        )


@pytest_asyncio.fixture
async def adapty_simulator(_require_async_test: None) -> AsyncIterator[Simulator]:
    """Run a simulator of the API without profiles, rate limit and faults."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture
async def adapty_client(adapty_simulator: Simulator) -> AsyncIterator[AdaptyClient]:
    """Create a client for `adapty_simulator`. It retries without backoff, but obeys Retry-After."""
    async with AdaptyClient(
        adapty_simulator.api_key, base_url=adapty_simulator.base_url, retry=RetryPolicy(initial_backoff=0.0)
    ) as client:
        yield client
