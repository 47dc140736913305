"""Check the connection to a server: its name, its certificate, a response, its clock. The key isn't sent."""

import contextlib
import http.client
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import attrs

_PATIENCE: Final = 10.0
_TOLERATED: Final = 5.0
"""The accepted difference of the clocks, in seconds. The Date header has no fractions, and a response takes time."""


@attrs.frozen
class Finding:
    """The result of a check, and whether it is good."""

    ok: bool
    text: str


@attrs.frozen
class Reached:
    """The results of all checks of a server."""

    dns: Finding
    tls: Finding
    http: Finding
    clock: Finding


_NOBODY: Final = Finding(False, "not known: there is no connection")
_NO_TIME: Final = Finding(True, "not known: the server sends no date")


def reach(base_url: str) -> Reached:
    """Resolve the name of a server, connect to it and read its clock."""
    url = urlsplit(base_url)
    host, is_tls = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    dns = _look_up(host, port)
    if not dns.ok:
        return Reached(dns, Finding(False, f"not known: {host} has no address"), _NOBODY, _NO_TIME)
    with contextlib.closing(_connection(host, port, is_tls=is_tls)) as connection:
        tls = _connect(connection, host)
        if not tls.ok:
            return Reached(dns, tls, _NOBODY, _NO_TIME)
        return Reached(dns, tls, *_ask(connection, host))


def _look_up(host: str, port: int) -> Finding:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        reason = error.strerror
    else:
        return Finding(True, f"{host} is {', '.join(sorted(found))}")
    return Finding(False, f"{host} isn't found ({reason}): check the network, and ADAPTY_BASE_URL")


def _connection(host: str, port: int, *, is_tls: bool) -> http.client.HTTPConnection:
    if not is_tls:
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    return http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=ssl.create_default_context())


def _connect(connection: http.client.HTTPConnection, host: str) -> Finding:
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        advice = f"{host} has no trusted certificate ({error.verify_message}): check the clock, a proxy, SSL_CERT_FILE"
    except OSError as error:
        advice = f"can't connect to {host} ({error.strerror or 'no answer'}): check the network and the firewall"
    else:
        if isinstance(connection.sock, ssl.SSLSocket):
            return Finding(True, f"{connection.sock.version()}, with a trusted certificate")
        return Finding(True, "none, by http: for this machine or its own network")
    return Finding(False, advice)


def _ask(connection: http.client.HTTPConnection, host: str) -> tuple[Finding, Finding]:
    """Send a request. Return whether a response arrives, and how its date compares with this machine's clock."""
    try:
        connection.request("HEAD", "/")
        headers = connection.getresponse().headers
    except TimeoutError:
        advice = (
            f"{host} doesn't answer within {_PATIENCE:.0f} s: check ADAPTY_BASE_URL and the proxy, or try again later"
        )
    except (OSError, http.client.HTTPException):
        advice = f"{host} doesn't answer with HTTP: check ADAPTY_BASE_URL and the proxy"
    else:
        return Finding(True, f"{host} answers"), _clock(headers.get("Date", ""))
    return Finding(False, advice), _NO_TIME


def _clock(date: str) -> Finding:
    try:
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return _NO_TIME
    if abs(off) <= _TOLERATED:
        return Finding(True, "agrees with the server's")
    way = "ahead of" if off > 0 else "behind"
    return Finding(False, f"{abs(off):,.0f} seconds {way} the server's: set the clock of this machine")
