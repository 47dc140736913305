"""A single attempt on the wire. Besides `connections`, this is the only module that uses aiohttp's client."""

import asyncio
import hashlib
import math
import ssl as ssl_module
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from http.cookies import SimpleCookie
from typing import Any, Final, Never

import aiohttp
import yarl
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict

from ..errors import AdaptyConnectionError, AdaptyError, AdaptyTimeoutError, InvalidResponseError
from .connections import Connector, Origin, own_pool
from .deadlines import Deadlines
from .descriptors import shortage_behind
from .requests import Request, Response, received

MAX_BODY: Final = 8 * 1024 * 1024
_URLS_KEPT: Final = 64
# Seconds that calls in flight get to end when the client is closed. Mostly they need a few rounds of the event loop.
_CLOSING_TIME: Final = 0.5
# aiohttp would use one timer per attempt; see Deadlines.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


# Errors whose type alone shows that no request was sent. For other errors see _Leaving.
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


_SESSION_CLOSED: Final = "the session given to the client is closed"


class _LostError(Exception):
    """The connection was lost after the request may have been sent."""


class _TooLargeError(Exception):
    """The body exceeds MAX_BODY."""


_FAILURES: Final = (aiohttp.ClientError, OSError, _LostError, _TooLargeError)


class _Common:
    """What all requests to a server share: headers, including the API key, and the key of their connections."""

    __slots__ = ("connection_key", "headers")

    def __init__(self, base_url: str, api_key: str) -> None:
        host = yarl.URL(base_url).host_port_subcomponent
        assert host is not None
        self.headers = CIMultiDict({"Host": host, "Authorization": f"Api-Key {api_key}", "User-Agent": SERVER_SOFTWARE})
        self.headers.update(aiohttp.ClientRequest.DEFAULT_HEADERS)
        self.connection_key: ConnectionKey | None = None


class _Leaving:
    """The state of an attempt while it is being made.

    `has_left` is None while it isn't known whether the request was sent. `refusal` is the head of a response other than
    2xx, kept because its body may get lost.
    """

    __slots__ = ("common", "has_left", "origin", "refusal")

    def __init__(self, common: _Common, origin: Origin) -> None:
        self.common = common
        self.origin = origin
        self.has_left: bool | None = None
        self.refusal: Response | None = None


# Passes the state to the classes below, which aiohttp calls. A middleware would take 20% of the time of a call.
_leaving: Final[ContextVar[_Leaving]] = ContextVar("adapty_async_leaving")


