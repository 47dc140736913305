from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.testing.caller import Caller


@pytest.fixture
async def call() -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(session)
