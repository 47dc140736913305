"""The file in which processes share their state: its permissions, its lock, and its integrity if a writer is killed.

The file has two places for the state. The valid one with the higher revision counts, and a writer overwrites the other.
So if a writer is killed, the previous state remains. The *send barrier*, which every process checks before each
request, is stored separately and read without the lock. It is read, not mapped: accessing a mapped file that was
truncated kills the process.
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
_HEADER_FORMAT: Final = struct.Struct("<8sI4x")
_HEADER: Final = _HEADER_FORMAT.pack(_MAGIC, VERSION)
_BARRIER_OFFSET: Final = _HEADER_FORMAT.size
_BARRIER_FORMAT: Final = struct.Struct("<QdI")
_COPY_HEADER_FORMAT: Final = struct.Struct("<QII")
_EMPTY_COPY_HEADER: Final = (0, 0, 0)
_COPY_SIZE_BYTES: Final = 128 * 1024
_COPY_OFFSETS: Final = (4096, 4096 + _COPY_SIZE_BYTES)
_MAX_FILE_BYTES: Final = _COPY_OFFSETS[-1] + _COPY_SIZE_BYTES

_OWNER_ONLY_MODE: Final = 0o600
_OTHERS_MODE_MASK: Final = 0o077
# Without O_NONBLOCK, opening a pipe would wait for a writer.
_OPEN_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class UntrustedFileError(OSError):
    """The file must not be read or written."""


class CorruptStateError(Exception):
    """The file is a state file, but its contents can't be used."""


@attrs.frozen
class SendBarrier:
    """The data that every process checks before each request.

    `revoked_up_to`: slots up to this number must not be used any more. `hold_until`: when the last Retry-After ends.
    """

    revoked_up_to: int
    hold_until: float


