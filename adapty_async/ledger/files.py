"""The files of a ledger: locking, opening and creating them, and the errors this can raise."""

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .errors import LedgerError, LedgerLockedError, LedgerLostError, LedgerUnreadableError, LedgerWriteError
from .file_identity import Identity, get_identity
from .wal_damage import is_log_damaged

APPLICATION_ID: Final = 0x41645079
FORMAT_VERSION: Final = 3
OWNER_ONLY_MODE: Final = 0o600

_HEADER_BYTES: Final = 100
_LOCK_TIMEOUT: Final = 0.1
"""Seconds to wait for a lock. A process that checks whether a job is running holds it for a moment."""
_DISK_FULL_ERRNOS: Final = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def resolve_link(path: str | os.PathLike[str]) -> Path:
    """Return the target of a link, or else the path itself. The other files of a ledger are next to this target.

    Raise LedgerUnreadableError if the path has no file name.
    """
    # If the folder can't be entered, islink is False. Opening the file raises the error then.
    found = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)  # noqa: PTH114
    if not found.name:  # as of "", "." and "/"
        raise LedgerUnreadableError(f"{found} can't be a ledger, because it is a folder: name a file")
    return found


def check_path(path: Path) -> None:
    """Raise LedgerUnreadableError if the path isn't a file, or if SQLite would take it for an empty database.

    The file isn't opened for this check: closing it again would release the locks that this process holds on it.
    """
    if not path.is_file() or path.stat().st_size < _HEADER_BYTES:
        raise LedgerUnreadableError(
            f"{path} isn't a ledger of adapty-async, or is damaged: restore it from a backup, or use another ledger"
        )


def check_hard_links(path: Path) -> None:
    """Raise LedgerUnreadableError if the file has a second hard link.

    A process that uses the other name would use another lock and another log.
    """
    if path.stat().st_nlink > 1:
        raise LedgerUnreadableError(
            f"{path} has a second name, a hard link, and another process might use that one at the same time: "
            "remove the second name, or replace it with a symbolic link (ln -s)"
        )


class FileLock:
    """The lock of a ledger. This process has it until it is closed."""

    def __init__(self, ledger: Path, identity: Identity, connection: sqlite3.Connection) -> None:
        self._ledger = ledger.absolute()
        self._file = get_lock_path(self._ledger)
        self._identity = identity
        self._connection = connection

    def check(self) -> None:
        """Raise LedgerLostError if the lock file was moved or replaced. Another process may have the lock then."""
        if not self._is_in_place():
            advice = "make sure that no other process works on the ledger, then run the same job again"
            raise build_lost_error(self._file, advice, kept=self._ledger)

    def remove(self) -> None:
        """Remove the lock file. This is for a ledger that wasn't made."""
        with contextlib.suppress(OSError):  # Windows can't remove an open file: an empty one remains
            if self._is_in_place():
                self._file.unlink()

    def close(self) -> None:
        """Unlock the ledger. Repeated calls have no effect."""
        self._connection.close()

    def _is_in_place(self) -> bool:
        return get_identity(self._file) == self._identity


def acquire_lock(path: Path) -> FileLock:
    """Lock a file next to the ledger. The lock ends with the process.

    SQLite takes the lock, because it does so in the same way on every system.
    """
    lock_file = get_lock_path(path)
    while True:
        is_new = False
        with contextlib.suppress(FileExistsError):
            _create_private_file(lock_file)
            is_new = True
        try:
            file_lock = _try_lock(path, _LOCK_TIMEOUT)
        except BaseException:  # an interrupt too, which would leave the lock file
            if is_new:
                _remove_unused_lock_file(path)
            raise
        if file_lock is not None:
            return file_lock


def _remove_unused_lock_file(path: Path) -> None:
    """Remove the lock file of a ledger unless another process has locked it."""
    # If this fails, the file is another process's or gone. The error that is already being raised matters more.
    with contextlib.suppress(sqlite3.Error, LedgerUnreadableError, OSError):
        file_lock = _try_lock(path, 0.0)
        if file_lock is not None:
            with contextlib.closing(file_lock):
                file_lock.remove()


