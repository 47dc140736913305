"""Where a ledger is: in a file with its key file beside it, or nowhere that has a name, for a job nobody can resume."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, cast

import attrs

from .errors import LedgerError
from .fence import Fence
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
from .holding import Held
from .identity import identity_of
from .secret import LENGTH, Secret, key_path

_TEMPORARY_FOLDERS: Final = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - where SQLite looks; a file has no name there


class NoChecks:
    """What is checked, as by a `Fence`, of a ledger without a name: nothing, for nobody else can change it."""

    def check(self) -> None:
        pass

    def check_writers(self) -> None:
        pass

    def note_sizes(self) -> None:
        pass


class Opened(NamedTuple):
    """A ledger that is open for writing. `lock`: its own, None if the caller holds it or nobody else can open it."""

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
        """Open it, and lock it unless it is `held`."""
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
        """Open it, also while it is written."""
        if not self.path.exists():
            raise missing(self.path)
        return connect_to_read(self.path)

    def read_secret(self) -> Secret | None:
        """Read its key file."""
        return Secret.read(self.path)

    def make_secret(self) -> Secret:
        """Make its key file."""
        return Secret.make(self.path)


class TemporaryLedger:
    """A ledger in this process alone, of one connection. It is gone with the process, however that ends.

    It is a temporary database of SQLite: in memory up to the size of SQLite's cache, 2 MB, and then in a file that is
    unlinked as soon as it is open, still empty. Its id key is in memory only. Close it to give back the room on the
    disk.
    """

    def __init__(self) -> None:
        self.path: Final = Path(f"the temporary ledger in {_temporary_folder()}")
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=_SharedConnection)
        self._connection.execute("PRAGMA journal_mode = MEMORY")  # what a transaction changes, until it ends
        self._secret: Secret | None = None
        self._is_made = False

    def open_to_write(
        self, schema: str, make: Callable[[sqlite3.Connection], None] | None, held: Held | None
    ) -> Opened:
        """Open it; nobody else can, so there is no lock and nothing to check."""
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
        """Open it, while nobody writes in it."""
        return self._connection

    def read_secret(self) -> Secret | None:
        """Give its id key."""
        return self._secret

    def make_secret(self) -> Secret:
        """Make its id key."""
        self._secret = Secret(os.urandom(LENGTH))
        return self._secret

    def close(self) -> None:
        """Remove it; again, harmlessly."""
        self._connection.remove()


class _SharedConnection(sqlite3.Connection):
    """The connection of a temporary database, which is there as long as this: closing it only ends its transaction."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()

    def remove(self) -> None:
        super().close()


LedgerLocation: TypeAlias = NamedLedger | TemporaryLedger
"""Where a ledger is; what it raises when it is opened is OSError, sqlite3.Error or LedgerError."""


def location_of(path: str | os.PathLike[str] | LedgerLocation) -> LedgerLocation:
    """Return where a ledger is that was given by its path or by its location."""
    return NamedLedger(real(path)) if isinstance(path, str | os.PathLike) else path


def _temporary_folder() -> str:
    """Return where SQLite makes temporary files, see https://www.sqlite.org/tempfiles.html."""
    folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *_TEMPORARY_FOLDERS)
    return next((folder for folder in folders if folder and os.access(folder, os.W_OK | os.X_OK)), ".")


@contextlib.contextmanager
def _leaving_no_trace(path: Path, own: Lock | None) -> Iterator[None]:
    """Remove what lies beside a ledger where none is made, but for a key that was there before: it may be another's.

    The lock is removed by whoever holds it, and still: else another's might be.
    """
    has_key = key_path(path).exists()
    try:
        yield
    except BaseException:  # an interrupt, too: what was made beside it would stay behind
        if not path.exists():
            if own is not None:
                own.remove()
            if not has_key:
                key_path(path).unlink(missing_ok=True)
        raise
