"""The file in which processes share their state: its trust, its lock, and how it survives a writer that is killed.

The state stands in two places; the valid one with the higher revision counts, and a writer writes to the other. So
whoever is killed meanwhile leaves the one before. What every process must see before each send, the *pulse*, stands
apart, and is read without the lock. It is read, not mapped: a mapped file that is cut short kills who looks at it.
"""

import errno
import os
import secrets
import stat
import struct
import weakref
import zlib
from pathlib import Path
from typing import Final

import attrs

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # what it is there

_MAGIC: Final = b"adptpace"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sI4x")
_OURS: Final = _HEAD.pack(_MAGIC, VERSION)
_PULSE_AT: Final = _HEAD.size
_PULSE: Final = struct.Struct("<QdI")
_PLACE: Final = struct.Struct("<QII")
_NOTHING: Final = (0, 0, 0)
_PLACE_SIZE: Final = 128 * 1024
_PLACES: Final = (4096, 4096 + _PLACE_SIZE)
_LARGEST: Final = _PLACES[-1] + _PLACE_SIZE

_OWNER_ONLY: Final = 0o600
_OTHERS: Final = 0o077
# Without O_NONBLOCK the opening of a pipe waits for whoever writes to it.
_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class UntrustedError(OSError):
    """The file isn't one to read from or write to."""


class BrokenError(Exception):
    """The file is ours, and holds nothing that can be used."""


@attrs.frozen
class Pulse:
    """What every process looks at before each send.

    `revoked`: slots up to that number must not be used any more. `reopens`: when the last Retry-After ends.
    """

    revoked: int
    reopens: float


class StateFile:
    """An open state file. All but `pulse` is for who has the lock; any method may raise OSError.

    A forked child has it closed: else it would have the lock, too, of a parent that is killed.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, making it and its folder where they are missing. Raises OSError."""
        if fcntl is None:
            raise UntrustedError(errno.ENOTSUP, "there are no file locks on this platform")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = _open(path)
        self._revision = 0
        self._next_place = 0
        self._packed_pulse = b""
        self._pulse: Pulse | None = None
        _open_files.add(self)
        try:
            self._check()
        except BaseException:  # an interrupt, too: the file would stay open
            self.close()
            raise

    def close(self) -> None:
        """Close the file, and let go of the lock; again, harmlessly."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def try_lock(self) -> bool:
        """Take the lock where nobody has it."""
        assert fcntl is not None  # else there is no open file
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let go of the lock."""
        assert fcntl is not None
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def changed(self) -> bytes | None:
        """Give the state where it isn't what was read or written last; None, too, where there is none yet.

        Raises BrokenError where there is nothing but what can't be read.
        """
        version = self._check()
        if version is None or all(self._head(place) == _NOTHING for place in _PLACES):
            if self._revision:
                raise BrokenError("it was cut short")
            self.reset()
            return None
        if version < VERSION:
            raise BrokenError("it is of an older version")
        return self._newest()

    def store(self, state: bytes) -> None:
        """Put a new state in the place of the older one."""
        if len(state) > _PLACE_SIZE - _PLACE.size:
            raise OSError(errno.EFBIG, "the state is too large")
        revision = self._revision + 1
        head = _PLACE.pack(revision, len(state), _checksum(revision, state))
        self._write(head + state, _PLACES[self._next_place])
        self._revision, self._next_place = revision, 1 - self._next_place

    def reset(self) -> None:
        """Forget all that the file holds."""
        # The head first: whoever is killed meanwhile leaves a file of ours.
        self._write(_OURS, 0)
        for place in _PLACES:
            self._write(_PLACE.pack(*_NOTHING), place)
        # Whoever had read an earlier state mustn't take a later one for the same.
        self._revision = secrets.randbits(48)

    @property
    def pulse(self) -> Pulse | None:
        """The pulse, read without the lock; None where it was just being written, or cut short."""
        found = os.pread(self._descriptor, _PULSE.size, _PULSE_AT)
        if found != self._packed_pulse:
            self._packed_pulse, self._pulse = found, _unpack_pulse(found)
        return self._pulse

    @pulse.setter
    def pulse(self, pulse: Pulse) -> None:
        packed = _pack_pulse(pulse)
        if os.pread(self._descriptor, _PULSE.size, _PULSE_AT) != packed:
            self._write(packed, _PULSE_AT)

    def _check(self) -> int | None:
        """Refuse what isn't ours to trust, and what isn't a state file; give its version, None where it is empty."""
        about = os.fstat(self._descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise UntrustedError(errno.EPERM, "it is no regular file")
        if about.st_uid != os.geteuid():
            raise UntrustedError(errno.EPERM, "it is another user's")
        if about.st_mode & _OTHERS:
            raise UntrustedError(errno.EPERM, "others may read or write it")
        if about.st_nlink == 0:
            raise UntrustedError(errno.ENOENT, "it was removed")
        if about.st_nlink > 1:
            raise UntrustedError(errno.EPERM, "it has other names")
        if about.st_size > _LARGEST:
            raise UntrustedError(errno.EFBIG, "it is too large to be one")
        version = self._version(about.st_size)
        if version is not None and version > VERSION:
            raise UntrustedError(errno.EPERM, "it is of a newer version")
        return version

    def _version(self, size: int) -> int | None:
        found = os.pread(self._descriptor, _HEAD.size, 0)
        # A part of the head is what a killed writer left, and zeros are what a machine did that lost its power.
        if (len(found) < _HEAD.size and _OURS.startswith(found)) or self._is_zero(found, size):
            return None
        magic, version = _HEAD.unpack(found) if len(found) == _HEAD.size else (b"", 0)
        if magic != _MAGIC:
            raise UntrustedError(errno.EPERM, "it is no state of a pacer")
        return int(version)

    def _is_zero(self, head: bytes, size: int) -> bool:
        return not any(head) and not any(os.pread(self._descriptor, size, 0))

    def _newest(self) -> bytes | None:
        heads = [self._head(place) for place in _PLACES]
        known = self._revision and heads[1 - self._next_place][0] == self._revision
        # A newer one may be what a killed writer left.
        for place in sorted((0, 1), key=lambda place: heads[place][0], reverse=True):
            revision, length, checksum = heads[place]
            if known and revision <= self._revision:
                return None
            state = os.pread(self._descriptor, min(length, _PLACE_SIZE), _PLACES[place] + _PLACE.size)
            if revision and len(state) == length and checksum == _checksum(revision, state):
                self._revision, self._next_place = revision, 1 - place
                return state
        raise BrokenError("it can't be read")

    def _head(self, place: int) -> tuple[int, int, int]:
        found = os.pread(self._descriptor, _PLACE.size, place)
        return _PLACE.unpack(found) if len(found) == _PLACE.size else _NOTHING

    def _write(self, data: bytes, place: int) -> None:
        if os.pwrite(self._descriptor, data, place) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_open_files: Final[weakref.WeakSet[StateFile]] = weakref.WeakSet()


def _close_inherited() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        return os.open(path, _FLAGS)


def _pack_pulse(pulse: Pulse) -> bytes:
    content = _PULSE.pack(pulse.revoked, pulse.reopens, 0)[:-4]
    return content + zlib.crc32(content).to_bytes(4, "little")


def _unpack_pulse(packed: bytes) -> Pulse | None:
    if len(packed) < _PULSE.size:
        return None
    revoked, reopens, checksum = _PULSE.unpack(packed)
    return Pulse(revoked, reopens) if checksum == zlib.crc32(packed[:-4]) else None


def _checksum(revision: int, state: bytes) -> int:
    return zlib.crc32(state, revision & 0xFFFFFFFF)
