"""A single attempt on the wire. Besides `extra_responses`, this is the only module that uses aiohttp's client."""

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
from .deadline_timers import DeadlineTimers
from .descriptor_limit import find_shortage_errno
from .extra_responses import Connector, ExtraResponseCheck, make_unpooled_key
from .requests import Request, Response, build_response

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_MAX_CACHED_URLS: Final = 64
# Seconds that calls in flight get to end when the client is closed. Mostly they need a few rounds of the event loop.
_MAX_CLOSING_SECONDS: Final = 0.5
# aiohttp would use one timer per attempt; see Deadlines.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


# Errors whose type alone shows that no request was sent. For other errors see _Leaving.
_NEVER_SENT_ERRORS: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


_SESSION_CLOSED_MESSAGE: Final = "the session given to the client is closed"


class _ConnectionLostError(Exception):
    """The connection was lost after the request may have been sent."""


class _BodyTooLargeError(Exception):
    """The body exceeds MAX_BODY."""


_TRANSPORT_ERRORS: Final = (aiohttp.ClientError, OSError, _ConnectionLostError, _BodyTooLargeError)


class _SharedRequestParts:
    """What all requests to a server share: headers, including the API key, and the key of their connections."""

    __slots__ = ("connection_key", "headers")

    def __init__(self, base_url: str, api_key: str) -> None:
        host = yarl.URL(base_url).host_port_subcomponent
        assert host is not None
        self.headers = CIMultiDict({"Host": host, "Authorization": f"Api-Key {api_key}", "User-Agent": SERVER_SOFTWARE})
        self.headers.update(aiohttp.ClientRequest.DEFAULT_HEADERS)
        self.connection_key: ConnectionKey | None = None


class _AttemptState:
    """The state of an attempt while it is being made.

    `is_sent` is None while it isn't known whether the request was sent. `error_response` is the head of a response
    other than 2xx, kept because its body may get lost.
    """

    __slots__ = ("connection_check", "error_response", "is_sent", "shared_parts")

    def __init__(self, shared_parts: _SharedRequestParts, connection_check: ExtraResponseCheck) -> None:
        self.shared_parts = shared_parts
        self.connection_check = connection_check
        self.is_sent: bool | None = None
        self.error_response: Response | None = None


# Passes the state to the classes below, which aiohttp calls. A middleware would take 20% of the time of a call.
_attempt_state: Final[ContextVar[_AttemptState]] = ContextVar("adapty_async_attempt_state")


class _Request(aiohttp.ClientRequest):
    """A request with prepared headers: those of all requests, including the API key, and its own.

    It ignores netrc files. aiohttp's own class would compute the same headers for every request.
    """

    @property
    def connection_key(self) -> ConnectionKey:
        return make_unpooled_key(self._shared_key) if self.connection_check.needs_new_connection else self._shared_key

    @property
    def _shared_key(self) -> ConnectionKey:
        if self.proxy is not None:
            return super().connection_key
        shared_parts = self.attempt_state.shared_parts
        if shared_parts.connection_key is None:
            shared_parts.connection_key = super().connection_key
        return shared_parts.connection_key

    @property
    def connection_check(self) -> ExtraResponseCheck:
        """The attempt's connection, read by Connector."""
        return self.attempt_state.connection_check

    def update_host(self, url: yarl.URL) -> None:
        """Do nothing: the client has checked its URL."""

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.attempt_state = _attempt_state.get()
        self.headers = self.attempt_state.shared_parts.headers.copy()
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
        self.attempt_state.is_sent = True
        self.attempt_state.connection_check.on_send()
        return super().send(conn)


