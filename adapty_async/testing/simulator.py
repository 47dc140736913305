"""The simulator: its lifetime, its controls and how it handles a request."""

import asyncio
import secrets
import uuid
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from aiohttp import web

from . import profile_operations
from .fault_responses import respond_with_fault
from .faults import Fault, Faults
from .limiter import Limiter
from .profiles import Profile, Profiles, prefilled_customer_user_id
from .request_log import Counts, RecordedRequest
from .responses import (
    METHOD_NOT_ALLOWED,
    NOT_AUTHENTICATED,
    RATE_LIMITED,
    UNKNOWN_PATH,
    RejectedRequestError,
    SimulatedResponse,
    format_retry_after,
)
from .server import Server, reset_connection, send_surplus

PROFILE_PATH = "/api/v2/server-side-api/profile/"
STATE_PATH = "/_simulator/state"

_OPERATIONS: dict[str, profile_operations.OperationHandler] = {
    "GET": profile_operations.handle_get,
    "POST": profile_operations.handle_create,
    "PATCH": profile_operations.handle_update,
    "DELETE": profile_operations.handle_delete,
}


class Simulator:
    """A simulator of Adapty's server-side API for one app, on a loopback port.

    ::

        async with Simulator(profiles=10) as sim:
            async with AdaptyClient(sim.api_key, base_url=sim.base_url) as client: ...
            assert sim.count.answers["DELETE", 204] == 10

    It supports the four operations on profiles. `limiter`, `retry_after`, `faults` and `latency` may be assigned while
    it runs. `requests`, `stats` and `profiles` can also be read after it has stopped.

    Args:
        api_key: The API key to accept. By default a random one.
        profiles: The number of profiles to start with. Their customer user IDs are `user-000001@example.com` and so on.
        rate: The rate limit in requests per second. None for no limit.
        burst: Requests accepted above the rate.
        retry_after: Seconds in the `Retry-After` header of a 429. None for no header.
        fault_rates: The share of the requests that suffers each fault. Only requests with the right key and below the
            rate limit suffer faults.
        retry_after_503: Seconds in the `Retry-After` header of a 503. None for no header.
        delay: Seconds by which Fault.DELAY delays a response.
        latency: Seconds between the work and its response.
        seed: Determines the faults and the profile IDs.
        port: The port to listen on. 0 for any free port.
        record: The number of requests to keep in `requests`.

    Attributes:
        limiter: The rate limit. None for no limit.
        faults: The faults, created from `fault_rates`, `retry_after_503`, `delay` and `seed`.
        requests: The last requests.
        stats: The counts since the simulator was created.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        profiles: int = 0,
        rate: float | None = None,
        burst: int = 10,
        retry_after: float | None = None,
        fault_rates: Mapping[Fault, float] | None = None,
        retry_after_503: float | None = None,
        delay: float = 1.0,
        latency: float = 0.0,
        seed: int = 0,
        port: int = 0,
        record: int = 1000,
    ) -> None:
        self.api_key = f"secret_simulated_{secrets.token_hex(16)}" if api_key is None else api_key
        self.limiter = None if rate is None else Limiter(rate, burst)
        self.retry_after = retry_after
        self.faults = Faults(fault_rates, retry_after_503=retry_after_503, delay=delay, seed=seed)
        self.latency = latency
        self.profiles = Profiles(seed)
        for number in range(1, profiles + 1):
            self.profiles.add(customer_user_id=prefilled_customer_user_id(number))
        self.requests: deque[RecordedRequest] = deque(maxlen=record)
        self.stats = Counts()
        self._port = port
        self._previous_response: SimulatedResponse | None = None
        self._server = Server(self._handle, self._on_connection)

    @property
    def base_url(self) -> str:
        """The address to send requests to. Raises RuntimeError while the simulator isn't running."""
        return f"http://127.0.0.1:{self._server.port}"

    def add_profile(self, *, customer_user_id: str | None = None, profile_id: str | UUID | None = None) -> Profile:
        """Add a profile.

        Args:
            customer_user_id: The ID of the app's own system.
            profile_id: Adapty's ID. By default a new one is generated.

        Returns:
            The profile.

        Raises:
            ValueError: If the profile ID isn't a UUID, or a profile with one of the IDs exists.
        """
        return self.profiles.add(customer_user_id=customer_user_id, profile_id=profile_id)

    def inject(self, *faults: Fault, method: str | None = None) -> None:
        """Inject faults into the next requests, after those injected before. Then requests are handled as usual.

        Args:
            *faults: The faults, one per request.
            method: Apply them only to requests of this method. None means all.
        """
        self.faults.inject(*faults, method=method)

    def state(self) -> dict[str, Any]:
        """Return the number of profiles and the counts for JSON, as `GET /_simulator/state` does."""
        return {"profiles": len(self.profiles), **self.stats.as_json()}

    async def start(self) -> None:
        """Start the simulator. After a stop it uses the same port again.

        Raises:
            OSError: If the port is in use.
        """
        await self._server.start(self._port)
        self._port = self._server.port

    async def stop(self) -> None:
        """Cancel the requests in flight and close every connection. Repeated calls have no effect."""
        await self._server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _on_connection(self) -> None:
        self.stats.connections += 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == STATE_PATH:
            return web.json_response(self.state())
        self.stats.count_request()
        try:
            return await self._handle_api_request(request)
        finally:
            self.stats.in_flight -= 1

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()
        except (ConnectionError, web.RequestPayloadError):
            return reset_connection(request)  # the caller has disconnected, or the body can't be decompressed
        self.requests.append(RecordedRequest(request.method, request.path, request.headers, body))
        rejection = self._find_rejection(request.headers)
        fault = Fault.NONE if rejection else self.faults.next(request.method)
        response = rejection or respond_with_fault(
            fault, lambda: self._dispatch(request.method, request.path, request.headers, body)
        )
        # Also without latency, so that requests which arrived together are in flight together, and counted so.
        await asyncio.sleep(self.latency + (self.faults.delay if fault is Fault.DELAY else 0.0))
        if response is None:
            self.stats.resets += 1
            return reset_connection(request)
        self.stats.responses[request.method, response.status] += 1
        http_response, previous = self._build_http_response(response), self._previous_response or response
        self._previous_response = response
        if fault in (Fault.SURPLUS, Fault.STALE):
            return await send_surplus(
                request, http_response, self._build_http_response(previous), is_surplus_first=fault is Fault.STALE
            )
        return http_response

    def _find_rejection(self, headers: Mapping[str, str]) -> SimulatedResponse | None:
        """Return the response to a request with a wrong key or above the rate limit, or None."""
        if headers.get("Authorization") != f"Api-Key {self.api_key}":
            return NOT_AUTHENTICATED
        if self.limiter and not self.limiter.accepts(asyncio.get_running_loop().time()):
            return RATE_LIMITED
        return None

    def _dispatch(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> SimulatedResponse:
        if path != PROFILE_PATH:
            return UNKNOWN_PATH
        operation = _OPERATIONS.get(method)
        if operation is None:
            return METHOD_NOT_ALLOWED
        try:
            return operation(self.profiles, headers, body)
        except RejectedRequestError as refused:
            return refused.response

    def _build_http_response(self, response: SimulatedResponse) -> web.Response:
        headers = {"Request-Id": str(uuid.uuid4())}
        retry_after = {429: self.retry_after, 503: self.faults.retry_after_503}.get(response.status)
        if retry_after is not None:
            headers["Retry-After"] = format_retry_after(retry_after)
        if response.body:
            headers["Content-Type"] = "application/json"
        headers.update(response.headers)
        http_response = web.Response(status=response.status, body=response.body or None, headers=headers)
        if response.is_last:
            http_response.force_close()
        return http_response
