"""A disk that a test controls: it records writes, syncs and changes of names in a folder, and fails on request.

SQLite's files go through a VFS in front of the usual one, in the library that Python has loaded. Our own files go
through the functions of `os`. Data that isn't synced may be lost in a crash: see `tests/power.py`.
"""

import contextlib
import ctypes
import os
import re
import sqlite3  # noqa: F401 - loads the library
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
import pytest

Kind: TypeAlias = Literal["create", "write", "truncate", "sync", "rename", "unlink", "sync names", "read", "mark"]
Failure: TypeAlias = Literal["EIO", "ENOSPC", "short"]

_ERRNO: Final = {"EIO": 5, "ENOSPC": 28, "short": 28}
# The errors reported to SQLite: SQLITE_FULL if there is no space, otherwise an extended code of SQLITE_IOERR.
_FULL: Final = 13
_IOERR: Final = {"read": 266, "write": 778, "truncate": 1546, "sync": 1034, "unlink": 2570, "create": 14}
_SHORT_READ: Final = 522
_CREATE: Final = 0x4
_SYNCS_ITS_NAME: Final = 0x800 | 0x80000  # a journal and a log: SQLite syncs the directory with their first sync


@attrs.frozen
class Event:
    """An operation on the disk, or a mark for something that happened elsewhere."""

    kind: Kind
    name: str = ""
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    other: str = ""
    mark: Any = None


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        *((name, c_void_p) for name in ("open", "delete", "access", "full_path")),
        *((f"other{number}", c_void_p) for number in range(12)),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", c_int),
        *((name, c_void_p) for name in ("close", "read", "write", "truncate", "sync", "size")),
        *((f"other{number}", c_void_p) for number in range(12)),
    )


_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)  # the name itself: SQLite keeps a reference
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Transfer = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


