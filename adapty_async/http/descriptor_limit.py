"""The limit of open files, which limits how many connections a process can have."""

import errno
import math
import os
import socket
from typing import Final

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

_SHORTAGE_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_RESERVED_DESCRIPTORS: Final = 24
"""Descriptors for everything except connections: ledger, input, log, pacer state, event loop, DNS and a reserve."""


def get_descriptor_limit() -> float:
    """Return how many files this process may have open at one time."""
    if resource is None:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def get_max_connections() -> float:
    """Return how many more connections the limit of open files allows, at least 1."""
    return max(1, _count_spare_descriptors())


def has_too_few_descriptors() -> bool:
    """Return True if the limit of open files doesn't even allow one connection next to the other files of a job."""
    return _count_spare_descriptors() < 1


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """Return True if the process, or the whole system, couldn't open another file."""
    return isinstance(error, OSError) and error.errno in _SHORTAGE_ERRNOS


def find_shortage_errno(error: OSError) -> int | None:
    """Return the error number if no more files can be opened, or None for any other failure.

    The lookup of a host name hides this error: if it can't open a file, it reports an unknown name.
    """
    if not isinstance(error, socket.gaierror):
        return error.errno if is_out_of_descriptors(error) else None
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as shortage:
        return find_shortage_errno(shortage)
    return None


def _count_spare_descriptors() -> float:
    """Return how many more files the process may open besides the reserved ones. Negative if it has too few."""
    limit = get_descriptor_limit()
    return limit if math.isinf(limit) else limit - _count_open_descriptors(limit) - _RESERVED_DESCRIPTORS


def _count_open_descriptors(limit: float) -> float:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - reads only the names, with as few system calls as possible
    except OSError as error:  # the folder needn't exist
        return limit if is_out_of_descriptors(error) else 0
