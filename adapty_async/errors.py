"""The exceptions of the library.

AdaptyError                                   attempts, maybe_executed
├── AdaptyConnectionError (ConnectionError)   sent
├── AdaptyTimeoutError (TimeoutError)         sent
├── LocalRateLimitError                       retry_after; nothing was sent because the wait would be too long
├── InvalidResponseError                      a 2xx response that can't be read
├── BulkFailedError                           report (raised by BulkReport.raise_for_failures only)
└── AdaptyAPIError                            status, code, errors, request_id, retry_after; also any 3xx
    ├── BadRequestError          400, 422
    ├── AuthenticationError      401
    ├── PermissionDeniedError    403
    ├── NotFoundError            404
    │   └── ProfileNotFoundError by code, also if the status is 400
    ├── ConflictError            409
    ├── RateLimitError           429
    └── ServerError              5xx

Wrong use of the library raises ValueError, TypeError or RuntimeError instead, before anything is sent. Messages never
contain the API key, IDs, header values or bodies.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

_E = TypeVar("_E", bound="AdaptyError")


class AdaptyError(Exception):
    """The base of all errors that a call can raise.

    Attributes:
        attempts: Requests sent for the call, or tried to send.
        maybe_executed: Whether the server may have executed the call: a request was sent without a response, or was
            answered with 408 or with 5xx without a Retry-After.
    """

    def __init__(self, message: str = "", *, attempts: int = 1, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.maybe_executed = maybe_executed

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Callable[..., "AdaptyError"], tuple[Any, ...]]:
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(cls: type[_E], args: tuple[Any, ...], state: Mapping[str, Any]) -> _E:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class _NoResponseError(AdaptyError):
    def __init__(
        self, message: str = "", *, sent: bool = True, attempts: int = 1, maybe_executed: bool | None = None
    ) -> None:
        super().__init__(message, attempts=attempts, maybe_executed=sent if maybe_executed is None else maybe_executed)
        self.sent = sent


class AdaptyConnectionError(_NoResponseError, ConnectionError):
    """No response: the connection failed or the client was closed.

    Attributes:
        sent: Whether a request of the call was sent. See `maybe_executed` for whether one may have been executed.
    """


class AdaptyTimeoutError(_NoResponseError, TimeoutError):
    """No response within the timeout of the last attempt or the total timeout of the call.

    Attributes:
        sent: Whether a request of the call was sent. See `maybe_executed` for whether one may have been executed.
    """


class LocalRateLimitError(AdaptyError):
    """Nothing was sent because the call would have waited for the rate limit longer than its time allows.

    Attributes:
        retry_after: Seconds until it could have been sent.
    """

    def __init__(
        self, message: str = "", *, retry_after: float = 0.0, attempts: int = 0, maybe_executed: bool = False
    ) -> None:
        super().__init__(message, attempts=attempts, maybe_executed=maybe_executed)
        self.retry_after = retry_after


class InvalidResponseError(AdaptyError):
    """A 2xx response that can't be read."""


class BulkFailedError(AdaptyError):
    """A bulk job was stopped, or some of its items failed.

    Attributes:
        report: The BulkReport of the job.
    """

    def __init__(
        self, message: str = "", *, report: object = None, attempts: int = 1, maybe_executed: bool = False
    ) -> None:
        super().__init__(message, attempts=attempts, maybe_executed=maybe_executed)
        self.report = report


@attrs.frozen
class FieldErrors:
    """The errors that the server reports for one field.

    Attributes:
        source: The name of the field. None if the server names none.
        errors: The messages.
    """

    source: str | None
    errors: tuple[str, ...]


class AdaptyAPIError(AdaptyError):
    """The API returned an error.

    Attributes:
        status: The HTTP status.
        code: The API's name of the error. None if there is none.
        errors: The server's messages, without the API key and the IDs of the request.
        request_id: Identifies the request to Adapty's support.
        retry_after: Seconds to wait by the Retry-After header. None without a usable one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str | None = None,
        errors: Iterable[FieldErrors] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
        maybe_executed: bool = False,
    ) -> None:
        super().__init__(message, attempts=attempts, maybe_executed=maybe_executed)
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after


class BadRequestError(AdaptyAPIError):
    """400 or 422: the request is invalid."""


class AuthenticationError(AdaptyAPIError):
    """401: the API key is missing, wrong or revoked."""


class PermissionDeniedError(AdaptyAPIError):
    """403: the API key lacks permission."""


class NotFoundError(AdaptyAPIError):
    """404: the requested object doesn't exist."""


class ProfileNotFoundError(NotFoundError):
    """No profile has this ID in the app of the API key."""


class ConflictError(AdaptyAPIError):
    """409: the request conflicts with another."""


class RateLimitError(AdaptyAPIError):
    """429: the API rejected the request because it received too many with this key."""


class ServerError(AdaptyAPIError):
    """5xx: the server or a proxy in front of it failed."""
