"""The effect of a fault on a request: a response instead of the work, or a damaged response after it."""

from collections.abc import Callable

from .faults import Fault
from .responses import BAD_GATEWAY, RATE_LIMITED, REDIRECT, SERVER_ERROR, UNAVAILABLE, Answer

HUGE = 9 * 1024 * 1024


def answer_with(fault: Fault, work: Callable[[], Answer]) -> Answer | None:
    """Return the response to a request with a fault, or None for a reset.

    The work is done unless the fault prevents it.
    """
    if fault in _INSTEAD_OF_WORK:
        return _INSTEAD_OF_WORK[fault]
    answer = work()
    spoil = _AFTER_WORK.get(fault)
    return answer if spoil is None else spoil(answer)


def _reset(answer: Answer) -> None:
    """Drop the response."""


def _cut(answer: Answer) -> Answer:
    body = _body(answer)
    length = ("Content-Length", str(len(body)))
    return _spoiled(answer, body[: len(body) // 2])._replace(headers=(length,), closes=True)


def _break_gzip(answer: Answer) -> Answer:
    return _spoiled(answer, _body(answer))._replace(headers=(("Content-Encoding", "gzip"),))


def _break_utf8(answer: Answer) -> Answer:
    return _spoiled(answer, b"\xff" + _body(answer))


def _mistake(answer: Answer) -> Answer:
    return _spoiled(answer, b'{"data": "none of the API\'s"}')


def _swell(answer: Answer) -> Answer:
    return _spoiled(answer, _body(answer).ljust(HUGE))


def _body(answer: Answer) -> bytes:
    return answer.body or b"{}"


def _spoiled(answer: Answer, body: bytes) -> Answer:
    # A 204 has no body that could be damaged.
    return answer._replace(status=200 if answer.status == 204 else answer.status, body=body)


_INSTEAD_OF_WORK: dict[Fault, Answer | None] = {
    Fault.THROTTLED: RATE_LIMITED,
    Fault.SERVER_ERROR: SERVER_ERROR,
    Fault.BAD_GATEWAY: BAD_GATEWAY,
    Fault.UNAVAILABLE: UNAVAILABLE,
    Fault.REDIRECT: REDIRECT,
    Fault.RESET_BEFORE: None,
}
_AFTER_WORK: dict[Fault, Callable[[Answer], Answer | None]] = {
    Fault.RESET_AFTER: _reset,
    Fault.CUT: _cut,
    Fault.BROKEN_GZIP: _break_gzip,
    Fault.BAD_UTF8: _break_utf8,
    Fault.WRONG_JSON: _mistake,
    Fault.HUGE: _swell,
}
