"""The responses of the API as plain values."""

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .profiles import Profile


class Answer(NamedTuple):
    """A response. `closes` makes it the last one on its connection."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False


class RefusedError(Exception):
    """Ends the processing of a request with this response."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def validation_error(errors: Mapping[str, list[str]]) -> Answer:
    """Return a 400 with the messages for each field."""
    listed = [{"source": source, "errors": texts} for source, texts in errors.items()]
    return _errors(400, "validation_error", listed)


def _error(status: int, code: str, source: str | None, text: str) -> Answer:
    return _errors(status, code, [{"source": source, "errors": [text]}])


def _errors(status: int, code: str, errors: list[dict[str, Any]]) -> Answer:
    body = {"errors": errors, "error_code": code, "status_code": status}
    return Answer(status, json.dumps(body).encode())


DELETED = Answer(204)
NOT_AUTHENTICATED = _error(
    401, "not_authenticated", "non_field_errors", "Authentication credentials were not provided."
)
PROFILE_DOES_NOT_EXIST = _error(404, "profile_does_not_exist", None, "Profile not found")

# The code is documented, the message is assumed.
RATE_LIMITED = _error(429, "rate_limited", None, "Request was throttled.")

# Not documented: codes and messages are assumed.
UNKNOWN_PATH = _error(404, "not_found", None, "Not found.")
METHOD_NOT_ALLOWED = _error(405, "method_not_allowed", None, "Method not allowed.")
SERVER_ERROR = _error(500, "internal_server_error", None, "Internal server error.")
UNAVAILABLE = _error(503, "service_unavailable", None, "Service unavailable.")

# Responses from servers between the caller and the API.
BAD_GATEWAY = Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", (("Content-Type", "text/html"),))
REDIRECT = Answer(307, headers=(("Location", "/elsewhere"),))


def profile_answer(profile: Profile, app_id: str) -> Answer:
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
    return Answer(200, json.dumps({"data": data}).encode())


def retry_after_value(seconds: float) -> str:
    """Return seconds as the value of a Retry-After header. Whole seconds are written as an integer."""
    return str(int(seconds)) if float(seconds).is_integer() else str(seconds)
