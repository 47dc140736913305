"""Exactly one attempt: bytes out, bytes in. The only file that knows aiohttp's client."""

import asyncio
import math
import ssl as ssl_module
from collections.abc import Iterable, Mapping
from typing import Final

import aiohttp
import yarl
from aiohttp.http_exceptions import ContentEncodingError

from .errors import AdaptyConnectionError, AdaptyError, AdaptyResponseError, AdaptyTimeoutError
from .messages import Headers, Request, Response

MAX_BODY: Final = 8 * 1024 * 1024
# The part of an attempt's time that connecting may use. Slightly below the whole, so that a connection that never came
# about is told from an answer that never came.
_CONNECT_SHARE: Final = 0.99
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
)


class _LostError(Exception):
    """The connection was lost after the request may have left."""


class _TooLargeError(Exception):
    """The body is larger than we take."""


class _RedactedHeaders(dict[str, str]):
    """The headers of a request; they name a person and hold the key, so no repr shows a value."""

    def __repr__(self) -> str:
        return f"<headers: {', '.join(self)}>"


class Transport:
    """Own the connections to one server, and the key. Opened by the first attempt, in the running loop."""

    def __init__(
        self,
        base_url: str,
        authorization: str,
        *,
        session: aiohttp.ClientSession | None,
        trust_env: bool,
        ssl: ssl_module.SSLContext | None,
    ) -> None:
        self._base_url = base_url
        self._authorization = authorization
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
        return connector.limit or math.inf if connector else math.inf

    @property
    def secrets(self) -> Iterable[str]:
        """What must not be seen in any text of the server's."""
        return (self._authorization, self._authorization.rpartition(" ")[2])

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - aiohttp's own timeout is used
        """Send a request once and read its answer, within `timeout` seconds.

        Raises AdaptyConnectionError, AdaptyTimeoutError, or AdaptyResponseError for a 2xx that can't be read.
        """
        session = self._open()
        headers: Mapping[str, str] | None = None
        status = 0
        try:
            async with session.request(
                request.method,
                self._url(request),
                headers=self._headers(request),
                data=request.content,
                timeout=aiohttp.ClientTimeout(total=timeout, connect=timeout * _CONNECT_SHARE, ceil_threshold=math.inf),
                ssl=self._ssl,
                allow_redirects=False,
                middlewares=(self._send_once,),
            ) as response:
                status, headers = response.status, Headers(response.headers)
                return Response(status, headers, await _read(response))
        except (aiohttp.ClientError, OSError, _LostError, _TooLargeError) as caught:
            failure = _translate(caught)
        # Here and not above: raised there, the error would carry aiohttp's, whose text holds headers and ids.
        if headers is not None and not 200 <= status < 300:
            return Response(status, headers)  # the answer is a refusal, whatever became of its body
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

    async def _send_once(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Put the key on, and keep aiohttp from sending GET, PUT and DELETE a second time by itself.

        After a reset it does, but only for its own errors. The key comes here, over what a netrc file may have put
        there: as a header of the call it would be refused beside one.
        """
        request.headers["Authorization"] = self._authorization
        try:
            return await handler(request)
        except _NEVER_SENT:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            pass
        raise _LostError

    def _open(self) -> aiohttp.ClientSession:
        self.check_usable()
        if self._session is None:
            self._session = self._borrow(self._borrowed) if self._borrowed else self._own()
        return self._session

    def _own(self) -> aiohttp.ClientSession:
        # limit=0: nothing queues inside aiohttp on the clock of a timeout.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )

    def _borrow(self, lender: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """Make an own session on the lender's connections: its headers, cookies, auth and middlewares stay with it."""
        if lender.closed or lender.connector is None:
            raise RuntimeError("the session given to the client is closed")
        return aiohttp.ClientSession(
            connector=lender.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env or lender.trust_env,
            trace_configs=list(lender.trace_configs),
        )

    def _url(self, request: Request) -> yarl.URL:
        url = yarl.URL(self._base_url + request.path)
        return url.with_query(request.query) if request.query else url

    def _headers(self, request: Request) -> _RedactedHeaders:
        headers = _RedactedHeaders(request.headers)
        if request.content is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        return headers


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the unpacked body."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            response.close()
            raise _TooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def _translate(caught: Exception) -> AdaptyError:
    """Say what a failure of aiohttp means: what kind, and whether the request had left. Its text is never shown."""
    sent = not isinstance(caught, _NEVER_SENT)
    if isinstance(caught, TimeoutError):
        return AdaptyTimeoutError("no answer in time" if sent else "no connection in time", sent=sent)
    if isinstance(caught, _TooLargeError):
        return AdaptyResponseError(f"an answer of more than {MAX_BODY} bytes")
    if isinstance(caught.__cause__, ContentEncodingError):
        return AdaptyResponseError("an answer that can't be unpacked")
    if sent:
        return AdaptyConnectionError("the connection was lost before the whole answer was there")
    return AdaptyConnectionError(f"no connection ({type(caught).__name__})", sent=False)
