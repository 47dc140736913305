"""Validation of the server's address. Plain http is only allowed on networks that are considered private."""

import ipaddress
import re
from typing import Final

import yarl

DEFAULT_BASE_URL: Final = "https://api.adapty.io"

_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal", ".test")
_NUMBER_PATTERN: Final = r"(?:0x[0-9a-f]*|[0-9]+)"
_DOTTED_NUMBERS: Final = re.compile(rf"{_NUMBER_PATTERN}(?:\.{_NUMBER_PATTERN})*")


def validate_base_url(base_url: str) -> str:
    """Return the address without a trailing slash.

    Raises:
        TypeError: If it isn't a str.
        ValueError: If it can't be used.
    """
    if not isinstance(base_url, str):
        raise TypeError(f"base_url must be a str, not {type(base_url).__name__}")
    try:
        url = yarl.URL(base_url)
        host = url.host
    except ValueError:
        url, host = yarl.URL(), None
    if url.scheme not in {"http", "https"} or not host or not url.port:
        raise ValueError(f"base_url must look like {DEFAULT_BASE_URL}")
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ValueError("base_url must not contain a user, password, query or fragment")
    if url.scheme == "http" and not _is_private(host):
        raise ValueError("base_url must be https: over http the API key could be read on the way")
    return str(url).rstrip("/")


def _is_private(host: str) -> bool:
    """Return True if a host is this machine or in its own network. A simulator or a sidecar may use http there."""
    name = host.lower().removesuffix(".")
    if _DOTTED_NUMBERS.fullmatch(name):
        address = _parse_ipv4(name)
        return address is not None and address.is_private
    try:
        return _is_private_ipv6(ipaddress.IPv6Address(name))
    except ValueError:
        # A name without a dot is looked up in the own network. With a trailing dot it may be any host.
        return "." not in host or name == "localhost" or name.endswith(_LOCAL_SUFFIXES)


def _parse_ipv4(text: str) -> ipaddress.IPv4Address | None:
    """Return an IPv4 address, in any form that the system accepts: 8.8.8.8, 134744072, 0x8.8.2056, 010.8.8.8."""
    try:
        *bytes_, rest = (int(part, _get_radix(part)) for part in text.split("."))
        return ipaddress.IPv4Address(bytes((*bytes_, *rest.to_bytes(4 - len(bytes_), "big"))))
    except (ValueError, OverflowError):
        return None


def _get_radix(number: str) -> int:
    if number.startswith("0x"):
        return 16
    return 8 if number.startswith("0") else 10


def _is_private_ipv6(address: ipaddress.IPv6Address) -> bool:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_private
    # Tunnels cross the internet, independent of the block that their addresses are in.
    return address.is_private and address.teredo is None and address.sixtofour is None
