"""The file in which processes share their state: its permissions, its lock, and its integrity if a writer is killed.

The file has two places for the state. The valid one with the higher revision counts, and a writer overwrites the other.
So if a writer is killed, the previous state remains. The *pulse*, which every process checks before each request, is
stored separately and read without the lock. It is read, not mapped: accessing a mapped file that was truncated kills
the process.
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
    fcntl = None  # type: ignore[assignment]  # None on Windows

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
# Without O_NONBLOCK, opening a pipe would wait for a writer.
_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class UntrustedError(OSError):
    """The file must not be read or written."""


class BrokenError(Exception):
    """The file is a state file, but its contents can't be used."""


@attrs.frozen
class Pulse:
    """The data that every process checks before each request.

    `revoked`: slots up to this number must not be used any more. `reopens`: when the last Retry-After ends.
    """

    revoked: int
    reopens: float


class StateFile:
    """An open state file. All methods except `pulse` need the lock. Any method may raise OSError.

    A forked child closes it. Otherwise the child would keep the lock of a parent that is killed.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Create it and its folder if they don't exist. Raise OSError if that fails."""
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
        except BaseException:  # including an interrupt, so that the file doesn't stay open
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release the lock. Can be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def try_lock(self) -> bool:
        """Take the lock if it is free."""
        assert fcntl is not None  # otherwise there is no open file
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Release the lock."""
        assert fcntl is not None
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def changed(self) -> bytes | None:
        """Return the state, or None if there is none or it hasn't changed since the last read or write.

        Raise BrokenError if the file contains no readable state.
        """
        version = self._check()
        if version is None or all(self._head(place) == _NOTHING for place in _PLACES):
            if self._revision:
                raise BrokenError("truncated")
            self.reset()
            return None
        if version < VERSION:
            raise BrokenError("of an older version")
        return self._newest()

    def store(self, state: bytes) -> None:
        """Overwrite the older of the two states."""
        if len(state) > _PLACE_SIZE - _PLACE.size:
            raise OSError(errno.EFBIG, "the state is too large")
        revision = self._revision + 1
        head = _PLACE.pack(revision, len(state), _checksum(revision, state))
        self._write(head + state, _PLACES[self._next_place])
        self._revision, self._next_place = revision, 1 - self._next_place

    def reset(self) -> None:
        """Erase the contents of the file."""
        # The header comes first: if the process is killed now, the file is still recognized as a state file.
        self._write(_OURS, 0)
        for place in _PLACES:
            self._write(_PLACE.pack(*_NOTHING), place)
        # Processes that read an earlier state must recognise later ones as different.
        self._revision = secrets.randbits(48)

    @property
    def pulse(self) -> Pulse | None:
        """The pulse, read without the lock; None if it is being written at this moment, or truncated."""
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
        """Return the version, or None if the file is empty. Raise UntrustedError if it isn't a state file of ours."""
        about = os.fstat(self._descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise UntrustedError(errno.EPERM, "not a regular file")
        if about.st_uid != os.geteuid():
            raise UntrustedError(errno.EPERM, "owned by another user")
        if about.st_mode & _OTHERS:
            raise UntrustedError(errno.EPERM, "other users can read or write it")
        if about.st_nlink == 0:
            raise UntrustedError(errno.ENOENT, "the file was removed")
        if about.st_nlink > 1:
            raise UntrustedError(errno.EPERM, "the file has other hard links")
        if about.st_size > _LARGEST:
            raise UntrustedError(errno.EFBIG, "too large for a state file")
        version = self._version(about.st_size)
        if version is not None and version > VERSION:
            raise UntrustedError(errno.EPERM, "of a newer version")
        return version

    def _version(self, size: int) -> int | None:
        found = os.pread(self._descriptor, _HEAD.size, 0)
        # A killed writer may leave an incomplete header, and a power failure zeros.
        if (len(found) < _HEAD.size and _OURS.startswith(found)) or self._is_zero(found, size):
            return None
        magic, version = _HEAD.unpack(found) if len(found) == _HEAD.size else (b"", 0)
        if magic != _MAGIC:
            raise UntrustedError(errno.EPERM, "not a pacer's state file")
        return int(version)

    def _is_zero(self, head: bytes, size: int) -> bool:
        return not any(head) and not any(os.pread(self._descriptor, size, 0))

    def _newest(self) -> bytes | None:
        heads = [self._head(place) for place in _PLACES]
        known = self._revision and heads[1 - self._next_place][0] == self._revision
        # The newer state may be incomplete because its writer was killed.
        for place in sorted((0, 1), key=lambda place: heads[place][0], reverse=True):
            revision, length, checksum = heads[place]
            if known and revision <= self._revision:
                return None
            state = os.pread(self._descriptor, min(length, _PLACE_SIZE), _PLACES[place] + _PLACE.size)
            if revision and len(state) == length and checksum == _checksum(revision, state):
                self._revision, self._next_place = revision, 1 - place
                return state
        raise BrokenError("unreadable")

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
