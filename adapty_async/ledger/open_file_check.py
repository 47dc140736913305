"""Checks that an open ledger is still the file at its path, and is used by this process alone.

A file that is open can be removed, renamed or replaced. The process would then write to a file that nothing reads. If
this happens to the lock, another process may take it, and some writes of both processes would be lost.
"""

import contextlib
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from ..pluralization import format_count
from .chunks import Chunk
from .errors import LedgerLostError, LedgerUnreadableError
from .file_identity import Identity, get_identity
from .files import FileLock, build_lost_error, copy_atomically, open_regular_file
from .id_key import KEY_BYTES, get_key_path
from .wal_damage import is_log_start_damaged

_LOG_SUFFIXES: Final = ("-wal", "-shm")
_RERUN_HINT: Final = "then run the same job again"


class OpenFileCheck:
    """The state that must not change while a ledger is open for writing: its files, its lock and its only writer.

    `identity` is the identity of the ledger before it was opened.
    """

    def __init__(
        self, path: Path, identity: Identity | None, connection: sqlite3.Connection, file_lock: FileLock
    ) -> None:
        self._path = path.absolute()  # a relative path would follow a renamed working directory
        self._connection = connection
        self._file_lock = file_lock
        self._version = self._read_version()  # first, because there may be no log before the first read
        self._identity = identity
        self._log_identities = {file: get_identity(file) for file in map(self._add_suffix, _LOG_SUFFIXES)}
        self._key_path = get_key_path(self._path)
        self._key = self._read_key()
        self._sizes = self._read_sizes()
        self._lost_error: LedgerLostError | None = None

    def check_files(self) -> None:
        """Raise LedgerLostError if a file was removed, renamed or replaced, now or before. Raise OSError."""
        if self._lost_error is None:
            try:
                self._compare_files()
            except LedgerLostError as error:
                self._lost_error = error
        if self._lost_error is not None:
            raise LedgerLostError(str(self._lost_error), self._lost_error.kept)

    def check_writers(self) -> None:
        """Raise LedgerLostError if another connection has written to the ledger. Call this in a transaction."""
        if self._read_version() != self._version:
            self._lost_error = LedgerLostError(
                f"another process wrote to {self._path} while it was in use, so nothing more is sent: make sure that "
                f"no other process uses it, {_RERUN_HINT}",
                self._path,
            )
            raise self._lost_error

    def record_sizes(self) -> None:
        """Record the sizes of the files after a transaction. Nothing else changes them until the next one.

        A transaction shrinks neither file. The ledger grows by whole pages if some of its log is moved into it. Other
        sizes mean that another process has overwritten a file: they aren't recorded, so that `check` finds this.
        """
        ledger, log = self._read_sizes()
        if log >= self._sizes[1] and ledger in self._get_possible_sizes():
            self._sizes = ledger, log

    def _compare_files(self) -> None:
        self._check_ledger()
        try:
            self._check_other_files()
        except LedgerLostError:
            self._check_ledger()  # the folder was renamed during the check, so the ledger is gone too
            raise

    def _check_ledger(self) -> None:
        if get_identity(self._path) != self._identity:
            raise self._rescue_data()

    def _check_other_files(self) -> None:
        self._file_lock.check()
        for file, identity in self._log_identities.items():
            if get_identity(file) != identity:
                raise build_lost_error(file, f"leave the files of a ledger alone, {_RERUN_HINT}", kept=self._path)
        if self._read_key() != self._key:  # compared by content: a new file may reuse the inode
            raise build_lost_error(self._key_path, f"put it back, {_RERUN_HINT}", kept=self._path)
        ledger, log = self._read_sizes()
        # An interrupted transaction may leave the log larger.
        if ledger != self._sizes[0] or log < self._sizes[1] or is_log_start_damaged(self._add_suffix("-wal")):
            raise LedgerLostError(
                f"{self._path}, or its log, was overwritten while it was in use, so nothing more is sent: if it is "
                f"damaged, restore it from a backup, {_RERUN_HINT}",
                self._path,
            )

    def _rescue_data(self) -> LedgerLostError:
        """Copy the content of the open file to a place the user can find. Return the error that names it."""
        copy = self._add_suffix(".rescued")
        try:
            copy_atomically(copy, self._connection)
            unknown = self._count_claims()
        except (OSError, sqlite3.Error):
            advice = (
                f"its data couldn't be copied to {copy.name}: find the ledger and put it back, {_RERUN_HINT}; "
                "if you can't find it, its data is lost"
            )
            return build_lost_error(self._path, advice, kept=None)
        finally:
            self._checkpoint_and_remove_log()
        sent_again = f", which sends {format_count(unknown, 'row')} with an unknown outcome again" if unknown else ""
        advice = (
            f"its data is in {copy}: rename that to {self._path.name}, next to its key file, {_RERUN_HINT}{sent_again}"
        )
        return build_lost_error(self._path, advice, kept=copy)

    def _checkpoint_and_remove_log(self) -> None:
        """Move the log into the ledger and remove it. SQLite would take it for the log of a copy."""
        log = self._add_suffix("-wal")
        if get_identity(log) in {
            self._log_identities[log],
            None,
        }:  # SQLite would remove another process's log by its name
            with contextlib.suppress(sqlite3.Error):  # another process has the ledger open under another name
                self._connection.execute("PRAGMA journal_mode = DELETE")
        for file, identity in self._log_identities.items():
            with contextlib.suppress(OSError):
                if get_identity(file) == identity is not None:
                    file.unlink()

    def _count_claims(self) -> int:
        """Return how many items may have been sent and have no outcome."""
        rows = self._connection.execute("SELECT size, rows FROM outcome JOIN chunk ON chunk.number = outcome.number")
        return sum(Chunk.unpack(size, zlib.decompress(packed)).claimed_count for size, packed in rows)

    def _read_key(self) -> bytes | None:
        # An error is raised when the key is needed.
        with contextlib.suppress(OSError, LedgerUnreadableError), open_regular_file(self._key_path) as file:
            return file.read(KEY_BYTES + 1)
        return None

    def _read_sizes(self) -> tuple[int, int]:
        return _get_size(self._path), _get_size(self._add_suffix("-wal"))

    def _get_possible_sizes(self) -> range:
        """Return the sizes that the ledger can have with none, some or all of its new pages moved into it."""
        with contextlib.suppress(sqlite3.Error):  # the file was overwritten
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (size,) = self._connection.execute("PRAGMA page_size").fetchone()
            return range(self._sizes[0], pages * size + 1, size)
        return range(0)

    def _read_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _add_suffix(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}{suffix}")


def _get_size(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_size
    return 0
