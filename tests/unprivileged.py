"""Permissions that hold for root as well: the tests of what may not be read or written run as whoever runs them."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Final

import pytest

# As in <linux/capability.h> and <linux/securebits.h>.
_VERSION_3: Final = 0x20080522
_EXEMPT: Final = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: by them no permission of a file holds."""
_GET_SECUREBITS: Final = 27
_SET_SECUREBITS: Final = 28
_NO_SETUID_FIXUP: Final = 1 << 2
"""Without it access(2) asks whether root may do something with all that it could have."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def permissions_holding() -> Iterator[None]:
    """Let the permissions of files hold for this thread, and those that it starts, in the block.

    It stays the same user: another one might not reach the interpreter or this source tree, as below root's home.
    """
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("to root no permission applies here")
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    _check(libc.capget(ctypes.byref(header), sets))
    bits, effective = libc.prctl(_GET_SECUREBITS), sets[0].effective
    _check(libc.prctl(_SET_SECUREBITS, bits | _NO_SETUID_FIXUP))
    sets[0].effective = effective & ~_EXEMPT
    _check(libc.capset(ctypes.byref(header), sets))
    try:
        yield
    finally:
        sets[0].effective = effective
        _check(libc.capset(ctypes.byref(header), sets))
        _check(libc.prctl(_SET_SECUREBITS, bits))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
