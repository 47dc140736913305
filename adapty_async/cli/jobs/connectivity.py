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

_TIMEOUT_SECONDS: Final = 10.0
_MAX_CLOCK_OFFSET_SECONDS: Final = 5.0
"""The accepted difference of the clocks, in seconds. The Date header has no fractions, and a response takes time."""


@attrs.frozen
class CheckResult:
    """The result of a check, and whether it is good."""

    is_ok: bool
    text: str


@attrs.frozen
class Connectivity:
    """The results of all checks of a server."""

    dns: CheckResult
    tls: CheckResult
    http: CheckResult
    clock: CheckResult


_NO_CONNECTION: Final = CheckResult(False, "not known: there is no connection")
_NO_DATE: Final = CheckResult(True, "not known: the server sends no date")


def check_connectivity(base_url: str) -> Connectivity:
    """Resolve the name of a server, connect to it and read its clock."""
    url = urlsplit(base_url)
    host, is_tls = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    dns = _resolve_host(host, port)
    if not dns.is_ok:
        return Connectivity(dns, CheckResult(False, f"not known: {host} has no address"), _NO_CONNECTION, _NO_DATE)
    with contextlib.closing(_create_connection(host, port, is_tls=is_tls)) as connection:
        tls = _connect(connection, host)
        if not tls.is_ok:
            return Connectivity(dns, tls, _NO_CONNECTION, _NO_DATE)
        return Connectivity(dns, tls, *_check_response(connection, host))


def _resolve_host(host: str, port: int) -> CheckResult:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        reason = error.strerror
    else:
        return CheckResult(True, f"{host} is {', '.join(sorted(found))}")
    return CheckResult(False, f"{host} isn't found ({reason}): check the network, and ADAPTY_BASE_URL")


def _create_connection(host: str, port: int, *, is_tls: bool) -> http.client.HTTPConnection:
    if not is_tls:
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context())


def _connect(connection: http.client.HTTPConnection, host: str) -> CheckResult:
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        advice = f"{host} has no trusted certificate ({error.verify_message}): check the clock, a proxy, SSL_CERT_FILE"
    except OSError as error:
        advice = f"can't connect to {host} ({error.strerror or 'no answer'}): check the network and the firewall"
    else:
        if isinstance(connection.sock, ssl.SSLSocket):
            return CheckResult(True, f"{connection.sock.version()}, with a trusted certificate")
        return CheckResult(True, "none, by http: for this machine or its own network")
    return CheckResult(False, advice)


def _check_response(connection: http.client.HTTPConnection, host: str) -> tuple[CheckResult, CheckResult]:
    """Send a request. Return whether a response arrives, and how its date compares with this machine's clock."""
    try:
        connection.request("HEAD", "/")
        headers = connection.getresponse().headers
    except TimeoutError:
        advice = (
            f"{host} doesn't answer within {_TIMEOUT_SECONDS:.0f} s: check ADAPTY_BASE_URL and the proxy, "
            "or try again later"
        )
    except (OSError, http.client.HTTPException):
        advice = f"{host} doesn't answer with HTTP: check ADAPTY_BASE_URL and the proxy"
    else:
        return CheckResult(True, f"{host} answers"), _check_clock(headers.get("Date", ""))
    return CheckResult(False, advice), _NO_DATE


def _check_clock(date: str) -> CheckResult:
    try:
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return _NO_DATE
    if abs(off) <= _MAX_CLOCK_OFFSET_SECONDS:
        return CheckResult(True, "agrees with the server's")
    way = "ahead of" if off > 0 else "behind"
    return CheckResult(False, f"{abs(off):,.0f} seconds {way} the server's: set the clock of this machine")
