"""Asyncio client for Adapty's server-side API, with bulk jobs that delete, update, create or get profiles."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import bulk
    from .client import AdaptyClient
    from .errors import (
        AdaptyAPIError,
        AdaptyConnectionError,
        AdaptyError,
        AdaptyTimeoutError,
        AuthenticationError,
        BadRequestError,
        BulkFailedError,
        ConflictError,
        FieldErrors,
        InvalidResponseError,
        LocalRateLimitError,
        NotFoundError,
        PermissionDeniedError,
        ProfileNotFoundError,
        RateLimitError,
        ServerError,
    )
    from .http.requests import Request, Response
    from .http.retry import RetryPolicy
    from .http.sender import Attempt
    from .models import (
        UNSET,
        AccessLevel,
        InstallationMeta,
        NonSubscription,
        Offer,
        Profile,
        ProfileAttributes,
        Subscription,
    )
    from .pacing import UNPACED, AdaptivePacer, FixedPacer, SharedPacer

__all__ = [
    "UNPACED",
    "UNSET",
    "AccessLevel",
    "AdaptivePacer",
    "AdaptyAPIError",
    "AdaptyClient",
    "AdaptyConnectionError",
    "AdaptyError",
    "AdaptyTimeoutError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BulkFailedError",
    "ConflictError",
    "FieldErrors",
    "FixedPacer",
    "InstallationMeta",
    "InvalidResponseError",
    "LocalRateLimitError",
    "NonSubscription",
    "NotFoundError",
    "Offer",
    "PermissionDeniedError",
    "Profile",
    "ProfileAttributes",
    "ProfileNotFoundError",
    "RateLimitError",
    "Request",
    "Response",
    "RetryPolicy",
    "ServerError",
    "SharedPacer",
    "Subscription",
    "bulk",
]

# The module of each name that isn't in `errors`. A module is loaded when needed: `adapty-async --help` needs none of
# them and must not load aiohttp. https://peps.python.org/pep-0562/
_MODULE_BY_NAME: Final = {
    **dict.fromkeys(["UNPACED", "AdaptivePacer", "FixedPacer", "SharedPacer"], "pacing"),
    **dict.fromkeys(["UNSET", "AccessLevel", "InstallationMeta", "NonSubscription", "Offer"], "models"),
    **dict.fromkeys(["Profile", "ProfileAttributes", "Subscription"], "models"),
    **dict.fromkeys(["Request", "Response"], "http.requests"),
    "AdaptyClient": "client",
    "Attempt": "http.sender",
    "RetryPolicy": "http.retry",
}

_LAZY_MODULES: Final = frozenset({*(home.partition(".")[0] for home in _MODULE_BY_NAME.values()), "bulk", "errors"})

if not TYPE_CHECKING:  # with this function a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name in _LAZY_MODULES:
            return import_module(f".{name}", __name__)
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULE_BY_NAME.get(name, 'errors')}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