class _SingleSendCookieJar(aiohttp.DummyCookieJar):
    """A cookie jar without cookies that lets each attempt be sent only once.

    aiohttp asks for cookies before every send. After a connection reset it would repeat GET, PUT and DELETE by itself.
    """

    _NO_COOKIES: Final[SimpleCookie] = SimpleCookie()

    def filter_cookies(self, request_url: yarl.URL) -> SimpleCookie:
        attempt_state = _attempt_state.get()
        if attempt_state.is_sent:
            raise _ConnectionLostError
        attempt_state.is_sent = False
        return self._NO_COOKIES


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
        self._shared_parts = _SharedRequestParts(base_url, api_key)
        self._borrowed_session = session
        self._trust_env = trust_env
        self._ssl: ssl_module.SSLContext | bool = True if ssl is None else ssl
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._close_listeners: set[Callable[[], None]] = set()
        self._urls: dict[str, yarl.URL] = {}

    @property
    def connection_limit(self) -> float:
        """The maximum number of connections that can be open at one time."""
        connector = self._borrowed_session.connector if self._borrowed_session else None
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
        return self._borrowed_session is not None and (self._session or self._borrowed_session).closed

    # These two return coroutines instead of being async, which saves a wrapper.
    def attempt(self, request: Request, timeout: float) -> Coroutine[Any, Any, Response]:
        """Send a request once and read its response within `timeout` seconds.

        Raises:
            AdaptyConnectionError: If the connection fails or the client is closed.
            AdaptyTimeoutError: If the time is over.
            InvalidResponseError: If a 2xx response can't be read.
        """
        return self._attempt(request, timeout, ExtraResponseCheck(needs_new_connection=False))

    def attempt_on_new_connection(self, request: Request, timeout: float) -> Coroutine[Any, Any, Response]:
        """Like `attempt`, but on a new connection."""
        return self._attempt(request, timeout, ExtraResponseCheck(needs_new_connection=True))

    async def _attempt(self, request: Request, timeout: float, connection_check: ExtraResponseCheck) -> Response:  # noqa: ASYNC109 - see Deadlines
        session = self._session or self._open_session()
        attempt_state = _AttemptState(self._shared_parts, connection_check)
        token = _attempt_state.set(attempt_state)
        deadline = self.deadlines.start(timeout)
        response: aiohttp.ClientResponse | None = None
        failure: AdaptyError
        try:
            response = await session.request(
                request.method,
                self._build_url(request),
                headers=request.headers if request.content is None else _add_content_type(request.headers),
                data=request.content,
                ssl=self._ssl,
                allow_redirects=False,
            )
            if not 200 <= response.status < 300:
                attempt_state.error_response = build_response(response.status, response.headers, b"", connection_check)
            # If the body is complete, or there is none, the connection has been released already.
            body = b"" if response.content.at_eof() else await _read_body(response)
            return build_response(response.status, response.headers, body, connection_check)
        except RuntimeError:
            if not session.closed:
                raise
            failure = AdaptyConnectionError(_SESSION_CLOSED_MESSAGE, sent=attempt_state.is_sent is not False)
        except _TRANSPORT_ERRORS as caught:
            failure = _translate_error(
                caught, sent=attempt_state.is_sent is not False and not isinstance(caught, _NEVER_SENT_ERRORS)
            )
        except asyncio.CancelledError:
            if not deadline.undo_cancellation():
                raise
            sent = attempt_state.is_sent is not False
            failure = self.build_closed_error(sent=sent) if self._closed else _build_timeout_error(sent=sent)
        finally:
            deadline.stop()
            _attempt_state.reset(token)
            response = None  # holds headers and the API key, which must not be in the traceback of the error
        if attempt_state.error_response is not None:  # the status counts, even if the body was lost
            return attempt_state.error_response
        # Raised outside the except blocks. There aiohttp's error would be its context, which holds headers and IDs.
        raise failure

    def clone(self) -> "Transport":
        """Return a transport for another event loop: the same server and key, but its own connections."""
        ssl = None if isinstance(self._ssl, bool) else self._ssl
        return Transport(
            self._base_url, self._api_key, session=self._borrowed_session, trust_env=self._trust_env, ssl=ssl
        )

    async def close(self) -> None:
        """End the calls in flight, then close the connections unless they are borrowed. Repeated calls have no effect.

        Running deadlines stay in force: with a borrowed session nothing else would end the rest of the calls.
        """
        self._closed = True
        if self._connector is not None:
            self._connector.stop()
        session, self._session = self._session, None
        for notify in tuple(self._close_listeners):
            notify()
        try:
            # Tasks of another loop can't be cancelled from here; that loop may be gone.
            if self._loop is asyncio.get_running_loop():
                await self.deadlines.cancel_all(_MAX_CLOSING_SECONDS)
        finally:
            if session is not None:
                await session.close()

    def add_close_listener(self, on_close: Callable[[], None]) -> None:
        """Call `on_close` when the client is closed, before the calls in flight are ended."""
        self._close_listeners.add(on_close)

    def remove_close_listener(self, on_close: Callable[[], None]) -> None:
        """Stop calling `on_close`."""
        self._close_listeners.discard(on_close)

    def build_closed_error(
        self, *, sent: bool, attempts: int = 1, maybe_executed: bool | None = None
    ) -> AdaptyConnectionError:
        """Return the error of a call that ends because requests can no longer be sent."""
        message = "the client was closed" if self._closed else _SESSION_CLOSED_MESSAGE
        return AdaptyConnectionError(message, sent=sent, attempts=attempts, maybe_executed=maybe_executed)

    def check_usable(self) -> None:
        """Check that a call can be made.

        Raises:
            RuntimeError: If the client is closed or belongs to another event loop.
        """
        if self._closed:
            raise RuntimeError("the client is closed: create a new AdaptyClient")
        if self._is_session_closed:
            raise RuntimeError(_SESSION_CLOSED_MESSAGE)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self.deadlines = loop, DeadlineTimers(loop)
        elif self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop: create one AdaptyClient per loop")

    def _open_session(self) -> aiohttp.ClientSession:
        if self.is_closed:  # closed since the call began: raise the same error as for a call in flight
            raise self.build_closed_error(sent=False)
        self.check_usable()
        self._session = session = (
            self._create_session() if self._borrowed_session is None else self._wrap_session(self._borrowed_session)
        )
        return session

    def _create_session(self) -> aiohttp.ClientSession:
        # limit=0: requests must not queue inside aiohttp while their timeout runs.
        return aiohttp.ClientSession(
            connector=self._wrap_connector(aiohttp.TCPConnector(limit=0)),
            cookie_jar=_SingleSendCookieJar(),
            trust_env=self._trust_env,
            request_class=_Request,
            timeout=_NO_TIMEOUT,
        )

    def _wrap_session(self, session: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """Return a new session on the lender's connections, without its headers, cookies, auth and middlewares."""
        assert session.connector is not None  # checked to be open
        try:
            return aiohttp.ClientSession(
                connector=self._wrap_connector(session.connector),
                connector_owner=False,
                loop=asyncio.get_running_loop(),  # otherwise taken from the connector without a check
                cookie_jar=_SingleSendCookieJar(),
                trust_env=self._trust_env or session.trust_env,
                trace_configs=list(session.trace_configs),
                request_class=_Request,
                timeout=_NO_TIMEOUT,
            )
        except RuntimeError:
            raise RuntimeError("the session given to the client belongs to another event loop") from None

    def _wrap_connector(self, connector: aiohttp.BaseConnector) -> aiohttp.BaseConnector:
        self._connector = Connector(connector)
        return self._connector.as_connector

    def __reduce__(self) -> Never:
        raise TypeError(
            "a client can't be pickled or deep-copied, because it holds the API key: create it where it is used"
        )

    def _build_url(self, request: Request) -> yarl.URL:
        url = self._urls.get(request.path)
        if url is None:
            url = yarl.URL(self._base_url + request.path)
            if len(self._urls) < _MAX_CACHED_URLS:
                self._urls[request.path] = url
        return url.with_query(request.query) if request.query else url


def _add_content_type(headers: Mapping[str, str]) -> Mapping[str, str]:
    if any(name.lower() == "content-type" for name in headers):
        return headers
    return {**headers, "Content-Type": "application/json"}


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    content = response.content
    try:
        chunks = [content.read_nowait()]  # usually the body arrives together with the head
        size = len(chunks[0])
        while not content.at_eof() and size <= MAX_BODY_BYTES:
            chunks.append(await content.readany())
            size += len(chunks[-1])
    finally:
        response.release()
    if size > MAX_BODY_BYTES:
        raise _BodyTooLargeError
    return b"".join(chunks)


def _build_timeout_error(*, sent: bool) -> AdaptyTimeoutError:
    return AdaptyTimeoutError("no response in time" if sent else "no connection in time", sent=sent)


def _translate_error(error: Exception, *, sent: bool) -> AdaptyError:
    """Return the library's error for one of aiohttp. Its text is left out: it may hold headers, IDs and the body."""
    if isinstance(error, TimeoutError):  # of the operating system, for a connection
        return _build_timeout_error(sent=sent)
    if isinstance(error, _BodyTooLargeError):
        return InvalidResponseError(f"the response is larger than {MAX_BODY_BYTES} bytes")
    if isinstance(error.__cause__, ContentEncodingError):
        return InvalidResponseError("the response can't be decompressed")
    if sent and isinstance(error, aiohttp.ClientResponseError):
        return AdaptyConnectionError("the response isn't HTTP")
    if sent:
        return AdaptyConnectionError("the connection was lost before the response was complete")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    shortage = find_shortage_errno(cause) if isinstance(cause, OSError) else None
    if shortage is not None:
        return _build_descriptor_error(shortage)
    return AdaptyConnectionError(f"no connection ({type(error).__name__})", sent=False)


def _build_descriptor_error(errno: int) -> AdaptyConnectionError:
    error = AdaptyConnectionError("no connection: too many open files; raise the limit (ulimit -n)", sent=False)
    error.errno = errno  # shows a job that the server isn't at fault
    return error
