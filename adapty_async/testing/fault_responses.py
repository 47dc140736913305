"""The effect of a fault on a request: a response instead of the work, or a damaged response after it."""

from collections.abc import Callable

from .faults import Fault
from .responses import BAD_GATEWAY, RATE_LIMITED, REDIRECT, SERVER_ERROR, UNAVAILABLE, SimulatedResponse

HUGE_BODY_BYTES = 9 * 1024 * 1024


def respond_with_fault(fault: Fault, handle: Callable[[], SimulatedResponse]) -> SimulatedResponse | None:
    """Return the response to a request with a fault, or None for a reset.

    The work is done unless the fault prevents it.
    """
    if fault in _RESPONSE_BY_FAULT:
        return _RESPONSE_BY_FAULT[fault]
    response = handle()
    damage = _DAMAGE_BY_FAULT.get(fault)
    return response if damage is None else damage(response)


def _drop_response(response: SimulatedResponse) -> None:
    """Drop the response."""


def _truncate(response: SimulatedResponse) -> SimulatedResponse:
    body = _get_body(response)
    length = ("Content-Length", str(len(body)))
    return _replace_body(response, body[: len(body) // 2])._replace(headers=(length,), is_last=True)


def _break_gzip(response: SimulatedResponse) -> SimulatedResponse:
    return _replace_body(response, _get_body(response))._replace(headers=(("Content-Encoding", "gzip"),))


def _break_utf8(response: SimulatedResponse) -> SimulatedResponse:
    return _replace_body(response, b"\xff" + _get_body(response))


def _replace_json(response: SimulatedResponse) -> SimulatedResponse:
    return _replace_body(response, b'{"data": "none of the API\'s"}')


def _oversize(response: SimulatedResponse) -> SimulatedResponse:
    return _replace_body(response, _get_body(response).ljust(HUGE_BODY_BYTES))


def _get_body(response: SimulatedResponse) -> bytes:
    return response.body or b"{}"


def _replace_body(response: SimulatedResponse, body: bytes) -> SimulatedResponse:
    # A 204 has no body that could be damaged.
    return response._replace(status=200 if response.status == 204 else response.status, body=body)


_RESPONSE_BY_FAULT: dict[Fault, SimulatedResponse | None] = {
    Fault.THROTTLED: RATE_LIMITED,
    Fault.SERVER_ERROR: SERVER_ERROR,
    Fault.BAD_GATEWAY: BAD_GATEWAY,
    Fault.UNAVAILABLE: UNAVAILABLE,
    Fault.REDIRECT: REDIRECT,
    Fault.RESET_BEFORE: None,
}
_DAMAGE_BY_FAULT: dict[Fault, Callable[[SimulatedResponse], SimulatedResponse | None]] = {
    Fault.RESET_AFTER: _drop_response,
    Fault.CUT: _truncate,
    Fault.BROKEN_GZIP: _break_gzip,
    Fault.BAD_UTF8: _break_utf8,
    Fault.WRONG_JSON: _replace_json,
    Fault.HUGE: _oversize,
}
