"""The files of a ledger: locked, opened, made as a whole or not at all; and what goes wrong there, in our words."""

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .errors import LedgerError, LedgerLockedError, LedgerLostError, LedgerUnreadableError, LedgerWriteError
from .identity import Identity, identity_of
from .log import is_log_damaged

APPLICATION: Final = 0x41645079
VERSION: Final = 2
OWNER_ONLY: Final = 0o600

_HEADER: Final = 100
_LOCK_PATIENCE: Final = 0.1
"""Seconds for which a lock is waited for: whoever looks if a job is running holds it for a moment."""
_NO_ROOM: Final = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def real(path: str | os.PathLike[str]) -> Path:
    """Give the file that a link leads to: what lies beside a ledger lies beside that, whatever name it is opened by."""
    # In a folder that can't be entered nothing is a link: whoever opens it says what is wrong.
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)  # noqa: PTH114


def check_place(path: Path) -> None:
    """Refuse what is no file, and what SQLite would take for an empty database.

    The file isn't opened for that: to close it again would let go of the locks that this process holds on it.
    """
    if not path.is_file() or path.stat().st_size < _HEADER:
        raise LedgerUnreadableError(
            f"{path} is no ledger of adapty-async, or is damaged: restore it from a copy, or use another ledger"
        )


def refuse_second_name(path: Path) -> None:
    """Refuse to write what has two names: who uses the other one has another lock, and another log."""
    if path.stat().st_nlink > 1:
        raise LedgerUnreadableError(
            f"{path} has another name as well, a hard link, by which somebody else might use it at the same time: "
            "remove that name, or make it a link by ln -s"
        )


class Lock:
    """The lock of a ledger, which this process has until it closes it."""

    def __init__(self, ledger: Path, identity: Identity, connection: sqlite3.Connection) -> None:
        self._ledger = ledger.absolute()
        self._file = lock_path(self._ledger)
        self._identity = identity
        self._connection = connection

    def check(self) -> None:
        """Raise LedgerLostError if its file isn't where it was: another process may have the lock then."""
        if not self._is_in_place():
            todo = "make sure that no other process works on the ledger, then run the same job again"
            raise gone(self._file, todo, kept=self._ledger)

    def remove(self) -> None:
        """Remove the lock file of a ledger that isn't made."""
        with contextlib.suppress(
            OSError
        ):  # Windows removes nothing that is open: an empty file stays, and harms nobody
            if self._is_in_place():
                self._file.unlink()

    def close(self) -> None:
        """Unlock the ledger; again, harmlessly."""
        self._connection.close()

    def _is_in_place(self) -> bool:
        return identity_of(self._file) == self._identity


def lock(path: Path) -> Lock:
    """Lock a file beside the ledger, which SQLite does alike on every system; the end of the process unlocks it."""
    beside = lock_path(path)
    while True:
        is_new = False
        with contextlib.suppress(FileExistsError):
            _make_private(beside)
            is_new = True
        try:
            locked = _locked(path, _LOCK_PATIENCE)
        except BaseException:  # an interrupt, too: what was made here would stay behind
            if is_new:
                _remove_unlocked(path)
            raise
        if locked is not None:
            return locked


def _remove_unlocked(path: Path) -> None:
    """Remove the lock file of a ledger, but for one that somebody else has locked meanwhile."""
    # Whatever is wrong with it, it is another's, or gone; what is raised already says more.
    with contextlib.suppress(sqlite3.Error, LedgerUnreadableError, OSError):
        locked = _locked(path, 0.0)
        if locked is not None:
            with contextlib.closing(locked):
                locked.remove()


