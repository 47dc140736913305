"""The responses of the API as plain values."""

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .profiles import Profile


class SimulatedResponse(NamedTuple):
    """A response. `is_last` makes it the last one on its connection."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_last: bool = False


class RejectedRequestError(Exception):
    """Ends the processing of a request with this response."""

    def __init__(self, response: SimulatedResponse) -> None:
        super().__init__(response.status)
        self.response = response


def build_validation_error(errors: Mapping[str, list[str]]) -> SimulatedResponse:
    """Return a 400 with the messages for each field."""
    listed = [{"source": source, "errors": texts} for source, texts in errors.items()]
    return _build_error_list(400, "validation_error", listed)


def _build_error(status: int, code: str, source: str | None, text: str) -> SimulatedResponse:
    return _build_error_list(status, code, [{"source": source, "errors": [text]}])


def _build_error_list(status: int, code: str, errors: list[dict[str, Any]]) -> SimulatedResponse:
    body = {"errors": errors, "error_code": code, "status_code": status}
    return SimulatedResponse(status, json.dumps(body).encode())


DELETED = SimulatedResponse(204)
NOT_AUTHENTICATED = _build_error(
    401, "not_authenticated", "non_field_errors", "Authentication credentials were not provided."
)
PROFILE_DOES_NOT_EXIST = _build_error(404, "profile_does_not_exist", None, "Profile not found")

# The code is documented, the message is assumed.
RATE_LIMITED = _build_error(429, "rate_limited", None, "Request was throttled.")

# Not documented: codes and messages are assumed.
UNKNOWN_PATH = _build_error(404, "not_found", None, "Not found.")
METHOD_NOT_ALLOWED = _build_error(405, "method_not_allowed", None, "Method not allowed.")
SERVER_ERROR = _build_error(500, "internal_server_error", None, "Internal server error.")
UNAVAILABLE = _build_error(503, "service_unavailable", None, "Service unavailable.")

# Responses from servers between the caller and the API.
BAD_GATEWAY = SimulatedResponse(
    502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", (("Content-Type", "text/html"),)
)
REDIRECT = SimulatedResponse(307, headers=(("Location", "/elsewhere"),))


def build_profile_response(profile: Profile, app_id: str) -> SimulatedResponse:
    """Return a 200 with a profile."""
    custom_attributes = profile.custom_attributes.items()
    data = {
        "app_id": app_id,
        "profile_id": profile.profile_id,
        "customer_user_id": profile.customer_user_id,
        "total_revenue_usd": profile.total_revenue_usd,
        "segment_hash": profile.segment_hash,
        "timestamp": time.time_ns() // 1_000_000,
        "custom_attributes": [{"key": key, "value": value} for key, value in custom_attributes],
        "access_levels": profile.access_levels,
        "subscriptions": profile.subscriptions,
        "non_subscriptions": profile.non_subscriptions,
    }
    return SimulatedResponse(200, json.dumps({"data": data}).encode())


def format_retry_after(seconds: float) -> str:
    """Return seconds as the value of a Retry-After header. Whole seconds are written as an integer."""
    return str(int(seconds)) if float(seconds).is_integer() else str(seconds)
