"""Invalid and unusual responses: the bytes of one, chosen by a random number generator."""

import copy
import gzip
import html
import json
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import attrs

End: TypeAlias = Literal["keep", "close", "reset", "silence"]
"""The state of the connection after the last byte."""


@attrs.frozen
class OddAnswer:
    """The bytes of a response, in the pieces in which they are written."""

    pieces: tuple[bytes, ...]
    end: End


_PROFILE: Final = (Path(__file__).parent / "data" / "get_profile_answer.json").read_text(encoding="utf-8")
_STATUSES: Final = (
    200,
    201,
    202,
    204,
    205,
    206,
    226,
    299,
    300,
    301,
    302,
    303,
    304,
    307,
    308,
    399,
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    409,
    410,
    413,
    418,
    422,
    425,
    429,
    431,
    451,
    499,
    500,
    501,
    502,
    503,
    504,
    505,
    507,
    511,
    520,
    599,
)
_ODD_STATUS_LINES: Final = (
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 199 Odd",
    b"HTTP/1.1 600 Odd",
    b"HTTP/1.1 999 Odd",
    b"HTTP/1.1 000 Odd",
    b"HTTP/1.1 20 Odd",
    b"HTTP/1.1 2000 Odd",
    b"HTTP/1.1 -1 Odd",
    *(
        b"HTTP/1.1 abc",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/2 200",
        b"HTTP/3.0 200 OK",
    ),
    *(
        b"http/1.1 200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1\t200\tOK",
        b"HTTP/1.1 200 \xff\xfe",
        b"HTTP/1.1 200 " + b"x" * 9000,
    ),
)
_RETRY_AFTER: Final = (
    "0",
    "0.01",
    "0.001",
    "0.05",
    "1",
    "30",
    "86400",
    "86401",
    "-1",
    "+1",
    "1e3",
    "nan",
    "inf",
    "soon",
    "",
    " 0.01 ",
    "9" * 400,
    "0.01, 0.02",
    "0x1",
    "٣",
    "\xff",
    "Fri, 31 Dec 1999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Feb 2026 23:59:59 GMT",
    "Fri, 31 Dec 99999999999 23:59:59 GMT",
    "Friday, 31-Dec-99 23:59:59 GMT",
)
_CONTENT_TYPES: Final = (
    *(
        "application/json",
        "application/vnd.api+json",
        "text/html; charset=utf-8",
        "text/html; charset=utf-7",
        "",
        ";;;",
    ),
    *(
        "application/json; charset=none-such",
        "application/json; charset=\x00",
        "multipart/form-data; boundary=x",
        "x" * 5000,
    ),
)
_NO_HTTP: Final = (
    b"",
    b"\x00",
    b"\r\n" * 50,
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"220 mail ESMTP\r\n",
    b"\x16\x03\x01\x00\x05hello",
    *(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"<html>no HTTP</html>",
        b'{"data": {}}\n',
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        b"a" * 70_000,
    ),
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        10**30,
        10**400,
        -(2**63),
        "",
        "\x00",
        "\ud800",
        "x" * 5000,
        "日本",
        [],
        {},
        [[]],
        [None],
    ),
    *(
        {"": None},
        {"key": "k", "value": {}},
        "2024-12-24T12:00:00",
        "0001-01-01T00:00:00+14:00",
        "premium",
        "validation_error",
    ),
    *(
        "profile_does_not_exist",
        "rate_limited",
        {"pointer": "/data"},
        {"source": "email", "errors": ["Bad."]},
        "Bad.\r\nForged: x",
    ),
)
_ODD_TEXTS: Final = (
    *(
        "",
        " ",
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "NaN",
        '{"data": Infinity}',
        '{"data": 1e999}',
        "1" * 5000,
        "\ufeff{}",
    ),
    *(
        '{"data": {}, "data": []}',
        '{"data"',
        "[" * 100_000,
        '{"data":' * 100_000,
        '{"errors":' * 5_000,
        "'",
        "\x00" * 100,
    ),
)
_FOLDED: Final = (
    b"X-Folded: a\r\n b",
    b"X-Null: \x00",
    b"No colon",
    b": no name",
    b"X y: space",
    b"X-Long: " + b"y" * 9000,
)


_Write: TypeAlias = Callable[[random.Random, Sequence[str]], str]