def _try_lock(path: Path, timeout: float) -> FileLock | None:
    """Lock the lock file of a ledger. Return None if the file is gone: a process that made no ledger removes it."""
    lock_file = get_lock_path(path)
    identity = _get_lock_identity(lock_file)
    if identity is None:
        return None
    with contextlib.ExitStack() as stack:
        try:
            connection = _connect(lock_file, "rw", timeout=timeout)
            stack.callback(connection.close)
            connection.execute(
                "PRAGMA journal_mode = OFF"
            )  # a killed process would leave an empty journal next to the lock
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            if _get_lock_identity(lock_file) == identity:
                raise
            return None
        if _get_lock_identity(lock_file) != identity:
            return None
        stack.pop_all()
        return FileLock(path, identity, connection)


def is_locked(path: Path) -> bool:
    """Return True if a process holds the lock of a ledger."""
    lock_file = get_lock_path(path)
    if _get_lock_identity(lock_file) is None:
        return False
    with translate_errors(path), contextlib.closing(_connect(lock_file, "ro", timeout=0.0)) as connection:
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if _get_sqlite_code(error) != sqlite3.SQLITE_BUSY:
                raise
            return True
    return False


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger for writing. Raise LedgerUnreadableError or OSError."""
    if not os.access(path, os.W_OK):
        # SQLite would open it for reading, and leave files next to it that no process can write to later.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _check_log(path)
    connection = _connect(path, "rw")
    try:
        _check_format(path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:  # an interrupt too, which would leave the connection open
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading, even while it is written or if the disk is full. Raise LedgerUnreadableError.

    When the last connection closes, SQLite moves the log into the ledger if that connection may write. If it may only
    read, the log remains.
    """
    check_path(path)
    if _has_log(path) and not is_locked(path):  # the log of a running job changes while it is read
        _check_log(path)
    may_write = _is_writable(path)
    if may_write or _has_log(path):
        try:
            return _open_to_read(path, "rw" if may_write else "ro")
        except sqlite3.OperationalError:  # no room for the shared memory of readers and writers
            if _has_log(path):
                raise
    return _open_to_read(path, "ro&immutable=1")


def _open_to_read(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode)
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_format(path, connection)
    except BaseException:  # an interrupt too, which would leave the connection open
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def create_atomically(path: Path, schema: str, file_lock: FileLock) -> Iterator[sqlite3.Connection]:
    """Yield an empty ledger, to be filled in one transaction.

    It appears at `path` when all of it is on the disk, or not at all.
    """
    temp_path = path.with_name(f"{path.name}.new")
    _remove_database(temp_path)
    try:
        _create_private_file(temp_path)
        with contextlib.closing(_connect(temp_path, "rw")) as connection:
            # No other process sees the file yet, and an incomplete one is never used.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(schema)
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        _fsync(temp_path)
        file_lock.check()
        _remove_database(path)  # SQLite would read an old log as the new ledger's
        temp_path.replace(path)
    except BaseException:  # an interrupt too, which would leave a partial ledger
        _remove_database(temp_path)
        raise
    sync_directory(path.parent)


def copy_atomically(path: Path, connection: sqlite3.Connection) -> None:
    """Copy an open ledger to a new file that only its owner can read, and sync it. Raise OSError."""
    _create_private_file(path)
    try:
        connection.execute("VACUUM INTO ?", (str(path),))
        _fsync(path)
    except BaseException:  # an interrupt too, which would leave a partial copy
        _remove_database(path)
        raise
    sync_directory(path.parent)


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and the operating system into LedgerError."""
    try:
        yield
        return
    except sqlite3.Error as error:
        translation = _build_sqlite_error(path, error)
    except OSError as error:
        translation = build_write_error(path, error)
    raise translation


def build_write_error(path: Path, error: OSError) -> LedgerWriteError:
    """Return the LedgerWriteError for an OSError."""
    advice = (
        "make room for it"
        if error.errno in _DISK_FULL_ERRNOS
        else "check the permissions, or choose another place for it"
    )
    return LedgerWriteError(f"{path} can't be made or opened ({error.strerror}): {advice}")


def open_regular_file(path: Path) -> BinaryIO:
    """Open a file for reading. A pipe or another special file is refused, because reading it could block.

    Raise LedgerUnreadableError or OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor, no path
    os.close(descriptor)
    raise LedgerUnreadableError(f"{path} isn't a regular file any more: put it back as it was")


