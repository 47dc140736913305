"""The documented answers, as plain values."""

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .profiles import Profile


class Answer(NamedTuple):
    """One answer; `closes` says that the connection ends with it."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False


class RefusedError(Exception):
    """A request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def validation_error(errors: Mapping[str, list[str]]) -> Answer:
    """Make a 400 from the texts for each field."""
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

# The code is documented, the text is assumed.
RATE_LIMITED = _error(429, "rate_limited", None, "Request was throttled.")

# No page shows these: codes and texts are assumed.
UNKNOWN_PATH = _error(404, "not_found", None, "Not found.")
METHOD_NOT_ALLOWED = _error(405, "method_not_allowed", None, "Method not allowed.")
SERVER_ERROR = _error(500, "internal_server_error", None, "Internal server error.")
UNAVAILABLE = _error(503, "service_unavailable", None, "Service unavailable.")

# What may stand between a caller and the API answers so.
BAD_GATEWAY = Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", (("Content-Type", "text/html"),))
REDIRECT = Answer(307, headers=(("Location", "/elsewhere"),))


def profile_answer(profile: Profile, app_id: str) -> Answer:
    """Make the 200 that shows a profile."""
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
    """Write seconds as a Retry-After header: an integer where they are whole."""
    return str(int(seconds)) if float(seconds).is_integer() else str(seconds)
