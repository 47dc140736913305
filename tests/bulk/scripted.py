"""A client with a transport that takes its responses from a script, for cases that no server produces on demand."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from adapty_async import AdaptyClient, AdaptyConnectionError, AdaptyError, Request, Response, RetryPolicy
from adapty_async.bulk import BulkJob, BulkReport
from adapty_async.client import get_sender
from adapty_async.http.transport import Transport
from adapty_async.pacing import Unpaced

Answer = Response | AdaptyError
Script = Callable[[Request, int], Answer]

NO_BACKOFF = RetryPolicy(initial_backoff=0.0)


class ScriptedTransport(Transport):
    """Get each response from the script. It is passed the request and its number for that profile, from 1."""

    def __init__(self, script: Script) -> None:
        super().__init__("https://api.test", "Api-Key secret", session=None, trust_env=False, ssl=None)
        self._script = script
        self.requests: list[tuple[str, str]] = []
        self._seen: Counter[tuple[str, str]] = Counter()

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        who = next(iter(request.headers.values()))
        self.requests.append((request.method, who))
        self._seen[request.method, who] += 1
        answer = self._script(request, self._seen[request.method, who])
        if isinstance(answer, AdaptyError):
            raise answer
        return answer


def scripted_client(script: Script, *, retry: RetryPolicy = NO_BACKOFF) -> tuple[AdaptyClient, ScriptedTransport]:
    """Create a client whose requests get their responses from `inject`. Return it with its transport, which keeps them.

    Its bulk jobs aren't paced unless they have a pacer: the script has no rate limit to find.
    """
    transport = ScriptedTransport(script)
    return client_over(transport, retry), transport


def client_over(transport: Transport, retry: RetryPolicy = NO_BACKOFF) -> AdaptyClient:
    client = AdaptyClient("secret", retry=retry)
    get_sender(client).transport = transport
    get_sender(client).key_state.background_pacer = Unpaced()
    return client


class QuietTransport(Transport):
    """Accept every request and keep none, for measurements over many requests."""

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        await asyncio.sleep(0)
        return NO_CONTENT


def quiet_client() -> AdaptyClient:
    """Create a client whose every request gets a 204."""
    return client_over(QuietTransport("https://api.test", "Api-Key secret", session=None, trust_env=False, ssl=None))


def error(status: int, code: str = "", **headers: str) -> Response:
    """Return an error response in the format of the API."""
    body = f'{{"errors": [], "error_code": "{code}", "status_code": {status}}}'.encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def lost() -> AdaptyError:
    """Return the error of a request that was sent and got no response."""
    return AdaptyConnectionError("lost", sent=True)


def never_sent() -> AdaptyError:
    """Return the error of a request that wasn't sent."""
    return AdaptyConnectionError("no connection", sent=False)


NO_CONTENT = Response(204)
ABSENT = error(404, "profile_does_not_exist")
UNAUTHORIZED = error(401, "not_authenticated")
FORBIDDEN = error(403)
PROFILE = Response(
    200,
    {},
    b'{"data": {"app_id": "14c3d623-2f3a-455a-aa86-ef83dff6913b",'
    b' "profile_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"}}',
)


async def report_of_a_free_loop(job: BulkJob[Any, Any]) -> BulkReport:
    """Await a job. On average, the loop must run at least every 0.05 s during that time."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    report = await job
    ticking.cancel()
    assert report.finished is not None
    assert report.started is not None
    assert ticks >= (report.finished - report.started).total_seconds() / 0.05
    return report
