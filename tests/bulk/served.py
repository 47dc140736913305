"""A client with a transport that responds as a test decides, by the time since its start, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

from adapty_async import AdaptivePacer, AdaptyClient, AdaptyError, Request, Response, RetryPolicy
from adapty_async.bulk import StopRules
from adapty_async.client import get_sender
from adapty_async.http.transport import Transport
from adapty_async.pacing import Ticket, Verdict

from .scripted import NO_CONTENT, error

LENIENT = StopRules(max_failure_ratio=None, max_absent_ratio=None)
Serve = Callable[[float], Awaitable[Response | AdaptyError]]


def ids(count: int) -> Iterator[str]:
    return (f"u{number}" for number in range(count))


def now() -> float:
    return asyncio.get_running_loop().time()


class Server(Transport):
    """Let `serve` respond to each request, given the seconds since the start. Record the times of the requests."""

    def __init__(self, serve: Serve) -> None:
        super().__init__("https://api.test", "Api-Key secret", session=None, trust_env=False, ssl=None)
        self._serve = serve
        self._began = now()
        self.sent: list[float] = []
        self.sent_again: list[float] = []
        self.succeeded: list[float] = []
        self._seen: set[str] = set()
        self.under_way = self.most_under_way = 0

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        self.sent.append(now() - self._began)
        who = request.headers["adapty-customer-user-id"]
        if who in self._seen:
            self.sent_again.append(now() - self._began)
        self._seen.add(who)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = await self._serve(now() - self._began)
        finally:
            self.under_way -= 1
        if isinstance(answer, AdaptyError):
            raise answer
        if answer is NO_CONTENT:
            self.succeeded.append(now() - self._began)
        return answer


def served_client(serve: Serve) -> tuple[AdaptyClient, Server]:
    """Create a client of a server that responds with the results of `serve`."""
    client, server = AdaptyClient("secret", retry=RetryPolicy()), Server(serve)
    get_sender(client).transport = server
    return client, server


def within(times: list[float], first: float, last: float) -> int:
    return sum(first <= time < last for time in times)


def failing(begins: float, ends: float, share: float, answer: Response | AdaptyError | None = None) -> Serve:
    """Respond after 0.1 s. Between two times, a share of the requests fails."""
    rng = random.Random(1)  # noqa: S311 - repeatable

    async def serve(since: float) -> Response | AdaptyError:
        fails = begins <= since < ends and rng.random() < share
        await asyncio.sleep(0.1)
        return (answer or error(503)) if fails else NO_CONTENT

    return serve


class Told(AdaptivePacer):
    """Keep the tickets whose results haven't been recorded yet."""

    def __init__(self) -> None:
        super().__init__()
        self.untold: set[int] = set()

    def acquire(self, now: float) -> Ticket:
        ticket = super().acquire(now)
        self.untold.add(ticket.number)
        return ticket

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        super().record(now, ticket, verdict, retry_after)
        self.untold.remove(ticket.number)
