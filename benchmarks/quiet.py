"""A transport that responds at once within the process, to measure the cost of a job without its requests."""

import asyncio
import time

from adapty_async import AdaptyClient, Request, Response
from adapty_async.client import get_sender
from adapty_async.http.transport import Transport


class QuietTransport(Transport):
    """Accepts every request at once, and records when the first one came."""

    first: float | None = None

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - as in the original
        """Respond with 204."""
        if self.first is None:
            self.first = time.perf_counter()
        await asyncio.sleep(0)
        return Response(204)


def quiet_client() -> tuple[AdaptyClient, QuietTransport]:
    """Return a client that sends nothing, and its transport."""
    transport = QuietTransport("https://api.test", "secret", session=None, trust_env=False, ssl=None)
    client = AdaptyClient("secret")
    get_sender(client).transport = transport
    return client, transport
