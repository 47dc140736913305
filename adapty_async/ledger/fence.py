"""Notice that an open ledger is no longer the one at its path, or no longer this process's alone.

A file that is open can be removed, renamed or replaced: whoever has it open would write on, for nobody to read. Where
that happens to the lock, another process may have it, and what both write would be lost in part.
"""

import contextlib
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from .chunks import Chunk
from .errors import LedgerLostError, LedgerUnreadableError
from .files import Lock, copied_whole, gone, open_regular
from .identity import Identity, identity_of
from .log import has_log_lost_its_head
from .secret import LENGTH, key_path

_BESIDE: Final = ("-wal", "-shm")
_AGAIN: Final = "then run the same job again"


class Fence:
    """What must not change while a ledger is open for writing: where its files are, who has its lock, who writes.

    `identity`: of the ledger, from before it was opened.
    """

    def __init__(self, path: Path, identity: Identity | None, connection: sqlite3.Connection, lock: Lock) -> None:
        self._path = path.absolute()  # a relative one follows a working directory that is renamed
        self._connection = connection
        self._lock = lock
        self._version = self._read_version()  # first: until something is read there may be no log
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
        """Raise LedgerLostError if another connection has written in the ledger; to be called in a transaction."""
        if self._read_version() != self._version:
            self._lost = LedgerLostError(
                f"another process has written in {self._path} while it was in use, so nothing more is sent: make sure "
                f"that no other process works on it, {_AGAIN}",
                self._path,
            )
            raise self._lost

    def note_sizes(self) -> None:
        """Take note of how large the files are after a transaction: until the next one nothing else changes that.

        Neither gets smaller by one; the ledger gets larger by pages where some of its log is moved into it. What is
        otherwise somebody has overwritten meanwhile: that is left for `check` to find.
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
        if self._read_key() != self._key:  # by its content: a file that isn't open may leave its inode to the next
            raise gone(self._key_path, f"put it back, {_AGAIN}", kept=self._path)
        ledger, log = self._read_sizes()
        # An interrupted transaction may leave the log larger.
        if ledger != self._sizes[0] or log < self._sizes[1] or has_log_lost_its_head(self._named("-wal")):
            if identity_of(self._path) != self._ledger:  # it was removed after the look above
                raise self._rescued()
            raise LedgerLostError(
                f"{self._path}, or its log, was overwritten while it was in use, so nothing more is sent: if it is "
                f"damaged, restore it from a copy, {_AGAIN}",
                self._path,
            )

    def _rescued(self) -> LedgerLostError:
        """Copy what the open file holds to where its owner can find it; say so, or that it can't be done."""
        copy = self._named(".rescued")
        try:
            copied_whole(copy, self._connection)
            unknown = self._count_claimed()
        except (OSError, sqlite3.Error):
            todo = (
                f"what it recorded couldn't be copied to {copy.name}: find the ledger and put it back, {_AGAIN}; if it "
                "is gone, so is all that was recorded in it"
            )
            return gone(self._path, todo, kept=None)
        finally:
            self._put_log_away()
        sent_again = f", which sends {unknown:,} rows again whose outcome isn't known" if unknown else ""
        todo = f"what it recorded is in {copy}: name that {self._path.name}, beside its key file, {_AGAIN}{sent_again}"
        return gone(self._path, todo, kept=copy)

    def _put_log_away(self) -> None:
        """Move the log into the ledger, wherever that is, and remove it: it would be taken for that of a copy."""
        log = self._named("-wal")
        if identity_of(log) in {self._beside[log], None}:  # another's would be removed, by its name
            with contextlib.suppress(sqlite3.Error):  # somebody has the ledger open by another name
                self._connection.execute("PRAGMA journal_mode = DELETE")
        for file, identity in self._beside.items():
            with contextlib.suppress(OSError):
                if identity_of(file) == identity is not None:
                    file.unlink()

    def _count_claimed(self) -> int:
        """Count the items that may have been sent and have no outcome."""
        rows = self._connection.execute("SELECT size, rows FROM outcome JOIN chunk ON chunk.number = outcome.number")
        return sum(Chunk.unpack(size, zlib.decompress(packed)).claimed for size, packed in rows)

    def _read_key(self) -> bytes | None:
        # Whoever needs the key says what is wrong with it.
        with contextlib.suppress(OSError, LedgerUnreadableError), open_regular(self._key_path) as file:
            return file.read(LENGTH + 1)
        return None

    def _read_sizes(self) -> tuple[int, int]:
        return _size(self._path), _size(self._named("-wal"))

    def _possible_sizes(self) -> range:
        """Give the sizes that the ledger may have with none, some or all of its new pages moved into it."""
        with contextlib.suppress(sqlite3.Error):  # it was overwritten
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