def build_missing_error(path: Path) -> LedgerUnreadableError:
    """Return the error for a ledger that doesn't exist."""
    return LedgerUnreadableError(f"{path} doesn't exist: check the name")


def build_lost_error(file: Path, advice: str, *, kept: Path | None) -> LedgerLostError:
    """Return the error for a file that isn't at its path any more."""
    return LedgerLostError(
        f"{file} was removed, renamed or replaced while the ledger was in use, so nothing more is sent: {advice}", kept
    )


def build_damaged_error(path: Path) -> LedgerUnreadableError:
    """Return the error for a damaged ledger."""
    return LedgerUnreadableError(f"{path} is damaged: restore it from a backup, or start again with another ledger")


def _build_sqlite_error(path: Path, error: sqlite3.Error) -> LedgerError:
    code = _get_sqlite_code(error)
    if code == sqlite3.SQLITE_BUSY:
        return LedgerLockedError(f"{path} is in use by another process: wait until it ends, or stop it")
    if code == sqlite3.SQLITE_NOTADB:
        return _build_foreign_error(path)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return LedgerWriteError(f"{path} can't be opened ({error}): check its permissions and those of its directory")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return LedgerWriteError(f"{path} can't be written ({error}): make room for it, then run the same job again")
    return build_damaged_error(path)


def _get_sqlite_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _build_foreign_error(path: Path) -> LedgerUnreadableError:
    return LedgerUnreadableError(f"{path} isn't a ledger of adapty-async: choose another name for the ledger")


def get_lock_path(path: Path) -> Path:
    """Return the path of a ledger's lock file."""
    return path.with_name(f"{path.name}.lock")


def _get_lock_identity(lock_file: Path) -> Identity | None:
    """Return the identity of a lock file, or None if there is none. Refuse any file that isn't empty."""
    try:
        found = lock_file.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        raise LedgerUnreadableError(
            f"{lock_file} exists and isn't the lock file of a ledger: choose another name for the ledger"
        )
    return found.st_dev, found.st_ino


def _connect(path: Path, mode: str, *, timeout: float = 5.0) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout, check_same_thread=False)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise _build_foreign_error(path)
    if version > FORMAT_VERSION:
        raise LedgerUnreadableError(f"{path} was made by a newer version: upgrade adapty-async to use it")
    if version < FORMAT_VERSION:
        raise LedgerUnreadableError(
            f"{path} was made by an older version, which this one can't read: use that version, or start again with "
            "another ledger"
        )
    with contextlib.suppress(UnicodeDecodeError):  # SQLite may quote a changed schema that isn't text
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        return
    raise build_damaged_error(path)


def _is_writable(path: Path) -> bool:
    """Return True if SQLite can keep its shared memory next to the ledger, so that a writer can use it later."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _check_log(path: Path) -> None:
    """Raise LedgerUnreadableError if a byte of the log has changed."""
    log = path.with_name(f"{path.name}-wal")
    if _has_log(path) and is_log_damaged(log):
        raise LedgerUnreadableError(
            f"{log} is damaged: restore it and {path.name} from a backup, or start again with another ledger"
        )


def _create_private_file(path: Path) -> None:
    """Make an empty file that only its owner can read. SQLite gives its own files the same permissions."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_MODE))


def _remove_database(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Sync the names in a directory, if the system can do so."""
    with contextlib.suppress(OSError):
        _fsync(directory)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
