"""The client: its settings, its lifetime and the resources of the API."""

import contextlib
import os
import ssl as ssl_module
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

import aiohttp

from .http.base_url import DEFAULT_BASE_URL, validate_base_url
from .http.hook_check import check_hook
from .http.requests import Request, Response, check_header_value
from .http.retry import RetryPolicy
from .http.sender import Attempt, Sender
from .http.transport import Transport
from .models import UNSET, Unset
from .pacing import UNPACED, Pacer, Unpaced
from .resources import Profiles

_MAX_KEY_FILE_BYTES: Final = 65_536


class ClientOptions(TypedDict, total=False):
    """The settings of an AdaptyClient except its key and server."""

    timeout: float
    total_timeout: float | None
    retry: RetryPolicy
    pacer: Pacer | None
    session: aiohttp.ClientSession | None
    trust_env: bool
    ssl: ssl_module.SSLContext | None
    on_attempt: Callable[[Attempt], object] | None


class AdaptyClient:
    """A client for Adapty's server-side API.

    Create one client for your app and share it. It can be created outside an event loop; the first call opens it on the
    running loop.

    Args:
        api_key: The secret key of the app.
        base_url: The server to call.
        timeout: Seconds for one attempt, including reading the body but not waiting in the send queue. Enforced to
            within 50 ms.
        total_timeout: Seconds for the whole call: waiting in the send queue, all attempts and the waits between them. A
            call that takes longer raises AdaptyTimeoutError, whose `maybe_executed` shows whether it may have been
            executed. If None, only `timeout` and `retry` limit a call. Bulk jobs ignore it.
        retry: When and how often a call is repeated.
        pacer: Limits the rate of all calls. If None, calls aren't delayed until the first 429. It holds
            all calls; they are then released one by one until no 429 has come for 60 seconds.
        session: Use the connections of this session, which stays open. Its headers, cookies, auth and middlewares
            aren't used.
        trust_env: Take proxies from the environment.
        ssl: A context for your own certificate authority.
        on_attempt: Called after every attempt.

    Raises:
        ValueError, TypeError: If the settings are invalid.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeout: float = 30.0,
        total_timeout: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        pacer: Pacer | None = None,
        session: aiohttp.ClientSession | None = None,
        trust_env: bool = False,
        ssl: ssl_module.SSLContext | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
    ) -> None:
        self.base_url = validate_base_url(base_url)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise TypeError(f"session must be an aiohttp.ClientSession, not {type(session).__name__}")
        check_hook("on_attempt", on_attempt)
        transport = Transport(self.base_url, _validate_api_key(api_key), session=session, trust_env=trust_env, ssl=ssl)
        self._init_from_sender(
            Sender(
                transport,
                timeout=timeout,
                total_timeout=total_timeout,
                retry=retry,
                pacer=_validate_pacer(pacer),
                on_attempt=on_attempt,
            ),
            is_view=False,
        )

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> Self:
        """Create a client from environment variables.

        The key is read from ADAPTY_API_KEY, or from the file that ADAPTY_API_KEY_FILE names. ADAPTY_BASE_URL sets the
        server.

        Args:
            **options: The other settings of the client.

        Returns:
            The client.

        Raises:
            ValueError: If the key is missing, set in both ways or in a file that can't be read or is too large, or if a
                setting is invalid.
            TypeError: If a setting is invalid.
        """
        return cls(_read_key_from_env(), base_url=os.environ.get("ADAPTY_BASE_URL") or DEFAULT_BASE_URL, **options)

    def with_options(
        self,
        *,
        timeout: float | Unset = UNSET,
        total_timeout: float | Unset | None = UNSET,
        retry: RetryPolicy | Unset = UNSET,
        pacer: Pacer | Unset | None = UNSET,
    ) -> Self:
        """Return a view of the client with other settings.

        It shares the connections, which only the client itself closes, and the Retry-After of a 429.

        Args:
            timeout: Seconds for one attempt.
            total_timeout: Seconds for the whole call.
            retry: When and how often a call is repeated.
            pacer: Limits the rate of all calls of the view.

        Returns:
            The view. Settings that aren't given are those of the client.

        Raises:
            ValueError, TypeError: If a setting is invalid.
        """
        sender = self._sender
        view = object.__new__(type(self))
        view.base_url = self.base_url
        view._init_from_sender(
            sender.with_options(
                timeout=sender.timeout if timeout is UNSET else timeout,
                total_timeout=sender.total_timeout if total_timeout is UNSET else total_timeout,
                retry=sender.retry if retry is UNSET else retry,
                pacer=sender.given_pacer if pacer is UNSET else _validate_pacer(pacer),
            ),
            is_view=True,
        )
        return view

    def _init_from_sender(self, sender: Sender, *, is_view: bool) -> None:
        self._sender = sender
        self._is_view = is_view
        self.profiles = Profiles(sender.send)

    async def send(self, request: Request) -> Response:
        """Send any request with the client's key, pacer, retries and errors.

        Args:
            request: The request.

        Returns:
            The 2xx response.

        Raises:
            AdaptyError: If the call failed.
            RuntimeError: If the client is closed or belongs to another event loop.
        """
        return await self._sender.send(request, _return_response)

    async def aclose(self) -> None:
        """Close the client and its connections. Repeated calls have no effect, and a view closes nothing.

        Calls that are in progress, including those of views, raise an AdaptyConnectionError whose `maybe_executed`
        shows whether the call may have been executed. Jobs stop with the reason `closed`. Later calls raise
        RuntimeError.
        """
        if not self._is_view:
            await self._sender.transport.close()

    async def close(self) -> None:
        """Close the client, like `aclose`."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        self._sender.transport.check_usable()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AdaptyClient(base_url={self.base_url!r}, timeout={self._sender.timeout:g})"