def sqlite_library() -> ctypes.CDLL:
    """Return the library that Python's sqlite3 uses. Skip the test if it can't be accessed."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            if re.search(r"libsqlite3\.so", line):
                return ctypes.CDLL(line.split()[-1])
    pytest.skip("sqlite3 isn't linked to a shared library that can be found: its files can't be recorded")


class Disk:
    """Record the operations on the files of a folder, in order.

    `fails`: called with each operation before it is made. It returns how the operation fails, or None.
    """

    def __init__(self, folder: Path, fails: Callable[[Event], Failure | None] = lambda _: None) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self._fails = fails
        self._names: dict[str, int] = {}
        self._last_inode = 0
        for file in folder.iterdir():  # existing content is safe
            inode = self._new_inode(file.name)
            self.events += [Event("create", file.name, inode), Event("write", file.name, inode, data=file.read_bytes())]
            self.events.append(Event("sync", file.name, inode))
        self.events.append(Event("sync names"))
        self.begin = len(self.events)

    def mark(self, mark: Any) -> None:
        """Record something that happened elsewhere."""
        self.events.append(Event("mark", mark=mark))

    @contextlib.contextmanager
    def recording(self) -> Iterator["Disk"]:
        """Record during the block."""
        with _SqliteFiles(self).installed(), _OwnFiles(self).installed():
            yield self

    def is_inside(self, path: str) -> bool:
        """Return True if a file is in the folder. Shared memory doesn't count, because it isn't kept on a disk."""
        return os.path.dirname(path) == str(self.folder) and not path.endswith("-shm")  # noqa: PTH120 - called often

    def inode_of(self, name: str) -> int:
        """Return the number of a file. If it has none yet, it gets a new one."""
        inode = self._names.get(name)
        if inode is None:
            inode = self._new_inode(name)
            self.events.append(Event("create", name, inode))
        return inode

    def knows(self, name: str) -> bool:
        """Return True if a file has been created."""
        return name in self._names

    def do(self, event: Event) -> Failure | None:
        """Record an operation, unless it fails. Return how it fails."""
        failure = self._fails(event)
        if failure is None and event.kind != "read":
            self.events.append(event)
            if event.kind == "unlink":
                self._names.pop(event.name, None)
            elif event.kind == "rename":
                self._names[event.other] = self._names.pop(event.name)
        return failure

    def _new_inode(self, name: str) -> int:
        self._last_inode += 1
        self._names[name] = self._last_inode
        return self._last_inode


class _SqliteFiles:
    """The VFS in front of the usual one."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._library = sqlite_library()
        self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._usual = self._library.sqlite3_vfs_find(None)
        usual = self._usual.contents
        self._usual_open, self._usual_delete = _Open(usual.open), _Delete(usual.delete)
        self._vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self._vfs), self._usual, ctypes.sizeof(_Vfs))
        self._kept = [_Open(self._open), _Delete(self._delete)]
        self._vfs.name = b"controlled"
        self._vfs.open, self._vfs.delete = (ctypes.cast(each, c_void_p).value for each in self._kept)
        self._methods: dict[int, _Methods] = {}
        self._files: dict[int, tuple[str, int]] = {}
        self._unsynced_names: set[int] = set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Use this VFS for every file opened during the block."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_register(self._usual, 1)
            self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _open(self, _vfs: int, path: int | None, file: int, flags: int, flags_out: int) -> int:
        text = "" if path is None else os.fsdecode(ctypes.string_at(path))
        name = Path(text).name if self._disk.is_inside(text) else None
        is_new = flags & _CREATE and not os.path.exists(text)  # noqa: PTH110
        if name is not None and is_new and self._disk.do(Event("mark", mark=("create", name))) is not None:
            ctypes.cast(file, POINTER(c_void_p))[0] = None
            return _IOERR["create"]
        status = int(self._usual_open(ctypes.addressof(self._usual.contents), path, file, flags, flags_out))
        if status or name is None:
            return status
        inode = self._disk.inode_of(name)
        if is_new and flags & _SYNCS_ITS_NAME:
            self._unsynced_names.add(inode)
        self._files[file] = (name, inode)
        methods = ctypes.cast(file, POINTER(c_void_p))
        methods[0] = ctypes.addressof(self._ours(methods[0]))
        return status

    def _ours(self, usual: int) -> _Methods:
        """Return the methods of a file, with ours instead of the usual ones."""
        ours = self._methods.get(usual)
        if ours is not None:
            return ours
        ours = self._methods[usual] = _Methods()
        ctypes.memmove(ctypes.byref(ours), usual, ctypes.sizeof(_Methods))
        close, read, write = _Close(ours.close), _Transfer(ours.read), _Transfer(ours.write)
        truncate, sync = _Truncate(ours.truncate), _Sync(ours.sync)
        disk, files = self._disk, self._files

        def our_close(file: int) -> int:
            files.pop(file, None)
            return int(close(file))

        def our_read(file: int, buffer: int, size: int, offset: int) -> int:
            name, inode = files[file]
            failure = disk.do(Event("read", name, inode, offset))
            if failure == "short":
                ctypes.memset(buffer, 0, size)
                return _SHORT_READ
            return _IOERR["read"] if failure else int(read(file, buffer, size, offset))

        def our_write(file: int, buffer: int, size: int, offset: int) -> int:
            name, inode = files[file]
            failure = disk.do(Event("write", name, inode, offset, ctypes.string_at(buffer, size)))
            if failure is None:
                return int(write(file, buffer, size, offset))
            if failure == "short":
                write(file, buffer, size // 2, offset)
            return _IOERR["write"] if failure == "EIO" else _FULL

        def our_truncate(file: int, size: int) -> int:
            name, inode = files[file]
            failure = disk.do(Event("truncate", name, inode, size))
            return _IOERR["truncate"] if failure else int(truncate(file, size))

        def our_sync(file: int, flags: int) -> int:
            name, inode = files[file]
            if disk.do(Event("sync", name, inode)) is not None:
                return _IOERR["sync"]
            if inode in self._unsynced_names:
                self._unsynced_names.remove(inode)
                disk.do(Event("sync names", name))
            return int(sync(file, flags))

        callbacks = (
            _Close(our_close), _Transfer(our_read), _Transfer(our_write), _Truncate(our_truncate), _Sync(our_sync)
        )  # fmt: skip
        self._kept += callbacks
        ours.close, ours.read, ours.write, ours.truncate, ours.sync = (
            ctypes.cast(each, c_void_p).value for each in callbacks
        )
        return ours

    def _delete(self, _vfs: int, path: bytes, syncs: int) -> int:
        text = os.fsdecode(path)
        if self._disk.is_inside(text):
            if self._disk.knows(Path(text).name) and self._disk.do(Event("unlink", Path(text).name)) is not None:
                return _IOERR["unlink"]
            if syncs:
                self._disk.do(Event("sync names"))
        return int(self._usual_delete(ctypes.addressof(self._usual.contents), path, syncs))


class _OwnFiles:
    """The functions of `os` that create, write and rename our own files."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open_files: dict[int, str] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Replace the functions during the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "close", "write", "fsync", "replace", "rename", "unlink"):
                patch.setattr(os, name, getattr(self, name)(getattr(os, name)))
            patch.setattr(Path, "read_bytes", self.read_bytes(Path.read_bytes))
            yield

    def open(self, usual: Callable[..., int]) -> Callable[..., int]:
        def ours(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
            text = os.fspath(path)
            is_ours = isinstance(text, str) and self._disk.is_inside(os.path.abspath(text))  # noqa: PTH100
            if is_ours and flags & os.O_CREAT and not os.path.exists(text):  # noqa: PTH110
                self._do(Event("mark", mark=("create", text)))
            descriptor = usual(path, flags, *arguments, **more)
            if is_ours:
                name = os.path.basename(text)  # noqa: PTH119
                if flags & os.O_CREAT:
                    self._disk.inode_of(name)
                self._open_files[descriptor] = name
            elif isinstance(text, str) and os.path.abspath(text) == str(self._disk.folder):  # noqa: PTH100
                self._open_files[descriptor] = ""
            return descriptor

        return ours

    def close(self, usual: Callable[[int], None]) -> Callable[[int], None]:
        def ours(descriptor: int) -> None:
            self._open_files.pop(descriptor, None)
            usual(descriptor)

        return ours

    def write(self, usual: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def ours(descriptor: int, data: bytes) -> int:
            name = self._open_files.get(descriptor)
            if name:
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
                if self._do(Event("write", name, self._disk.inode_of(name), end, bytes(data))) == "short":
                    return usual(descriptor, data[: len(data) // 2])
            return usual(descriptor, data)

        return ours

    def fsync(self, usual: Callable[[int], None]) -> Callable[[int], None]:
        def ours(descriptor: int) -> None:
            name = self._open_files.get(descriptor)
            if name is not None:
                self._do(Event("sync", name, self._disk.inode_of(name)) if name else Event("sync names"))
            usual(descriptor)

        return ours

    def replace(self, usual: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def ours(source: Any, target: Any) -> None:
            if self._disk.is_inside(os.path.abspath(source)):  # noqa: PTH100
                self._do(Event("rename", Path(source).name, other=Path(target).name))
            usual(source, target)

        return ours

    rename = replace

    def unlink(self, usual: Callable[..., None]) -> Callable[..., None]:
        def ours(path: Any, **more: Any) -> None:
            name = os.path.basename(os.fspath(path))  # noqa: PTH119
            if self._disk.is_inside(os.path.abspath(path)) and self._disk.knows(name) and os.path.lexists(path):  # noqa: PTH100
                self._do(Event("unlink", name))
            usual(path, **more)

        return ours

    def read_bytes(self, usual: Callable[[Path], bytes]) -> Callable[[Path], bytes]:
        def ours(path: Path) -> bytes:
            if self._disk.is_inside(str(path.absolute())):
                data = usual(path)
                failure = self._do(Event("read", path.name))
                return data[: len(data) // 2] if failure == "short" else data
            return usual(path)

        return ours

    def _do(self, event: Event) -> Failure | None:
        """Make an operation. Raises OSError if it fails; a short one is returned."""
        failure = self._disk.do(event)
        if failure is None or (failure == "short" and (event.kind == "read" or len(event.data) > 1)):
            return failure
        raise OSError(_ERRNO[failure], os.strerror(_ERRNO[failure]))
