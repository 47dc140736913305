"""File permissions that also apply to root, for tests of files that may not be read or written."""

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
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which bypass file permissions."""
_GET_SECUREBITS: Final = 27
_SET_SECUREBITS: Final = 28
_NO_SETUID_FIXUP: Final = 1 << 2
"""Without it, access(2) checks the capabilities that root could have, instead of the current ones."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def permissions_holding() -> Iterator[None]:
    """Apply file permissions to this thread, and to those that it starts, during the block.

    The user stays the same, because another one might be unable to read the interpreter or this source tree, for
    example in root's home.
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