def _return_response(response: Response) -> Response:
    return response


def get_sender(client: AdaptyClient) -> Sender:
    """Return the sender behind a client, for `bulk`, which makes the attempts itself."""
    if not isinstance(client, AdaptyClient):
        raise TypeError(f"client must be an AdaptyClient, not {type(client).__name__}")
    return client._sender  # noqa: SLF001 - the only access to it


def clone_client(client: AdaptyClient, *, timeout: float | None = None) -> AdaptyClient:
    """Return a client with the same key, server and settings for another event loop. `timeout` replaces its own."""
    sender = get_sender(client)
    clone = object.__new__(AdaptyClient)
    clone.base_url = client.base_url
    clone._init_from_sender(
        Sender(
            sender.transport.clone(),
            timeout=sender.timeout if timeout is None else timeout,
            total_timeout=sender.total_timeout,
            retry=sender.retry,
            pacer=sender.given_pacer,
            on_attempt=sender.on_attempt,
        ),
        is_view=False,
    )
    return clone


def _validate_pacer(pacer: Pacer | None) -> Pacer | None:
    if pacer is not None and not isinstance(pacer, Pacer):
        raise TypeError(f"pacer must be a pacer such as FixedPacer(50), or None, not {type(pacer).__name__}")
    # One per client: the Retry-After of one API key must not delay the calls of another.
    return Unpaced() if pacer is UNPACED else pacer


def _validate_api_key(api_key: str) -> str:
    check_header_value("the API key", api_key)
    if not api_key.isascii() or " " in api_key:
        raise ValueError("the API key must be only the secret key, without 'Api-Key' before it and without spaces")
    return api_key


def _read_key_from_env() -> str:
    key, file = os.environ.get("ADAPTY_API_KEY"), os.environ.get("ADAPTY_API_KEY_FILE")
    if key and file:
        raise ValueError("both ADAPTY_API_KEY and ADAPTY_API_KEY_FILE are set: unset one of them")
    if file:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return _read_key_file(Path(file))
        raise ValueError("the file that ADAPTY_API_KEY_FILE names can't be read")
    if not key:
        raise ValueError(
            "set ADAPTY_API_KEY to the secret key of the app, or ADAPTY_API_KEY_FILE to a file that holds it"
        )
    return key


def _read_key_file(path: Path) -> str:
    """Read a key from a file, without a byte order mark and surrounding white space. Raise OSError or ValueError."""
    with path.open("rb") as file:  # the wrong file or a device may be larger than the memory
        content = file.read(_MAX_KEY_FILE_BYTES + 1)
    if len(content) > _MAX_KEY_FILE_BYTES:
        raise ValueError(
            "the file that ADAPTY_API_KEY_FILE names is too large for a key: name a file with only the key"
        )
    return content.decode("utf-8-sig").strip()
