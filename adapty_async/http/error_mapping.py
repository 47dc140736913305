"""Build the error for a response: its class, its Retry-After, and a message without secrets."""

import html
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, quote_plus

from ..errors import (
    AdaptyAPIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    FieldErrors,
    NotFoundError,
    PermissionDeniedError,
    ProfileNotFoundError,
    RateLimitError,
    ServerError,
)
from .requests import Request, Response

MAX_RETRY_AFTER: Final = 24 * 3600.0
# Error bodies of the API are small. Larger ones would block the event loop for too long.
_MAX_ERROR_BODY_BYTES: Final = 64 * 1024

# The codes of api.adapty.io, as documented. The same error has several codes and statuses, so the code determines the
# class first.
_ERROR_BY_CODE: Final[Mapping[str, type[AdaptyAPIError]]] = {
    "profile_does_not_exist": ProfileNotFoundError,
    "profile_not_found": ProfileNotFoundError,
    "paywall_does_not_exist": NotFoundError,
    "not_authenticated": AuthenticationError,
    "unauthorized": AuthenticationError,
    "feature_not_enabled": PermissionDeniedError,
    "rate_limited": RateLimitError,
    "validation_error": BadRequestError,
    "idempotency_in_flight": ConflictError,
    "duplicate_source_transaction": ConflictError,
}
_ERROR_BY_STATUS: Final[Mapping[int, type[AdaptyAPIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
}


def build_api_error(
    response: Response,
    request: Request | None = None,
    *,
    secrets: Iterable[str] = (),
    now: Callable[[], float] = time.time,
) -> AdaptyAPIError:
    """Return the error for a response other than 2xx. Any body is accepted.

    Args:
        response: The response.
        request: The request. The values of its headers are removed from the server's messages.
        secrets: More texts to remove.
        now: The wall clock, for a Retry-After that is a date.
    """
    scrub = _make_scrubber([*secrets, *(request.headers.values() if request else ())])
    code, errors = _parse_body(response, scrub)
    request_id = _sanitize(response.headers.get("request-id", ""), scrub)
    retry_after = parse_retry_after(response.headers, now)
    error_class = _ERROR_BY_CODE.get(code or "") or _get_error_class(response.status)
    return error_class(
        _format_message(response.status, request, code, errors, request_id),
        status=response.status,
        code=code,
        errors=errors,
        request_id=request_id,
        retry_after=retry_after,
        maybe_executed=response.status == 408 or (response.status >= 500 and retry_after is None),
    )


def _get_error_class(status: int) -> type[AdaptyAPIError]:
    return ServerError if status >= 500 else _ERROR_BY_STATUS.get(status, AdaptyAPIError)


def _format_message(
    status: int,
    request: Request | None,
    code: str | None,
    errors: tuple[FieldErrors, ...],
    request_id: str | None,
) -> str:
    words = [f"{request.method} {request.path}: {status}" if request else str(status)]
    if code:
        words[0] += f" {code}"
    fields = dict.fromkeys(entry.source for entry in errors if entry.source)
    if fields:
        words.append(f"fields: {', '.join(list(fields)[:10])}")
    if request_id:
        words.append(f"request ID: {request_id}")
    return "; ".join(words)


def parse_retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds of a Retry-After header, which may be a number or an HTTP date.

    Return None if there is no header or its value is unusable: not a number, not positive or above 24 hours.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        seconds = float(text)
    else:
        at = _parse_http_date(text)
        if at is None:
            return None
        # Use the server's clock if it sends the date, because the two clocks may differ.
        sent_at = _parse_http_date(headers.get("date", ""))
        seconds = at.timestamp() - (sent_at.timestamp() if sent_at else now())
    return seconds if 0 < seconds <= MAX_RETRY_AFTER else None


def _parse_http_date(text: str) -> datetime | None:
    if not 16 <= len(text) <= 64:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _parse_body(response: Response, scrub: Callable[[str], str]) -> tuple[str | None, tuple[FieldErrors, ...]]:
    try:
        body = response.json() if len(response.body) <= _MAX_ERROR_BODY_BYTES else None
    except ValueError:
        return None, ()
    if not isinstance(body, dict):
        return None, ()
    listed = body.get("errors")
    entries = listed if isinstance(listed, list) else [listed]
    errors = (_parse_field_errors(entry, scrub) for entry in entries[:100])
    return _parse_code(body.get("error_code"), scrub), tuple(entry for entry in errors if entry)


def _parse_code(value: object, scrub: Callable[[str], str]) -> str | None:
    if not isinstance(value, str):
        return None
    # A known code reveals nothing, and must not be masked because an ID happens to be a part of it.
    return value if value in _ERROR_BY_CODE else _sanitize(value, scrub)


def _parse_field_errors(entry: object, scrub: Callable[[str], str]) -> FieldErrors | None:
    """Read {"source", "errors": [text]}, a plain text, or JSON:API's {"detail", "source": {"pointer"}}."""
    if isinstance(entry, str):
        return FieldErrors(None, (scrub(entry),))
    if not isinstance(entry, dict):
        return None
    source = entry.get("source")
    if isinstance(source, dict):
        source = source.get("pointer")
    texts = entry.get("errors", entry.get("detail"))
    texts = texts if isinstance(texts, list) else [texts]
    read = FieldErrors(
        _sanitize(source, scrub) if isinstance(source, str) else None,
        tuple(scrub(text) for text in texts[:100] if isinstance(text, str)),
    )
    return read if read.source or read.errors else None


def _sanitize(text: str, scrub: Callable[[str], str]) -> str | None:
    """Return a server's text reduced to the part that is safe in a log line, or None if nothing is left."""
    printable = "".join(character for character in scrub(text) if character.isprintable())
    # Scrub again: a removed character may have been in the middle of an ID.
    return scrub(printable)[:100] or None


_ENCODERS: Final[tuple[Callable[[str], str], ...]] = (
    quote,
    quote_plus,
    lambda text: quote(text, safe="!$'()*+,/:;=?@"),  # the characters that a URL may hold unescaped
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: text.encode("ascii", "backslashreplace").decode(),
)


def _make_scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    spellings = sorted(
        {spelling for secret in secrets if secret for spelling in _list_forms(secret)}, key=len, reverse=True
    )
    lowered = [spelling.lower() for spelling in spellings]

    def scrub(text: str) -> str:
        # Nearly always returns here. A search is cheap, but compiling the pattern takes longer than the rest of an
        # error.
        in_lower_case = text.lower()
        if not any(spelling in in_lower_case for spelling in lowered):
            return text
        return re.sub("|".join(map(_make_pattern, spellings)), "***", text, flags=re.IGNORECASE)

    return scrub


def _list_forms(secret: str) -> set[str]:
    """Return the forms in which a server may write a secret back."""
    as_latin1 = secret.encode().decode("latin-1")  # a header decoded as Latin-1, as WSGI does
    plain = {secret, as_latin1}
    return plain | {write(text) for text in plain for write in _ENCODERS}


def _make_pattern(spelling: str) -> str:
    # A short ID, such as "1", occurs in many words, so it is only replaced as a whole word.
    escaped = re.escape(spelling)
    return escaped if len(spelling) >= 4 else rf"(?<!\w){escaped}(?!\w)"