class StateFile:
    """An open state file. All methods except `barrier` need the lock. Any method may raise OSError.

    A forked child closes it. Otherwise the child would keep the lock of a parent that is killed.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Create it and its folder if they don't exist. Raise OSError if that fails."""
        if fcntl is None:
            raise UntrustedFileError(errno.ENOTSUP, "there are no file locks on this platform")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = _open_file(path)
        self._revision = 0
        self._next_copy = 0
        self._packed_barrier = b""
        self._barrier: SendBarrier | None = None
        _open_files.add(self)
        try:
            self._check_file()
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

    def read_new_state(self) -> bytes | None:
        """Return the state, or None if there is none or it hasn't changed since the last read or write.

        Raise CorruptStateError if the file contains no readable state.
        """
        version = self._check_file()
        if version is None or all(self._read_copy_header(place) == _EMPTY_COPY_HEADER for place in _COPY_OFFSETS):
            if self._revision:
                raise CorruptStateError("truncated")
            self.reset()
            return None
        if version < VERSION:
            raise CorruptStateError("of an older version")
        return self._read_newest()

    def store(self, state: bytes) -> None:
        """Overwrite the older of the two states."""
        if len(state) > _COPY_SIZE_BYTES - _COPY_HEADER_FORMAT.size:
            raise OSError(errno.EFBIG, "the state is too large")
        revision = self._revision + 1
        head = _COPY_HEADER_FORMAT.pack(revision, len(state), _compute_checksum(revision, state))
        self._write(head + state, _COPY_OFFSETS[self._next_copy])
        self._revision, self._next_copy = revision, 1 - self._next_copy

    def reset(self) -> None:
        """Erase the contents of the file."""
        # The header comes first: if the process is killed now, the file is still recognized as a state file.
        self._write(_HEADER, 0)
        for place in _COPY_OFFSETS:
            self._write(_COPY_HEADER_FORMAT.pack(*_EMPTY_COPY_HEADER), place)
        # Processes that read an earlier state must recognise later ones as different.
        self._revision = secrets.randbits(48)

    @property
    def barrier(self) -> SendBarrier | None:
        """The send barrier, read without the lock; None if it is being written at this moment, or truncated."""
        data = os.pread(self._descriptor, _BARRIER_FORMAT.size, _BARRIER_OFFSET)
        if data != self._packed_barrier:
            self._packed_barrier, self._barrier = data, _unpack_barrier(data)
        return self._barrier

    @barrier.setter
    def barrier(self, barrier: SendBarrier) -> None:
        packed = _pack_barrier(barrier)
        if os.pread(self._descriptor, _BARRIER_FORMAT.size, _BARRIER_OFFSET) != packed:
            self._write(packed, _BARRIER_OFFSET)

    def _check_file(self) -> int | None:
        """Return the version, or None if the file is empty.

        Raise UntrustedFileError if it isn't a state file of ours.
        """
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFileError(errno.EPERM, "not a regular file")
        if status.st_uid != os.geteuid():
            raise UntrustedFileError(errno.EPERM, "owned by another user")
        if status.st_mode & _OTHERS_MODE_MASK:
            raise UntrustedFileError(errno.EPERM, "other users can read or write it")
        if status.st_nlink == 0:
            raise UntrustedFileError(errno.ENOENT, "the file was removed")
        if status.st_nlink > 1:
            raise UntrustedFileError(errno.EPERM, "the file has other hard links")
        if status.st_size > _MAX_FILE_BYTES:
            raise UntrustedFileError(errno.EFBIG, "too large for a state file")
        version = self._read_version(status.st_size)
        if version is not None and version > VERSION:
            raise UntrustedFileError(errno.EPERM, "of a newer version")
        return version

    def _read_version(self, file_bytes: int) -> int | None:
        data = os.pread(self._descriptor, _HEADER_FORMAT.size, 0)
        # A killed writer may leave an incomplete header, and a power failure zeros.
        if (len(data) < _HEADER_FORMAT.size and _HEADER.startswith(data)) or self._is_zero(data, file_bytes):
            return None
        magic, version = _HEADER_FORMAT.unpack(data) if len(data) == _HEADER_FORMAT.size else (b"", 0)
        if magic != _MAGIC:
            raise UntrustedFileError(errno.EPERM, "not a pacer's state file")
        return int(version)

    def _is_zero(self, header: bytes, file_bytes: int) -> bool:
        return not any(header) and not any(os.pread(self._descriptor, file_bytes, 0))

    def _read_newest(self) -> bytes | None:
        heads = [self._read_copy_header(place) for place in _COPY_OFFSETS]
        known = self._revision and heads[1 - self._next_copy][0] == self._revision
        # The newer state may be incomplete because its writer was killed.
        for place in sorted((0, 1), key=lambda place: heads[place][0], reverse=True):
            revision, length, checksum = heads[place]
            if known and revision <= self._revision:
                return None
            state = os.pread(
                self._descriptor, min(length, _COPY_SIZE_BYTES), _COPY_OFFSETS[place] + _COPY_HEADER_FORMAT.size
            )
            if revision and len(state) == length and checksum == _compute_checksum(revision, state):
                self._revision, self._next_copy = revision, 1 - place
                return state
        raise CorruptStateError("unreadable")

    def _read_copy_header(self, offset: int) -> tuple[int, int, int]:
        data = os.pread(self._descriptor, _COPY_HEADER_FORMAT.size, offset)
        return _COPY_HEADER_FORMAT.unpack(data) if len(data) == _COPY_HEADER_FORMAT.size else _EMPTY_COPY_HEADER

    def _write(self, data: bytes, offset: int) -> None:
        if os.pwrite(self._descriptor, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_open_files: Final[weakref.WeakSet[StateFile]] = weakref.WeakSet()


def _close_inherited_files() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited_files)


def _open_file(path: Path) -> int:
    try:
        return os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_MODE)
    except FileExistsError:
        return os.open(path, _OPEN_FLAGS)


def _pack_barrier(barrier: SendBarrier) -> bytes:
    content = _BARRIER_FORMAT.pack(barrier.revoked_up_to, barrier.hold_until, 0)[:-4]
    return content + zlib.crc32(content).to_bytes(4, "little")


def _unpack_barrier(packed: bytes) -> SendBarrier | None:
    if len(packed) < _BARRIER_FORMAT.size:
        return None
    revoked_up_to, hold_until, checksum = _BARRIER_FORMAT.unpack(packed)
    return SendBarrier(revoked_up_to, hold_until) if checksum == zlib.crc32(packed[:-4]) else None


def _compute_checksum(revision: int, state: bytes) -> int:
    return zlib.crc32(state, revision & 0xFFFFFFFF)