class _Request(aiohttp.ClientRequest):
    """A request with prepared headers: those of all requests, including the API key, and its own.

    It ignores netrc files. aiohttp's own class would compute the same headers for every request.
    """

    @property
    def connection_key(self) -> ConnectionKey:
        return own_pool(self._shared_key) if self.origin.fresh else self._shared_key

    @property
    def _shared_key(self) -> ConnectionKey:
        if self.proxy is not None:
            return super().connection_key
        common = self.leaving.common
        if common.connection_key is None:
            common.connection_key = super().connection_key
        return common.connection_key

    @property
    def origin(self) -> Origin:
        """The attempt's connection, read by Connector."""
        return self.leaving.origin

    def update_host(self, url: yarl.URL) -> None:
        """Do nothing: the client has checked its URL."""

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.leaving = _leaving.get()
        self.headers = self.leaving.common.headers.copy()
        if headers:
            self.headers.update(headers)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Do nothing: these headers are among those of all requests."""

    def update_auth(self, auth: aiohttp.BasicAuth | None, trust_env: bool = False) -> None:
        """Do nothing: the API key is among the headers of all requests."""

    def update_transfer_encoding(self) -> None:
        """Do nothing: bodies are never sent in chunks."""

    def send(  # pyright: ignore[reportIncompatibleMethodOverride] - returns a coroutine, which saves a wrapper
        self, conn: Connection
    ) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        self.leaving.has_left = True
        self.leaving.origin.leave()
        return super().send(conn)


class _OneSend(aiohttp.DummyCookieJar):
    """A cookie jar without cookies that lets each attempt be sent only once.

    aiohttp asks for cookies before every send. After a connection reset it would repeat GET, PUT and DELETE by itself.
    """

    _NONE: Final[SimpleCookie] = SimpleCookie()

    def filter_cookies(self, request_url: yarl.URL) -> SimpleCookie:
        leaving = _leaving.get()
        if leaving.has_left:
            raise _LostError
        leaving.has_left = False
        return self._NONE


class Transport:
    """The connections to one server, and the API key. Opened by the first attempt, on the running loop."""

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
        self._common = _Common(base_url, api_key)
        self._borrowed = session
        self._trust_env = trust_env
        self._ssl: ssl_module.SSLContext | bool = True if ssl is None else ssl
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._on_closing: set[Callable[[], None]] = set()
        self._urls: dict[str, yarl.URL] = {}

    @property
    def connection_limit(self) -> float:
        """The maximum number of connections that can be open at one time."""
        connector = self._borrowed.connector if self._borrowed else None
        if connector is None:
            return math.inf
        return min(connector.limit or math.inf, connector.limit_per_host or math.inf)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in any message from the server."""
        return (self._api_key,)

    @property
    def key_fingerprint(self) -> str:
        """A hash that identifies the key and doesn't reveal it."""
        return hashlib.sha256(self._api_key.encode()).hexdigest()[:16]

    @property
    def is_closed(self) -> bool:
        """Whether requests can no longer be sent, because the client or the session given to it is closed."""
        return self._closed or self._is_session_closed

    @property
    def _is_session_closed(self) -> bool:
        return self._borrowed is not None and (self._session or self._borrowed).closed

    # These two return coroutines instead of being async, which saves a wrapper.
    def attempt(self, request: Request, timeout: float) -> Coroutine[Any, Any, Response]:
        """Send a request once and read its response within `timeout` seconds.

        Raises:
            AdaptyConnectionError: If the connection fails or the client is closed.
            AdaptyTimeoutError: If the time is over.
            InvalidResponseError: If a 2xx response can't be read.
        """
        return self._attempt(request, timeout, Origin(fresh=False))

    def attempt_afresh(self, request: Request, timeout: float) -> Coroutine[Any, Any, Response]:
        """Like `attempt`, but on a new connection."""
        return self._attempt(request, timeout, Origin(fresh=True))

    async def _attempt(self, request: Request, timeout: float, origin: Origin) -> Response:  # noqa: ASYNC109 - see Deadlines
        session = self._session or self._open()
        leaving = _Leaving(self._common, origin)
        token = _leaving.set(leaving)
        deadline = self.deadlines.start(timeout)
        answer: aiohttp.ClientResponse | None = None
        failure: AdaptyError
        try:
            answer = await session.request(
                request.method,
                self._url(request),
                headers=request.headers if request.content is None else _with_content_type(request.headers),
                data=request.content,
                ssl=self._ssl,
                allow_redirects=False,
            )
            if not 200 <= answer.status < 300:
                leaving.refusal = received(answer.status, answer.headers, b"", origin)
            # If the body is complete, or there is none, the connection has been released already.
            body = b"" if answer.content.at_eof() else await _read(answer)
            return received(answer.status, answer.headers, body, origin)
        except RuntimeError:
            if not session.closed:
                raise
            failure = AdaptyConnectionError(_SESSION_CLOSED, sent=leaving.has_left is not False)
        except _FAILURES as caught:
            failure = _translate(caught, sent=leaving.has_left is not False and not isinstance(caught, _NEVER_SENT))
        except asyncio.CancelledError:
            if not deadline.is_behind():
                raise
            sent = leaving.has_left is not False
            failure = self.closed_error(sent=sent) if self._closed else _too_late(sent=sent)
        finally:
            deadline.stop()
            _leaving.reset(token)
            answer = None  # holds headers and the API key, which must not be in the traceback of the error
        if leaving.refusal is not None:  # the status counts, even if the body was lost
            return leaving.refusal
        # Raised outside the except blocks. There aiohttp's error would be its context, which holds headers and IDs.
        raise failure

    def anew(self) -> "Transport":
        """Return a transport for another event loop: the same server and key, but its own connections."""
        ssl = None if isinstance(self._ssl, bool) else self._ssl
        return Transport(self._base_url, self._api_key, session=self._borrowed, trust_env=self._trust_env, ssl=ssl)

    async def close(self) -> None:
        """End the calls in flight, then close the connections unless they are borrowed. Repeated calls have no effect.

        Running deadlines stay in force: with a borrowed session nothing else would end the rest of the calls.
        """
        self._closed = True
        if self._connector is not None:
            self._connector.stop()
        session, self._session = self._session, None
        for tell in tuple(self._on_closing):
            tell()
        try:
            # Tasks of another loop can't be cancelled from here; that loop may be gone.
            if self._loop is asyncio.get_running_loop():
                await self.deadlines.end_all(_CLOSING_TIME)
        finally:
            if session is not None:
                await session.close()

    def watch_closing(self, on_closing: Callable[[], None]) -> None:
        """Call `on_closing` when the client is closed, before the calls in flight are ended."""
        self._on_closing.add(on_closing)

    def unwatch_closing(self, on_closing: Callable[[], None]) -> None:
        """Stop calling `on_closing`."""
        self._on_closing.discard(on_closing)

    def closed_error(
        self, *, sent: bool, attempts: int = 1, maybe_executed: bool | None = None
    ) -> AdaptyConnectionError:
        """Return the error of a call that ends because requests can no longer be sent."""
        message = "the client was closed" if self._closed else _SESSION_CLOSED
        return AdaptyConnectionError(message, sent=sent, attempts=attempts, maybe_executed=maybe_executed)

    def check_usable(self) -> None:
        """Check that a call can be made.

        Raises:
            RuntimeError: If the client is closed or belongs to another event loop.
        """
        if self._closed:
            raise RuntimeError("the client is closed: create a new AdaptyClient")
        if self._is_session_closed:
            raise RuntimeError(_SESSION_CLOSED)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self.deadlines = loop, Deadlines(loop)
        elif self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop: create one AdaptyClient per loop")

    def _open(self) -> aiohttp.ClientSession:
        if self.is_closed:  # closed since the call began: raise the same error as for a call in flight
            raise self.closed_error(sent=False)
        self.check_usable()
        self._session = session = self._own() if self._borrowed is None else self._borrow(self._borrowed)
        return session

    def _own(self) -> aiohttp.ClientSession:
        # limit=0: requests must not queue inside aiohttp while their timeout runs.
        return aiohttp.ClientSession(
            connector=self._checked(aiohttp.TCPConnector(limit=0)),
            cookie_jar=_OneSend(),
            trust_env=self._trust_env,
            request_class=_Request,
            timeout=_NO_TIMEOUT,
        )

    def _borrow(self, lender: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """Return a new session on the lender's connections, without its headers, cookies, auth and middlewares."""
        assert lender.connector is not None  # checked to be open
        try:
            return aiohttp.ClientSession(
                connector=self._checked(lender.connector),
                connector_owner=False,
                loop=asyncio.get_running_loop(),  # otherwise taken from the connector without a check
                cookie_jar=_OneSend(),
                trust_env=self._trust_env or lender.trust_env,
                trace_configs=list(lender.trace_configs),
                request_class=_Request,
                timeout=_NO_TIMEOUT,
            )
        except RuntimeError:
            raise RuntimeError("the session given to the client belongs to another event loop") from None

    def _checked(self, connector: aiohttp.BaseConnector) -> aiohttp.BaseConnector:
        self._connector = Connector(connector)
        return self._connector.as_connector

    def __reduce__(self) -> Never:
        raise TypeError(
            "a client can't be pickled or deep-copied, because it holds the API key: create it where it is used"
        )

    def _url(self, request: Request) -> yarl.URL:
        url = self._urls.get(request.path)
        if url is None:
            url = yarl.URL(self._base_url + request.path)
            if len(self._urls) < _URLS_KEPT:
                self._urls[request.path] = url
        return url.with_query(request.query) if request.query else url


def _with_content_type(headers: Mapping[str, str]) -> Mapping[str, str]:
    if any(name.lower() == "content-type" for name in headers):
        return headers
    return {**headers, "Content-Type": "application/json"}


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = answer.content
    try:
        chunks = [content.read_nowait()]  # usually the body arrives together with the head
        size = len(chunks[0])
        while not content.at_eof() and size <= MAX_BODY:
            chunks.append(await content.readany())
            size += len(chunks[-1])
    finally:
        answer.release()
    if size > MAX_BODY:
        raise _TooLargeError
    return b"".join(chunks)


def _too_late(*, sent: bool) -> AdaptyTimeoutError:
    return AdaptyTimeoutError("no response in time" if sent else "no connection in time", sent=sent)


def _translate(caught: Exception, *, sent: bool) -> AdaptyError:
    """Return the library's error for one of aiohttp. Its text is left out: it may hold headers, IDs and the body."""
    if isinstance(caught, TimeoutError):  # of the operating system, for a connection
        return _too_late(sent=sent)
    if isinstance(caught, _TooLargeError):
        return InvalidResponseError(f"the response is larger than {MAX_BODY} bytes")
    if isinstance(caught.__cause__, ContentEncodingError):
        return InvalidResponseError("the response can't be decompressed")
    if sent and isinstance(caught, aiohttp.ClientResponseError):
        return AdaptyConnectionError("the response isn't HTTP")
    if sent:
        return AdaptyConnectionError("the connection was lost before the response was complete")
    cause = caught.os_error if isinstance(caught, aiohttp.ClientConnectorError) else caught
    shortage = shortage_behind(cause) if isinstance(cause, OSError) else None
    if shortage is not None:
        return _out_of_descriptors(shortage)
    return AdaptyConnectionError(f"no connection ({type(caught).__name__})", sent=False)


def _out_of_descriptors(number: int) -> AdaptyConnectionError:
    error = AdaptyConnectionError("no connection: too many open files; raise the limit (ulimit -n)", sent=False)
    error.errno = number  # shows a job that the server isn't at fault
    return error
