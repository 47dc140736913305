"""Checks that an open ledger is still the file at its path, and is used by this process alone.

A file that is open can be removed, renamed or replaced. The process would then write to a file that nothing reads. If
this happens to the lock, another process may take it, and some writes of both processes would be lost.
"""

import contextlib
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from .chunks import Chunk
from .errors import LedgerLostError, LedgerUnreadableError
from .file_identity import Identity, identity_of
from .files import Lock, copied_whole, gone, open_regular
from .id_key import LENGTH, key_path
from .wal_check import has_log_lost_its_head

_BESIDE: Final = ("-wal", "-shm")
_AGAIN: Final = "then run the same job again"


class Fence:
    """The state that must not change while a ledger is open for writing: its files, its lock and its only writer.

    `identity` is the identity of the ledger before it was opened.
    """

    def __init__(self, path: Path, identity: Identity | None, connection: sqlite3.Connection, lock: Lock) -> None:
        self._path = path.absolute()  # a relative path would follow a renamed working directory
        self._connection = connection
        self._lock = lock
        self._version = self._read_version()  # first, because there may be no log before the first read
        self._ledger = identity
        self._beside = {file: identity_of(file) for file in map(self._named, _BESIDE)}
        self._key_path = key_path(self._path)
        self._key = self._read_key()
        self._sizes = self._read_sizes()
        self._lost: LedgerLostError | None = None

    def check(self) -> None:
        """Raise LedgerLostError if a file was removed, renamed or replaced, now or before. Raise OSError."""
        if self._lost is None:
            try:
                self._look()
            except LedgerLostError as error:
                self._lost = error
        if self._lost is not None:
            raise LedgerLostError(str(self._lost), self._lost.kept)

    def check_writers(self) -> None:
        """Raise LedgerLostError if another connection has written to the ledger. Call this in a transaction."""
        if self._read_version() != self._version:
            self._lost = LedgerLostError(
                f"another process wrote to {self._path} while it was in use, so nothing more is sent: make sure that "
                f"no other process uses it, {_AGAIN}",
                self._path,
            )
            raise self._lost

    def note_sizes(self) -> None:
        """Record the sizes of the files after a transaction. Nothing else changes them until the next one.

        A transaction shrinks neither file. The ledger grows by whole pages if some of its log is moved into it. Other
        sizes mean that another process has overwritten a file: they aren't recorded, so that `check` finds this.
        """
        ledger, log = self._read_sizes()
        if log >= self._sizes[1] and ledger in self._possible_sizes():
            self._sizes = ledger, log

    def _look(self) -> None:
        if identity_of(self._path) != self._ledger:
            raise self._rescued()
        self._lock.check()
        for file, identity in self._beside.items():
            if identity_of(file) != identity:
                raise gone(file, f"leave the files of a ledger alone, {_AGAIN}", kept=self._path)
        if self._read_key() != self._key:  # compared by content: a new file may reuse the inode
            raise gone(self._key_path, f"put it back, {_AGAIN}", kept=self._path)
        ledger, log = self._read_sizes()
        # An interrupted transaction may leave the log larger.
        if ledger != self._sizes[0] or log < self._sizes[1] or has_log_lost_its_head(self._named("-wal")):
            if identity_of(self._path) != self._ledger:  # it was removed after the check above
                raise self._rescued()
            raise LedgerLostError(
                f"{self._path}, or its log, was overwritten while it was in use, so nothing more is sent: if it is "
                f"damaged, restore it from a backup, {_AGAIN}",
                self._path,
            )

    def _rescued(self) -> LedgerLostError:
        """Copy the content of the open file to a place the user can find. Return the error that names it."""
        copy = self._named(".rescued")
        try:
            copied_whole(copy, self._connection)
            unknown = self._count_claimed()
        except (OSError, sqlite3.Error):
            todo = (
                f"its data couldn't be copied to {copy.name}: find the ledger and put it back, {_AGAIN}; if you can't "
                "find it, its data is lost"
            )
            return gone(self._path, todo, kept=None)
        finally:
            self._put_log_away()
        sent_again = f", which sends {unknown:,} rows with an unknown outcome again" if unknown else ""
        todo = f"its data is in {copy}: rename that to {self._path.name}, next to its key file, {_AGAIN}{sent_again}"
        return gone(self._path, todo, kept=copy)

    def _put_log_away(self) -> None:
        """Move the log into the ledger and remove it. SQLite would take it for the log of a copy."""
        log = self._named("-wal")
        if identity_of(log) in {self._beside[log], None}:  # SQLite would remove another process's log by its name
            with contextlib.suppress(sqlite3.Error):  # another process has the ledger open under another name
                self._connection.execute("PRAGMA journal_mode = DELETE")
        for file, identity in self._beside.items():
            with contextlib.suppress(OSError):
                if identity_of(file) == identity is not None:
                    file.unlink()

    def _count_claimed(self) -> int:
        """Return how many items may have been sent and have no outcome."""
        rows = self._connection.execute("SELECT size, rows FROM outcome JOIN chunk ON chunk.number = outcome.number")
        return sum(Chunk.unpack(size, zlib.decompress(packed)).claimed for size, packed in rows)

    def _read_key(self) -> bytes | None:
        # An error is raised when the key is needed.
        with contextlib.suppress(OSError, LedgerUnreadableError), open_regular(self._key_path) as file:
            return file.read(LENGTH + 1)
        return None

    def _read_sizes(self) -> tuple[int, int]:
        return _size(self._path), _size(self._named("-wal"))

    def _possible_sizes(self) -> range:
        """Return the sizes that the ledger can have with none, some or all of its new pages moved into it."""
        with contextlib.suppress(sqlite3.Error):  # the file was overwritten
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (size,) = self._connection.execute("PRAGMA page_size").fetchone()
            return range(self._sizes[0], pages * size + 1, size)
        return range(0)

    def _read_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _named(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}{suffix}")


def _size(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_size
    return 0