def odd_answer(rng: random.Random, secrets: Sequence[str], *, method: str) -> OddAnswer:
    """Create a random response. It may contain the secrets of its request, in any way in which servers echo them."""
    if rng.random() < 0.06:
        content = rng.choice([*_NO_HTTP, rng.randbytes(rng.randrange(300))])
        return OddAnswer((content,), _lost(rng))
    status = rng.choice([200, 201]) if rng.random() < 0.2 else rng.choice(_STATUSES)
    body = _body(rng, secrets, status)
    lines = [b"HTTP/1.1 %d Word" % status, *_fields(rng, secrets)]
    coding, packed = _packed(rng, body)
    framing, framed, is_whole = _framed(rng, packed)
    if method == "DELETE" and rng.random() < 0.3:
        lines[0], framing, framed, is_whole = b"HTTP/1.1 204 No Content", [], b"", True
    lines += [*coding, *framing]
    if rng.random() < 0.07:
        lines[0], is_whole = rng.choice(_ODD_STATUS_LINES), False
    for _ in range(rng.choice([0, 0, 0, 1, 2])):  # repeated fields
        lines.append(rng.choice(lines[1:]) if len(lines) > 1 else b"X-A: b")
    first = rng.choice(
        [b""] * 30 + [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3]
    )
    content = first + b"\r\n".join([*lines, b"", b""]) + framed
    end: End = "keep" if is_whole and rng.random() < 0.7 else _lost(rng)
    if rng.random() < 0.08:
        content, end = content[: rng.randrange(len(content))], _lost(rng)
    if rng.random() < 0.002:  # each one takes the full timeout of the client
        end = "silence"
    return OddAnswer(_in_pieces(rng, content), end)


def _lost(rng: random.Random) -> End:
    return "reset" if rng.random() < 0.4 else "close"


def _in_pieces(rng: random.Random, content: bytes) -> tuple[bytes, ...]:
    if rng.random() < 0.7:
        return (content,)
    cut = rng.randrange(len(content) + 1)
    return content[:cut], content[cut:]


def _fields(rng: random.Random, secrets: Sequence[str]) -> list[bytes]:
    fields = [
        ("Retry-After", 0.15, _RETRY_AFTER),
        ("Date", 0.1, _RETRY_AFTER),
        ("Content-Type", 0.5, _CONTENT_TYPES),
        ("Request-Id", 0.3, ("r-1", "", "r" * 5000, "\x01", *(_echo(rng, secret) for secret in secrets))),
        ("Location", 0.1, ("/", "http://127.0.0.1:1/", "//", "\x7f", *secrets)),
        ("Set-Cookie", 0.1, ("a=b", "=;=;", "a=\x01", *secrets)),
        ("Connection", 0.1, ("close", "keep-alive", "upgrade", "x")),
        ("Upgrade", 0.02, ("websocket", "h2c")),
    ]
    lines = [
        f"{_any_case(rng, name)}: {rng.choice(values)}".encode()
        for name, share, values in fields
        if rng.random() < share
    ]
    if rng.random() < 0.03:
        lines.append(rng.choice(_FOLDED))
    if rng.random() < 0.005:
        lines += [b"X-%d: y" % number for number in range(rng.choice([50, 5000]))]
    return lines


def _any_case(rng: random.Random, name: str) -> str:
    return rng.choice([name, name.lower(), name.upper()])


_WAYS_TO_ECHO: Final[tuple[Callable[[str], str], ...]] = (
    str,
    str.upper,
    quote,
    html.escape,
    lambda text: json.dumps(text)[1:-1],
    lambda text: text.encode().decode("latin-1"),
    lambda text: f"No profile with the id '{text}'.",
    lambda text: "x" * 90 + text,
)


def _echo(rng: random.Random, secret: str) -> str:
    return rng.choice(_WAYS_TO_ECHO)(secret)


def _body(rng: random.Random, secrets: Sequence[str], status: int) -> bytes:
    # A body above the limit of 8 MiB is slow, so it is rare. All others are equally likely.
    if rng.random() < 0.0005:
        return b" " * (9 * 1024 * 1024)
    fitting: _Write = _profile if status < 300 else _api_error
    others: list[_Write] = [_profile, _api_error, _json_api_error, _any_json, _page, _odd_text]
    write = fitting if rng.random() < 0.4 else rng.choice(others)
    body = write(rng, secrets).encode("utf-8", "surrogatepass")
    spoil = rng.random()
    if spoil < 0.08:
        return body[: rng.randrange(len(body) + 1)]
    if spoil < 0.16:
        at = rng.randrange(len(body) + 1)
        return body[:at] + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", rng.randbytes(3)]) + body[at:]
    return body


