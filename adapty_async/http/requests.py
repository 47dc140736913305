"""A request and its response as plain values, between pure code and I/O."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from ..mutable_twin import WeakrefSlot, make_mutable_twin

_set_attribute: Final = object.__setattr__  # for frozen classes

JSON: TypeAlias = Mapping[str, Any] | list[Any] | str | int | float | bool | None

_NEVER_STALE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD: Final = re.compile(r"[A-Z]+")
_PATH: Final = re.compile(r"/[^\s?#\x00-\x1f\x7f]*")
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# Nearly every ID matches this and needs no further check.
_PLAIN_VALUE: Final = re.compile(r"[!-~]+")
_RESERVED_HEADERS: Final = frozenset({"authorization", "connection", "content-length", "host", "transfer-encoding"})


class Headers(Mapping[str, str]):
    """Header fields by name, case-insensitive. A repeated field has its first value."""

    __slots__ = ("_by_name", "_fields")

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        self._fields = {} if fields is None else fields
        self._by_name: dict[str, str] | None = None

    def _fold_names(self) -> dict[str, str]:
        # Built when first needed: most responses of a bulk job are never asked for a header.
        if self._by_name is None:
            by_name: dict[str, str] = {}
            for name, value in self._fields.items():
                by_name.setdefault(name.lower(), value)
            self._fields = self._by_name = by_name  # assigned when complete, for other threads
        return self._by_name

    def __getitem__(self, name: str) -> str:
        return self._fold_names()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fold_names())

    def __len__(self) -> int:
        return len(self._fold_names())

    def __reduce__(self) -> tuple[type["Headers"], tuple[dict[str, str]]]:
        return Headers, (self._fold_names(),)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


def check_header_value(label: str, value: str) -> None:
    """Check that HTTP can carry a value unchanged. The error names `label` and never the value."""
    if isinstance(value, str) and _PLAIN_VALUE.fullmatch(value):
        return
    _check_text(label, value)
    if not value:
        raise ValueError(f"{label} is empty")
    if _CONTROL_CHARACTER.search(value):
        raise ValueError(f"{label} contains a control character, which HTTP headers can't carry")
    if value != value.strip():
        raise ValueError(
            f"{label} has leading or trailing white space, which HTTP removes: strip it if it isn't part of the value"
        )


def _check_text(label: str, text: str) -> None:
    _check_type(label, text, str, "a str")
    if _SURROGATE.search(text):
        raise ValueError(f"{label} contains a lone surrogate, which UTF-8 can't encode")


def _check_type(label: str, value: object, types: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, types) or isinstance(value, bool):  # in Python a bool is an int
        raise TypeError(f"{label} must be {expected}, not {type(value).__name__}")


@attrs.frozen(repr=False)
class Request(WeakrefSlot):
    """One call of the API, without the key and the server. Error messages never contain a value of it.

    Attributes:
        method: The HTTP method, in capitals.
        path: The path of the URL, without a query.
        query: The parameters of the query.
        headers: The header fields, except those that the client sets.
        body: Bytes, which are sent unchanged, or anything that can be written as JSON.
        idempotent: Whether the call may be sent again if it may have been executed. If None, any method but POST may.
        content: The encoded body. None if there is none.

    Raises:
        ValueError, TypeError: If the request can't be sent.
    """

    method: str
    path: str
    query: Mapping[str, str | int] = attrs.field(factory=dict[str, str | int], kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)
    body: bytes | JSON = attrs.field(default=None, kw_only=True)
    idempotent: bool | None = attrs.field(default=None, kw_only=True)
    content: bytes | None = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _check_text("the method", self.method)
        if not _METHOD.fullmatch(self.method):
            raise ValueError("the method must be an HTTP method in capitals, such as 'GET'")
        _check_text("the path", self.path)
        if not _PATH.fullmatch(self.path):
            raise ValueError(
                "the path must start with '/' and not contain white space, '?' or '#': pass a query as query="
            )
        # Copies, so that the checked values can't change.
        _set_attribute(self, "query", _validate_query(self.query))
        _set_attribute(self, "headers", _validate_headers(self.headers))
        _set_attribute(self, "content", _encode_body(self.body))

    @property
    def is_resendable(self) -> bool:
        """Whether the request may be sent again if it may have been executed."""
        return self.method != "POST" if self.idempotent is None else self.idempotent

    @property
    def goes_stale(self) -> bool:
        """Whether the request is a write that could overwrite newer data if it is sent again much later."""
        return self.method not in _NEVER_STALE_METHODS

    def __repr__(self) -> str:
        parts = [f"{self.method} {self.path}"]
        parts += [
            f"{label}: {', '.join(names)}"
            for label, names in (("query", self.query), ("headers", self.headers))
            if names
        ]
        return f"<Request {'; '.join(parts)}>"


def build_unchecked_request(
    method: str, path: str, headers: dict[str, str], body: JSON = None, *, idempotent: bool | None = None
) -> Request:
    """Return a request from checked values. Checking them again would take 10% of the time of a call."""
    request: Any = _MutableRequest()
    request.method = method
    request.path = path
    request.query = {}
    request.headers = headers
    request.body = body
    request.idempotent = idempotent
    request.content = None if body is None else _encode_body(body)
    request.__class__ = Request
    return request  # type: ignore[no-any-return] # now a Request


_MutableRequest: Final = make_mutable_twin(Request)


def _validate_query(query: Mapping[str, str | int]) -> dict[str, str | int]:
    _check_type("query", query, Mapping, "a mapping")
    for name, value in query.items():
        _check_text("a name in the query", name)
        _check_type(f"the query {name}", value, (str, int), "a str or an int")
        _check_text(f"the query {name}", str(value))
    return dict(query)


def _validate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    _check_type("headers", headers, Mapping, "a mapping")
    for name, value in headers.items():
        _check_text("a header's name", name)
        if not _TOKEN.fullmatch(name):
            raise ValueError("a header's name isn't an HTTP token")
        if name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"the header {name} is set by the client: leave it out")
        check_header_value(f"the header {name}", value)
    return dict(headers)


def _encode_body(body: bytes | JSON) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (UnicodeEncodeError, RecursionError):  # the text of either may show the body
        pass
    raise ValueError("the body can't be written as JSON: it contains a lone surrogate or is nested too deeply")


def _to_headers(fields: Mapping[str, str]) -> Mapping[str, str]:
    return fields if isinstance(fields, Headers) else Headers(fields)


@attrs.frozen(repr=False)
class Response(WeakrefSlot):
    """A response of the server.

    Attributes:
        status: The HTTP status.
        headers: The header fields, case-insensitive.
        body: The body, decompressed.
        connection_check: Internal record of the connection. None if there is none.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=Headers, converter=_to_headers)
    body: bytes = b""
    connection_check: Any = attrs.field(default=None, init=False, eq=False)

    def json(self) -> Any:
        """Return the body, parsed as JSON.

        Raises:
            ValueError: If the body isn't JSON. The message doesn't contain any of it.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):  # the text of either may show the body
            pass
        raise ValueError(f"the body of the {self.status} response isn't JSON")

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


def build_response(status: int, fields: Mapping[str, str], body: bytes, connection_check: object = None) -> Response:
    """Return a response with the values received from the server."""
    response: Any = _MutableResponse()
    response.status = status
    response.headers = Headers(fields)
    response.body = body
    response.connection_check = connection_check
    response.__class__ = Response
    return response  # type: ignore[no-any-return] # now a Response


_MutableResponse: Final = make_mutable_twin(Response)
