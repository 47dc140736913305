"""Asyncio client for Adapty's server-side API, with mass deletion and mass update of profiles."""

from . import bulk
from .client import AdaptyClient
from .errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyResponseError,
    AdaptyTimeoutError,
    AuthenticationError,
    BadRequestError,
    BulkFailedError,
    ConflictError,
    FieldErrors,
    NotFoundError,
    PermissionDeniedError,
    ProfileNotFoundError,
    RateLimitedError,
    ServerError,
)
from .messages import Request, Response
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
from .retry import RetryPolicy
from .sending import Attempt

__all__ = [
    "UNPACED",
    "UNSET",
    "AccessLevel",
    "AdaptivePacer",
    "AdaptyAPIError",
    "AdaptyClient",
    "AdaptyConnectionError",
    "AdaptyError",
    "AdaptyResponseError",
    "AdaptyTimeoutError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BulkFailedError",
    "ConflictError",
    "FieldErrors",
    "FixedPacer",
    "InstallationMeta",
    "NonSubscription",
    "NotFoundError",
    "Offer",
    "PermissionDeniedError",
    "Profile",
    "ProfileAttributes",
    "ProfileNotFoundError",
    "RateLimitedError",
    "Request",
    "Response",
    "RetryPolicy",
    "ServerError",
    "SharedPacer",
    "Subscription",
    "bulk",
]