def _profile(rng: random.Random, secrets: Sequence[str]) -> str:
    root = json.loads(_PROFILE)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        _spoil(rng, root, secrets)
    return json.dumps(root, ensure_ascii=rng.random() < 0.5)


def _api_error(rng: random.Random, secrets: Sequence[str]) -> str:
    entry: Any = {"source": "email", "errors": [_echo(rng, rng.choice(secrets)), "Bad."]}
    code = rng.choice(["validation_error", "profile_does_not_exist", "rate_limited", "new", _echo(rng, secrets[0])])
    root = {"errors": [entry, _echo(rng, rng.choice(secrets))], "error_code": code, "status_code": 400}
    for _ in range(rng.choice([0, 0, 1, 2])):
        _spoil(rng, root, secrets)
    return json.dumps(root)


def _json_api_error(rng: random.Random, secrets: Sequence[str]) -> str:
    entry = {"status": "400", "detail": _echo(rng, rng.choice(secrets)), "source": {"pointer": "/data/email"}}
    root: Any = {"errors": [entry] * rng.choice([1, 2, 200])}
    _spoil(rng, root, secrets)
    return json.dumps(root)


def _any_json(rng: random.Random, secrets: Sequence[str]) -> str:
    def draw(depth: int) -> Any:
        if depth > 4 or rng.random() < 0.3:
            return rng.choice([*_ODD_VALUES, *secrets])
        names = rng.choices(["data", "errors", "error_code", "source", "detail", "pointer", "x"], k=rng.randrange(4))
        return {name: draw(depth + 1) for name in names} if rng.random() < 0.6 else [draw(depth + 1) for _ in names]

    return json.dumps(draw(0))


def _page(rng: random.Random, secrets: Sequence[str]) -> str:
    return f"<!DOCTYPE html><html><body><h1>502</h1>{_echo(rng, rng.choice(secrets))}</body></html>"


def _odd_text(rng: random.Random, secrets: Sequence[str]) -> str:
    return rng.choice(_ODD_TEXTS)


def _spoil(rng: random.Random, root: Any, secrets: Sequence[str]) -> None:
    """Replace, remove or repeat one value at any depth."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for place in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, place))
            collect(node[place])

    collect(root)
    if not places:  # there are no values
        return
    node, place = rng.choice(places)
    if rng.random() < 0.2:
        del node[place]
    else:
        node[place] = copy.deepcopy(rng.choice([*_ODD_VALUES, *secrets, [node[place]] * 3]))


def _packed(rng: random.Random, body: bytes) -> tuple[list[bytes], bytes]:
    """Compress a body, name a content coding, or both. Sometimes the two don't match."""
    if rng.random() < 0.75:
        return [], body
    name = rng.choice([b"gzip", b"deflate", b"GZIP", b"br", b"zstd", b"identity", b"gzip, gzip", b"x", b"", b"\xff"])
    packed = rng.choice(
        [
            gzip.compress(body, 1, mtime=0),
            zlib.compress(body, 1),
            body,
            gzip.compress(body, 1, mtime=0)[: len(body) // 2],
        ]
    )
    return [b"Content-Encoding: " + name], packed


def _framed(rng: random.Random, body: bytes) -> tuple[list[bytes], bytes, bool]:
    """Mark the end of the body, sometimes wrongly. The last value is True if the connection remains usable."""
    way = rng.random()
    if way < 0.6:
        return [b"Content-Length: %d" % len(body)], body, True
    if way < 0.7:
        chunked = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return [b"Transfer-Encoding: chunked"], chunked + b"0\r\n\r\n", True
    if way < 0.8:
        broken = rng.choice(
            [b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nab\r\n", b"%x\r\n%b" % (len(body) + 9, body)]
        )
        return [b"Transfer-Encoding: chunked"], broken, False
    if way < 0.9:
        length = rng.choice([b"-1", b"x", b"", b"0", b"1", b"9" * 30, b"%d" % (len(body) + 7), b"1, 2", b"+2"])
        return [b"Content-Length: " + length], body, False
    if way < 0.93:
        return [b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"], body, False
    return [], body, False