def _locked(path: Path, patience: float) -> Lock | None:
    """Lock the lock file of a ledger; None where it was removed meanwhile, as by whoever makes no ledger after all."""
    beside = lock_path(path)
    identity = _identity_of_lock(beside)
    if identity is None:
        return None
    with contextlib.ExitStack() as stack:
        try:
            connection = _connect(beside, "rw", timeout=patience)
            stack.callback(connection.close)
            connection.execute("PRAGMA journal_mode = OFF")  # a kill would leave an empty journal beside the lock
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            if _identity_of_lock(beside) == identity:
                raise
            return None
        if _identity_of_lock(beside) != identity:
            return None
        stack.pop_all()
        return Lock(path, identity, connection)


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock of a ledger."""
    beside = lock_path(path)
    if _identity_of_lock(beside) is None:
        return False
    with translated(path), contextlib.closing(_connect(beside, "ro", timeout=0.0)) as connection:
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            return True
    return False


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger to write in. Raises LedgerUnreadableError, OSError."""
    if not os.access(path, os.W_OK):
        # SQLite would open it to read, and leave files beside it that nobody can write in afterwards.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _check_log(path)
    connection = _connect(path, "rw")
    try:
        _check_format(path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:  # an interrupt, too: the connection would stay open
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger to read in, also while it is written, and where there is no room. Raises LedgerUnreadableError.

    Where it may write, the connection that closes last moves the log into the ledger: SQLite does so then, and leaves
    a log behind where the last one was only allowed to read.
    """
    check_place(path)
    if _has_log(path) and not is_locked(path):  # of a job that runs it changes while it is read
        _check_log(path)
    may_write = _may_write_beside(path)
    if may_write or _has_log(path):
        try:
            return _opened_to_read(path, "rw" if may_write else "ro")
        except sqlite3.OperationalError:  # no room for the memory that readers and writers share
            if _has_log(path):
                raise
    return _opened_to_read(path, "ro&immutable=1")


def _opened_to_read(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode)
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_format(path, connection)
    except BaseException:  # an interrupt, too: the connection would stay open
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def made_whole(path: Path, schema: str, held: Lock) -> Iterator[sqlite3.Connection]:
    """Give an empty ledger to write in, in one transaction: it is at `path` when all of it is on the disk, or never."""
    part = path.with_name(f"{path.name}.new")
    _remove(part)
    try:
        _make_private(part)
        with contextlib.closing(_connect(part, "rw")) as connection:
            # Nobody else sees it yet, and a part of it is never used.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(schema)
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        _sync(part)
        held.check()
        _remove(path)  # a log without its ledger would be read as the new one's
        part.replace(path)
    except BaseException:  # an interrupt, too: the half of a ledger would stay behind
        _remove(part)
        raise
    sync_names(path.parent)


def copied_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Copy an open ledger to a new file that only its owner may read, and see it on the disk. Raises OSError."""
    _make_private(path)
    try:
        connection.execute("VACUUM INTO ?", (str(path),))
        _sync(path)
    except BaseException:  # an interrupt, too: the half of a copy would stay behind
        _remove(path)
        raise
    sync_names(path.parent)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise LedgerError instead of what SQLite and the system say of a ledger."""
    try:
        yield
        return
    except sqlite3.Error as error:
        translation = _of_sqlite(path, error)
    except OSError as error:
        translation = of_system(path, error)
    raise translation


def of_system(path: Path, error: OSError) -> LedgerWriteError:
    """Say what the system says of a file that belongs to a ledger."""
    todo = "make room for it" if error.errno in _NO_ROOM else "see to the permissions, or choose another place for it"
    return LedgerWriteError(f"{path} can't be made or opened ({error.strerror}): {todo}")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it. What isn't one any more, as a pipe, is refused, where it would be waited for.

    Raises LedgerUnreadableError, OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor, no path
    os.close(descriptor)
    raise LedgerUnreadableError(f"{path} is no regular file any more: put it back as it was")


def missing(path: Path) -> LedgerUnreadableError:
    """Say that there is no ledger."""
    return LedgerUnreadableError(f"{path} doesn't exist: check the name")


def gone(file: Path, todo: str, *, kept: Path | None) -> LedgerLostError:
    """Say that a file isn't where it was when it was opened."""
    return LedgerLostError(
        f"{file} was removed, renamed or replaced while the ledger was in use, so nothing more is sent: {todo}", kept
    )


def damaged(path: Path) -> LedgerUnreadableError:
    """Say that a ledger is damaged."""
    return LedgerUnreadableError(f"{path} is damaged: restore it from a copy, or start anew with another ledger")


def _of_sqlite(path: Path, error: sqlite3.Error) -> LedgerError:
    code = _code(error)
    if code == sqlite3.SQLITE_BUSY:
        return LedgerLockedError(f"{path} is in use by another process: wait for its end, or end it")
    if code == sqlite3.SQLITE_NOTADB:
        return _foreign(path)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return LedgerWriteError(f"{path} can't be opened ({error}): see to the permissions of it and of its directory")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return LedgerWriteError(f"{path} can't be written ({error}): make room for it, then run the same job again")
    return damaged(path)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _foreign(path: Path) -> LedgerUnreadableError:
    return LedgerUnreadableError(f"{path} is no ledger of adapty-async: give the ledger another name")


def lock_path(path: Path) -> Path:
    """Where the lock file of a ledger lies."""
    return path.with_name(f"{path.name}.lock")


def _identity_of_lock(beside: Path) -> Identity | None:
    """Tell one lock file from a later one; None where there is none. What isn't empty is refused: none ever is."""
    try:
        found = beside.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        raise LedgerUnreadableError(
            f"{beside} is there, and isn't the lock file of a ledger: give the ledger another name"
        )
    return found.st_dev, found.st_ino


def _connect(path: Path, mode: str, *, timeout: float = 5.0) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout, check_same_thread=False)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise _foreign(path)
    if version > VERSION:
        raise LedgerUnreadableError(f"{path} was made by a newer version: upgrade adapty-async to use it")
    if version < VERSION:
        raise LedgerUnreadableError(
            f"{path} was made by an older version, which this one can't read: use that version, or start anew with "
            "another ledger"
        )
    with contextlib.suppress(UnicodeDecodeError):  # what SQLite quotes of a schema that has changed may be no text
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        return
    raise damaged(path)


def _may_write_beside(path: Path) -> bool:
    """Tell whether SQLite can keep its shared memory beside a ledger, so that a writer can use it afterwards."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _check_log(path: Path) -> None:
    """Refuse a log in which a byte has changed. Raises LedgerUnreadableError."""
    log = path.with_name(f"{path.name}-wal")
    if _has_log(path) and is_log_damaged(log):
        raise LedgerUnreadableError(
            f"{log} is damaged: restore it, and {path.name}, from a copy, or start anew with another ledger"
        )


def _make_private(path: Path) -> None:
    """Make an empty file that only its owner may read: what SQLite puts beside it is like it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def sync_names(directory: Path) -> None:
    """See to it that the names of files are on the disk, where that can be done."""
    with contextlib.suppress(OSError):
        _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
