"""The places that can hold a ledger.

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
from .file_identity import identity_of
from .files import (
    Lock,
    check_place,
    connect_to_read,
    connect_to_write,
    lock,
    made_whole,
    missing,
    real,
    refuse_second_name,
)
from .id_key import LENGTH, Secret, key_path
from .lock import Held
from .path_check import Fence

_TEMPORARY_FOLDERS: Final = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - SQLite's own list; its file has no name there


class NoChecks:
    """The checks of a ledger without a name. There are none, because no other process can change it."""

    def check(self) -> None:
        pass

    def check_writers(self) -> None:
        pass

    def note_sizes(self) -> None:
        pass


class Opened(NamedTuple):
    """A ledger that is open for writing. `lock` is None if the caller holds it or if no lock is needed."""

    connection: sqlite3.Connection
    checks: Fence | NoChecks
    lock: Lock | None


@attrs.frozen
class NamedLedger:
    """A ledger in a file."""

    path: Path

    def open_to_write(
        self, schema: str, make: Callable[[sqlite3.Connection], None] | None, held: Held | None
    ) -> Opened:
        """Open the ledger. Lock it unless the caller already holds its lock (`held`)."""
        path = self.path
        with contextlib.ExitStack() as stack:
            if make is None and not path.exists():
                raise missing(path)
            if path.exists():
                check_place(path)
                refuse_second_name(path)
            own = stack.enter_context(contextlib.closing(lock(path))) if held is None else None
            its_lock = own or cast("Held", held).lock
            if make is not None and not path.exists():
                with _leaving_no_trace(path, own), made_whole(path, schema, its_lock) as connection:
                    make(connection)
            identity = identity_of(path)
            connection = stack.enter_context(contextlib.closing(connect_to_write(path)))
            fence = Fence(path, identity, connection, its_lock)
            fence.check()
            stack.pop_all()
            return Opened(connection, fence, own)

    def open_to_read(self) -> sqlite3.Connection:
        """Open the ledger, even while it is written."""
        if not self.path.exists():
            raise missing(self.path)
        return connect_to_read(self.path)

    def read_secret(self) -> Secret | None:
        """Read the key file."""
        return Secret.read(self.path)

    def make_secret(self) -> Secret:
        """Make the key file."""
        return Secret.make(self.path)


class TemporaryLedger:
    """A ledger that only this process can use. It is gone when the process ends, even after a crash.

    It is a temporary database of SQLite with one connection. It is in memory up to the size of SQLite's cache, 2 MB,
    and then in a file that is unlinked as soon as it is open, before anything is written to it. Its ID key is in memory
    only. Close it to free the disk space.

    Attributes:
        path: A text for messages that names the folder.
    """

    def __init__(self) -> None:
        self.path: Final = Path(f"the temporary ledger in {_temporary_folder()}")
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=_SharedConnection)
        self._connection.execute("PRAGMA journal_mode = MEMORY")  # only holds the changes of the current transaction
        self._secret: Secret | None = None
        self._is_made = False

    def open_to_write(
        self, schema: str, make: Callable[[sqlite3.Connection], None] | None, held: Held | None
    ) -> Opened:
        """Open the ledger. There is no lock and nothing to check, because no other process can open it.

        Args:
            schema: The SQL that creates the tables.
            make: Writes the first rows if the ledger is new.
            held: Must be None.

        Returns:
            The open ledger.

        Raises:
            LedgerError: If the ledger is new and `make` is None.
        """
        assert held is None, "a temporary ledger has no lock"
        if not self._is_made:
            if make is None:
                raise LedgerError("there is no temporary ledger yet")
            self._connection.executescript(schema)
            self._connection.execute("BEGIN")
            make(self._connection)
            self._connection.execute("COMMIT")
            self._is_made = True
        return Opened(self._connection, NoChecks(), None)

    def open_to_read(self) -> sqlite3.Connection:
        """Return the connection. Nothing may be written while it is read."""
        return self._connection

    def read_secret(self) -> Secret | None:
        """Return the ID key, or None if it isn't made yet."""
        return self._secret

    def make_secret(self) -> Secret:
        """Make the ID key and return it."""
        self._secret = Secret(os.urandom(LENGTH))
        return self._secret

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


def location_of(path: str | os.PathLike[str] | LedgerLocation) -> LedgerLocation:
    """Return the location of a ledger, given by its path or by its location."""
    return NamedLedger(real(path)) if isinstance(path, str | os.PathLike) else path


def _temporary_folder() -> str:
    """Return the folder in which SQLite makes temporary files, see https://www.sqlite.org/tempfiles.html."""
    folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *_TEMPORARY_FOLDERS)
    return next((folder for folder in folders if folder and os.access(folder, os.W_OK | os.X_OK)), ".")


@contextlib.contextmanager
def _leaving_no_trace(path: Path, own: Lock | None) -> Iterator[None]:
    """Remove the lock file and the key file if the block fails to make a ledger.

    A key file that existed before is kept: it may belong to another ledger. The lock file is removed only if this
    process holds the lock. Otherwise it might be another process's.
    """
    has_key = key_path(path).exists()
    try:
        yield
    except BaseException:  # an interrupt too, which would leave these files
        if not path.exists():
            if own is not None:
                own.remove()
            if not has_key:
                key_path(path).unlink(missing_ok=True)
        raise
