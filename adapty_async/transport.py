"""Exactly one attempt: bytes out, bytes in. The only file that knows aiohttp's client."""

import asyncio
import hashlib
import math
import ssl as ssl_module
from typing import Final, Never

import aiohttp
import yarl
from aiohttp.connector import Connection
from aiohttp.http_exceptions import ContentEncodingError

from .errors import AdaptyConnectionError, AdaptyError, AdaptyResponseError, AdaptyTimeoutError
from .messages import Headers, Request, Response

MAX_BODY: Final = 8 * 1024 * 1024
# What tells by its type alone that no request left; for the rest, see _OneSend.sent.
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class _LostError(Exception):
    """The connection was lost after the request may have left."""


class _TooLargeError(Exception):
    """The body is larger than we take."""


_FAILURES: Final = (aiohttp.ClientError, OSError, _LostError, _TooLargeError)


class _Request(aiohttp.ClientRequest):
    """A request that knows whether it began to leave: there was a connection for it."""

    left = False

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        self.left = True
        return await super().send(conn)


class _OneSend:
    """The middleware of one attempt: puts the key on, and sees to it that the request leaves at most once."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization
        self._request: _Request | None = None

    @property
    def sent(self) -> bool:
        """Whether the request may have left. Where nothing is known, it may."""
        return self._request is None or self._request.left

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        assert isinstance(request, _Request)
        self._request = request
        # Here, over what a netrc file may have put there: as a header of the call it would be refused beside one.
        request.headers["Authorization"] = self._authorization
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if not request.left:
                raise
        # After its own errors, and only those, aiohttp sends GET, PUT and DELETE a second time by itself.
        raise _LostError


class Transport:
    """Own the connections to one server, and the key. Opened by the first attempt, in the running loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        session: aiohttp.ClientSession | None,
        trust_env: bool,
        ssl: ssl_module.SSLContext | None,
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._borrowed = session
        self._trust_env = trust_env
        self._ssl: ssl_module.SSLContext | bool = True if ssl is None else ssl
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def connection_limit(self) -> float:
        """The most connections that can be open at one time."""
        connector = self._borrowed.connector if self._borrowed else None
        if connector is None:
            return math.inf
        return min(connector.limit or math.inf, connector.limit_per_host or math.inf)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen in any text of the server's."""
        return (self._api_key,)

    @property
    def key_fingerprint(self) -> str:
        """What tells this key from another, and doesn't lead back to it."""
        return hashlib.sha256(self._api_key.encode()).hexdigest()[:16]

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - aiohttp's own timeout is used
        """Send a request once and read its answer, within `timeout` seconds.

        Raises AdaptyConnectionError, AdaptyTimeoutError, or AdaptyResponseError for a 2xx that can't be read.
        """
        session = self._open()
        one_send = _OneSend(f"Api-Key {self._api_key}")
        try:
            return await self._exchange(session, request, timeout, one_send)
        except _FAILURES as caught:
            failure = _translate(caught, sent=one_send.sent and not isinstance(caught, _NEVER_SENT))
        # Here and not above: raised there, the error would carry aiohttp's, whose text holds headers and ids.
        raise failure

    async def close(self) -> None:
        """Close the connections that are our own; again, harmlessly."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def check_usable(self) -> None:
        """Raise RuntimeError where no attempt can be made: after close, or on another event loop."""
        if self._closed:
            raise RuntimeError("the client is closed: make a new AdaptyClient")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop: make one AdaptyClient per loop")

    def _open(self) -> aiohttp.ClientSession:
        self.check_usable()
        if self._session is None:
            self._session = self._own() if self._borrowed is None else self._borrow(self._borrowed)
        if self._session.closed:
            raise RuntimeError("the session given to the client is closed")
        return self._session

    def _own(self) -> aiohttp.ClientSession:
        # limit=0: nothing queues inside aiohttp on the clock of a timeout.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            request_class=_Request,
        )

    def _borrow(self, lender: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """Make an own session on the lender's connections: its headers, cookies, auth and middlewares stay with it."""
        if lender.closed:
            raise RuntimeError("the session given to the client is closed")
        try:
            return aiohttp.ClientSession(
                connector=lender.connector,
                connector_owner=False,
                loop=asyncio.get_running_loop(),  # unsaid, it would be taken from the connector, right or wrong
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env or lender.trust_env,
                trace_configs=list(lender.trace_configs),
                request_class=_Request,
            )
        except RuntimeError:
            raise RuntimeError("the session given to the client belongs to another event loop") from None

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, seconds: float, one_send: _OneSend
    ) -> Response:
        async with session.request(
            request.method,
            self._url(request),
            headers=self._headers(request),
            data=request.content,
            timeout=aiohttp.ClientTimeout(total=seconds, ceil_threshold=math.inf),
            ssl=self._ssl,
            allow_redirects=False,
            middlewares=(one_send,),
        ) as answer:
            return await _read(answer)

    def __reduce__(self) -> Never:
        raise TypeError("a client can't be pickled or copied deeply, for it holds the key: make one where it is used")

    def _url(self, request: Request) -> yarl.URL:
        url = yarl.URL(self._base_url + request.path)
        return url.with_query(request.query) if request.query else url

    def _headers(self, request: Request) -> dict[str, str]:
        headers = dict(request.headers)
        if request.content is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        return headers


async def _read(answer: aiohttp.ClientResponse) -> Response:
    try:
        body = await _read_body(answer)
    except _FAILURES:
        if 200 <= answer.status < 300:
            raise
        body = b""  # the answer is a refusal, whatever became of its body
    return Response(answer.status, Headers(answer.headers), body)


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            raise _TooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def _translate(caught: Exception, *, sent: bool) -> AdaptyError:
    """Say what a failure of aiohttp means. Its text is never shown: it may hold headers, ids and the body."""
    if isinstance(caught, TimeoutError):
        return AdaptyTimeoutError("no answer in time" if sent else "no connection in time", sent=sent)
    if isinstance(caught, _TooLargeError):
        return AdaptyResponseError(f"an answer of more than {MAX_BODY} bytes")
    if isinstance(caught.__cause__, ContentEncodingError):
        return AdaptyResponseError("an answer that can't be unpacked")
    if sent and isinstance(caught, aiohttp.ClientResponseError):
        return AdaptyConnectionError("the answer is no HTTP")
    if sent:
        return AdaptyConnectionError("the connection was lost before the whole answer was there")
    return AdaptyConnectionError(f"no connection ({type(caught).__name__})", sent=False)
