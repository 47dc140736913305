"""A transport that answers at once, in the process itself: for what a job costs beside its requests."""

import asyncio
import time

from adapty_async import AdaptyClient, Request, Response
from adapty_async.client import sender_of
from adapty_async.transport import Transport


class QuietTransport(Transport):
    """Say yes to every request at once, and remember when the first came."""

    first: float | None = None

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - as in the original
        """Answer 204."""
        if self.first is None:
            self.first = time.perf_counter()
        await asyncio.sleep(0)
        return Response(204)


def quiet_client() -> tuple[AdaptyClient, QuietTransport]:
    """Make a client that sends nothing, and give its transport too."""
    transport = QuietTransport("https://api.test", "secret", session=None, trust_env=False, ssl=None)
    client = AdaptyClient("secret")
    sender_of(client).transport = transport
    return client, transport
