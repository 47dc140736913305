"""The kinds of ledgers: named and temporary.

A named ledger is a file with a key file next to it. A temporary ledger has no name, and its job can't be resumed.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, cast

import attrs

from .errors import LedgerError
from .file_identity import get_identity
from .files import (
    FileLock,
    acquire_lock,
    build_missing_error,
    check_hard_links,
    check_path,
    connect_to_read,
    connect_to_write,
    create_atomically,
    resolve_link,
)
from .id_key import KEY_BYTES, IdKey, get_key_path
from .lock import LedgerLock
from .open_file_check import OpenFileCheck

_TEMPORARY_FOLDERS: Final = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - SQLite's own list; its file has no name there


class NoFileCheck:
    """The checks of a ledger without a name. There are none, because no other process can change it."""

    def check_files(self) -> None:
        pass

    def check_writers(self) -> None:
        pass

    def record_sizes(self) -> None:
        pass


class OpenLedger(NamedTuple):
    """A ledger that is open for writing. `file_lock` is None if the caller holds it or if no lock is needed."""

    connection: sqlite3.Connection
    checks: OpenFileCheck | NoFileCheck
    file_lock: FileLock | None


@attrs.frozen
class NamedLedger:
    """A ledger in a file."""

    path: Path

    def open_to_write(
        self, schema: str, initialize: Callable[[sqlite3.Connection], None] | None, lock: LedgerLock | None
    ) -> OpenLedger:
        """Open the ledger. Lock it unless the caller already holds its lock (`lock`)."""
        path = self.path
        with contextlib.ExitStack() as stack:
            if initialize is None and not path.exists():
                raise build_missing_error(path)
            if path.exists():
                check_path(path)
                check_hard_links(path)
            own_lock = stack.enter_context(contextlib.closing(acquire_lock(path))) if lock is None else None
            file_lock = own_lock or cast("LedgerLock", lock).file_lock
            if initialize is not None and not path.exists():
                with _clean_up_on_failure(path, own_lock), create_atomically(path, schema, file_lock) as connection:
                    initialize(connection)
            identity = get_identity(path)
            connection = stack.enter_context(contextlib.closing(connect_to_write(path)))
            file_check = OpenFileCheck(path, identity, connection, file_lock)
            file_check.check_files()
            stack.pop_all()
            return OpenLedger(connection, file_check, own_lock)

    def open_to_read(self) -> sqlite3.Connection:
        """Open the ledger, even while it is written."""
        if not self.path.exists():
            raise build_missing_error(self.path)
        return connect_to_read(self.path)

    def read_id_key(self) -> IdKey | None:
        """Read the key file."""
        return IdKey.read(self.path)

    def create_id_key(self) -> IdKey:
        """Make the key file."""
        return IdKey.create(self.path)


class TemporaryLedger:
    """A ledger that only this process can use. It is gone when the process ends, even after a crash.

    It is a temporary database of SQLite with one connection. It is in memory up to the size of SQLite's cache, 2 MB,
    and then in a file that is unlinked as soon as it is open, before anything is written to it. Its ID key is in memory
    only. Close it to free the disk space.

    Attributes:
        path: A text for messages that names the folder.
    """

    def __init__(self) -> None:
        self.path: Final = Path(f"the temporary ledger in {_get_temporary_folder()}")
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=_SharedConnection)
        self._connection.execute("PRAGMA journal_mode = MEMORY")  # only holds the changes of the current transaction
        self._id_key: IdKey | None = None
        self._is_made = False

    def open_to_write(
        self, schema: str, initialize: Callable[[sqlite3.Connection], None] | None, lock: LedgerLock | None
    ) -> OpenLedger:
        """Open the ledger. There is no lock and nothing to check, because no other process can open it.

        Args:
            schema: The SQL that creates the tables.
            initialize: Writes the first rows if the ledger is new.
            lock: Must be None.

        Returns:
            The open ledger.

        Raises:
            LedgerError: If the ledger is new and `initialize` is None.
        """
        assert lock is None, "a temporary ledger has no lock"
        if not self._is_made:
            if initialize is None:
                raise LedgerError("there is no temporary ledger yet")
            self._connection.executescript(schema)
            self._connection.execute("BEGIN")
            initialize(self._connection)
            self._connection.execute("COMMIT")
            self._is_made = True
        return OpenLedger(self._connection, NoFileCheck(), None)

    def open_to_read(self) -> sqlite3.Connection:
        """Return the connection. Nothing may be written while it is read."""
        return self._connection

    def read_id_key(self) -> IdKey | None:
        """Return the ID key, or None if it isn't made yet."""
        return self._id_key

    def create_id_key(self) -> IdKey:
        """Make the ID key and return it."""
        self._id_key = IdKey(os.urandom(KEY_BYTES))
        return self._id_key

    def close(self) -> None:
        """Remove the ledger. Repeated calls have no effect."""
        self._connection.remove()


class _SharedConnection(sqlite3.Connection):
    """The connection of a temporary database, which exists as long as this. `close` only ends its transaction."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()

    def remove(self) -> None:
        super().close()


LedgerLocation: TypeAlias = NamedLedger | TemporaryLedger
"""The place of a ledger. Opening it raises OSError, sqlite3.Error or LedgerError."""


def to_location(path: str | os.PathLike[str] | LedgerLocation) -> LedgerLocation:
    """Return the location of a ledger, given by its path or by its location."""
    return NamedLedger(resolve_link(path)) if isinstance(path, str | os.PathLike) else path


def _get_temporary_folder() -> str:
    """Return the folder in which SQLite makes temporary files, see https://www.sqlite.org/tempfiles.html."""
    folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *_TEMPORARY_FOLDERS)
    return next((folder for folder in folders if folder and os.access(folder, os.W_OK | os.X_OK)), ".")


@contextlib.contextmanager
def _clean_up_on_failure(path: Path, own_lock: FileLock | None) -> Iterator[None]:
    """Remove the lock file and the key file if the block fails to make a ledger.

    A key file that existed before is kept: it may belong to another ledger. The lock file is removed only if this
    process holds the lock. Otherwise it might be another process's.
    """
    has_key = get_key_path(path).exists()
    try:
        yield
    except BaseException:  # an interrupt too, which would leave these files
        if not path.exists():
            if own_lock is not None:
                own_lock.remove()
            if not has_key:
                get_key_path(path).unlink(missing_ok=True)
        raise
